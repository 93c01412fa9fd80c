"""The one thread of an in-process channel: it runs callbacks and keeps deadlines."""

from __future__ import annotations

import heapq
import itertools
import logging
import queue
import threading
import time
import weakref
from collections.abc import Callable
from typing import Protocol

from durabletask_scheduler.inbox import Inbox

logger = logging.getLogger("durabletask_scheduler.transport")

Callback = Callable[[], object]

_COMPACT_ABOVE = 1024


class Watched(Protocol):
    """A call with a deadline."""

    def expire(self) -> bool: ...

    def is_active(self) -> bool: ...


class CallbackThread:
    """Runs callbacks and ends calls whose deadline passed; begins with the first need.

    After :meth:`stop` it ends as soon as there is nothing left to do; a later need begins it again.
    """

    def __init__(self) -> None:
        self._inbox: Inbox[Callback] = Inbox()
        # Reentrant, because a collection of garbage in the midst of it may end a call, which runs its callbacks.
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._order = itertools.count()
        self._deadlines: list[tuple[float, int, weakref.ref[Watched]]] = []
        self._compact_at = _COMPACT_ABOVE
        self._stopping = False

    def run_soon(self, callback: Callback) -> None:
        with self._lock:
            self._inbox.put(callback)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="durabletask-channel", daemon=True)
                self._thread.start()

    def watch(self, deadline: float, call: Watched) -> None:
        entry = (deadline, next(self._order), weakref.ref(call))
        with self._lock:
            heapq.heappush(self._deadlines, entry)
            if len(self._deadlines) >= self._compact_at:
                self._compact()
            is_next = self._deadlines[0] is entry
        if is_next:
            # Only then: to wake the thread for every call would cost more than most calls do.
            self.run_soon(_nothing_to_do)

    def stop(self) -> None:
        self._stopping = True
        # No lock: this also runs when a channel is collected, wherever that happens.
        self._inbox.put(_nothing_to_do)

    def _run(self) -> None:
        while not (self._stopping and self._finished()):
            try:
                callback = self._inbox.get(timeout=self._until_next_deadline())
            except queue.Empty:
                self._expire_due()
            else:
                run_callback(callback)

    def _finished(self) -> bool:
        with self._lock:
            self._compact()
            if self._deadlines or not self._inbox.empty():
                return False
            self._thread = None
            return True

    def _until_next_deadline(self) -> float | None:
        with self._lock:
            return bounded(self._deadlines[0][0] - time.monotonic()) if self._deadlines else None

    def _expire_due(self) -> None:
        while (due := self._pop_due()) is not None:
            call = due()
            if call is not None:
                call.expire()

    def _pop_due(self) -> weakref.ref[Watched] | None:
        with self._lock:
            if self._deadlines and self._deadlines[0][0] <= time.monotonic():
                return heapq.heappop(self._deadlines)[2]
            return None

    def _compact(self) -> None:
        """Forget calls that ended before their deadline."""
        self._deadlines = [entry for entry in self._deadlines if (call := entry[2]()) is not None and call.is_active()]
        heapq.heapify(self._deadlines)
        self._compact_at = max(_COMPACT_ABOVE, 2 * len(self._deadlines))


def _nothing_to_do() -> None:
    pass


def run_callback(callback: Callback) -> None:
    """Call it; what it raises is reported and goes no further."""
    try:
        callback()
    except Exception:
        logger.exception("a callback of an in-process call failed: %r", callback)


def bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), threading.TIMEOUT_MAX)
