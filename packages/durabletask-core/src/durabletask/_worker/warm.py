"""Warm runs: orchestrations that stay suspended between turns, so that nothing is replayed."""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Generic, TypeVar

R = TypeVar("R")


class WarmRuns(Generic[R]):
    """The kept runs, least recently used first, each with the token of its last turn.

    The token is the fence: a server names the turn it committed last, and only a run that stands
    just behind that turn may go on. The server's naming it is also the acknowledgement: its answer
    to the completion may arrive later than the next work item.

    :meth:`take`, :meth:`keep` and :meth:`clear` are for whoever runs turns, one thread at a time; :meth:`drop` is
    for any. Runs are disposed of on the former only, because that runs the user's ``finally`` blocks.

    Args:
        capacity: How many runs are kept; 0 keeps none.
        dispose: Closes a run that is not kept any longer.
    """

    def __init__(self, capacity: int, dispose: Callable[[R], None]) -> None:
        self._capacity = capacity
        self.dispose = dispose
        self._lock = threading.Lock()
        self._runs: OrderedDict[str, tuple[str, R]] = OrderedDict()
        self._dropped: deque[R] = deque()

    @property
    def enabled(self) -> bool:
        """Whether anything is ever kept."""
        return self._capacity > 0

    def __len__(self) -> int:
        return len(self._runs)

    def take(self, instance_id: str, base: str) -> R | None:
        """Remove and return the run that stands behind turn ``base``; any other run of the instance is dropped."""
        with self._lock:
            entry = self._runs.pop(instance_id, None)
        if entry is None:
            return None
        token, run = entry
        if token == base and base:
            return run
        self.dispose(run)
        return None

    def keep(self, instance_id: str, token: str, run: R) -> None:
        """Keep a run that stands behind the turn answered with ``token``, in place of any other of the instance."""
        if not self._capacity:
            self.dispose(run)
            return
        with self._lock:
            former = self._runs.pop(instance_id, None)
            self._runs[instance_id] = (token, run)
            if former is not None:
                self._dropped.append(former[1])
            if len(self._runs) > self._capacity:
                self._dropped.append(self._runs.popitem(last=False)[1][1])
        if self._dropped:
            self._close_dropped()

    def drop(self, instance_id: str, token: str | None = None) -> None:
        """Forget the run of an instance; with ``token`` only if it stands behind that turn."""
        with self._lock:
            entry = self._runs.get(instance_id)
            if entry is not None and token in (None, entry[0]):
                del self._runs[instance_id]
                self._dropped.append(entry[1])

    def clear(self) -> None:
        """Forget every run."""
        with self._lock:
            self._dropped.extend(run for _, run in self._runs.values())
            self._runs.clear()
        self._close_dropped()

    def _close_dropped(self) -> None:
        while self._dropped:
            self.dispose(self._dropped.popleft())
