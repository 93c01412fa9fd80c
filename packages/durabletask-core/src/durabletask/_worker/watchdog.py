"""Warns about a turn that holds up all others."""

import logging
import threading
import time
from typing import Protocol

from durabletask.transport.alarm import AlarmClock


class Named(Protocol):
    """A run that knows its orchestrator's name once it has seen it in the history."""

    @property
    def name(self) -> str: ...


class TurnWatchdog:
    """Reports a turn that takes longer than ``threshold`` seconds, once.

    Turns run on the thread that takes work items, so one that blocks delays everything behind it.
    The clock is armed at most once per threshold however many turns run, and not at all when idle.
    """

    def __init__(self, clock: AlarmClock, threshold: float, logger: logging.Logger) -> None:
        self._clock = clock
        self._threshold = threshold
        self._logger = logger
        self._lock = threading.Lock()
        self._armed = False
        self._turn: tuple[float, str, Named] | None = None

    def enter(self, instance_id: str, run: Named) -> None:
        """A turn begins."""
        self._turn = (time.monotonic(), instance_id, run)
        with self._lock:
            if self._armed:
                return
            self._armed = True
        self._clock.call_later(self._threshold, self._check)

    def leave(self) -> None:
        """The turn ended."""
        self._turn = None

    def _check(self) -> None:
        # Disarm before looking: a turn that begins after the look arms the clock itself.
        with self._lock:
            self._armed = False
        turn = self._turn
        if turn is None:
            return
        started, instance_id, run = turn
        remaining = started + self._threshold - time.monotonic()
        if remaining <= 0:
            self._warn(instance_id, run)
            return
        with self._lock:
            if self._armed:
                return
            self._armed = True
        self._clock.call_later(remaining, self._check)

    def _warn(self, instance_id: str, run: Named) -> None:
        self._logger.warning(
            "A turn of orchestrator '%s' (instance '%s') has been running for more than %g s and holds up every other "
            "work item of this worker. Orchestrators must not block: move I/O, sleeping and heavy computation into "
            "activities.",
            run.name,
            instance_id,
            self._threshold,
        )
