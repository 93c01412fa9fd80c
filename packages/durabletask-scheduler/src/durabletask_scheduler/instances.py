"""The instances in memory: a cache of what storage holds, ahead of it by the group being written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING

from durabletask_scheduler.hub.model import HistoryRow, Instance
from durabletask_scheduler.storage import Storage

if TYPE_CHECKING:
    from durabletask_scheduler.dispatch import Route, Stream, Work

Name = tuple[str, str]
"""Task hub and instance id."""

_PART_FORGOTTEN = 8

_LARGE = 64 * 1024
"""Bytes of input and output with which an instance that has ended leaves memory at once: storage has it."""

_SHORT_HISTORY = 50
"""Events of a history that is loaded together with its instance, because its next turn most likely needs it."""


@dataclass(eq=False, slots=True)
class Entry:
    """An instance in memory and what the runtime knows about it.

    Attributes:
        past: the events of its history rows, those of the group included: a serialized ``HistoryChunk``, and so one
            object however many rows there are; None if not in memory.
        last_row: key of the last of these rows; 0 for none.
        group_rows: rows that only the group has, and ``past`` has not: it is not in memory, or the instance has ended.
        turn: the next turn, queued or in the hands of a worker.
        activities: open activities by task key: queued, leased, or waiting for their back-off; None for none.
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
    past: bytearray | None
    last_row: int = 0
    group_rows: tuple[HistoryRow, ...] = ()
    turn: Work | None = None
    activities: dict[int, Work] | None = None
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

    @property
    def past_bytes(self) -> int:
        """How much memory its history takes."""
        return len(self.past) if self.past else 0

    def cool(self) -> None:
        """No worker's kept run stands where this instance stands."""
        self.warm_stream = None
        self.warm_token = ""


