"""What a group of commits comes to, as statements that each run over all of their rows, in one transaction.

Most groups are one small commit, and every statement costs more than its row: what a group does not change is passed
over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NoReturn

from durabletask_scheduler.storage import StorageError
from durabletask_scheduler.storage.entity_rows import entity_steps
from durabletask_scheduler.storage.group import GroupEffect
from durabletask_scheduler.storage.rows import Row, task_columns

Step = tuple[str, Iterable[Row]]
"""The name of a statement, and the rows it runs over."""


class Hubs(dict[str, int]):
    """Keys of the task hubs by name."""

    def __missing__(self, task_hub: str) -> NoReturn:
        raise StorageError(f"there is no task hub {task_hub!r} in the store; add it first")


def removals(effect: GroupEffect) -> Iterator[Step]:
    """Whatever has to go before anything of the group is added."""
    yield "delete_history", zip([*effect.deleted, *effect.history_dropped])
    if effect.deleted:
        for statement in ("delete_open_tasks", "delete_inbox", "delete_started", "delete_instance"):
            yield statement, zip(effect.deleted)


def steps(effect: GroupEffect, hubs: Mapping[str, int]) -> Iterator[Step]:
    """What follows the removals and the rows of new and changed instances; these each store writes in its own way."""
    if effect.created:
        yield "put_started", [(instance.key, instance.started) for instance in effect.created.values()]
    if effect.restarted:
        restarted = effect.restarted & effect.updated.keys()
        yield "put_started", [(key, effect.updated[key].started) for key in restarted]
    if effect.history:
        new = [(row.key, row.instance_key, row.count, row.events) for rows in effect.history.values() for row in rows]
        yield "insert_history", new
    if effect.closed:
        yield "close_task", zip(effect.closed)
    if effect.opened:
        yield "open_task", [task_columns(key, task) for key, task in effect.opened.values()]
    if effect.inbox_removed:
        yield "remove_inbox", zip(effect.inbox_removed)
    if effect.inbox_added:
        yield "add_inbox", [(row.key, row.instance_key, row.event) for row in effect.inbox_added.values()]
    if effect.entities is not None:
        yield from entity_steps(effect.entities, hubs)
