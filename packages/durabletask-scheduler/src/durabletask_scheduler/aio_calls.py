"""The calls of the in-process asyncio channel. All but the service's answers happens on the caller's event loop."""

from __future__ import annotations

import asyncio
import math
import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, MutableSet
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import Message

from durabletask_scheduler.callbacks import expire_due
from durabletask_scheduler.hub.model import HubError
from durabletask_scheduler.outgoing import Outgoing
from durabletask_scheduler.rpc import Cancel, Mark
from durabletask_scheduler.transport import Deserializer, Mailbox, Service, status_of

Status = tuple[grpc.StatusCode, str]
DoneCallback = Callable[[Any], object]

EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined]

_OK: Status = (grpc.StatusCode.OK, "")
_EXPIRED: Status = (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
_CANCELLED: Status = (grpc.StatusCode.CANCELLED, "Locally cancelled by application!")


def aio_error(status: Status, initial_metadata: grpc.aio.Metadata | None = None) -> grpc.aio.AioRpcError:
    """The error that ``grpc.aio`` raises for a status."""
    code, details = status
    return grpc.aio.AioRpcError(code, initial_metadata or grpc.aio.Metadata(), grpc.aio.Metadata(), details, "")


class Expiry:
    """Ends the calls of one event loop whose deadline has passed, with one timer for all of them.

    Most calls are over long before their deadline, and a timer for each would cost as much as the call.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: set[InProcessAioCall] = set()
        # Streams, which may be dropped before: dearer to add to.
        self._streams: MutableSet[InProcessAioCall] = weakref.WeakSet()
        self._looks_at = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, call: InProcessAioCall, deadline: float) -> None:
        self._home_of(call).add(call)
        if deadline < self._looks_at:
            self._look_at(deadline)

    def forget(self, call: InProcessAioCall) -> None:
        self._home_of(call).discard(call)

    def _home_of(self, call: InProcessAioCall) -> MutableSet[InProcessAioCall]:
        return self._streams if isinstance(call, AioStreamCall) else self._calls

    def _look_at(self, moment: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._looks_at = moment
        self._timer = self._loop.call_later(moment - time.monotonic(), self._look)

    def _look(self) -> None:
        self._looks_at, self._timer = math.inf, None
        look_again = expire_due([*self._calls, *self._streams])
        if look_again < math.inf:
            self._look_at(look_again)


class LoopShare:
    """What all calls of a channel on one event loop share."""

    def __init__(self, loop: asyncio.AbstractEventLoop, outgoing: Outgoing | None = None) -> None:
        self.loop = loop
        self.mailbox = Mailbox(loop, outgoing)
        self.expiry = Expiry(loop)


@dataclass(slots=True)
class AioCallHome:
    """What the calls of one method on one event loop share.

    Attributes:
        open_calls: the channel's calls that are not over; a call takes itself out.
    """

    service: Service
    rpc: str
    share: LoopShare
    open_calls: MutableSet[Any]


class InProcessAioCall(grpc.aio.Call):
    """A call without its result; it is over once it has a status.

    Attributes:
        deadline: on the monotonic clock; None for none.
    """

    # Made for every call: what most calls never change is not set for each.
    deadline: float | None = None
    _status: Status | None = None
    _response: Message | None = None
    _abort: Cancel | None = None
    _cancelled_here = False
    _callbacks: tuple[DoneCallback, ...] = ()

    def __init__(self, home: AioCallHome, timeout: float | None = None, decode: Deserializer | None = None) -> None:
        self._home = home
        self._decode = decode
        self._over: asyncio.Future[None] = home.share.loop.create_future()
        if timeout is not None:
            self.deadline = time.monotonic() + timeout
            home.share.expiry.watch(self, self.deadline)

    def started(self, abort: Cancel) -> None:
        """The service has the call; ``abort`` tells it that the caller went away."""
        if self._status is None:
            self._abort = abort

    def settle(self, status: Status, response: Message | None = None) -> bool:
        """End the call, unless it is over already."""
        if self._status is not None:
            return False
        home = self._home
        self._status = status
        self._response = response
        # What it would abort knows the call, too: without this only the garbage collector could free the two.
        self._abort = None
        if not self._over.done():
            self._over.set_result(None)
        if self.deadline is not None:
            home.share.expiry.forget(self)
        home.open_calls.discard(self)
        for callback in self._callbacks:
            home.share.loop.call_soon(callback, self)
        return True

    def expire(self) -> bool:
        return self._end_here(_EXPIRED)

    def cancel(self) -> bool:
        if not self._end_here(_CANCELLED):
            return False
        self._cancelled_here = True
        return True

    def cancelled(self) -> bool:
        return self._status is not None and self._status[0] is grpc.StatusCode.CANCELLED

    def done(self) -> bool:
        return self._status is not None

    def time_remaining(self) -> float | None:
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def add_done_callback(self, callback: DoneCallback) -> None:
        if self._status is None:
            self._callbacks += (callback,)
        else:
            self._home.share.loop.call_soon(callback, self)

    async def initial_metadata(self) -> grpc.aio.Metadata:
        return self._headers()

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        await self._ended()
        return grpc.aio.Metadata()

    async def code(self) -> grpc.StatusCode:
        return (await self._ended())[0]

    async def details(self) -> str:
        return (await self._ended())[1]

    async def wait_for_connection(self) -> None:
        """There is nothing to connect."""

    def _headers(self) -> grpc.aio.Metadata:
        return grpc.aio.Metadata(*self._home.service.initial_metadata(self._home.rpc))

    async def _ended(self) -> Status:
        while self._status is None:
            # Unlike awaiting the future, this neither cancels it nor is cancelled with it.
            await asyncio.wait([self._over])
        return self._status

    def _end_here(self, status: Status) -> bool:
        abort = self._abort
        if not self.settle(status):
            return False
        if abort is not None:
            abort()
        return True

    def _raise_unless_ok(self) -> None:
        if self._cancelled_here:
            raise asyncio.CancelledError
        if self._status is not None and self._status[0] is not grpc.StatusCode.OK:
            raise aio_error(self._status, self._headers())

    def _taken(self, message: Any) -> Any:
        return message if self._decode is None else self._decode(message.SerializeToString())


class AioUnaryCall(InProcessAioCall, grpc.aio.UnaryUnaryCall):  # type: ignore[type-arg]
    """A call with one answer; awaiting it gives the answer, and cancelling who awaits it cancels it."""

    def answer(self, response: Message | None, error: HubError | None) -> None:
        """The service's reply; on any thread."""
        self._home.share.mailbox.post(self.settle, _OK if error is None else status_of(error), response)

    def __await__(self) -> Generator[Any, None, Any]:
        if self._status is None:
            try:
                yield from self._over
            except asyncio.CancelledError:
                self.cancel()
                raise
        if self._status is not _OK:
            self._raise_unless_ok()
        return self._response if self._decode is None else self._taken(self._response)


class AioStreamCall(InProcessAioCall, grpc.aio.UnaryStreamCall):  # type: ignore[type-arg]
    """The messages of a stream; dropping it cancels the call.

    What arrived before the service ended the stream is still delivered; cancelling and the deadline end it at once.
    """

    def __init__(self, home: AioCallHome, timeout: float | None = None, decode: Deserializer | None = None) -> None:
        super().__init__(home, timeout, decode)
        self._messages: deque[Message | Mark] = deque()
        self._news = asyncio.Event()
        self.sink = _StreamSink(home.share.mailbox, weakref.ref(self))

    async def read(self) -> Any:
        """The next message, or ``grpc.aio.EOF`` after the last.

        Raises:
            grpc.aio.AioRpcError: the stream ended with a status other than OK.
        """
        while True:
            while not self._messages:
                if self._status is not None:
                    self._raise_unless_ok()
                    return EOF
                self._news.clear()
                try:
                    await self._news.wait()
                except asyncio.CancelledError:
                    self.cancel()
                    raise
            message = self._messages.popleft()
            if not isinstance(message, Mark):
                return self._taken(message)
            message.go_on()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        message = await self.read()
        if message is EOF:
            raise StopAsyncIteration
        return message

    def __del__(self) -> None:
        if self._status is None and self._abort is not None:
            self._abort()

    def take(self, message: Message | Mark) -> None:
        """A message from the service, or a mark behind those that it has sent."""
        if self._status is None:
            self._messages.append(message)
            self._news.set()

    def settle(self, status: Status, response: Message | None = None) -> bool:
        settled = super().settle(status, response)
        self._news.set()
        return settled

    def _end_here(self, status: Status) -> bool:
        if self._status is None:
            self._messages.clear()
        return super()._end_here(status)


class _StreamSink:
    """The service's end of a stream; it does not keep the caller's end alive."""

    def __init__(self, mailbox: Mailbox, call: weakref.ref[AioStreamCall]) -> None:
        self._mailbox = mailbox
        self._call = call

    def send(self, message: Message) -> None:
        self._mailbox.post(self._take, message)

    @property
    def lends(self) -> bool:
        return False

    def when_read(self, go_on: Callable[[], None]) -> None:
        self._mailbox.post(self._take, Mark(go_on))

    def close(self, error: HubError | None = None) -> None:
        self._mailbox.post(self._end, error)

    def _take(self, message: Message | Mark) -> None:
        call = self._call()
        if call is not None:
            call.take(message)

    def _end(self, error: HubError | None) -> None:
        call = self._call()
        if call is not None:
            call.settle(_OK if error is None else status_of(error))
