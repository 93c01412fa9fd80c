"""External events: those that wait for somebody, and those that somebody waits for."""

from collections import deque
from typing import Any

from durabletask_proto import orchestrator_service_pb2 as pb

from durabletask.task import CancellableTask


class ExternalEventTask(CancellableTask[Any]):
    """The wait for an external event; cancelling it takes it out of the line in which it stands."""

    __slots__ = ("_line",)

    def __init__(self, expected_type: Any | None, line: "list[ExternalEventTask]") -> None:
        super().__init__(expected_type)
        self._line = line
        line.append(self)

    def cancel(self) -> bool:
        if not self._complete:
            # By identity: tasks are compared as such, whatever a subclass makes of equality.
            self._line[:] = [waiter for waiter in self._line if waiter is not self]
        return super().cancel()


class _Buffer:
    """Events that nobody has waited for, by number in the order of arrival."""

    __slots__ = ("_count", "_numbers", "arrivals")

    def __init__(self) -> None:
        self.arrivals: dict[int, pb.HistoryEvent] = {}
        self._numbers: dict[str, deque[int]] = {}
        self._count = 0

    def add(self, name: str, event: pb.HistoryEvent) -> None:
        self._count += 1
        self.arrivals[self._count] = event
        self._numbers.setdefault(name, deque()).append(self._count)

    def take(self, name: str) -> pb.HistoryEvent | None:
        numbers = self._numbers.get(name)
        return self.arrivals.pop(numbers.popleft()) if numbers else None


class ExternalEvents:
    """Matches events and waits of the same case-folded name, both first in, first out.

    Workers keep many runs that wait for one event: what they have no use for is not made.
    """

    __slots__ = ("_buffer", "_waiting")

    def __init__(self) -> None:
        self._waiting: dict[str, list[ExternalEventTask]] | None = None
        self._buffer: _Buffer | None = None

    def take_buffered(self, name: str) -> pb.HistoryEvent | None:
        """The earliest buffered event of this name, or None."""
        return None if self._buffer is None else self._buffer.take(name.casefold())

    def wait(self, name: str, expected_type: Any | None) -> ExternalEventTask:
        """A task that stands in line for the next event of this name."""
        if self._waiting is None:
            self._waiting = {}
        return ExternalEventTask(expected_type, self._waiting.setdefault(name.casefold(), []))

    def take_waiter(self, name: str) -> ExternalEventTask | None:
        """The first task that waits for this name, or None."""
        line = None if self._waiting is None else self._waiting.get(name.casefold())
        return line.pop(0) if line else None

    def buffer(self, event: pb.HistoryEvent) -> None:
        """Keep an event for a later wait."""
        if self._buffer is None:
            self._buffer = _Buffer()
        self._buffer.add(event.eventRaised.name.casefold(), event)

    def unconsumed(self) -> list[pb.HistoryEvent]:
        """The buffered events in order of arrival."""
        return [] if self._buffer is None else list(self._buffer.arrivals.values())

    def close(self) -> None:
        """Forget who waits, because they know the line in which they stand."""
        for line in (self._waiting or {}).values():
            line.clear()
