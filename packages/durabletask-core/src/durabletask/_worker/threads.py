"""Threads for user code that is a plain function."""

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

Work = Callable[[], None]


class ThreadPool:
    """Runs functions on up to ``size`` threads, which are started only as they are needed.

    A hand-over is one put on a ``SimpleQueue``, a quarter of what ``run_in_executor`` costs. The
    threads are daemons: user code that never returns cannot keep a stopped worker's interpreter up.

    Args:
        size: Greatest number of threads.
        name: Prefix of their names.
        logger: Where a function that raises is reported; functions are expected not to.
    """

    def __init__(self, size: int, name: str, logger: logging.Logger) -> None:
        self._size = size
        self._name = name
        self._logger = logger
        self._queue: SimpleQueue[Work | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._outstanding = 0

    @property
    def size(self) -> int:
        """Greatest number of threads."""
        return self._size

    def submit(self, work: Work) -> None:
        """Run ``work`` as soon as a thread is free."""
        with self._lock:
            self._outstanding += 1
            grow = self._threads < self._size and self._outstanding > self._threads
            number = self._threads
            self._threads += grow
        self._queue.put(work)
        if grow:
            threading.Thread(target=self._run, name=f"{self._name}_{number}", daemon=True).start()

    def close(self) -> None:
        """Let every thread end after what it is running; queued work is dropped."""
        while not self._queue.empty():
            self._queue.get()
        with self._lock:
            threads, self._threads = self._threads, self._size
        for _ in range(threads):
            self._queue.put(None)

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            try:
                work()
            except BaseException:
                # User code may raise SystemExit; the thread belongs to the worker and goes on.
                self._logger.exception("Work on a thread of the worker failed")
            with self._lock:
                self._outstanding -= 1
