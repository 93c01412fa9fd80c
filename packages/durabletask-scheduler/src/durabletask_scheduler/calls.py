"""One call of the in-process channel: settled once, waited for cheaply."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, NoReturn, Protocol

import grpc
from google.protobuf.message import Message

from durabletask_scheduler.callbacks import Callback, CallbackThread, bounded, run_callback
from durabletask_scheduler.hub.model import HubError
from durabletask_scheduler.rpc import Cancel, Mark
from durabletask_scheduler.shared_core import NO_CORE, SharedCore
from durabletask_scheduler.transport import Deserializer, MetadataPairs, Service, status_of

Status = tuple[grpc.StatusCode, str]

_OK: Status = (grpc.StatusCode.OK, "")
_CANCELLED: Status = (grpc.StatusCode.CANCELLED, "Locally cancelled by application!")
_EXPIRED: Status = (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
_CHANNEL_CLOSED: Status = (grpc.StatusCode.CANCELLED, "Channel closed!")
_END = object()


class InProcessRpcError(grpc.RpcError, grpc.Call, grpc.Future):  # type: ignore[type-arg]
    """A call that ended with a status other than OK; also a failed future, because gRPC's interceptors ask for one."""

    def __init__(self, code: grpc.StatusCode, details: str, initial_metadata: MetadataPairs = ()) -> None:
        super().__init__(f"{code.name}: {details}")
        self._code = code
        self._details = details
        self._initial_metadata = initial_metadata

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def initial_metadata(self) -> MetadataPairs:
        return self._initial_metadata

    def trailing_metadata(self) -> Any:
        return ()

    def debug_error_string(self) -> str:
        return f"in-process call: {self}"

    def result(self, timeout: float | None = None) -> NoReturn:
        raise self

    def exception(self, timeout: float | None = None) -> InProcessRpcError:
        return self

    def traceback(self, timeout: float | None = None) -> TracebackType | None:
        return self.__traceback__

    def cancelled(self) -> bool:
        return self._code is grpc.StatusCode.CANCELLED

    def running(self) -> bool:
        return False

    def done(self) -> bool:
        return True

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        fn(self)

    def is_active(self) -> bool:
        return False

    def time_remaining(self) -> Any:
        return None

    def cancel(self) -> bool:
        return False

    def add_callback(self, callback: Callback) -> bool:
        return False


class ChannelClosed(InProcessRpcError, ValueError):
    """A call on a closed channel. Network channels raise ValueError here, so it is one too."""

    def __init__(self) -> None:
        super().__init__(grpc.StatusCode.CANCELLED, "Cannot invoke RPC on closed channel!")


class OpenCalls(Protocol):
    """Calls that are not over. Any thread."""

    def add(self, call: Any, /) -> None: ...

    def discard(self, call: Any, /) -> None: ...


class OpenStreams:
    """Open streams, which this does not keep alive. Unlike a ``WeakSet`` it can be listed while others change it."""

    def __init__(self) -> None:
        self._streams: dict[int, weakref.ref[StreamCall]] = {}

    def add(self, stream: StreamCall) -> None:
        self._streams[id(stream)] = weakref.ref(stream)

    def discard(self, stream: StreamCall) -> None:
        self._streams.pop(id(stream), None)

    def __iter__(self) -> Iterator[StreamCall]:
        streams = [stream() for stream in list(self._streams.values())]
        return iter([stream for stream in streams if stream is not None])


@dataclass(frozen=True, slots=True)
class CallHome:
    """What the calls of one method of one channel share.

    Attributes:
        open_calls: the channel's calls that are not over; a call takes itself out.
        core: where callers wait.
    """

    service: Service
    rpc: str
    callbacks: CallbackThread
    open_calls: OpenCalls
    core: SharedCore = NO_CORE


