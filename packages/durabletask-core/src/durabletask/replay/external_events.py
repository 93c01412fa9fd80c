"""External events: those that wait for somebody, and those that somebody waits for."""

from collections import deque

from durabletask_proto import orchestrator_service_pb2 as pb

from durabletask.task import CancellableTask


class ExternalEvents:
    """Matches events and waits of the same case-folded name, both first in, first out."""

    __slots__ = ("_arrivals", "_buffered", "_count", "_waiting")

    def __init__(self) -> None:
        self._waiting: dict[str, deque[CancellableTask[object]]] = {}
        self._buffered: dict[str, deque[int]] = {}
        self._arrivals: dict[int, pb.HistoryEvent] = {}
        self._count = 0

    def take_buffered(self, name: str) -> pb.HistoryEvent | None:
        """The earliest buffered event of this name, or None."""
        numbers = self._buffered.get(name.casefold())
        return self._arrivals.pop(numbers.popleft()) if numbers else None

    def wait(self, name: str, task: CancellableTask[object]) -> None:
        """Line ``task`` up for the next event of this name; cancelling it takes it out of the line."""
        line = self._waiting.setdefault(name.casefold(), deque())
        line.append(task)
        task.set_cancel_handler(lambda: _remove(line, task))

    def take_waiter(self, name: str) -> CancellableTask[object] | None:
        """The first task that waits for this name, or None."""
        line = self._waiting.get(name.casefold())
        return line.popleft() if line else None

    def buffer(self, event: pb.HistoryEvent) -> None:
        """Keep an event for a later wait."""
        self._count += 1
        self._arrivals[self._count] = event
        self._buffered.setdefault(event.eventRaised.name.casefold(), deque()).append(self._count)

    def unconsumed(self) -> list[pb.HistoryEvent]:
        """The buffered events in order of arrival."""
        return list(self._arrivals.values())


def _remove(line: "deque[CancellableTask[object]]", task: CancellableTask[object]) -> None:
    # By identity: tasks are compared as such, whatever a subclass makes of equality.
    kept = [waiter for waiter in line if waiter is not task]
    line.clear()
    line.extend(kept)
