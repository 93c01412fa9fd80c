"""What any thread puts and one thread takes."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from queue import Empty
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Inbox(Generic[Item]):
    """A queue with one taker, as fast as ``queue.SimpleQueue``, whose timeouts can be relied on.

    Up to CPython 3.12, ``SimpleQueue.get`` may wait for ever: if it takes its lock and finds nothing after the
    timeout has passed (the thread did not run in between), it takes the negative rest for no timeout at all.
    """

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._asleep = False
        self._rung = False
        # Held unless somebody has rung it; the taker waits for it.
        self._bell = threading.Lock()
        self._bell.acquire()

    def put(self, item: Item) -> None:
        """Any thread, also in the midst of another ``put`` (a collection of garbage may come then)."""
        self._items.append(item)
        self.ring()

    def put_quietly(self, item: Item) -> None:
        """As :meth:`put`, but a taker that is asleep sleeps on: whoever puts it sees to it that it is taken."""
        self._items.append(item)

    def ring(self) -> None:
        """Any thread: end the wait of the taker, or the next one."""
        self._rung = True
        if self._asleep:
            # Somebody else may have rung it just now.
            with contextlib.suppress(RuntimeError):
                self._bell.release()

    def wait(self, timeout: float) -> bool:
        """Until something is put or somebody rings, at most ``timeout`` seconds; it may end early.

        Returns:
            whether anybody has called for the taker; putting quietly is not calling.
        """
        if not self._rung and timeout > 0:
            self._sleep(min(timeout, threading.TIMEOUT_MAX))
        rung, self._rung = self._rung, False
        return rung

    def get(self, timeout: float | None = None) -> Item:
        """The next item; waits for it if need be.

        Args:
            timeout: seconds; None for no bound.

        Raises:
            queue.Empty: none came in time.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while not self._items:
            left = threading.TIMEOUT_MAX if end is None else end - time.monotonic()
            if left <= 0:
                raise Empty
            self.wait(left)
        return self._items.popleft()

    def take(self, most: int) -> list[Item]:
        """The items that are there, at most so many."""
        items = self._items
        return [items.popleft() for _ in range(min(most, len(items)))]

    def empty(self) -> bool:
        return not self._items

    def _sleep(self, seconds: float) -> None:
        """Until somebody rings, or for so long; a bell from before ends it early."""
        self._asleep = True
        try:
            # What came before the line above has not rung.
            if not self._rung:
                self._bell.acquire(timeout=seconds)
        finally:
            self._asleep = False
