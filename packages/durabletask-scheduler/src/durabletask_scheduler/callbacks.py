"""The one thread of an in-process channel: it runs callbacks and keeps deadlines."""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from durabletask_scheduler.inbox import Inbox
from durabletask_scheduler.shared_core import start_elsewhere

logger = logging.getLogger("durabletask_scheduler.transport")

Callback = Callable[[], object]

GRAIN_SECONDS = 0.01
"""Deadlines that pass within it are kept together, so that thousands of open calls are not gone through for each."""


class Watched(Protocol):
    """A call that is not over."""

    @property
    def deadline(self) -> float | None:
        """On the monotonic clock; None for none."""

    def expire(self) -> object: ...


def expire_due(open_calls: Iterable[Watched]) -> float:
    """End the calls whose deadline has passed.

    Returns:
        when to look again; infinity if no other call has a deadline.
    """
    now = time.monotonic()
    nearest = math.inf
    for call in open_calls:
        deadline = call.deadline
        if deadline is None:
            continue
        if deadline <= now:
            call.expire()
        else:
            nearest = min(nearest, deadline)
    return max(nearest, now + GRAIN_SECONDS)


class CallbackThread:
    """Runs callbacks and ends calls whose deadline passed; begins with the first need.

    Most calls are over long before their deadline, so none is noted down: at the nearest deadline of all, the calls
    that are open then are gone through. After :meth:`stop` it ends as soon as there is nothing left to do; a later
    need begins it again.

    Args:
        open_calls: lists the calls that are not over.

    Attributes:
        looks_at: when it goes through them next; a call with an earlier deadline says so with :meth:`look_at`.
    """

    def __init__(self, open_calls: Callable[[], Iterable[Watched]]) -> None:
        self.looks_at = math.inf
        self._open_calls = open_calls
        self._inbox: Inbox[Callback] = Inbox()
        # Reentrant, because a collection of garbage in the midst of it may end a call, which runs its callbacks.
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._stopping = False

    def run_soon(self, callback: Callback) -> None:
        with self._lock:
            self._inbox.put(callback)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="durabletask-channel", daemon=True)
                start_elsewhere(self._thread)

    def look_at(self, deadline: float) -> None:
        """Go through the open calls then, or earlier; the call whose deadline it is must be among them."""
        with self._lock:
            self.looks_at = min(deadline, self.looks_at)
        self.run_soon(_nothing_to_do)

    def stop(self) -> None:
        self._stopping = True
        # No lock: this also runs when a channel is collected, wherever that happens.
        self._inbox.put(_nothing_to_do)

    def _run(self) -> None:
        while not (self._stopping and self._finished()):
            try:
                callback = self._inbox.get(timeout=self._patience())
            except queue.Empty:
                self._look()
            else:
                run_callback(callback)

    def _finished(self) -> bool:
        self._look()
        with self._lock:
            if self.looks_at < math.inf or not self._inbox.empty():
                return False
            self._thread = None
            return True

    def _patience(self) -> float | None:
        looks_at = self.looks_at
        return None if looks_at == math.inf else bounded(looks_at - time.monotonic())

    def _look(self) -> None:
        # Before the calls are listed: one that comes after that asks for its deadline anew.
        with self._lock:
            self.looks_at = math.inf
        look_again = expire_due(self._open_calls())
        with self._lock:
            self.looks_at = min(look_again, self.looks_at)


def _nothing_to_do() -> None:
    pass


def run_callback(callback: Callable[..., object], *args: Any) -> None:
    """Call it; what it raises is reported and goes no further."""
    try:
        callback(*args)
    except Exception:
        logger.exception("a callback of an in-process call failed: %r", callback)


def bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), threading.TIMEOUT_MAX)