class Instances:
    """Entries by name and by key. Belongs to the engine.

    Busy entries stay. Idle ones leave in the order of last use when there are too many, and history
    rows leave before their instances do when they take too many bytes: those of idle ones first.

    Attributes:
        by_key: the entry of a key, or None.
    """

    def __init__(self, storage: Storage, *, max_idle: int, max_history_bytes: int) -> None:
        self._storage = storage
        self._max_idle = max_idle
        self._max_history_bytes = max_history_bytes
        # By task hub, then by instance id.
        self._by_name: dict[str, dict[str, Entry]] = {}
        self._by_key: dict[int, Entry] = {}
        self.by_key: Callable[[int], Entry | None] = self._by_key.get
        # Deleted by the group: storage still has them, nobody may see them again.
        self._deleted: set[Name] = set()
        self._absent: set[Name] = set()
        # In the order of last use. An OrderedDict would take twice the memory for each.
        self._idle: dict[Entry, None] = {}
        self._history_bytes = 0

    def cached(self, name: Name) -> Entry | None:
        hub = self._by_name.get(name[0])
        return None if hub is None else hub.get(name[1])

    def load(self, name: Name) -> Entry | None:
        """Take the instance into memory; it must not be there yet."""
        if name in self._deleted or name in self._absent:
            return None
        instance = self._storage.load(*name)
        return None if instance is None else self._add(instance, None)

    def load_many(self, names: Iterable[Name]) -> Iterator[Entry]:
        """Take those of the instances into memory that there are, one by one; none may be there yet.

        Until :meth:`forget_absent` is called, it is remembered which there are not.

        Raises:
            StorageError: one of them could not be read; those before it are in memory.
        """
        by_hub: dict[str, list[str]] = {}
        for name in names:
            if name not in self._deleted:
                by_hub.setdefault(name[0], []).append(name[1])
        for task_hub, instance_ids in by_hub.items():
            found = self._storage.load_many(task_hub, instance_ids, short=_SHORT_HISTORY)
            there_are = {one.instance.instance_id for one in found}
            self._absent.update((task_hub, one) for one in instance_ids if one not in there_are)
            for one in found:
                entry = self._add(one.instance, None)
                if one.history is not None:
                    self._take_history(entry, one.history)
                yield entry

    def forget_absent(self) -> None:
        """From now on the store is asked again."""
        self._absent.clear()

    def create(self, instance: Instance) -> Entry:
        """A new instance, whose history is empty and hence known."""
        return self._add(instance, bytearray())

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
        if self.cached(entry.name) is entry:
            del self._by_name[entry.instance.task_hub][entry.instance.instance_id]
        self._idle.pop(entry, None)
        self.forget_history(entry)

    def group_ended(self) -> None:
        """The group was written, or given up: storage and memory agree on what is deleted."""
        self._deleted.clear()

    def entry_written(self, entry: Entry) -> None:
        """The group that changed the entry is in storage."""
        entry.dirty = entry.turn_in_group = False
        entry.group_rows = ()
        if entry.past is not None and entry.instance.completed:
            # Also one that was empty: the rows of this group were kept apart from it.
            self.forget_history(entry)

    def history(self, entry: Entry) -> list[HistoryRow]:
        """The history from memory or storage, that of the group included: all rows in one, or none."""
        if entry.past is None:
            self._take_history(entry, self._storage.history(entry.instance.key))
        elif entry.group_rows:
            self._take_history(entry, ())
        if not entry.past:
            return []
        instance = entry.instance
        # Without ExecutionStarted and ExecutionCompleted, which are not in rows.
        count = instance.event_count - 1 - bool(instance.completed)
        return [HistoryRow(entry.last_row, instance.key, bytes(entry.past), count)]

    def _take_history(self, entry: Entry, stored: Sequence[HistoryRow]) -> None:
        rows, entry.group_rows = (*stored, *entry.group_rows), ()
        before = entry.past_bytes
        entry.past = bytearray().join((entry.past or b"", *(row.events for row in rows)))
        entry.last_row = rows[-1].key if rows else 0
        self._history_bytes += len(entry.past) - before

    def append_history(self, entry: Entry, row: HistoryRow) -> None:
        # Once an instance has ended, hardly anybody wants its history.
        if entry.past is None or entry.instance.completed:
            entry.group_rows += (row,)
        else:
            entry.past += row.events
            entry.last_row = row.key
            self._history_bytes += len(row.events)

    def restart_history(self, entry: Entry) -> None:
        """A new generation begins with no history."""
        self.forget_history(entry)
        entry.group_rows = ()
        entry.past = bytearray()

    def forget_history(self, entry: Entry) -> None:
        self._history_bytes -= entry.past_bytes
        entry.past = None
        entry.last_row = 0

    def settle(self, entry: Entry) -> None:
        """Note after a tick whether the entry may leave memory: not while anything is under way."""
        if entry.gone:
            return
        self._idle.pop(entry, None)
        if entry.dirty or entry.turn is not None or entry.activities:
            return
        instance = entry.instance
        if instance.completed and len(instance.started) + len(instance.completed) > _LARGE:
            self.drop(entry)
        else:
            self._idle[entry] = None

    def shrink(self) -> None:
        """Let the least recently used go until the bounds hold."""
        too_many = len(self._idle) - self._max_idle
        if too_many > 0:
            for entry in list(islice(self._idle, too_many)):
                self.drop(entry)
        if self._history_bytes > self._max_history_bytes:
            self._shrink_histories()

    def _shrink_histories(self) -> None:
        # Somewhat more than need be, so that entries without any are not passed over again and again.
        enough = self._max_history_bytes - self._max_history_bytes // _PART_FORGOTTEN
        for entry in chain(self._idle, self._by_key.values()):
            if self._history_bytes <= enough:
                return
            if entry.past:
                self.forget_history(entry)

    def _add(self, instance: Instance, past: bytearray | None) -> Entry:
        if self._absent:
            self._absent.discard((instance.task_hub, instance.instance_id))
        present = self.cached((instance.task_hub, instance.instance_id))
        if present is not None:
            # Whatever led here: two entries of one instance would both hand out its turns, and damage the store.
            raise RuntimeError(
                f"instance {instance.instance_id!r} of task hub {instance.task_hub!r} is to be taken into memory "
                f"(key {instance.key}), but is in memory already (key {present.instance.key}); please report this"
            )
        entry = Entry(instance, past)
        self._by_name.setdefault(instance.task_hub, {})[instance.instance_id] = entry
        self._by_key[instance.key] = entry
        return entry
