"""How a worker lends its threads to a scheduler in the same process.

Waking a thread costs more than most turns do. Over a network one thread reads work items and the server has
threads of its own; in one process a worker's thread that has just answered something carries on: it does the
scheduler's work on the answer, runs the turn that comes of it, and takes the next activity, without any other
thread being woken. The scheduler offers this with a ``lending`` attribute of its channels.
"""

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

import grpc
from google.protobuf.message import Message

_MOST_AT_ONCE = 64
"""Messages that are taken before what was answered is handed to the scheduler."""

_BRIEF_WORK_SECONDS = 0.002
"""For how long a thread goes on with brief work before what was answered is handed to the scheduler."""

Result = TypeVar("Result")


class Core(Protocol):
    """A core of the machine that threads keep to which hand over to each other: there that is cheaper."""

    def enter(self) -> None:
        """The calling thread keeps to it from now on."""

    def leave(self) -> None:
        """The calling thread has all the cores again that it had before. Any user code runs so."""


class Lending(Protocol):
    """The scheduler, as lent threads see it."""

    @property
    def core(self) -> Core:
        """The one that all of them share."""

    def quietly(self, call: Callable[[], Result]) -> Result:
        """Make a call that does not wake the scheduler's own thread; :meth:`help` or :meth:`leave` must follow."""

    def help(self, between: Callable[[], bool]) -> None:
        """Do the scheduler's work that has gathered; ``between`` runs what it hands out meanwhile, if anything."""

    def stand_by(self, call: Callable[[], None], *, on: bool) -> None:
        """``call`` wakes a thread that helps then; or, with ``on=False``, does not any more."""

    def answer(
        self,
        rpc: str,
        message: Message,
        tell: "Callable[[Any, tuple[grpc.StatusCode, str] | None], None]",
        about: Any,
    ) -> None:
        """Hand in the answer to a work item.

        Args:
            tell: told once, on any thread, how it was taken: ``about``, and None for OK, else status and details.
        """

    def leave(self) -> None:
        """What has gathered is left to others, because this thread has something else to do first."""


class Polled(Protocol):
    """A stream in the same process, which is asked for messages instead of waited for."""

    def __next__(self) -> Any: ...
    def notify(self, arrived: Callable[[], None]) -> None: ...
    def has_arrived(self) -> bool: ...
    def poll(self) -> Any: ...
    def is_active(self) -> bool: ...
    def cancel(self) -> bool: ...
    def finish(self) -> None: ...


class _Mine(threading.local):
    """What this thread is to the lane.

    Attributes:
        member: it belongs to the worker, and settles what it answers.
        helps: it is at the scheduler's work and will look for messages afterwards.
        owes: the scheduler that it has sent something quietly and has not helped since.
        step_aside: gives what it was to do next to another thread, before it begins what may take long.
        takes: it is taking messages.
        brief: what it does as soon as it has taken the message that brought it.
    """

    member = False
    helps = False
    owes: Lending | None = None
    step_aside: Callable[[], None] | None = None
    takes = False
    brief: Callable[[], None] | None = None


