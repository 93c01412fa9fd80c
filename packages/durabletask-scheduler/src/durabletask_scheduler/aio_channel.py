"""A ``grpc.aio.Channel`` into a scheduler of the same process; the asyncio twin of ``durabletask_scheduler.channel``.

Messages are handed over as objects here too: treat them as immutable. No event loop is needed to make a channel,
and each call belongs to the loop it is made on. Results come from the scheduler's threads and wake the loop once
for many.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import Iterable, MutableSet, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NoReturn, Union

import grpc
import grpc.aio

from durabletask_scheduler.aio_calls import AioCallHome, AioStreamCall, AioUnaryCall, InProcessAioCall, aio_error
from durabletask_scheduler.aio_interceptors import InterceptedStreamCall, InterceptedUnaryCall, run_chain
from durabletask_scheduler.calls import ChannelClosed
from durabletask_scheduler.transport import (
    Deserializer,
    Mailbox,
    MessageBridge,
    Serializer,
    Service,
    begin_call,
    begin_stream,
    bridge_for,
    not_served,
    rpc_name,
    text_metadata,
)

Metadata = Iterable[tuple[str, Any]] | None
AioInterceptor = Union[
    "grpc.aio.UnaryUnaryClientInterceptor[Any, Any]", "grpc.aio.UnaryStreamClientInterceptor[Any, Any]"
]


@dataclass(slots=True)
class _Details:
    """What an interceptor sees of a call, and may replace; the fields are gRPC's."""

    method: str
    timeout: float | None
    metadata: Metadata
    credentials: None = None
    wait_for_ready: bool | None = None


