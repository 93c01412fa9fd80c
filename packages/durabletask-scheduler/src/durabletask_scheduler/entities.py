"""The entities in memory: a cache of what storage holds, ahead of it by the group being written."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from durabletask_scheduler.dispatch import Route, Stream, WorkOf
from durabletask_scheduler.hub.entity_model import Entity
from durabletask_scheduler.instances import Name
from durabletask_scheduler.storage import Storage


@dataclass(eq=False, slots=True)
class EntityEntry:
    """An entity in memory and what the runtime knows about it.

    Attributes:
        work: the next batch, queued or in the hands of a worker.
        warm_stream, warm_token: the worker that keeps this state, and the completion token of the batch
            it is the result of; None and empty if no worker does.
        avoid: the stream that abandoned or lost the last batch.
        losses: how often in a row a large batch was lost together with its stream.
        dirty: the group changes it.
        batch_in_group: the group holds the commit of a batch of it.
        gone: dropped from memory; whoever still holds it must look again.
        route: the route of its batches, once one was queued.
    """

    entity: Entity
    work: WorkOf[EntityEntry] | None = None
    warm_stream: Stream | None = None
    warm_token: str = ""
    avoid: Stream | None = None
    losses: int = 0
    dirty: bool = False
    batch_in_group: bool = False
    gone: bool = False
    route: Route | None = None

    @property
    def name(self) -> Name:
        return (self.entity.task_hub, self.entity.instance_id)

    @property
    def busy(self) -> bool:
        return self.dirty or self.work is not None or bool(self.entity.inbox)

    def cool(self) -> None:
        """No worker's kept state is the one that this entity has."""
        self.warm_stream = None
        self.warm_token = ""


class Entities:
    """Entries by name and by key. Belongs to the engine.

    Busy entries stay. Idle ones leave in the order of last use when there are too many.
    """

    def __init__(self, storage: Storage, *, max_idle: int) -> None:
        self._storage = storage
        self._max_idle = max_idle
        self._by_name: dict[Name, EntityEntry] = {}
        self._by_key: dict[int, EntityEntry] = {}
        # Deleted by the group: storage still has them, nobody may see them again.
        self._deleted: set[Name] = set()
        self._idle: OrderedDict[EntityEntry, None] = OrderedDict()

    def cached(self, name: Name) -> EntityEntry | None:
        return self._by_name.get(name)

    def by_key(self, key: int) -> EntityEntry | None:
        return self._by_key.get(key)

    def load(self, name: Name) -> EntityEntry | None:
        """Take the entity into memory; it must not be there yet."""
        if name in self._deleted:
            return None
        entity = self._storage.load_entity(*name)
        return None if entity is None else self.add(entity)

    def add(self, entity: Entity) -> EntityEntry:
        entry = EntityEntry(entity)
        self._by_name[entry.name] = entry
        self._by_key[entity.key] = entry
        return entry

    def delete(self, entry: EntityEntry) -> None:
        """The group deletes it."""
        self._deleted.add(entry.name)
        self.drop(entry)

    def drop(self, entry: EntityEntry) -> None:
        """Forget it; storage is the truth."""
        if entry.gone:
            return
        entry.gone = True
        entry.cool()
        del self._by_key[entry.entity.key]
        if self._by_name.get(entry.name) is entry:
            del self._by_name[entry.name]
        self._idle.pop(entry, None)

    def group_ended(self) -> None:
        """The group was written, or given up: storage and memory agree on what is deleted."""
        self._deleted.clear()

    def settle(self, entry: EntityEntry) -> None:
        """Note after a tick whether the entry may leave memory."""
        if entry.gone:
            return
        if entry.busy:
            self._idle.pop(entry, None)
        else:
            self._idle[entry] = None
            self._idle.move_to_end(entry)

    def shrink(self) -> None:
        """Let the least recently used go until the bound holds."""
        while len(self._idle) > self._max_idle:
            self.drop(next(iter(self._idle)))
