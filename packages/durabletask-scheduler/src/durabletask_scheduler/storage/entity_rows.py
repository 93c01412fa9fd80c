"""Entities in a store: rows to nouns and back, and pages. The order of columns is that of entities.sql."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from durabletask_proto import orchestrator_service_pb2 as pb

from durabletask_scheduler.hub.entity_model import Entity, Lock, Queued, Sender
from durabletask_scheduler.storage.entities import EntityFilter, EntitySelection, EntitySummary
from durabletask_scheduler.storage.entity_group import EntityEffect
from durabletask_scheduler.storage.pages import Query, after_prefix
from durabletask_scheduler.storage.rows import Row

_SELECTIONS = {
    EntitySelection.WITH_STATE: "where_with_state",
    EntitySelection.LOCKED: "where_locked",
    EntitySelection.STATELESS: "where_stateless",
}
_CONDITIONS = ("after", "id_from", "id_to", "modified_from", "modified_to")


def entity_steps(effect: EntityEffect, hubs: Mapping[str, int]) -> Iterator[tuple[str, Iterable[Row]]]:
    """Names of statements and the rows they run over, in order."""
    if effect.deleted:
        yield "delete_entity_inbox", zip(effect.deleted)
        yield "delete_entity", zip(effect.deleted)
    if effect.created:
        created = [
            (*_changing_columns(entity), entity.key, hubs[entity.task_hub], entity.instance_id)
            for entity in effect.created.values()
        ]
        yield "insert_entity", created
    if effect.updated:
        yield "update_entity", [(*_changing_columns(entity), key) for key, entity in effect.updated.items()]
    if effect.inbox_removed:
        yield "remove_entity_inbox", zip(effect.inbox_removed)
    if effect.inbox_added:
        waiting = [
            (row.key, row.entity_key, row.due_at, row.sender.instance_id, row.sender.execution_id, row.event)
            for row in effect.inbox_added.values()
        ]
        yield "add_entity_inbox", waiting


def _changing_columns(entity: Entity) -> Row:
    lock = entity.lock
    held = (0, "", "", "") if lock is None else _lock_columns(lock)
    return (entity.modified_at, held[0], entity.execution_id, *held[1:], entity.state)


def _lock_columns(lock: Lock) -> Row:
    return (lock.since, lock.owner.instance_id, lock.owner.execution_id, lock.section)


def _lock_from(since: int, instance_id: str, execution_id: str, section: str) -> Lock | None:
    return Lock(Sender(instance_id, execution_id), section, since) if since else None


def entity_from(row: Row, inbox: Iterable[Row]) -> Entity:
    key, task_hub, instance_id, execution_id, modified_at, state, *lock = row
    entity = Entity(key, task_hub, instance_id, execution_id, modified_at, state, _lock_from(*lock))
    for number, due_at, sender, execution, event in inbox:
        entry = Queued(number, pb.HistoryEvent.FromString(event), event, Sender(sender, execution), due_at)
        if due_at:
            entity.scheduled.append(entry)
        else:
            entity.inbox[number] = entry
    entity.scheduled.sort(key=lambda entry: (entry.due_at, entry.key))
    return entity


def entity_page(
    sql: Mapping[str, str], hub: int, where: EntityFilter, *, limit: int, after: str, states: bool
) -> Query:
    """Statement and parameters of a page in the order of ids.

    Args:
        sql: the store's statements about entities.
    """
    # One of the two: SQLite would begin at the first that it finds, and walk to the other.
    begins_after = after >= where.id_prefix
    wanted = {
        "after": after if begins_after else None,
        "id_from": None if begins_after else where.id_prefix,
        "id_to": after_prefix(where.id_prefix),
        "modified_from": where.modified_from or None,
        "modified_to": where.modified_to or None,
    }
    parameters: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
    parts = [sql["page_of_entities"].replace("{state}", "state" if states else "NULL")]
    if where.selection in _SELECTIONS:
        parts.append(sql[_SELECTIONS[where.selection]])
    parts.extend(sql[f"where_{name}"] for name in _CONDITIONS if name in parameters)
    parts.append(sql["in_order"])
    return " ".join(parts), {"hub": hub, "limit": limit, **parameters}


def entity_summary_from(row: Row) -> EntitySummary:
    instance_id, modified_at, backlog, has_state, state, *lock = row
    return EntitySummary(instance_id, modified_at, backlog, bool(has_state), state, _lock_from(*lock))
