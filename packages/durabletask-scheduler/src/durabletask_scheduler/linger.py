"""When it pays to wait a moment before a write.

A result that arrives makes a turn, which leaves before the write. If its answer comes while the write
has not begun, both share one write, and the result's inbox row is never written: a chain of
activities then costs one write a step instead of two. Waiting is bounded by what it can save, done
only for small groups (large ones fill by themselves), and given up while it does not pay, as with
workers that are far away. What it saves is a write and a tick of the engine around it, which costs
about as much as a short turn; an answer that comes just before the write would have been over saves
the whole of the next one.
"""

from __future__ import annotations

from durabletask_scheduler.chances import Chances
from durabletask_scheduler.group import SMALL_GROUP

_SHARE_OF_WRITE = 0.9
_TICK = 0.0003
_LONGEST = 0.002
_MEMORY = 0.9


class Linger:
    """Decides from how long writes take and how often waiting paid. Belongs to the engine."""

    def __init__(self) -> None:
        self._write_seconds = 0.0
        self._chances = Chances()

    def patience(self, commits: int, turns_out: int) -> float:
        """How many seconds to wait for an answer to the turns that have left since the last write."""
        if not 0 < commits <= SMALL_GROUP or not 0 < turns_out <= SMALL_GROUP:
            return 0.0
        if not self._chances.worth_trying():
            return 0.0
        return min(_TICK + self._write_seconds * _SHARE_OF_WRITE, _LONGEST)

    def waited(self, *, answered: bool) -> None:
        self._chances.tried(paid=answered)

    def wrote(self, seconds: float) -> None:
        self._write_seconds = _MEMORY * self._write_seconds + (1.0 - _MEMORY) * seconds
