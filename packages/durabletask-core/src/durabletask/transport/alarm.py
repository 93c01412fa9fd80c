"""One thread that calls functions at given times and sleeps in between."""

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable

Callback = Callable[[], None]


class AlarmClock:
    """Calls functions later, on one thread that waits for exactly the next due time.

    It serves what must happen without a thread being free for it: retries of completions, the
    detection of silent streams and the watch over long turns. Callbacks must be short.

    The thread is not a daemon: as long as the clock runs, the interpreter stays up. That is what
    keeps a started worker alive after the end of the main module.
    """

    def __init__(self, logger: logging.Logger, name: str = "DurableTaskClock") -> None:
        self._logger = logger
        self._condition = threading.Condition()
        self._due: list[tuple[float, int, Callback]] = []
        self._order = itertools.count()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=False)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def call_later(self, delay: float, callback: Callback) -> None:
        """Call ``callback`` after ``delay`` seconds; after :meth:`stop` nothing is called any more."""
        entry = (time.monotonic() + delay, next(self._order), callback)
        with self._condition:
            heapq.heappush(self._due, entry)
            if self._due[0] is entry:
                self._condition.notify()

    def stop(self) -> None:
        """Forget what is due and end the thread, without waiting for it."""
        with self._condition:
            self._stopped = True
            self._due.clear()
            self._condition.notify()

    def _run(self) -> None:
        while (callback := self._next()) is not None:
            try:
                callback()
            except Exception:
                self._logger.exception("A delayed call of the worker failed")

    def _next(self) -> Callback | None:
        with self._condition:
            while not self._stopped:
                if not self._due:
                    self._condition.wait()
                    continue
                delay = self._due[0][0] - time.monotonic()
                if delay <= 0:
                    return heapq.heappop(self._due)[2]
                self._condition.wait(min(delay, threading.TIMEOUT_MAX))
            return None
