"""What a group of commits comes to in entities: the rows that are left to write once the commits cancel out."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass, field
from typing import TypeVar

from durabletask_scheduler.hub.entity_model import Entity, EntityChanges, EntityInboxRow

Added = TypeVar("Added")


def cancel(removed: Iterable[int], added: MutableMapping[int, Added], stored: list[int]) -> None:
    """Rows that the group itself has added are never written; the others are to be removed from the store."""
    for key in removed:
        if added.pop(key, None) is None:
            stored.append(key)


@dataclass(slots=True)
class EntityEffect:
    """Changes to what is stored, to be applied in the order of the fields.

    Attributes:
        deleted: entities of which every row goes.
        created, updated: entity rows by key; no key is in both.
        inbox_removed, inbox_added: keys of stored inbox rows that go; new rows by key.
    """

    deleted: set[int] = field(default_factory=set)
    created: dict[int, Entity] = field(default_factory=dict)
    updated: dict[int, Entity] = field(default_factory=dict)
    inbox_removed: list[int] = field(default_factory=list)
    inbox_added: dict[int, EntityInboxRow] = field(default_factory=dict)

    def add(self, changes: EntityChanges) -> None:
        """Take in what the next commit of the group changes."""
        if changes.deleted:
            self._delete(set(changes.deleted))
        for entity in changes.created:
            self.created[entity.key] = entity
        for key, entity in changes.updated.items():
            (self.created if key in self.created else self.updated)[key] = entity
        cancel(changes.inbox_removed, self.inbox_added, self.inbox_removed)
        for row in changes.inbox_added:
            self.inbox_added[row.key] = row

    def payload_bytes(self) -> int:
        """About how many bytes the states and the events take."""
        size = sum(len(row.event) for row in self.inbox_added.values())
        return size + sum(len(entity.state or "") for entity in (*self.created.values(), *self.updated.values()))

    def _delete(self, gone: set[int]) -> None:
        self.deleted.update(key for key in gone if key not in self.created)
        for key in gone:
            self.created.pop(key, None)
            self.updated.pop(key, None)
        self.inbox_added = {key: row for key, row in self.inbox_added.items() if row.entity_key not in gone}
