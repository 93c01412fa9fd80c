"""A group of commits written to SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from durabletask_scheduler.storage.changes import removals, steps
from durabletask_scheduler.storage.group import GroupEffect
from durabletask_scheduler.storage.sqlite_rows import columns_in_place, created_columns, updated_columns
from durabletask_scheduler.storage.statements import statements

SQL = {**statements("sqlite", "write"), **statements("sqlite", "entities")}


def apply(effect: GroupEffect, connection: sqlite3.Connection, hubs: Mapping[str, int]) -> None:
    """Change the rows, within the transaction that is open.

    Args:
        hubs: keys of the task hubs by name.
    """
    if effect.deleted or effect.history_dropped:
        for statement, rows in removals(effect):
            connection.executemany(SQL[statement], rows)
    if effect.created:
        created = [created_columns(instance, hubs[instance.task_hub]) for instance in effect.created.values()]
        connection.executemany(SQL["insert_instance"], created)
    if effect.updated:
        _update(effect, connection)
    for statement, rows in steps(effect, hubs):
        connection.executemany(SQL[statement], rows)


def add_task_hub(task_hub: str, connection: sqlite3.Connection, _: Mapping[str, int]) -> None:
    """Add the row of a task hub unless there is one, within the transaction that is open."""
    connection.execute(SQL["add_task_hub"], (task_hub,))


def _update(effect: GroupEffect, connection: sqlite3.Connection) -> None:
    # Writing to an index costs more than looking first whether the row would stand elsewhere in it.
    updated = list(effect.updated.values())
    live = [columns_in_place(instance) for instance in updated if not instance.completed_at]
    if live and connection.executemany(SQL["update_in_place"], live).rowcount == len(live):
        updated = [instance for instance in updated if instance.completed_at]
    if updated:
        connection.executemany(SQL["update_instance"], [updated_columns(instance) for instance in updated])
