"""A group of commits as statements of the PostgreSQL store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from durabletask_scheduler.storage.changes import Step, removals, steps
from durabletask_scheduler.storage.group import GroupEffect
from durabletask_scheduler.storage.postgres_values import tags_bytes
from durabletask_scheduler.storage.rows import all_columns, changing_columns


def changes(effect: GroupEffect, hubs: Mapping[str, int]) -> Iterator[Step]:
    """Names of the statements in ``write.sql`` and the rows they run over, in order.

    Args:
        hubs: keys of the task hubs by name.
    """
    if effect.deleted or effect.history_dropped:
        yield from removals(effect)
    if effect.created:
        created = effect.created.values()
        yield "insert_instance", [all_columns(each, tags_bytes(each.tags), hubs[each.task_hub]) for each in created]
    if effect.updated:
        updated = effect.updated.values()
        yield "update_instance", [(*changing_columns(each, tags_bytes(each.tags)), each.key) for each in updated]
    yield from steps(effect, hubs)
