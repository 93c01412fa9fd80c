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

from durabletask_scheduler.aio_calls import (
    AioCallHome,
    AioStreamCall,
    AioUnaryCall,
    InProcessAioCall,
    LoopShare,
    aio_error,
)
from durabletask_scheduler.aio_interceptors import InterceptedStreamCall, InterceptedUnaryCall, run_chain
from durabletask_scheduler.calls import ChannelClosed
from durabletask_scheduler.outgoing import Outgoing
from durabletask_scheduler.transport import (
    Deserializer,
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
        outgoing: of the service's engine, if it has one: event loops are then woken when a step of it is over.

    Attributes:
        closed: whether :meth:`close` was called.

    Raises:
        TypeError: something else among the interceptors.
    """

    def __init__(
        self, service: Service, *, interceptors: Sequence[AioInterceptor] = (), outgoing: Outgoing | None = None
    ) -> None:
        self._service = service
        self._outgoing = outgoing
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
        self._share: LoopShare | None = None
        self.closed = False
        self._closing = asyncio.Event()

    def unary_unary(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> Any:
        bridge = bridge_for(method, request_serializer, response_deserializer, streaming=False)
        return _UnaryMethod(self, method, bridge, self._unary_interceptors, self._unary_calls)

    def unary_stream(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> Any:
        bridge = bridge_for(method, request_serializer, response_deserializer, streaming=True)
        return _StreamMethod(self, method, bridge, self._stream_interceptors, self._stream_calls)

    def stream_unary(self, method: str, *serializers: Any, **more: Any) -> Any:
        return _RequestStreamMethod(method)

    def stream_stream(self, method: str, *serializers: Any, **more: Any) -> Any:
        return _RequestStreamMethod(method)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """READY, or SHUTDOWN once closed."""
        return grpc.ChannelConnectivity.SHUTDOWN if self.closed else grpc.ChannelConnectivity.READY

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Wait until the state is another than the observed one: it changes once, when the channel is closed."""
        if self.get_state() is last_observed_state:
            await self._closing.wait()

    async def channel_ready(self) -> None:
        """Returns at once: there is nothing to connect."""

    async def close(self, grace: float | None = None) -> None:
        """Refuse new calls, wait for the open ones at most ``grace`` seconds, then cancel them."""
        self.closed = True
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

    def home(self, rpc: str, open_calls: MutableSet[Any], loop: asyncio.AbstractEventLoop) -> AioCallHome:
        """Where the calls of one method on one event loop belong; for the methods of stubs."""
        if self._share is None or self._share.loop is not loop:
            self._share = LoopShare(loop, self._outgoing)
        return AioCallHome(self._service, rpc, self._share, open_calls)


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
        open_calls: MutableSet[Any],
    ) -> None:
        self._channel = channel
        self._method = method
        self._bridge = bridge
        self._interceptors = interceptors
        self._open_calls = open_calls
        self._home: AioCallHome | None = None

    def _home_here(self) -> AioCallHome:
        """The home of calls on the running loop, mostly the one of the call before."""
        if self._channel.closed:
            raise ChannelClosed
        loop = asyncio.get_running_loop()
        home = self._home
        if home is None or home.share.loop is not loop:
            home = self._home = self._channel.home(rpc_name(self._method), self._open_calls, loop)
        return home


class _UnaryMethod(_Method, grpc.aio.UnaryUnaryMultiCallable):  # type: ignore[type-arg]
    def __call__(
        self, request: Any, timeout: float | None = None, metadata: Metadata = None, *ignored: Any, **more: Any
    ) -> Any:
        if not self._interceptors:
            return self._begin(request, timeout, metadata)
        if self._channel.closed:
            raise ChannelClosed
        details = _Details(self._method, timeout, metadata)
        return InterceptedUnaryCall(
            run_chain("intercept_unary_unary", self._interceptors, self._begin_intercepted, details, request)
        )

    def _begin_intercepted(self, details: Any, request: Any) -> AioUnaryCall:
        return self._begin(request, details.timeout, details.metadata)

    def _begin(self, request: Any, timeout: float | None, metadata: Metadata) -> AioUnaryCall:
        home, bridge = self._home_here(), self._bridge
        if bridge is None:
            refused = AioUnaryCall(home)
            refused.settle(not_served(home.rpc))
            return refused
        decode = None
        if type(request) is not bridge.request_type:
            request, decode = bridge.incoming(request)
        call = AioUnaryCall(home, timeout, decode)
        home.open_calls.add(call)
        pairs = text_metadata(metadata) if metadata else {}
        call.started(begin_call(home.service, home.rpc, request, pairs, call.answer))
        return call


class _StreamMethod(_Method, grpc.aio.UnaryStreamMultiCallable):  # type: ignore[type-arg]
    def __call__(
        self, request: Any, timeout: float | None = None, metadata: Metadata = None, *ignored: Any, **more: Any
    ) -> Any:
        if not self._interceptors:
            return self._begin(request, timeout, metadata)
        if self._channel.closed:
            raise ChannelClosed
        details = _Details(self._method, timeout, metadata)
        return InterceptedStreamCall(
            run_chain("intercept_unary_stream", self._interceptors, self._begin_intercepted, details, request)
        )

    def _begin_intercepted(self, details: Any, request: Any) -> AioStreamCall:
        return self._begin(request, details.timeout, details.metadata)

    def _begin(self, request: Any, timeout: float | None, metadata: Metadata) -> AioStreamCall:
        home = self._home_here()
        if self._bridge is None:
            refused = AioStreamCall(home)
            refused.settle(not_served(home.rpc))
            return refused
        message, decode = self._bridge.incoming(request)
        call = AioStreamCall(home, timeout, decode)
        home.open_calls.add(call)
        call.started(begin_stream(home.service, home.rpc, message, text_metadata(metadata), call.sink))
        return call


class _RequestStreamMethod(grpc.aio.StreamUnaryMultiCallable, grpc.aio.StreamStreamMultiCallable):  # type: ignore[type-arg]
    """The protocol has no calls with a stream of requests."""

    def __init__(self, method: str) -> None:
        self._method = method

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise aio_error(not_served(rpc_name(self._method)))
