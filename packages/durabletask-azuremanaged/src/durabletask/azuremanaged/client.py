"""Clients of Azure Durable Task Scheduler."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from azure.core.credentials import TokenCredential
from azure.core.credentials_async import AsyncTokenCredential
from durabletask.azuremanaged.internal.connection import SchedulerConnection, connection_arguments
from durabletask.azuremanaged.internal.connection_string import read_connection_string
from durabletask.azuremanaged.internal.durabletask_grpc_interceptor import (
    DTSAsyncDefaultClientInterceptorImpl,
    DTSDefaultClientInterceptorImpl,
)
from durabletask.azuremanaged.internal.own_credential import OwnAsyncCredential, OwnCredential
from durabletask.client import AsyncTaskHubGrpcClient, TaskHubGrpcClient
from durabletask.grpc_options import GrpcChannelOptions, GrpcClientResiliencyOptions
from durabletask.payload import PayloadStore
from durabletask.serialization import DataConverter

if TYPE_CHECKING:
    from durabletask.azuremanaged.internal.options import AsyncClientOptions, ClientOptions
    from typing_extensions import Self, Unpack

__all__ = ["AsyncDurableTaskSchedulerClient", "DurableTaskSchedulerClient"]


class DurableTaskSchedulerClient(TaskHubGrpcClient):
    """A client of one task hub of Azure Durable Task Scheduler, or of anything that speaks its protocol.

    Access tokens are fetched with the first call, not by the constructor.

    Args:
        host_address: the endpoint. ``https://`` and ``http://`` decide over ``secure_channel``.
        taskhub: the task hub's name.
        token_credential: where access tokens come from; ``None`` for an emulator.
        resource_id: the resource that tokens are for; ``None`` for the scheduler's own.
        channel: a channel to use as it is: no headers are added to its calls.
        secure_channel: whether to use TLS with an address without a scheme.
        interceptors: they run before the one that adds the scheduler's headers.
        channel_options: options of the channel, among them certificates of your own and of the client (mutual TLS).
        allow_insecure_token: whether access tokens may travel to another machine in clear text.

    All other arguments are those of :class:`durabletask.client.TaskHubGrpcClient`.

    Raises:
        ValueError: ``taskhub`` or ``resource_id`` is empty, or the credential's tokens would travel to
            another machine over a plaintext channel.
    """

    def __init__(
        self,
        *,
        host_address: str,
        taskhub: str,
        token_credential: TokenCredential | None,
        resource_id: str | None = None,
        channel: grpc.Channel | None = None,
        secure_channel: bool = True,
        interceptors: Sequence[Any] | None = None,
        channel_options: GrpcChannelOptions | None = None,
        resiliency_options: GrpcClientResiliencyOptions | None = None,
        default_version: str | None = None,
        payload_store: PayloadStore | None = None,
        data_converter: DataConverter | None = None,
        log_handler: logging.Handler | None = None,
        log_formatter: logging.Formatter | None = None,
        logger: logging.Logger | None = None,
        allow_insecure_token: bool = False,
    ) -> None:
        connection = SchedulerConnection(
            host_address,
            taskhub,
            carries_token=channel is None and token_credential is not None,
            channel=channel,
            secure_channel=secure_channel,
            interceptors=interceptors,
            channel_options=channel_options,
            allow_insecure_token=allow_insecure_token,
        )
        headers = DTSDefaultClientInterceptorImpl(token_credential, taskhub, resource_id=resource_id)
        super().__init__(
            **connection_arguments(connection, headers),
            log_handler=log_handler,
            log_formatter=log_formatter,
            logger=logger,
            resiliency_options=resiliency_options,
            default_version=default_version,
            payload_store=payload_store,
            data_converter=data_converter,
        )
        self._own_credential = token_credential if isinstance(token_credential, OwnCredential) else None

    @classmethod
    def from_connection_string(cls, connection_string: str | None = None, **options: Unpack[ClientOptions]) -> Self:
        """Make a client from ``Endpoint=https://...;TaskHub=...;Authentication=...``.

        Keys are case-insensitive; ``ClientID``, ``TenantId``, ``TokenFilePath`` and ``AdditionallyAllowedTenants``
        go to the credential of azure-identity that ``Authentication`` names: ``None``, ``DefaultAzure``,
        ``ManagedIdentity``, ``WorkloadIdentity``, ``Environment``, ``AzureCLI``, ``AzurePowerShell``,
        ``VisualStudio``, ``VisualStudioCode`` or ``InteractiveBrowser``. :meth:`close` closes that credential.

        Args:
            connection_string: the string; None for that of the environment variable
                ``DURABLE_TASK_SCHEDULER_CONNECTION_STRING``.
            options: the other keyword arguments of the constructor.

        Raises:
            ValueError: the string cannot be read, or as the constructor.
        """
        parts = read_connection_string(connection_string)
        return cls(**parts.arguments(asynchronous=False), **options)

    def close(self) -> None:
        """Close the channel, unless it was supplied, and the credential, if a connection string named it."""
        super().close()
        if self._own_credential is not None:
            self._own_credential.close()


class AsyncDurableTaskSchedulerClient(AsyncTaskHubGrpcClient):
    """The asynchronous twin of :class:`DurableTaskSchedulerClient`, with an asynchronous credential.

    It may be constructed without a running event loop; arguments and errors are the same.
    """

    def __init__(
        self,
        *,
        host_address: str,
        taskhub: str,
        token_credential: AsyncTokenCredential | None,
        resource_id: str | None = None,
        channel: grpc.aio.Channel | None = None,
        secure_channel: bool = True,
        interceptors: Sequence[Any] | None = None,
        channel_options: GrpcChannelOptions | None = None,
        resiliency_options: GrpcClientResiliencyOptions | None = None,
        default_version: str | None = None,
        payload_store: PayloadStore | None = None,
        data_converter: DataConverter | None = None,
        log_handler: logging.Handler | None = None,
        log_formatter: logging.Formatter | None = None,
        logger: logging.Logger | None = None,
        allow_insecure_token: bool = False,
    ) -> None:
        connection = SchedulerConnection(
            host_address,
            taskhub,
            carries_token=channel is None and token_credential is not None,
            channel=channel,
            secure_channel=secure_channel,
            interceptors=interceptors,
            channel_options=channel_options,
            allow_insecure_token=allow_insecure_token,
        )
        headers = DTSAsyncDefaultClientInterceptorImpl(token_credential, taskhub, resource_id=resource_id)
        super().__init__(
            **connection_arguments(connection, headers),
            log_handler=log_handler,
            log_formatter=log_formatter,
            logger=logger,
            resiliency_options=resiliency_options,
            default_version=default_version,
            payload_store=payload_store,
            data_converter=data_converter,
        )
        self._own_credential = token_credential if isinstance(token_credential, OwnAsyncCredential) else None

    @classmethod
    def from_connection_string(
        cls, connection_string: str | None = None, **options: Unpack[AsyncClientOptions]
    ) -> Self:
        """Make a client from a connection string; see :meth:`DurableTaskSchedulerClient.from_connection_string`.

        The credential is one of ``azure.identity.aio``, which has none for ``InteractiveBrowser``.
        """
        parts = read_connection_string(connection_string)
        return cls(**parts.arguments(asynchronous=True), **options)

    async def close(self) -> None:
        """Close the channel, unless it was supplied, and the credential, if a connection string named it."""
        await super().close()
        if self._own_credential is not None:
            await self._own_credential.close()
