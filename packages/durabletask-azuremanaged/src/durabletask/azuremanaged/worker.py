"""The worker for Azure Durable Task Scheduler."""

from __future__ import annotations

import logging
import os
import socket
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import grpc
from azure.core.credentials import TokenCredential
from durabletask.azuremanaged.internal.connection import SchedulerConnection, connection_arguments
from durabletask.azuremanaged.internal.connection_string import read_connection_string
from durabletask.azuremanaged.internal.durabletask_grpc_interceptor import DTSDefaultClientInterceptorImpl
from durabletask.exception_properties import ExceptionPropertiesProvider
from durabletask.grpc_options import GrpcChannelOptions, GrpcWorkerResiliencyOptions
from durabletask.payload import PayloadStore
from durabletask.serialization import DataConverter
from durabletask.worker import ConcurrencyOptions, TaskHubGrpcWorker

if TYPE_CHECKING:
    from durabletask.azuremanaged.internal.options import WorkerOptions
    from typing_extensions import Self, Unpack

__all__ = ["DurableTaskSchedulerWorker"]


class DurableTaskSchedulerWorker(TaskHubGrpcWorker):
    """A worker for one task hub of Azure Durable Task Scheduler, or of anything that speaks its protocol.

    Access tokens are fetched with the first call, not by the constructor. The scheduler tells workers apart by
    ``<host name>:<process id>:<uuid>``.

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

    All other arguments are those of :class:`durabletask.worker.TaskHubGrpcWorker`. Timers are never cut into
    shorter ones: the scheduler takes any length.

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
        resiliency_options: GrpcWorkerResiliencyOptions | None = None,
        concurrency_options: ConcurrencyOptions | None = None,
        payload_store: PayloadStore | None = None,
        data_converter: DataConverter | None = None,
        log_handler: logging.Handler | None = None,
        log_formatter: logging.Formatter | None = None,
        logger: logging.Logger | None = None,
        exception_properties_provider: ExceptionPropertiesProvider | None = None,
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
        worker_id = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4()}"
        headers = DTSDefaultClientInterceptorImpl(token_credential, taskhub, worker_id, resource_id=resource_id)
        super().__init__(
            **connection_arguments(connection, headers),
            log_handler=log_handler,
            log_formatter=log_formatter,
            logger=logger,
            resiliency_options=resiliency_options,
            concurrency_options=concurrency_options,
            maximum_timer_interval=None,
            payload_store=payload_store,
            data_converter=data_converter,
            exception_properties_provider=exception_properties_provider,
        )

    @classmethod
    def from_connection_string(cls, connection_string: str | None = None, **options: Unpack[WorkerOptions]) -> Self:
        """Make a worker from ``Endpoint=https://...;TaskHub=...;Authentication=...``.

        Keys, kinds of authentication and errors are those of
        :meth:`durabletask.azuremanaged.client.DurableTaskSchedulerClient.from_connection_string`.

        Args:
            connection_string: the string; None for that of the environment variable
                ``DURABLE_TASK_SCHEDULER_CONNECTION_STRING``.
            options: the other keyword arguments of the constructor.

        Raises:
            ValueError: the string cannot be read, or as the constructor.
        """
        parts = read_connection_string(connection_string)
        return cls(**parts.arguments(asynchronous=False), **options)