class Lane:
    """Where the threads of one worker take over from each other; without a lending scheduler it does nothing.

    Messages are taken by one thread at a time, in order, on whichever thread is at hand.

    Attributes:
        rest: tells that the calling thread is about to wait until it is called, or to wake others.
        go_out: tells that the calling thread is about to run user code, or to start a thread.
    """

    rest: Callable[[], None]
    go_out: Callable[[], None]

    def __init__(self) -> None:
        self._mine = _Mine()
        self._lending: Lending | None = None
        self._call: Polled | None = None
        self._take: Callable[[Any], None] = _nothing
        self._gate = threading.Lock()
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._rung = False
        self._call_member: Callable[[Callable[[], None]], bool] = _nobody
        self._fault: Exception | None = None
        self.rest = self.go_out = _anywhere

    def join(self, step_aside: Callable[[], None] | None = None) -> None:
        """The calling thread belongs to the worker from now on.

        Args:
            step_aside: called before it takes a message: what it was to do next must not wait for a turn that blocks.
        """
        self._mine.member = True
        self._mine.step_aside = step_aside

    def call_first(self, call: Callable[[Callable[[], None]], bool]) -> None:
        """Give work to a thread of the worker with ``call``, if it has one that is free; else the reader's does it.

        A thread of the pool that was busy last is likely to be one that can go on with what comes of the work.
        """
        self._call_member = call

    def do_soon(self, work: Callable[[], None]) -> bool:
        """Do brief work on the calling thread before the scheduler writes, so that what comes of it shares the write.

        Returns:
            False if the thread is not just taking the message that brings the work.
        """
        mine = self._mine
        if not mine.takes or mine.brief is not None:
            return False
        mine.brief = work
        return True

    def send(self, call: Callable[[], Result]) -> Result:
        """Make a call that answers a work item."""
        lending = self._lending
        if lending is None or not self._mine.member:
            return call()
        self._mine.owes = lending
        return lending.quietly(call)

    def answered(self, *, busy: bool) -> None:
        """A thread of the worker has done a piece of work and perhaps answered it.

        Args:
            busy: it has another one to do at once.
        """
        lending = self._mine.owes
        if lending is None:
            return
        if busy:
            lending.leave()
        else:
            self._help(lending)
            self._settle(lending)

    def serve(self, lending: Lending, call: Polled, take: Callable[[Any], None]) -> None:
        """Take the messages of a stream until it ends, here and on the threads that :meth:`join`.

        Raises:
            grpc.RpcError: The stream ended with an error.
        """
        self._call, self._take, self._fault = call, take, None
        self.rest, self.go_out = lending.core.enter, lending.core.leave
        self._lending = lending
        self.join()
        try:
            call.notify(self._arrived)
            lending.stand_by(self._ring, on=True)
            while call.is_active() and self._fault is None:
                self.rest()
                self._bell.get()
                self._look()
        finally:
            lending.stand_by(self._ring, on=False)
            self._lending = None
            # Another thread may be in the midst of a turn, and there may be more.
            with self._gate:
                while self._take_some():
                    continue
                self._call = None
            self._help(lending)
            self.go_out()
        if self._fault is not None:
            # Or the server would go on sending while nobody reads.
            call.cancel()
            raise self._fault
        try:
            next(call)
        except StopIteration:
            return

    def _arrived(self) -> None:
        """On the scheduler's thread, whichever that is now: somebody must look, unless somebody will anyway."""
        if self._call is not None and not self._call.is_active():
            self._bell.put(None)
        elif not self._mine.helps:
            self._ring()

    def _ring(self) -> None:
        """Have a thread of the worker look for messages and for the scheduler's work."""
        lending = self._lending
        if lending is None or self._rung:
            return
        self._rung = True
        called = False
        try:
            called = self._call_member(self._look)
        finally:
            # Also if the caller, whose thread may be a client's, is interrupted: later calls count on this one.
            if not called:
                self._bell.put(None)

    def _look(self) -> None:
        self._rung = False
        lending = self._lending
        if lending is None:
            # The stream has ended since this was called for: who served it sees to what is left.
            return
        self._help(lending)
        self._settle(lending)

    def _settle(self, lending: Lending) -> None:
        while self._drain():
            # Without an answer of this thread's, the scheduler's work is that of others: its own activity comes first.
            if self._mine.owes is not None:
                self._help(lending)

    def _help(self, lending: Lending) -> None:
        self._mine.helps = True
        self._mine.owes = None
        try:
            lending.help(self._meanwhile)
        finally:
            self._mine.helps = False

    def _meanwhile(self) -> bool:
        found = self._drain()
        # For the write, after which others are woken.
        self.rest()
        return found

    def _drain(self) -> bool:
        """Take some of what has arrived, unless another thread is at it: then that one sees to it.

        Returns:
            whether there was any, so that there may be more.
        """
        mine, found, end = self._mine, False, 0.0
        while self._take_turn_at_taking():
            found = True
            if mine.brief is None:
                break
            end = end or time.monotonic() + _BRIEF_WORK_SECONDS
            self._do_brief()
            if time.monotonic() > end:
                break
        return found

    def _take_turn_at_taking(self) -> bool:
        """Whether a message had arrived and this thread has taken it, and perhaps more."""
        call = self._call
        while call is not None and self._fault is None and call.has_arrived() and self._gate.acquire(blocking=False):
            try:
                if self._take_some():
                    return True
            finally:
                self._gate.release()
            call = self._call
        return False

    def _do_brief(self) -> None:
        """Brief as it was so far, it may take long this time: others see to the messages behind it."""
        mine, call = self._mine, self._call
        work, mine.brief = mine.brief, None
        if call is not None and call.has_arrived():
            self._ring()
        if work is not None:
            work()

    def _take_some(self) -> bool:
        mine, call, found = self._mine, self._call, False
        step_aside, mine.takes = mine.step_aside, True
        try:
            for _ in range(_MOST_AT_ONCE):
                if call is None or self._fault is not None or (message := call.poll()) is None:
                    break
                found = True
                self.go_out()
                if step_aside is not None:
                    step_aside()
                self._take(message)
                if mine.brief is not None:
                    break
        except Exception as error:
            self._fault = error
            self._bell.put(None)
        finally:
            mine.takes = False
        return found


def _nobody(_: object) -> bool:
    return False


def _anywhere() -> None:
    """No scheduler of this process shares a core."""


def _nothing(_: object) -> None:
    """Nothing is served yet."""
