"""What a group of commits comes to: the rows that are left to write once the commits cancel out.

An event that arrives and is consumed within one group never touches the disk, and an instance
that changed ten times is written once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from durabletask_scheduler.hub.model import Commit, HistoryRow, InboxRow, Instance, OpenTask
from durabletask_scheduler.storage.entity_group import EntityEffect, cancel


@dataclass(slots=True)
class GroupEffect:
    """Changes to what is stored, to be applied in the order of the fields.

    Attributes:
        deleted: instances of which every row goes.
        history_dropped: instances whose stored history rows go.
        created, updated: instance rows by key; no key is in both.
        restarted: keys among ``updated`` whose ``started`` event has to be replaced.
        history: rows to append by instance key, oldest first.
        closed, opened: keys of stored task rows that go; (instance key, task) by task key.
        inbox_removed, inbox_added: keys of stored inbox rows that go; new rows by key.
        entities: the same for entities; None for nothing.
    """

    deleted: set[int] = field(default_factory=set)
    history_dropped: set[int] = field(default_factory=set)
    created: dict[int, Instance] = field(default_factory=dict)
    updated: dict[int, Instance] = field(default_factory=dict)
    restarted: set[int] = field(default_factory=set)
    history: dict[int, list[HistoryRow]] = field(default_factory=dict)
    closed: list[int] = field(default_factory=list)
    opened: dict[int, tuple[int, OpenTask]] = field(default_factory=dict)
    inbox_removed: list[int] = field(default_factory=list)
    inbox_added: dict[int, InboxRow] = field(default_factory=dict)
    entities: EntityEffect | None = None

    def delete(self, keys: Iterable[int]) -> None:
        """Instances go, with all that the group has for them so far."""
        gone = set(keys)
        self.deleted.update(key for key in gone if key not in self.created)
        for key in gone:
            self.created.pop(key, None)
            self.updated.pop(key, None)
            self.history.pop(key, None)
        self.history_dropped -= gone
        self.restarted -= gone
        self.opened = {key: entry for key, entry in self.opened.items() if entry[0] not in gone}
        self.inbox_added = {key: row for key, row in self.inbox_added.items() if row.instance_key not in gone}

    def drop_history(self, keys: Iterable[int]) -> None:
        """Instances begin again without history."""
        for key in keys:
            self.history.pop(key, None)
            if key not in self.created:
                self.history_dropped.add(key)

    def payload_bytes(self) -> int:
        """About how many bytes what can be large in them takes: events, and the states of entities."""
        size = 0 if self.entities is None else self.entities.payload_bytes()
        for rows in self.history.values():
            for row in rows:
                size += len(row.events)
        for created in self.created.values():
            size += len(created.started)
        for updated in self.updated.values():
            size += len(updated.completed)
        for inbound in self.inbox_added.values():
            size += len(inbound.event)
        return size


def net_effect(commits: Iterable[Commit]) -> GroupEffect:
    """What remains of commits that are written together, taken in order."""
    effect = GroupEffect()
    for commit in commits:
        if commit.deleted:
            effect.delete(commit.deleted)
        if commit.history_dropped:
            effect.drop_history(commit.history_dropped)
        for instance in commit.created:
            effect.created[instance.key] = instance
        for key, instance in commit.updated.items():
            (effect.created if key in effect.created else effect.updated)[key] = instance
        for key in commit.restarted:
            if key not in effect.created:
                effect.restarted.add(key)
        for row in commit.history:
            effect.history.setdefault(row.instance_key, []).append(row)
        if commit.closed:
            cancel(commit.closed, effect.opened, effect.closed)
        for instance_key, task in commit.opened:
            effect.opened[task.key] = (instance_key, task)
        if commit.inbox_removed:
            cancel(commit.inbox_removed, effect.inbox_added, effect.inbox_removed)
        for inbox_row in commit.inbox_added:
            effect.inbox_added[inbox_row.key] = inbox_row
        if commit.entities is not None:
            if effect.entities is None:
                effect.entities = EntityEffect()
            effect.entities.add(commit.entities)
    return effect
