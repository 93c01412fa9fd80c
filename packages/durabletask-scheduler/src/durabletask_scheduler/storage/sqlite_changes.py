"""What a group of commits comes to, written: statements that each run over all of their rows, in one transaction.

Most groups are one small commit, and every statement costs more than its row: what a group does not change is passed
over.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from durabletask_scheduler.storage import sqlite_entities
from durabletask_scheduler.storage.group import GroupEffect
from durabletask_scheduler.storage.sqlite_rows import changing_columns, columns_in_place
from durabletask_scheduler.storage.statements import statements

SQL = statements("sqlite", "write")


def apply(effect: GroupEffect, connection: sqlite3.Connection, hubs: Mapping[str, int]) -> None:
    """Change the rows, within the transaction that is open.

    Args:
        hubs: keys of the task hubs by name.
    """
    if effect.deleted or effect.history_dropped:
        _remove(effect, connection)
    if effect.created:
        _create(effect, connection, hubs)
    if effect.updated:
        _update(effect, connection)
    if effect.history:
        rows = [(row.key, row.instance_key, row.count, row.events) for new in effect.history.values() for row in new]
        connection.executemany(SQL["insert_history"], rows)
    if effect.closed:
        connection.executemany(SQL["close_task"], zip(effect.closed))
    if effect.opened:
        tasks = [
            (task.key, instance_key, int(task.kind), task.due_at, task.task_id, task.history_key, task.target)
            for instance_key, task in effect.opened.values()
        ]
        connection.executemany(SQL["open_task"], tasks)
    if effect.inbox_removed:
        connection.executemany(SQL["remove_inbox"], zip(effect.inbox_removed))
    if effect.inbox_added:
        waiting = [(row.key, row.instance_key, row.event) for row in effect.inbox_added.values()]
        connection.executemany(SQL["add_inbox"], waiting)
    if effect.entities is not None:
        sqlite_entities.apply(effect.entities, connection, hubs)


def add_task_hub(task_hub: str, connection: sqlite3.Connection, _: Mapping[str, int]) -> None:
    """Add the row of a task hub unless there is one, within the transaction that is open."""
    connection.execute(SQL["add_task_hub"], (task_hub,))


def _remove(effect: GroupEffect, connection: sqlite3.Connection) -> None:
    connection.executemany(SQL["delete_history"], zip([*effect.deleted, *effect.history_dropped]))
    if effect.deleted:
        for statement in ("delete_open_tasks", "delete_inbox", "delete_started", "delete_instance"):
            connection.executemany(SQL[statement], zip(effect.deleted))


def _create(effect: GroupEffect, connection: sqlite3.Connection, hubs: Mapping[str, int]) -> None:
    created = effect.created.values()
    rows = [
        (
            *changing_columns(instance),
            instance.key,
            hubs[instance.task_hub],
            instance.instance_id,
            instance.parent_instance_id,
        )
        for instance in created
    ]
    connection.executemany(SQL["insert_instance"], rows)
    connection.executemany(SQL["put_started"], [(instance.key, instance.started) for instance in created])


def _update(effect: GroupEffect, connection: sqlite3.Connection) -> None:
    # Writing to an index costs more than looking first whether the row would stand elsewhere in it.
    updated = list(effect.updated.values())
    live = [columns_in_place(instance) for instance in updated if not instance.completed_at]
    if live and connection.executemany(SQL["update_in_place"], live).rowcount == len(live):
        updated = [instance for instance in updated if instance.completed_at]
    if updated:
        rows = [(*changing_columns(instance), instance.key) for instance in updated]
        connection.executemany(SQL["update_instance"], rows)
    if effect.restarted:
        restarted = effect.restarted & effect.updated.keys()
        connection.executemany(SQL["put_started"], [(key, effect.updated[key].started) for key in restarted])
