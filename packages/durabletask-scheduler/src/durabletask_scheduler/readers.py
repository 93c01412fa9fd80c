"""A few threads that answer what only reads, so that a long query never delays a turn."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from durabletask_scheduler.group import logger
from durabletask_scheduler.hub.model import HubError
from durabletask_scheduler.storage import StorageError

Refuse = Callable[[HubError], None]


@dataclass(frozen=True, slots=True)
class Reading:
    """Something to be done on a reader thread.

    Attributes:
        run: does it and answers the caller.
        refuse: answers the caller if that is impossible.
    """

    run: Callable[[], None]
    refuse: Refuse


class Readers:
    """The reader threads."""

    def __init__(self, threads: int) -> None:
        self._readings: queue.SimpleQueue[Reading | None] = queue.SimpleQueue()
        self._gate = threading.Lock()
        self._accepting = False
        self._threads = [
            threading.Thread(target=self._loop, name=f"durabletask-reader-{number}", daemon=True)
            for number in range(threads)
        ]

    def start(self) -> None:
        self._accepting = True
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float) -> bool:
        """Refuse what has not begun and wait for the rest; True if all threads ended within ``timeout`` seconds."""
        with self._gate:
            started, self._accepting = self._accepting, False
        if not started:
            return True
        deadline = time.monotonic() + timeout
        self._refuse_waiting()
        for _ in self._threads:
            self._readings.put(None)
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def submit(self, reading: Reading) -> None:
        with self._gate:
            if self._accepting:
                self._readings.put(reading)
                return
        reading.refuse(_STOPPED)

    def _refuse_waiting(self) -> None:
        try:
            while True:
                reading = self._readings.get_nowait()
                if reading is not None:
                    reading.refuse(_STOPPED)
        except queue.Empty:
            pass

    def _loop(self) -> None:
        while (reading := self._readings.get()) is not None:
            try:
                reading.run()
            except HubError as error:
                reading.refuse(error)
            except StorageError as error:
                reading.refuse(HubError("UNAVAILABLE", f"the store could not be read now; try again ({error})"))
            except Exception as error:
                logger.exception("An unexpected error while answering a query")
                reading.refuse(HubError("INTERNAL", f"unexpected error in the scheduler: {error!r}"))


_STOPPED = HubError("UNAVAILABLE", "the scheduler is not running; try again when it is")
