"""A ``grpc.Channel`` into a scheduler of the same process: no socket, no encoding.

SDKs cannot tell it from a network channel, interceptors included. What differs:

* **Messages are handed over as objects**, both ways. Treat a message as immutable once it was passed
  to a call or received from one: the other side may hold the same object. The serializers of a stub
  are used only if its messages are not those of ``durabletask_proto`` (another SDK's own copy of the
  protocol); then each message is converted.
* Credentials, compression and ``wait_for_ready`` are accepted and ignored: there is no connection.
* Completion callbacks run on one thread of the channel; they must not wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, NoReturn

import grpc

from durabletask_scheduler.callbacks import CallbackThread
from durabletask_scheduler.calls import (
    CallHome,
    ChannelClosed,
    InProcessRpcError,
    OpenCalls,
    OpenStreams,
    StreamCall,
    UnaryCall,
)
from durabletask_scheduler.shared_core import NO_CORE, SharedCore
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
Observer = Callable[[grpc.ChannelConnectivity], object]


class InProcessChannel(grpc.Channel):
    """Calls of :class:`~durabletask_scheduler.Scheduler` without a network; safe to share between threads.

    Get one from ``Scheduler.channel()``. Closing it cancels its own open calls and leaves the scheduler
    alone. Calls made after that raise :class:`~durabletask_scheduler.calls.ChannelClosed`.

    Attributes:
        closed: whether :meth:`close` was called.
    """

    def __init__(self, service: Service) -> None:
        unary_calls: set[UnaryCall] = set()
        stream_calls = OpenStreams()
        self.closed = False
        self._service = service
        self._unary_calls = unary_calls
        self._stream_calls = stream_calls
        self._core: SharedCore = getattr(self.lending, "core", NO_CORE)
        self._core.use()
        # It must not hold the channel, which stops it when it is collected.
        self._callbacks = CallbackThread(lambda: [*unary_calls, *stream_calls])

    def unary_unary(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> grpc.UnaryUnaryMultiCallable[Any, Any]:
        bridge = bridge_for(method, request_serializer, response_deserializer, streaming=False)
        return _UnaryMethod(self, self._home(method, self._unary_calls), bridge)

    def unary_stream(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> grpc.UnaryStreamMultiCallable[Any, Any]:
        bridge = bridge_for(method, request_serializer, response_deserializer, streaming=True)
        return _StreamMethod(self, self._home(method, self._stream_calls), bridge)

    def stream_unary(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> grpc.StreamUnaryMultiCallable[Any, Any]:
        return _RequestStreamMethod(method)

    def stream_stream(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> grpc.StreamStreamMultiCallable[Any, Any]:
        return _RequestStreamMethod(method)

    def subscribe(self, callback: Observer, try_to_connect: bool | None = None) -> None:
        """Report the connectivity, which is READY, once: there is nothing to connect."""
        if self.closed:
            raise ChannelClosed
        self._callbacks.run_soon(lambda: callback(grpc.ChannelConnectivity.READY))

    def unsubscribe(self, callback: Observer) -> None:
        """Nothing to do: connectivity is reported once."""

    def close(self) -> None:
        # First: a call that comes too late to be cancelled here finds it closed.
        self.closed = True
        for call in [*self._unary_calls, *self._stream_calls]:
            call.close()
        self._callbacks.stop()

    def __del__(self) -> None:
        self._callbacks.stop()

    @property
    def lending(self) -> Any:
        """What a worker lends its threads to, so that fewer have to be woken: the scheduler's engine, or None."""
        return getattr(self._service, "lending", None)

    def __enter__(self) -> InProcessChannel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        self.close()
        return None

    def _home(self, method: str, open_calls: OpenCalls) -> CallHome:
        return CallHome(self._service, rpc_name(method), self._callbacks, open_calls, self._core)


class _UnaryMethod(grpc.UnaryUnaryMultiCallable):  # type: ignore[type-arg]
    def __init__(self, channel: InProcessChannel, home: CallHome, bridge: MessageBridge | None) -> None:
        self._channel = channel
        self._home = home
        self._bridge = bridge

    def __call__(
        self, request: Any, timeout: float | None = None, metadata: Metadata = None, *ignored: Any, **ignored_too: Any
    ) -> Any:
        return self._begin(request, timeout, metadata).response()

    def with_call(
        self, request: Any, timeout: float | None = None, metadata: Metadata = None, *ignored: Any, **ignored_too: Any
    ) -> tuple[Any, grpc.Call]:
        call = self._begin(request, timeout, metadata)
        return call.response(), call

    def future(
        self, request: Any, timeout: float | None = None, metadata: Metadata = None, *ignored: Any, **ignored_too: Any
    ) -> Any:
        call = self._begin(request, timeout, metadata)
        if timeout is not None:
            call.watch_deadline()
        return call

    def _begin(self, request: Any, timeout: float | None, metadata: Metadata) -> UnaryCall:
        home = self._home
        bridge = self._bridge
        if bridge is None or self._channel.closed:
            return self._refused()
        decode = None
        if type(request) is not bridge.request_type:
            request, decode = bridge.incoming(request)
        call = UnaryCall(home, timeout, decode)
        home.open_calls.add(call)
        if self._channel.closed:
            # Closing may have missed it.
            home.open_calls.discard(call)
            raise ChannelClosed
        pairs = text_metadata(metadata) if metadata else {}
        call.started(begin_call(home.service, home.rpc, request, pairs, call.answer))
        return call

    def _refused(self) -> UnaryCall:
        if self._channel.closed:
            raise ChannelClosed
        call = UnaryCall(self._home)
        call.refuse(not_served(self._home.rpc))
        return call


class _StreamMethod(grpc.UnaryStreamMultiCallable):  # type: ignore[type-arg]
    def __init__(self, channel: InProcessChannel, home: CallHome, bridge: MessageBridge | None) -> None:
        self._channel = channel
        self._home = home
        self._bridge = bridge

    def __call__(
        self, request: Any, timeout: float | None = None, metadata: Metadata = None, *ignored: Any, **ignored_too: Any
    ) -> Any:
        home = self._home
        if self._channel.closed:
            raise ChannelClosed
        if self._bridge is None:
            call = StreamCall(home)
            call.refuse(not_served(home.rpc))
            return call
        message, decode = self._bridge.incoming(request)
        call = StreamCall(home, timeout, decode)
        home.open_calls.add(call)
        if self._channel.closed:
            # Closing may have missed it.
            home.open_calls.discard(call)
            raise ChannelClosed
        call.watch_deadline()
        call.started(begin_stream(home.service, home.rpc, message, text_metadata(metadata), call.sink))
        return call


class _RequestStreamMethod(grpc.StreamUnaryMultiCallable, grpc.StreamStreamMultiCallable):  # type: ignore[type-arg]
    """The protocol has no calls with a stream of requests."""

    def __init__(self, method: str) -> None:
        self._method = method

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise InProcessRpcError(*not_served(rpc_name(self._method)))

    def with_call(self, *args: Any, **kwargs: Any) -> NoReturn:
        self(*args, **kwargs)

    def future(self, *args: Any, **kwargs: Any) -> NoReturn:
        self(*args, **kwargs)
