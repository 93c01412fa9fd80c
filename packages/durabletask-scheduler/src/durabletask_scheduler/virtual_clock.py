"""A clock for tests: it stands still, and moves when told to or when somebody waits and nothing else can happen."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass

from durabletask_scheduler.clock import UnderWay
from durabletask_scheduler.hub.times import SECOND

# The last second that a Timestamp and a datetime can hold. What is due later is due never.
_END_OF_TIME = 253_402_300_799 * SECOND
# Orchestrations run ahead of the clock a little: by a microsecond for each turn, and by a millisecond for each timer
# that fires (backend semantics: their time is later than the timer's). Somebody who advances by a day and then by
# another means the timer that, for this reason, is due a few milliseconds after the second day.
_AHEAD_PER_TIMER = 1_100_000
_AHEAD_AT_FIRST = 1_000_000
_MOST_AHEAD = SECOND


@dataclass(eq=False)
class _Advance:
    target: int
    moves: bool
    while_activities_run: bool
    done: bool = False


class VirtualClock:
    """Time moves from one due moment to the next, each time after everything that the last one set off is done.

    Args:
        start: the time at first; nanoseconds since 1970-01-01 UTC.
        skips: whether time also moves by itself, to the next due moment, while a call waits for an instance
            and no work item is in the hands of a worker.
    """

    def __init__(self, start: int, *, skips: bool) -> None:
        self._now = start
        self._skips = skips
        self._changed = threading.Condition()
        self._ahead = _AHEAD_AT_FIRST
        self._advances: list[_Advance] = []
        self._last_seen = UnderWay(0, 0, 0)
        self._wake: Callable[[], None] = _nobody

    def now(self) -> int:
        return self._now

    def attach(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    def advance(self, duration: int, *, while_activities_run: bool, timeout: float) -> None:
        """Move the time, firing on the way what is due, and wait until what that sets off is done too.

        The end is exact to a millisecond, and to one more for each timer that has fired since the clock began:
        what is due that much later counts as well, and the time then stands there.

        Args:
            duration: nanoseconds, 0 or more. With 0 nothing moves: what is under way is waited for.
            while_activities_run: do not wait for activities; turns are always waited for.
            timeout: seconds of real time.

        Raises:
            ValueError: the duration is negative.
            TimeoutError: something is still under way after that time; the clock stands where it came to.
        """
        if duration < 0:
            raise ValueError(f"time moves forward only, found a duration of {duration / SECOND} s")
        with self._changed:
            advance = _Advance(self._now + duration, duration > 0, while_activities_run)
            self._advances.append(advance)
        self._wake()
        with self._changed:
            if self._changed.wait_for(lambda: advance.done, timeout):
                return
            self._advances.remove(advance)
            turns, activities, _ = self._last_seen
        raise TimeoutError(
            f"the time could not be advanced within {timeout} s, because workers have not answered yet: "
            f"{turns} orchestrator turns and {activities} activities. If an activity is meant to be still running, "
            "advance without waiting for activities"
        )

    def patience(self, due: int | None, under_way: Callable[[], UnderWay]) -> float:
        with self._changed:
            if due is not None and due <= self._now:
                return 0.0
            stop = self._next_stop(due, under_way())
            if stop is None:
                return math.inf
            if stop == due:
                self._ahead = min(self._ahead + _AHEAD_PER_TIMER, _MOST_AHEAD)
            self._now = max(self._now, stop)
            return 0.0

    def _next_stop(self, due: int | None, under_way: UnderWay) -> int | None:
        self._last_seen = under_way
        for advance in sorted(self._advances, key=lambda each: each.target):
            if under_way.turns or (under_way.activities and not advance.while_activities_run):
                continue
            if due is not None and due <= advance.target + self._ahead * advance.moves:
                return due
            self._advances.remove(advance)
            advance.done = True
            self._changed.notify_all()
            return advance.target
        if self._skips and under_way.waits and not under_way.turns and not under_way.activities:
            return due if due is not None and due <= _END_OF_TIME else None
        return None


def _nobody() -> None:
    """No engine is attached yet."""
