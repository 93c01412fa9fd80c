"""Interceptors that send metadata with every call, and the base of interceptors with their own.

A subclass overrides ``_intercept_call``: it gets the details of a call and returns those to use.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import grpc
import grpc.aio

Metadata: TypeAlias = Sequence[tuple[str, str]]

if TYPE_CHECKING:
    _UnaryUnary = grpc.UnaryUnaryClientInterceptor[Any, Any]
    _UnaryStream = grpc.UnaryStreamClientInterceptor[Any, Any]
    _StreamUnary = grpc.StreamUnaryClientInterceptor[Any, Any]
    _StreamStream = grpc.StreamStreamClientInterceptor[Any, Any]
    _AioUnaryUnary = grpc.aio.UnaryUnaryClientInterceptor[Any, Any]
    _AioUnaryStream = grpc.aio.UnaryStreamClientInterceptor[Any, Any]
    _AioStreamUnary = grpc.aio.StreamUnaryClientInterceptor[Any, Any]
    _AioStreamStream = grpc.aio.StreamStreamClientInterceptor[Any, Any]
else:
    _UnaryUnary = grpc.UnaryUnaryClientInterceptor
    _UnaryStream = grpc.UnaryStreamClientInterceptor
    _StreamUnary = grpc.StreamUnaryClientInterceptor
    _StreamStream = grpc.StreamStreamClientInterceptor
    _AioUnaryUnary = grpc.aio.UnaryUnaryClientInterceptor
    _AioUnaryStream = grpc.aio.UnaryStreamClientInterceptor
    _AioStreamUnary = grpc.aio.StreamUnaryClientInterceptor
    _AioStreamStream = grpc.aio.StreamStreamClientInterceptor


class _Fields(NamedTuple):
    method: str
    timeout: float | None
    metadata: Any
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: Any


class _CallDetails(_Fields, grpc.ClientCallDetails):
    """The details of a call, as gRPC reads them back from an interceptor."""


def _joined(present: Iterable[tuple[str, Any]] | None, added: Metadata) -> list[tuple[str, Any]]:
    return [*(present or ()), *added]


class DefaultClientInterceptorImpl(_UnaryUnary, _UnaryStream, _StreamUnary, _StreamStream):
    """Adds fixed metadata to every call of a channel.

    Args:
        metadata: ``(key, value)`` pairs; keys in lower case.
    """

    def __init__(self, metadata: Metadata | None = None) -> None:
        super().__init__()
        self._metadata = metadata

    def _intercept_call(self, client_call_details: grpc.ClientCallDetails) -> grpc.ClientCallDetails:
        if not self._metadata:
            return client_call_details
        return _CallDetails(
            client_call_details.method,
            client_call_details.timeout,
            _joined(client_call_details.metadata, self._metadata),
            client_call_details.credentials,
            # Details made by interceptors of users often lack the fields that gRPC added later.
            getattr(client_call_details, "wait_for_ready", None),
            getattr(client_call_details, "compression", None),
        )

    def intercept_unary_unary(
        self, continuation: Callable[..., Any], client_call_details: grpc.ClientCallDetails, request: Any
    ) -> Any:
        return continuation(self._intercept_call(client_call_details), request)

    def intercept_unary_stream(
        self, continuation: Callable[..., Any], client_call_details: grpc.ClientCallDetails, request: Any
    ) -> Any:
        return continuation(self._intercept_call(client_call_details), request)

    def intercept_stream_unary(
        self, continuation: Callable[..., Any], client_call_details: grpc.ClientCallDetails, request_iterator: Any
    ) -> Any:
        return continuation(self._intercept_call(client_call_details), request_iterator)

    def intercept_stream_stream(
        self, continuation: Callable[..., Any], client_call_details: grpc.ClientCallDetails, request_iterator: Any
    ) -> Any:
        return continuation(self._intercept_call(client_call_details), request_iterator)


class DefaultAsyncClientInterceptorImpl(_AioUnaryUnary, _AioUnaryStream, _AioStreamUnary, _AioStreamStream):
    """Adds fixed metadata to every call of an asyncio channel; ``_intercept_call`` is a coroutine here.

    gRPC itself takes an asyncio interceptor for one kind of call only; ``durabletask.transport.channels``
    makes it serve all the kinds it implements.

    Args:
        metadata: ``(key, value)`` pairs; keys in lower case.
    """

    def __init__(self, metadata: Metadata | None = None) -> None:
        super().__init__()
        self._metadata = metadata

    async def _intercept_call(self, client_call_details: grpc.aio.ClientCallDetails) -> grpc.aio.ClientCallDetails:
        if not self._metadata:
            return client_call_details
        return grpc.aio.ClientCallDetails(
            client_call_details.method,
            client_call_details.timeout,
            grpc.aio.Metadata(*_joined(client_call_details.metadata, self._metadata)),
            client_call_details.credentials,
            client_call_details.wait_for_ready,
        )

    async def intercept_unary_unary(
        self, continuation: Callable[..., Any], client_call_details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        return await continuation(await self._intercept_call(client_call_details), request)

    async def intercept_unary_stream(
        self, continuation: Callable[..., Any], client_call_details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        return await continuation(await self._intercept_call(client_call_details), request)

    async def intercept_stream_unary(
        self, continuation: Callable[..., Any], client_call_details: grpc.aio.ClientCallDetails, request_iterator: Any
    ) -> Any:
        return await continuation(await self._intercept_call(client_call_details), request_iterator)

    async def intercept_stream_stream(
        self, continuation: Callable[..., Any], client_call_details: grpc.aio.ClientCallDetails, request_iterator: Any
    ) -> Any:
        return await continuation(await self._intercept_call(client_call_details), request_iterator)
