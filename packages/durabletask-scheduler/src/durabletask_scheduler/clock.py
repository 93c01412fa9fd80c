"""What the engine takes for the time, and how it waits for it.

Timers, scheduled starts and pauses are due by this clock, and everything the hub writes down carries its
time. In production it is the system's; tests put one in its place that moves when they say so.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from durabletask_scheduler.hub.times import SECOND

logger = logging.getLogger("durabletask_scheduler")

_NOTABLE_STEP = SECOND


class UnderWay(NamedTuple):
    """What may still bring news by itself.

    Attributes:
        turns: orchestrator turns (and batches of entities) in the hands of workers.
        activities: activities in the hands of workers.
        waits: calls that wait for an instance to start or to complete.
    """

    turns: int
    activities: int
    waits: int


class Clock(Protocol):
    """The time of one engine at a time. All but :meth:`now` is called by that engine."""

    def now(self) -> int:
        """Nanoseconds since 1970-01-01 UTC; any thread."""
        ...

    def attach(self, wake: Callable[[], None]) -> None:
        """The engine begins: call ``wake``, from any thread, when its wait has become too long."""
        ...

    def patience(self, due: int | None, under_way: Callable[[], UnderWay]) -> float:
        """The engine has nothing more to do now: how many seconds it may wait before it asks for the time again.

        Args:
            due: when the next thing is due, None for never.
            under_way: tells what is not yet at rest.
        """
        ...


class SystemClock:
    """The system's time, which never goes back.

    If the system's time is set back, this clock goes on at the usual pace until it is overtaken (or the program
    is started again): otherwise all that is due, leases of vanished workers included, would stand still
    meanwhile. If the system's time is set forward, or the machine was asleep, this clock follows at once.

    Args:
        wall: the system's time; nanoseconds since 1970-01-01 UTC.
        elapsed: a time that is never set; nanoseconds since any moment.
    """

    def __init__(self, wall: Callable[[], int] = time.time_ns, elapsed: Callable[[], int] = time.monotonic_ns) -> None:
        self._wall = wall
        self._elapsed = elapsed
        self._ahead = wall() - elapsed()
        self._told = False

    def now(self) -> int:
        elapsed = self._elapsed()
        ahead = self._wall() - elapsed
        if ahead > self._ahead:
            self._ahead = ahead
        elif self._ahead - ahead > _NOTABLE_STEP and not self._told:
            self._told = True
            logger.warning(
                "The system's time was set back by %.1f s; the task hubs' time goes on without a step until the "
                "system's time has caught up or the scheduler is restarted",
                (self._ahead - ahead) / SECOND,
            )
        return elapsed + self._ahead

    def attach(self, wake: Callable[[], None]) -> None:
        """Nothing to do: this clock never jumps ahead of a wait."""

    def patience(self, due: int | None, under_way: Callable[[], UnderWay]) -> float:
        return math.inf if due is None else max((due - self.now()) / SECOND, 0.0)
