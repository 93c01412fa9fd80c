"""The request headers that Azure Durable Task Scheduler expects, added to every call.

In this order: ``taskhub``, ``x-user-agent``, of workers ``workerid``, and with a credential ``authorization``.
"""

from __future__ import annotations

from importlib import metadata
from typing import Any, NamedTuple

import grpc
import grpc.aio
from azure.core.credentials import AccessToken, TokenCredential
from azure.core.credentials_async import AsyncTokenCredential
from durabletask.azuremanaged.internal.access_token_manager import AccessTokenManager, AsyncAccessTokenManager
from durabletask.internal.grpc_interceptor import DefaultAsyncClientInterceptorImpl, DefaultClientInterceptorImpl

_DISTRIBUTION = "durabletask-azuremanaged"


def _get_sdk_version() -> str:
    try:
        return metadata.version(_DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "unknown"


def _fixed_headers(taskhub_name: str, worker_id: str | None) -> list[tuple[str, str]]:
    headers = [("taskhub", taskhub_name), ("x-user-agent", f"durabletask-python/{_get_sdk_version()}")]
    return headers if worker_id is None else [*headers, ("workerid", worker_id)]


def _authorization(token: AccessToken) -> tuple[str, str]:
    return ("authorization", f"Bearer {token.token}")


class _Fields(NamedTuple):
    method: str
    timeout: float | None
    metadata: Any
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: Any


class _CallDetails(_Fields, grpc.ClientCallDetails):
    """The details of a synchronous call, with the token."""


class DTSDefaultClientInterceptorImpl(DefaultClientInterceptorImpl):
    """Adds the headers to every call of a synchronous channel.

    Args:
        token_credential: where access tokens come from, or None for none. It is asked with the first call.
        taskhub_name: the task hub.
        worker_id: identifies a worker; None for clients.
        resource_id: the resource that tokens are for; None for the scheduler's own.

    Raises:
        ValueError: ``resource_id`` is empty.
    """

    def __init__(
        self,
        token_credential: TokenCredential | None,
        taskhub_name: str,
        worker_id: str | None = None,
        *,
        resource_id: str | None = None,
    ) -> None:
        super().__init__(_fixed_headers(taskhub_name, worker_id))
        self._tokens = AccessTokenManager(token_credential, resource_id=resource_id)

    def _intercept_call(self, client_call_details: grpc.ClientCallDetails) -> grpc.ClientCallDetails:
        details = super()._intercept_call(client_call_details)
        token = self._tokens.get_access_token()
        if token is None:
            return details
        return _CallDetails(
            details.method,
            details.timeout,
            [*(details.metadata or ()), _authorization(token)],
            details.credentials,
            details.wait_for_ready,
            details.compression,
        )


class DTSAsyncDefaultClientInterceptorImpl(DefaultAsyncClientInterceptorImpl):
    """Adds the headers to every call of an asyncio channel; arguments and errors as for the synchronous one."""

    def __init__(
        self,
        token_credential: AsyncTokenCredential | None,
        taskhub_name: str,
        worker_id: str | None = None,
        *,
        resource_id: str | None = None,
    ) -> None:
        super().__init__(_fixed_headers(taskhub_name, worker_id))
        self._tokens = AsyncAccessTokenManager(token_credential, resource_id=resource_id)

    async def _intercept_call(self, client_call_details: grpc.aio.ClientCallDetails) -> grpc.aio.ClientCallDetails:
        details = await super()._intercept_call(client_call_details)
        token = await self._tokens.get_access_token()
        if token is None:
            return details
        return grpc.aio.ClientCallDetails(
            details.method,
            details.timeout,
            grpc.aio.Metadata(*(details.metadata or ()), _authorization(token)),
            details.credentials,
            details.wait_for_ready,
        )
