"""The line of work that waits on one route."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from durabletask_scheduler.dispatch import WorkOf

_MOST_IN_A_ROW = 8


class Line:
    """First come, first served, but what goes on with something comes before what begins something.

    What has begun takes memory until it has ended, and somebody has waited for it for longer. So that what begins has
    its turn too, it comes after so many of the others at the latest.
    """

    __slots__ = ("_begins", "_goes_on", "_in_a_row")

    def __init__(self) -> None:
        self._goes_on: deque[WorkOf[Any]] = deque()
        self._begins: deque[WorkOf[Any]] = deque()
        # How many have been preferred to one that begins since the last of these.
        self._in_a_row = 0

    def __bool__(self) -> bool:
        return bool(self._goes_on or self._begins)

    def add(self, work: WorkOf[Any]) -> None:
        (self._begins if work.begins else self._goes_on).append(work)

    def head(self) -> WorkOf[Any] | None:
        """What is next; what is no longer wanted is dropped. None if nothing is left."""
        lines = (self._goes_on, self._begins)
        for line in lines if self._in_a_row < _MOST_IN_A_ROW else reversed(lines):
            while line and not line[0].wanted:
                line.popleft()
            if line:
                return line[0]
        return None

    def take(self, head: WorkOf[Any]) -> None:
        """Take out what :meth:`head` has returned."""
        if head.begins:
            self._begins.popleft()
            self._in_a_row = 0
        else:
            self._goes_on.popleft()
            if self._begins:
                self._in_a_row += 1
