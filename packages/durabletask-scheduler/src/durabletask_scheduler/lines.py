"""The line of work that waits on one route."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from durabletask_scheduler.dispatch import WorkOf

_MOST_IN_A_ROW = 8
_FEW = 64


class Line:
    """First come, first served, but what goes on with something comes before what begins something.

    What has begun takes memory until it has ended, and somebody has waited for it for longer. So that what begins has
    its turn too, it comes after so many of the others at the latest.
    """

    __slots__ = ("_begins", "_goes_on", "_in_a_row", "_looks_at")

    def __init__(self) -> None:
        # Most lines are made for one piece of work, so that each of these is made when it is needed.
        self._goes_on: deque[WorkOf[Any]] | None = None
        self._begins: deque[WorkOf[Any]] | None = None
        # How many have been preferred to one that begins since the last of these.
        self._in_a_row = 0
        # At which length to look for what is no longer wanted behind what is.
        self._looks_at = _FEW

    def __bool__(self) -> bool:
        return bool(self._goes_on or self._begins)

    def add(self, work: WorkOf[Any]) -> None:
        if work.begins:
            if self._begins is None:
                self._begins = deque()
            line = self._begins
        else:
            if self._goes_on is None:
                self._goes_on = deque()
            line = self._goes_on
        line.append(work)
        if len(line) > self._looks_at:
            self._clear_out(line)

    def _clear_out(self, line: deque[WorkOf[Any]]) -> None:
        """Nobody takes from this line: drop what is no longer wanted whenever the line has doubled."""
        wanted = [work for work in line if work.wanted]
        line.clear()
        line.extend(wanted)
        self._looks_at = max(_FEW, 2 * len(line))

    def head(self) -> WorkOf[Any] | None:
        """What is next; what is no longer wanted is dropped. None if nothing is left."""
        first, second = self._goes_on, self._begins
        if self._in_a_row >= _MOST_IN_A_ROW:
            first, second = second, first
        return _head(first) or _head(second)

    def take(self, head: WorkOf[Any]) -> None:
        """Take out what :meth:`head` has returned."""
        taken = self._begins if head.begins else self._goes_on
        assert taken is not None
        taken.popleft()
        if head.begins:
            self._in_a_row = 0
        elif self._begins:
            self._in_a_row += 1


def _head(line: deque[WorkOf[Any]] | None) -> WorkOf[Any] | None:
    while line:
        if line[0].wanted:
            return line[0]
        line.popleft()
    return None
