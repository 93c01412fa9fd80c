"""Holds the channel of a client: opened with the first call, replaced after failures, closed at the end."""

import threading
import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from durabletask.transport.additions import Stub

TChannel = TypeVar("TChannel")

_GRACE_SECONDS: Final = 30.0


class ChannelKeeper(Generic[TChannel]):
    """Holds a channel and its stub. Safe to use from any thread; closing what it hands out is the caller's.

    A replaced channel is retired: calls on it may go on, and it is due to be closed 30 seconds later.

    Args:
        supplied: A channel of the user, which is neither replaced nor closed.
        open_channel: Opens a channel of our own, with the first call and at each replacement; it is told
            whether this is a replacement.
        clock: Seconds on a monotonic clock.

    Attributes:
        has_retired: Whether :meth:`take_due` may have something to hand out.
    """

    def __init__(
        self,
        supplied: TChannel | None,
        open_channel: Callable[[bool], TChannel],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._supplied = supplied is not None
        self._open_channel = open_channel
        self._clock = clock
        self._lock = threading.Lock()
        self._current = supplied
        self._stub: Stub | None = None
        self._retired: list[tuple[float, TChannel]] = []
        self.has_retired = False
        self._replacing = False
        self._closed = False

    def stub(self) -> Stub:
        """The stub of the present channel.

        Raises:
            RuntimeError: The client was closed.
        """
        stub = self._stub
        if stub is not None:
            return stub
        with self._lock:
            if self._closed:
                raise RuntimeError("the client is closed: make a new one")
            if self._current is None:
                self._current = self._open_channel(self._replacing)
            if self._stub is None:
                self._stub = Stub(self._current)
            return self._stub

    def replace(self) -> None:
        """Retire the present channel; the next call opens a new one."""
        with self._lock:
            if self._supplied or self._current is None:
                return
            self._retired.append((self._clock(), self._current))
            self.has_retired = True
            self._current = self._stub = None
            self._replacing = True

    def take_due(self) -> list[TChannel]:
        """The channels that were retired long enough ago to be closed now."""
        with self._lock:
            now = self._clock()
            due = [channel for retired_at, channel in self._retired if now - retired_at >= _GRACE_SECONDS]
            self._retired = [entry for entry in self._retired if now - entry[0] < _GRACE_SECONDS]
            self.has_retired = bool(self._retired)
            return due

    def take_all(self) -> list[TChannel]:
        """Close the keeper and return every channel that is to be closed; nothing if it was supplied."""
        with self._lock:
            if self._supplied:
                return []
            self._closed = True
            channels = [channel for _, channel in self._retired]
            if self._current is not None:
                channels.append(self._current)
            self._current = self._stub = None
            self._retired = []
            return channels