class InProcessAioChannel(grpc.aio.Channel):
    """Calls of :class:`~durabletask_scheduler.Scheduler` from asyncio without a network.

    Get one from ``Scheduler.aio_channel()``. Closing it cancels its own open calls and leaves the scheduler alone.
    Calls made after that raise :class:`~durabletask_scheduler.calls.ChannelClosed`.

    Args:
        interceptors: ``grpc.aio`` client interceptors for unary-unary and unary-stream calls, outermost first.

    Raises:
        TypeError: something else among the interceptors.
    """

    def __init__(self, service: Service, *, interceptors: Sequence[AioInterceptor] = ()) -> None:
        self._service = service
        self._unary_interceptors = _those_with("intercept_unary_unary", interceptors)
        self._stream_interceptors = _those_with("intercept_unary_stream", interceptors)
        for interceptor in interceptors:
            if interceptor not in (*self._unary_interceptors, *self._stream_interceptors):
                raise TypeError(
                    "expected interceptors for unary-unary or unary-stream calls (the protocol has no others), "
                    f"found {type(interceptor).__qualname__}"
                )
        self._unary_calls: set[InProcessAioCall] = set()
        self._stream_calls: weakref.WeakSet[InProcessAioCall] = weakref.WeakSet()
        self._mailbox: tuple[asyncio.AbstractEventLoop, Mailbox] | None = None
        self._closed = False
        self._closing = asyncio.Event()

    def unary_unary(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> Any:
        bridge = bridge_for(method, request_serializer, response_deserializer, streaming=False)
        return _UnaryMethod(self, method, bridge, self._unary_interceptors)

    def unary_stream(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> Any:
        bridge = bridge_for(method, request_serializer, response_deserializer, streaming=True)
        return _StreamMethod(self, method, bridge, self._stream_interceptors)

    def stream_unary(self, method: str, *serializers: Any, **more: Any) -> Any:
        return _RequestStreamMethod(method)

    def stream_stream(self, method: str, *serializers: Any, **more: Any) -> Any:
        return _RequestStreamMethod(method)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """READY, or SHUTDOWN once closed."""
        return grpc.ChannelConnectivity.SHUTDOWN if self._closed else grpc.ChannelConnectivity.READY

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Wait until the state is another than the observed one: it changes once, when the channel is closed."""
        if self.get_state() is last_observed_state:
            await self._closing.wait()

    async def channel_ready(self) -> None:
        """Returns at once: there is nothing to connect."""

    async def close(self, grace: float | None = None) -> None:
        """Refuse new calls, wait for the open ones at most ``grace`` seconds, then cancel them."""
        self._closed = True
        self._closing.set()
        if grace and (open_calls := [*self._unary_calls, *self._stream_calls]):
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.gather(*(call.code() for call in open_calls)), grace)
        for call in [*self._unary_calls, *self._stream_calls]:
            call.cancel()

    async def __aenter__(self) -> InProcessAioChannel:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def begin_unary(self, method: str, bridge: MessageBridge | None, details: Any, request: Any) -> AioUnaryCall:
        """Make a unary call on the running loop; the stubs' way in."""
        home = self._home(method, self._unary_calls)
        if bridge is None:
            refused = AioUnaryCall(home)
            refused.settle(not_served(home.rpc))
            return refused
        message, decode = bridge.incoming(request)
        call = AioUnaryCall(home, details.timeout, decode)
        self._unary_calls.add(call)
        call.started(begin_call(home.service, home.rpc, message, text_metadata(details.metadata), call.answer))
        return call

    def begin_stream(self, method: str, bridge: MessageBridge | None, details: Any, request: Any) -> AioStreamCall:
        """Make a streaming call on the running loop; the stubs' way in."""
        home = self._home(method, self._stream_calls)
        if bridge is None:
            refused = AioStreamCall(home)
            refused.settle(not_served(home.rpc))
            return refused
        message, decode = bridge.incoming(request)
        call = AioStreamCall(home, details.timeout, decode)
        self._stream_calls.add(call)
        call.started(begin_stream(home.service, home.rpc, message, text_metadata(details.metadata), call.sink))
        return call

    def check_open(self) -> None:
        """Raises ChannelClosed after ``close``."""
        if self._closed:
            raise ChannelClosed

    def _home(self, method: str, open_calls: MutableSet[Any]) -> AioCallHome:
        self.check_open()
        loop = asyncio.get_running_loop()
        if self._mailbox is None or self._mailbox[0] is not loop:
            self._mailbox = (loop, Mailbox(loop))
        return AioCallHome(self._service, rpc_name(method), self._mailbox[1], open_calls)


def _those_with(method: str, interceptors: Sequence[AioInterceptor]) -> tuple[AioInterceptor, ...]:
    return tuple(interceptor for interceptor in interceptors if callable(getattr(interceptor, method, None)))


class _Method:
    """One method of a stub; without interceptors a call begins at once, else in a task that runs their chain."""

    def __init__(
        self,
        channel: InProcessAioChannel,
        method: str,
        bridge: MessageBridge | None,
        interceptors: Sequence[AioInterceptor],
    ) -> None:
        self._channel = channel
        self._method = method
        self._bridge = bridge
        self._interceptors = interceptors


class _UnaryMethod(_Method, grpc.aio.UnaryUnaryMultiCallable):  # type: ignore[type-arg]
    def __call__(
        self, request: Any, timeout: float | None = None, metadata: Metadata = None, *ignored: Any, **more: Any
    ) -> Any:
        details = _Details(self._method, timeout, metadata)
        if not self._interceptors:
            return self._begin(details, request)
        self._channel.check_open()
        return InterceptedUnaryCall(
            run_chain("intercept_unary_unary", self._interceptors, self._begin, details, request)
        )

    def _begin(self, details: Any, request: Any) -> AioUnaryCall:
        return self._channel.begin_unary(self._method, self._bridge, details, request)


class _StreamMethod(_Method, grpc.aio.UnaryStreamMultiCallable):  # type: ignore[type-arg]
    def __call__(
        self, request: Any, timeout: float | None = None, metadata: Metadata = None, *ignored: Any, **more: Any
    ) -> Any:
        details = _Details(self._method, timeout, metadata)
        if not self._interceptors:
            return self._begin(details, request)
        self._channel.check_open()
        return InterceptedStreamCall(
            run_chain("intercept_unary_stream", self._interceptors, self._begin, details, request)
        )

    def _begin(self, details: Any, request: Any) -> AioStreamCall:
        return self._channel.begin_stream(self._method, self._bridge, details, request)


class _RequestStreamMethod(grpc.aio.StreamUnaryMultiCallable, grpc.aio.StreamStreamMultiCallable):  # type: ignore[type-arg]
    """The protocol has no calls with a stream of requests."""

    def __init__(self, method: str) -> None:
        self._method = method

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise aio_error(not_served(rpc_name(self._method)))
