"""Whether one order of operations, each at one moment between its call and its answer, explains all their results."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from workload import Lost

State = TypeVar("State", bound=Hashable)


@dataclass(frozen=True)
class Operation(Generic[State]):
    """What one client asked for, and what it was told.

    Attributes:
        text: for messages.
        begun, ended: when it was asked for and when the answer was there, on one monotonic clock. A call that was
            repeated began with the first attempt and ended with the last.
        apply: the state after it, or None if it could not have had its result in this state.
    """

    text: str
    begun: float
    ended: float
    apply: Callable[[State], State | None]


def linearize(operations: Iterable[Operation[State]], state: State) -> State:
    """The state after all operations, in an order that explains them (Wing and Gong's search, with Lowe's memory).

    An operation that had ended before another began comes before it; otherwise every order is tried.

    Raises:
        Lost: there is no such order; the message has the longest part that could be explained.
    """
    waiting = tuple(sorted(operations, key=lambda operation: operation.begun))
    tried: set[tuple[frozenset[int], State]] = set()
    longest: list[int] = []
    # Depth first: what is in order, the state after it, and the positions that are still to be tried next.
    path: list[int] = []
    levels: list[tuple[State, list[int]]] = [(state, _next(waiting, frozenset()))]
    while levels:
        current, choices = levels[-1]
        if len(path) == len(waiting):
            return current
        if not choices:
            levels.pop()
            if path:
                path.pop()
            continue
        choice = choices.pop()
        after = waiting[choice].apply(current)
        done = frozenset((*path, choice))
        if after is None or (done, after) in tried:
            continue
        tried.add((done, after))
        path.append(choice)
        longest = max(longest, list(path), key=len)
        levels.append((after, _next(waiting, done)))
    raise Lost(_message(waiting, longest, state))


def _next(waiting: Sequence[Operation[State]], done: frozenset[int]) -> list[int]:
    """What may come next: whatever began before anything that is left had ended; the last is tried first."""
    left = [position for position in range(len(waiting)) if position not in done]
    horizon = min((waiting[position].ended for position in left), default=0.0)
    return [position for position in reversed(left) if waiting[position].begun <= horizon]


def _message(waiting: Sequence[Operation[State]], longest: Sequence[int], state: State) -> str:
    def lines(positions: Iterable[int]) -> str:
        chosen = (waiting[position] for position in positions)
        return "\n".join(f"    {one.begun:.6f} to {one.ended:.6f}: {one.text}" for one in chosen)

    left = [position for position in range(len(waiting)) if position not in longest]
    return f"no order explains this, beginning with {state}:\n{lines(longest)}\n  and then one of\n{lines(left)}"