class InProcessCall(grpc.Call):
    """A call without its result. Exactly one of the answer, ``cancel``, the deadline and ``close`` settles it.

    The lock is a one-shot gate, taken by whoever settles the call. Who waits leaves a callback, like everybody else:
    most calls of a worker are never waited for. What ``_abort`` aborts knows the call, so the call forgets it when it
    ends: only the garbage collector could free the two otherwise.

    Attributes:
        deadline: on the monotonic clock; None for none.
    """

    # Made for every call: what most calls never change is not set for each.
    _status: Status | None = None
    _response: Message | None = None
    _abort: Cancel | None = None
    _ended_here = False

    def __init__(self, home: CallHome, timeout: float | None = None, decode: Deserializer | None = None) -> None:
        self._home = home
        self._decode = decode
        self.deadline = None if timeout is None else time.monotonic() + timeout
        self._claimed = threading.Lock()
        self._callbacks: list[Callback] = []

    def started(self, abort: Cancel) -> None:
        """The service has the call; ``abort`` tells it that the caller went away."""
        self._abort = abort
        if self._status is not None:
            if self._ended_here:
                abort()
            self._abort = None

    def expire(self) -> bool:
        return self._end_here(_EXPIRED)

    def close(self) -> bool:
        return self._end_here(_CHANNEL_CLOSED)

    def cancel(self) -> bool:
        return self._end_here(_CANCELLED)

    def watch_deadline(self) -> None:
        """Have the deadline kept even while nobody waits for the call."""
        callbacks = self._home.callbacks
        if self.deadline is not None and self.deadline < callbacks.looks_at:
            callbacks.look_at(self.deadline)

    def refuse(self, status: Status) -> None:
        self._settle(status)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the call is over, at most ``timeout`` seconds and never beyond its deadline."""
        if self._status is not None:
            return True
        over = threading.Lock()
        over.acquire()
        if not self._when_over(over.release):
            return True
        limit = self._seconds_left(timeout)
        if self._wait_for(over, -1 if limit is None else limit):
            return True
        if self.deadline is None or time.monotonic() < self.deadline:
            # It may have been called just now.
            with contextlib.suppress(ValueError):
                self._callbacks.remove(over.release)
            return False
        self.expire()
        return over.acquire()

    def _wait_for(self, over: threading.Lock, seconds: float) -> bool:
        core = self._home.core
        try:
            core.enter()
            return over.acquire(timeout=seconds)
        finally:
            core.leave()

    def error(self) -> InProcessRpcError:
        code, details = self._known_status()
        return InProcessRpcError(code, details, self.initial_metadata())

    def code(self) -> grpc.StatusCode:
        return (self._status or self._known_status())[0]

    def details(self) -> str:
        return (self._status or self._known_status())[1]

    def initial_metadata(self) -> MetadataPairs:
        return self._home.service.initial_metadata(self._home.rpc)

    def trailing_metadata(self) -> Any:
        self.wait()
        return ()

    def is_active(self) -> bool:
        return self._status is None

    def time_remaining(self) -> Any:
        """Seconds to the deadline; None without one."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def add_callback(self, callback: Callback) -> bool:
        return self._when_over(partial(self._home.callbacks.run_soon, callback))

    def _when_over(self, action: Callback) -> bool:
        """Have it called on the thread that settles the call; False if the call is over."""
        if self._status is not None:
            return False
        self._callbacks.append(action)
        if self._status is not None:
            self._run_callbacks()
        return True

    def _known_status(self) -> Status:
        self.wait()
        assert self._status is not None
        return self._status

    def _seconds_left(self, timeout: float | None) -> float | None:
        if self.deadline is not None:
            left = self.deadline - time.monotonic()
            timeout = left if timeout is None else min(left, timeout)
        return None if timeout is None else bounded(timeout)

    def _end_here(self, status: Status) -> bool:
        self._ended_here = self._status is None
        if not self._settle(status):
            return False
        abort, self._abort = self._abort, None
        if abort is not None:
            abort()
        return True

    def _settle(self, status: Status, response: Message | None = None) -> bool:
        if not self._claimed.acquire(blocking=False):
            return False
        self._response = response
        self._status = status
        self._home.open_calls.discard(self)
        if self._callbacks:
            self._run_callbacks()
        return True

    def _run_callbacks(self) -> None:
        callbacks = self._callbacks
        while callbacks:
            try:
                action = callbacks.pop(0)
            except IndexError:
                # Another thread runs them too.
                return
            action()

    def _taken(self, message: Any) -> Any:
        return message if self._decode is None else self._decode(message.SerializeToString())


