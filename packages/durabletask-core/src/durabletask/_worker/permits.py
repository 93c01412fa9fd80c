"""A limit that holds even when a server delivers more than it was asked for."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Permits(Generic[T]):
    """Starts at most ``limit`` pieces of work at once; the rest waits in order of arrival.

    Args:
        limit: How many may run.
        start: Starts one; must not block. The work calls :meth:`release` when it ends.
    """

    def __init__(self, limit: int, start: Callable[[T], None]) -> None:
        self._limit = limit
        self._start = start
        self._lock = threading.Lock()
        self._running = 0
        self._waiting: deque[T] = deque()

    def submit(self, work: T) -> None:
        """Start the work now or when a permit is free."""
        with self._lock:
            if self._running >= self._limit:
                self._waiting.append(work)
                return
            self._running += 1
        self._start(work)

    def release(self) -> None:
        """A piece of work ended; the longest waiting one takes its permit."""
        with self._lock:
            if not self._waiting:
                self._running -= 1
                return
            work = self._waiting.popleft()
        self._start(work)

    def take_waiting(self) -> list[T]:
        """Remove and return what has not been started."""
        with self._lock:
            waiting = list(self._waiting)
            self._waiting.clear()
        return waiting
