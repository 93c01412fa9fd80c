"""Rows of a store to the nouns of the hub and back. The order of columns is that of every store's .sql files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from durabletask_proto import orchestrator_service_pb2 as pb

from durabletask_scheduler.hub.model import NO_TASKS, HistoryRow, Inbound, Instance, OpenTask, TaskKind
from durabletask_scheduler.storage import LoadedInstance

Row = tuple[Any, ...]

KEY, TAGS, EVENT_COUNT = 0, 14, 18
"""Where a row of an instance has them."""


def columns_without_index(instance: Instance, tags: object) -> Row:
    """What an update of an instance row writes that no index holds.

    Args:
        tags: those of the instance, in the store's own form.
    """
    return (
        instance.updated_at,
        instance.scheduled_at,
        instance.clock,
        instance.event_count,
        instance.execution_id,
        instance.name,
        instance.version,
        instance.trace_context,
        tags,
        instance.custom_status,
        instance.parent_task_id,
        instance.parent_execution_id,
    )


def changing_columns(instance: Instance, tags: object) -> Row:
    """What an update of an instance row writes."""
    ends = (instance.status, instance.created_at, instance.completed_at, instance.completed)
    return (*columns_without_index(instance, tags), *ends)


def all_columns(instance: Instance, tags: object, hub: int) -> Row:
    """What is written of a new instance."""
    identity = (instance.key, hub, instance.instance_id, instance.parent_instance_id)
    return (*changing_columns(instance, tags), *identity)


def task_columns(instance_key: int, task: OpenTask) -> Row:
    return (task.key, instance_key, int(task.kind), task.due_at, task.task_id, task.history_key, task.target)


def instance_from(row: Row, tasks: Iterable[Row], inbox: Iterable[Row]) -> Instance:
    """An instance from its row, with its tags as a dict or None, and the rows of its open tasks and its inbox."""
    open_tasks = {task[0]: _task_from(*task) for task in tasks} if tasks else NO_TASKS
    waiting = [Inbound(key, pb.HistoryEvent.FromString(event), data=event) for key, event in inbox] if inbox else ()
    # The columns are in the order of the fields.
    return Instance(*(*row, open_tasks, waiting))


def loaded_from(
    rows: Sequence[Row], tasks: Iterable[Row], inbox: Iterable[Row], history: Iterable[Row], short: int
) -> list[LoadedInstance]:
    """Many instances, each as in :func:`instance_from`; other rows begin with the key of their instance.

    Args:
        short: the most events of those whose history is here.
    """
    tasks_of, inbox_of, history_of = _by_first(tasks), _by_first(inbox), _by_first(history)
    return [
        LoadedInstance(
            instance_from(row, tasks_of.get(row[KEY], ()), inbox_of.get(row[KEY], ())),
            [HistoryRow(*one) for one in history_of.get(row[KEY], ())] if row[EVENT_COUNT] <= short else None,
        )
        for row in rows
    ]


def _by_first(rows: Iterable[Row]) -> dict[int, list[Row]]:
    """The rest of the rows, by what each begins with."""
    found: dict[int, list[Row]] = {}
    for row in rows:
        found.setdefault(row[0], []).append(row[1:])
    return found


def _task_from(key: int, kind: int, task_id: int, history_key: int, due_at: int, target: str) -> OpenTask:
    return OpenTask(key, TaskKind(kind), task_id, history_key, due_at, target)
