"""The request headers that Azure Durable Task Scheduler expects, added to every call.

In this order: ``taskhub``, ``x-user-agent``, of workers ``workerid``, and with a credential ``authorization``.

A call that the server refuses as UNAUTHENTICATED makes the token be renewed. A unary call that somebody waits for is
then made once more; a stream, and a call that nobody waits for, is opened again by its owner, with the fresh token.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from importlib import metadata
from typing import Any, NamedTuple

import grpc
import grpc.aio
from azure.core.credentials import AccessToken, TokenCredential
from azure.core.credentials_async import AsyncTokenCredential
from durabletask.azuremanaged.internal.access_token_manager import AccessTokenManager, AsyncAccessTokenManager
from durabletask.internal.grpc_interceptor import DefaultAsyncClientInterceptorImpl, DefaultClientInterceptorImpl

_DISTRIBUTION = "durabletask-azuremanaged"
_UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED


def _get_sdk_version() -> str:
    try:
        return metadata.version(_DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "unknown"


def _fixed_headers(taskhub_name: str, worker_id: str | None) -> list[tuple[str, str]]:
    headers = [("taskhub", taskhub_name), ("x-user-agent", f"durabletask-python/{_get_sdk_version()}")]
    return headers if worker_id is None else [*headers, ("workerid", worker_id)]


class _HiddenHeader(str):
    """The value of a header whose ``repr``, and so that of metadata and of call details, does not show it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'Bearer <hidden>'"


def _authorization(token: AccessToken) -> tuple[str, str]:
    return ("authorization", _HiddenHeader(f"Bearer {token.token}"))


class _Fields(NamedTuple):
    method: str
    timeout: float | None
    metadata: Any
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: Any


class _CallDetails(_Fields, grpc.ClientCallDetails):
    """The details of a synchronous call, with the token."""


class CredentialFailedError(grpc.RpcError, grpc.Call):
    """A worker's call that was not made because the credential gave no token; it reads like a refused call."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(f"the credential gave no access token ({type(cause).__name__}: {cause})")

    def code(self) -> grpc.StatusCode:
        return _UNAUTHENTICATED

    def details(self) -> str:
        return str(self)

    def initial_metadata(self) -> tuple[()]:
        return ()

    def trailing_metadata(self) -> tuple[()]:
        return ()

    def is_active(self) -> bool:
        return False

    def time_remaining(self) -> float:
        return 0.0

    def cancel(self) -> bool:
        return False

    def add_callback(self, callback: Callable[[], None]) -> bool:
        return False


class _RetriedFuture:
    """A unary call under way; whoever waits for its result waits for the second try too, if there is one."""

    def __init__(self, call: Any, retried: Callable[[Any], Any]) -> None:
        self._call = call
        self._retried = retried

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    def result(self, timeout: float | None = None) -> Any:
        try:
            return self._call.result(timeout)
        except grpc.RpcError:
            again = self._retried(self._call)
            if again is self._call:
                raise
            self._call = again
        return self._call.result(timeout)


class DTSDefaultClientInterceptorImpl(DefaultClientInterceptorImpl):
    """Adds the headers to every call of a synchronous channel.

    Args:
        token_credential: where access tokens come from, or None for none. It is asked with the first call.
        taskhub_name: the task hub.
        worker_id: identifies a worker; None for clients. A worker's calls are repeated by the worker itself, so
            its credential, once it failed, is asked with a back-off.
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
        self._of_worker = worker_id is not None
        self._tokens = AccessTokenManager(token_credential, resource_id=resource_id, hold_after_failure=self._of_worker)

    def _intercept_call(self, client_call_details: grpc.ClientCallDetails) -> grpc.ClientCallDetails:
        return self._with_token(client_call_details, self._token())

    def _with_token(self, call_details: grpc.ClientCallDetails, token: AccessToken | None) -> grpc.ClientCallDetails:
        details = super()._intercept_call(call_details)
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

    def _token(self, refused: AccessToken | None = None) -> AccessToken | None:
        """A token to use; with a refused one another, or None if there is no other."""
        try:
            return self._tokens.get_access_token() if refused is None else self._tokens.replacement(refused)
        except Exception as error:
            if not self._of_worker:
                raise
            # A worker reports refused calls, once, with what it waits for.
            raise CredentialFailedError(error) from error

    def intercept_unary_unary(
        self, continuation: Callable[..., Any], client_call_details: grpc.ClientCallDetails, request: Any
    ) -> Any:
        token = self._token()
        call = continuation(self._with_token(client_call_details, token), request)
        if token is None:
            return call

        def retried(ended: Any) -> Any:
            fresh = self._token(refused=token) if ended.code() is _UNAUTHENTICATED else None
            return ended if fresh is None else continuation(self._with_token(client_call_details, fresh), request)

        if call.done():
            return retried(call)
        call.add_done_callback(partial(self._note_refusal, token))
        return _RetriedFuture(call, retried)

    def intercept_unary_stream(
        self, continuation: Callable[..., Any], client_call_details: grpc.ClientCallDetails, request: Any
    ) -> Any:
        token = self._token()
        call = continuation(self._with_token(client_call_details, token), request)
        if token is not None:
            note = partial(self._note_refusal, token, call)
            if not call.add_callback(note):
                note()
        return call

    def _note_refusal(self, token: AccessToken, call: Any) -> None:
        if call.code() is _UNAUTHENTICATED:
            self._tokens.refuse(token)


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
        self._watchers: set[asyncio.Task[None]] = set()

    async def _intercept_call(self, client_call_details: grpc.aio.ClientCallDetails) -> grpc.aio.ClientCallDetails:
        return await self._with_token(client_call_details, await self._tokens.get_access_token())

    async def _with_token(
        self, call_details: grpc.aio.ClientCallDetails, token: AccessToken | None
    ) -> grpc.aio.ClientCallDetails:
        details = await super()._intercept_call(call_details)
        if token is None:
            return details
        return grpc.aio.ClientCallDetails(
            details.method,
            details.timeout,
            grpc.aio.Metadata(*(details.metadata or ()), _authorization(token)),
            details.credentials,
            details.wait_for_ready,
        )

    async def intercept_unary_unary(
        self, continuation: Callable[..., Any], client_call_details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        token = await self._tokens.get_access_token()
        call = await continuation(await self._with_token(client_call_details, token), request)
        if token is None or await _code(call) is not _UNAUTHENTICATED:
            return call
        fresh = await self._tokens.replacement(token)
        return (
            call if fresh is None else await continuation(await self._with_token(client_call_details, fresh), request)
        )

    async def intercept_unary_stream(
        self, continuation: Callable[..., Any], client_call_details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        token = await self._tokens.get_access_token()
        call = await continuation(await self._with_token(client_call_details, token), request)
        if token is not None:
            watcher = asyncio.ensure_future(self._note_refusal(token, call))
            self._watchers.add(watcher)
            watcher.add_done_callback(self._watchers.discard)
        return call

    async def _note_refusal(self, token: AccessToken, call: Any) -> None:
        if await call.code() is _UNAUTHENTICATED:
            self._tokens.refuse(token)


async def _code(call: Any) -> grpc.StatusCode:
    """Wait for a call's end; the call ends with whoever waits."""
    try:
        code: grpc.StatusCode = await call.code()
    except asyncio.CancelledError:
        call.cancel()
        raise
    return code
