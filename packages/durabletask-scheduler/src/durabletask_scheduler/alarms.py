"""Everything that is due at some time, in one heap."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable
from itertools import count

Action = Callable[[], None]

_SLACK = 1_024


class Alarms:
    """Actions by time, at most one per key.

    Cancelled entries stay in the heap until they come up or outnumber the live ones, so setting and
    cancelling cost O(log n) amortized and a cancelled timer of next year costs no memory for long.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Hashable]] = []
        self._live: dict[Hashable, tuple[int, int, Action]] = {}
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._live)

    def set(self, key: Hashable, at: int, action: Action) -> None:
        """Run the action when ``at`` has come; replaces what was set for the key."""
        number = next(self._numbers)
        self._live[key] = (at, number, action)
        heapq.heappush(self._heap, (at, number, key))
        if len(self._heap) > 2 * len(self._live) + _SLACK:
            self._heap = [(at, number, key) for key, (at, number, _) in self._live.items()]
            heapq.heapify(self._heap)

    def cancel(self, key: Hashable) -> None:
        self._live.pop(key, None)

    def may_be_due(self, now: int) -> bool:
        """Whether it is worth while to ask :meth:`pop_due`."""
        return bool(self._heap) and self._heap[0][0] <= now

    def next_at(self) -> int | None:
        """When the next action is due."""
        while self._heap:
            at, number, key = self._heap[0]
            live = self._live.get(key)
            if live is not None and live[1] == number:
                return at
            heapq.heappop(self._heap)
        return None

    def pop_due(self, now: int) -> Action | None:
        """The next action that is due, which is forgotten by this; None if there is none."""
        at = self.next_at()
        if at is None or at > now:
            return None
        return self._live.pop(heapq.heappop(self._heap)[2])[2]