class UnaryCall(InProcessCall, grpc.Future):  # type: ignore[type-arg]
    """A call with one answer, which is also a future."""

    def answer(self, response: Message | None, error: HubError | None) -> None:
        """The service's reply."""
        if self._settle(_OK if error is None else status_of(error), response):
            self._abort = None

    def response(self) -> Any:
        """Wait for the answer as a blocking call does.

        Raises:
            InProcessRpcError: any status other than OK, cancellation included.
        """
        if self._status is None:
            try:
                self.wait()
            except BaseException:
                self.cancel()
                raise
        if self._status is not _OK:
            raise self.error()
        return self._response if self._decode is None else self._taken(self._response)

    def result(self, timeout: float | None = None) -> Any:
        self._wait_as_future(timeout)
        if self.cancelled():
            raise grpc.FutureCancelledError
        return self.response()

    def exception(self, timeout: float | None = None) -> InProcessRpcError | None:
        self._wait_as_future(timeout)
        if self.cancelled():
            raise grpc.FutureCancelledError
        return None if self._status is _OK else self.error()

    def traceback(self, timeout: float | None = None) -> TracebackType | None:
        error = self.exception(timeout)
        return None if error is None else error.__traceback__

    def cancelled(self) -> bool:
        return self._status is not None and self._status[0] is grpc.StatusCode.CANCELLED

    def running(self) -> bool:
        return self._status is None

    def done(self) -> bool:
        return self._status is not None

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        if not self.add_callback(lambda: fn(self)):
            fn(self)

    def add_prompt_callback(self, fn: Callable[[Any], object]) -> None:
        """As ``add_done_callback``, but on the thread that answers, which is the scheduler's: it must never block.

        Waking the channel's own thread for each answer costs several times what a short callback does.
        """
        if not self._when_over(partial(run_callback, fn, self)):
            fn(self)

    def _wait_as_future(self, timeout: float | None) -> None:
        if not self.wait(timeout):
            raise grpc.FutureTimeoutError


class StreamCall(InProcessCall):
    """The messages of a stream, one after the other; dropping it cancels the call.

    What arrived before the service ended the stream is still delivered; cancelling, the deadline and
    closing the channel end it at once.

    Attributes:
        on_arrival: called when a message has arrived or the stream has ended; see :meth:`notify`.
    """

    def __init__(self, home: CallHome, timeout: float | None = None, decode: Deserializer | None = None) -> None:
        super().__init__(home, timeout, decode)
        self._messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.on_arrival: Callable[[], None] = _nobody
        self._cut = False
        self._at_end = False
        self.sink = _StreamSink(self._messages, weakref.ref(self))

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        # The deadline puts an end to it too: the channel's thread watches it.
        message = _END if self._cut else self._read(self._messages.get())
        if message is not _END:
            return message
        if self.code() is grpc.StatusCode.OK:
            raise StopIteration
        raise self.error()

    def notify(self, arrived: Callable[[], None]) -> None:
        """Have it called when a message has arrived or the stream has ended; any thread, it must never block.

        For receivers that :meth:`poll` instead of waiting for the next message.
        """
        self.on_arrival = arrived
        arrived()

    @property
    def is_polled(self) -> bool:
        """Whether the receiver is told of messages; its threads then come back with their answers."""
        return self.on_arrival is not _nobody

    def has_arrived(self) -> bool:
        """Whether :meth:`poll` may have a message."""
        return not self._at_end and not self._messages.empty()

    def poll(self) -> Any:
        """The next message if it is there, else None, also at the end of the stream; one caller at a time."""
        if self._at_end or self._messages.empty():
            return None
        message = self._read(self._messages.get())
        if message is not _END:
            return message
        self._at_end = True
        return None

    def _read(self, message: Any) -> Any:
        """What the receiver gets for an entry of the queue; the end stays there for whoever asks next."""
        while isinstance(message, Mark):
            message.go_on()
            message = self._messages.get()
        if message is _END or self._cut:
            self._messages.put(_END)
            return _END
        return message if self._decode is None else self._taken(message)

    def __del__(self) -> None:
        if self._status is None:
            self.cancel()

    def finish(self) -> None:
        """Ask the service to end the stream in good order: what it sends until then is still delivered."""
        abort = self._abort
        if abort is not None:
            abort()

    def end(self, error: HubError | None) -> None:
        """The service ended the stream."""
        self.refuse(_OK if error is None else status_of(error))

    def refuse(self, status: Status) -> None:
        super().refuse(status)
        self._end_messages()

    def _end_here(self, status: Status) -> bool:
        if not super()._end_here(status):
            return False
        self._cut = True
        self._end_messages()
        return True

    def _end_messages(self) -> None:
        self._messages.put(_END)
        self.on_arrival()


class _StreamSink:
    """The service's end of a stream; it does not keep the caller's end alive."""

    def __init__(self, messages: queue.SimpleQueue[Any], call: weakref.ref[StreamCall]) -> None:
        self._messages = messages
        self._call = call

    def send(self, message: Message) -> None:
        call = self._call()
        if call is not None:
            self._messages.put(message)
            call.on_arrival()

    @property
    def lends(self) -> bool:
        call = self._call()
        return call is not None and call.is_polled

    def when_read(self, go_on: Callable[[], None]) -> None:
        if self._call() is not None:
            self._messages.put(Mark(go_on))

    def close(self, error: HubError | None = None) -> None:
        call = self._call()
        if call is not None:
            call.end(error)


def _nobody() -> None:
    """The receiver waits for messages."""
