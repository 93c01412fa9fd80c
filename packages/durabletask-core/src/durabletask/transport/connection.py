"""The channel a worker uses, and how it is replaced."""

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

import grpc
from google.protobuf.message import Message

from durabletask.transport.additions import Stub
from durabletask.transport.alarm import AlarmClock
from durabletask.transport.lane import Lane, Lending

CALL_DEADLINE = 60.0
"""Seconds a completion, an abandonment or a history download may take before it counts as failed."""


class FutureCall(Protocol):
    """What gRPC returns for a unary call that is not awaited: a call and a future in one."""

    def add_done_callback(self, callback: Callable[[Any], None]) -> None: ...
    def cancel(self) -> bool: ...
    def result(self, timeout: float | None = None) -> Any: ...
    def code(self) -> grpc.StatusCode | None: ...
    def details(self) -> str | None: ...
    def initial_metadata(self) -> Any: ...


class StreamCall(Protocol):
    """What gRPC returns for a server stream: a call and an iterable in one."""

    def __iter__(self) -> Iterator[Any]: ...
    def cancel(self) -> bool: ...


class Connection:
    """The stub of the channel in use.

    A channel that this class opened is replaced by :meth:`renew` and closed once no call can be
    left on it; a channel that the user supplied is neither replaced nor closed.

    Args:
        open_channel: Opens a channel of our own, and is told whether it replaces another; ignored when
            ``channel`` is given.
        channel: The user's channel, or None.
        clock: Closes retired channels when their last call must have ended.
        lane: How calls are made where the channel's scheduler borrows threads.
    """

    def __init__(
        self,
        open_channel: Callable[[bool], grpc.Channel],
        channel: grpc.Channel | None,
        clock: AlarmClock,
        lane: Lane | None = None,
    ) -> None:
        self._open_channel = open_channel
        self._clock = clock
        self._lane = lane or Lane()
        self._owned = channel is None
        self._lock = threading.Lock()
        self._channel = open_channel(False) if channel is None else channel
        self._stub = Stub(self._channel)
        self._retired: list[grpc.Channel] = []

    @property
    def stub(self) -> Stub:
        """The stub of the channel in use; ask again for every call."""
        return self._stub

    def call(self, method: str, message: Message) -> FutureCall:
        """Send a unary call of the protocol, or of what our scheduler adds to it, without waiting for its answer."""
        start: Callable[..., FutureCall] = getattr(self._stub, method).future
        return self._lane.send(partial(start, message, timeout=CALL_DEADLINE))

    def hand_over(
        self, lending: Lending, method: str, message: Message, tell: Callable[[Any, Any], None], about: Any
    ) -> None:
        """The same with a scheduler in this process; see :meth:`.lane.Lending.answer`."""
        self._lane.send(partial(lending.answer, method, message, tell, about))

    @property
    def lending(self) -> Lending | None:
        """What the channel's scheduler offers to worker threads, if it is in this process."""
        lending: Lending | None = getattr(self._channel, "lending", None)
        return lending

    def renew(self) -> None:
        """Open a fresh channel; calls under way on the old one still get their answers."""
        if not self._owned:
            return
        fresh = self._open_channel(True)
        with self._lock:
            retired, self._channel = self._channel, fresh
            self._retired.append(retired)
        self._stub = Stub(fresh)
        self._clock.call_later(CALL_DEADLINE, lambda: self._close_retired(retired))

    def close(self) -> None:
        """Close every channel that was opened here."""
        if not self._owned:
            return
        with self._lock:
            channels, self._retired = [*self._retired, self._channel], []
        for channel in channels:
            channel.close()

    def _close_retired(self, channel: grpc.Channel) -> None:
        with self._lock:
            if channel not in self._retired:
                return
            self._retired.remove(channel)
        channel.close()
