"""The instances in memory: a cache of what storage holds, ahead of it by the group being written."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from durabletask_scheduler.hub.model import HistoryRow, Instance
from durabletask_scheduler.storage import Storage

if TYPE_CHECKING:
    from durabletask_scheduler.dispatch import Route, Stream, Work

Name = tuple[str, str]
"""Task hub and instance id."""


@dataclass(eq=False, slots=True)
class Entry:
    """An instance in memory and what the runtime knows about it.

    Attributes:
        rows: its history rows, oldest first, those of the group included; None if not in memory.
        group_rows: while ``rows`` is not in memory, the rows that only the group has.
        turn: the next turn, queued or in the hands of a worker.
        activities: open activities by task key: queued, leased, or waiting for their back-off.
        warm_stream, warm_token: the worker that keeps this run, and the completion token of the turn
            it stands after; None and empty if no worker does.
        avoid: the stream that abandoned or lost the last turn.
        losses: how often in a row a large turn was lost together with its stream.
        dirty: the group changes it.
        turn_in_group: the group holds the commit of a turn of it.
        gone: dropped from memory; whoever still holds it must look again.
        turn_route: the route of its turns, once one was queued; another generation may have another.
    """

    instance: Instance
    rows: list[HistoryRow] | None
    rows_bytes: int = 0
    group_rows: list[HistoryRow] = field(default_factory=list)
    turn: Work | None = None
    activities: dict[int, Work] = field(default_factory=dict)
    warm_stream: Stream | None = None
    warm_token: str = ""
    avoid: Stream | None = None
    losses: int = 0
    dirty: bool = False
    turn_in_group: bool = False
    gone: bool = False
    turn_route: Route | None = None

    @property
    def name(self) -> Name:
        return (self.instance.task_hub, self.instance.instance_id)

    def cool(self) -> None:
        """No worker's kept run stands where this instance stands."""
        self.warm_stream = None
        self.warm_token = ""


class Instances:
    """Entries by name and by key. Belongs to the engine.

    Busy entries stay. Idle ones leave in the order of last use when there are too many, and history
    rows leave before their instances do when they take too many bytes.
    """

    def __init__(self, storage: Storage, *, max_idle: int, max_history_bytes: int) -> None:
        self._storage = storage
        self._max_idle = max_idle
        self._max_history_bytes = max_history_bytes
        self._by_name: dict[Name, Entry] = {}
        self._by_key: dict[int, Entry] = {}
        # Deleted by the group: storage still has them, nobody may see them again.
        self._deleted: set[Name] = set()
        self._idle: OrderedDict[Entry, None] = OrderedDict()
        self._with_rows: OrderedDict[Entry, None] = OrderedDict()
        self._history_bytes = 0

    def cached(self, name: Name) -> Entry | None:
        return self._by_name.get(name)

    def by_key(self, key: int) -> Entry | None:
        return self._by_key.get(key)

    def load(self, name: Name) -> Entry | None:
        """Take the instance into memory; it must not be there yet."""
        if name in self._deleted:
            return None
        instance = self._storage.load(*name)
        return None if instance is None else self._add(instance, None)

    def create(self, instance: Instance) -> Entry:
        """A new instance, whose history is empty and hence known."""
        entry = self._add(instance, [])
        self._with_rows[entry] = None
        return entry

    def delete(self, entry: Entry) -> None:
        """The group deletes it."""
        self._deleted.add(entry.name)
        self.drop(entry)

    def drop(self, entry: Entry) -> None:
        """Forget it; storage is the truth."""
        if entry.gone:
            return
        entry.gone = True
        entry.cool()
        del self._by_key[entry.instance.key]
        if self._by_name.get(entry.name) is entry:
            del self._by_name[entry.name]
        self._idle.pop(entry, None)
        self.forget_history(entry)

    def group_ended(self) -> None:
        """The group was written, or given up: storage and memory agree on what is deleted."""
        self._deleted.clear()

    def entry_written(self, entry: Entry) -> None:
        """The group that changed the entry is in storage."""
        entry.dirty = entry.turn_in_group = False
        if entry.group_rows:
            entry.group_rows.clear()

    def history(self, entry: Entry) -> list[HistoryRow]:
        """The history rows, from memory or storage, those of the group included."""
        if entry.rows is None:
            entry.rows = [*self._storage.history(entry.instance.key), *entry.group_rows]
            entry.group_rows.clear()
            entry.rows_bytes = sum(len(row.events) for row in entry.rows)
            self._history_bytes += entry.rows_bytes
        self._with_rows[entry] = None
        self._with_rows.move_to_end(entry)
        return entry.rows

    def append_history(self, entry: Entry, row: HistoryRow) -> None:
        if entry.rows is None:
            entry.group_rows.append(row)
            return
        size = len(row.events)
        entry.rows.append(row)
        entry.rows_bytes += size
        self._history_bytes += size

    def restart_history(self, entry: Entry) -> None:
        """A new generation begins with no history."""
        self.forget_history(entry)
        entry.group_rows.clear()
        entry.rows = []
        self._with_rows[entry] = None

    def forget_history(self, entry: Entry) -> None:
        self._with_rows.pop(entry, None)
        self._history_bytes -= entry.rows_bytes
        entry.rows = None
        entry.rows_bytes = 0

    def settle(self, entry: Entry) -> None:
        """Note after a tick whether the entry may leave memory: not while anything is under way."""
        if entry.gone:
            return
        self._idle.pop(entry, None)
        if not (entry.dirty or entry.turn is not None or entry.activities):
            self._idle[entry] = None

    def shrink(self) -> None:
        """Let the least recently used go until the bounds hold."""
        while len(self._idle) > self._max_idle:
            self.drop(next(iter(self._idle)))
        while self._history_bytes > self._max_history_bytes and self._with_rows:
            self.forget_history(next(iter(self._with_rows)))

    def _add(self, instance: Instance, rows: list[HistoryRow] | None) -> Entry:
        entry = Entry(instance, rows)
        self._by_name[instance.task_hub, instance.instance_id] = entry
        self._by_key[instance.key] = entry
        return entry
