"""What clients ask for one after the other, and nobody waits for: it leaves together.

A turn by itself costs about twice what one among many does: threads are woken for it, its answer is a step of the
engine, its activity another one. A client that starts orchestrations one by one and waits for none of them yet gains
nothing from that; it is held up by it. So while such calls follow each other closely, the work they make is held for a
few milliseconds, until enough has gathered or somebody turns out to wait for some of it. Nothing is held of a call
that comes by itself. What is held is committed like everything else: only handing it out comes later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from durabletask_scheduler.alarms import Alarms
from durabletask_scheduler.chances import Chances
from durabletask_scheduler.dispatch import WorkOf

_ALARM = "burst"
_MOST = 64
_WORTH_IT = 4
"""Calls whose work leaves together; with fewer it was in vain."""

_NEWS = 4
"""The latest interval has one part in so many of the pace."""

_MEMORY = 0.5


class Burst:
    """Belongs to the engine.

    Args:
        alarms: those of the engine.
        queue: lets work leave.
        longest: for how long work is held at most; nanoseconds, 0 for not at all.

    Attributes:
        has_ended: what was held has been let go and may not be handed out yet; whoever does that takes it back.
    """

    def __init__(self, alarms: Alarms, queue: Callable[[WorkOf[Any]], None], longest: int) -> None:
        self._alarms = alarms
        self._queue = queue
        self.has_ended = False
        self._longest = longest
        self._held: list[WorkOf[Any]] = []
        self._calls = 0
        self._ends_at = 0
        self._last_call = 0
        self._rare = 2 * longest
        self._pace = self._rare
        # Each piece of work that is held in vain is late for somebody who waits.
        self._chances = Chances(_MEMORY)

    def goes_on(self, now: int) -> bool:
        """A client has asked for something: whether the work of this call is to be held."""
        # What comes in the same tick gathers by itself.
        interval = now - self._last_call or self._rare
        self._pace += (min(interval, self._rare) - self._pace) // _NEWS
        self._last_call = now
        if not self._held:
            return self._pace * _WORTH_IT < self._longest and self._chances.worth_trying()
        self._calls += 1
        if self._calls < _MOST and now < self._ends_at:
            return True
        self.end()
        return False

    def hold(self, work: WorkOf[Any], now: int) -> None:
        """Keep the work back."""
        if not self._held:
            self._calls = 1
            self._ends_at = now + self._longest
            self._alarms.set(_ALARM, self._ends_at, self.end)
        self._held.append(work)

    def holds(self, work: WorkOf[Any] | None) -> bool:
        """Whether the work may be among what is held."""
        return bool(self._held) and work is not None and work.lease is None

    def end(self) -> None:
        """Let everything leave."""
        if not self._held:
            return
        self._chances.tried(paid=self._calls >= _WORTH_IT)
        self._alarms.cancel(_ALARM)
        self.has_ended = True
        held, self._held = self._held, []
        for work in held:
            self._queue(work)
