"""Rows of the SQLite store to the nouns of the hub and back. The order of columns is that of the .sql files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from durabletask_proto import orchestrator_service_pb2 as pb

from durabletask_scheduler.hub.model import Inbound, Instance, OpenTask, TaskKind
from durabletask_scheduler.storage import InstanceSummary

Row = tuple[Any, ...]

_TAGS = 11  # where a row of a page has its tags
_NO_TAGS = "{}"


def changing_columns(instance: Instance) -> Row:
    """What an update of an instance row writes."""
    ends = (instance.status, instance.created_at, instance.completed_at, instance.completed)
    return (*_columns_without_index(instance), *ends)


def columns_in_place(instance: Instance) -> Row:
    """What an update of a live instance row writes that changes no index, and by what it finds the row."""
    return (*_columns_without_index(instance), instance.key, instance.status, instance.created_at)


def _columns_without_index(instance: Instance) -> Row:
    return (
        instance.updated_at,
        instance.scheduled_at,
        instance.clock,
        instance.event_count,
        instance.execution_id,
        instance.name,
        instance.version,
        instance.trace_context,
        tags_text(instance.tags) if instance.tags else _NO_TAGS,
        instance.custom_status,
        instance.parent_task_id,
        instance.parent_execution_id,
    )


def tags_text(tags: dict[str, str]) -> str:
    return json.dumps(tags, ensure_ascii=False)


def tags_from(text: str) -> dict[str, str]:
    return {} if text == _NO_TAGS else dict(json.loads(text))


def tags_include(text: str, wanted: str) -> bool:
    """Whether tags hold all of the wanted ones, both as JSON objects."""
    found = tags_from(text)
    return all(found.get(name) == value for name, value in json.loads(wanted).items())


def instance_from(row: Row, tasks: Iterable[Row], inbox: Iterable[Row]) -> Instance:
    (
        key,
        task_hub,
        instance_id,
        execution_id,
        name,
        version,
        status,
        created_at,
        updated_at,
        started,
        scheduled_at,
        completed_at,
        completed,
        custom_status,
        tags,
        parent_instance_id,
        parent_execution_id,
        parent_task_id,
        event_count,
        clock,
        trace_context,
    ) = row
    return Instance(
        key=key,
        task_hub=task_hub,
        instance_id=instance_id,
        execution_id=execution_id,
        name=name,
        version=version,
        status=status,
        created_at=created_at,
        updated_at=updated_at,
        started=started,
        scheduled_at=scheduled_at,
        completed_at=completed_at,
        completed=completed,
        custom_status=custom_status,
        tags=tags_from(tags),
        parent_instance_id=parent_instance_id,
        parent_execution_id=parent_execution_id,
        parent_task_id=parent_task_id,
        event_count=event_count,
        clock=clock,
        trace_context=trace_context,
        open_tasks={task[0]: _task_from(*task) for task in tasks},
        inbox=[Inbound(key, pb.HistoryEvent.FromString(event), data=event) for key, event in inbox],
    )


def _task_from(key: int, kind: int, task_id: int, history_key: int, due_at: int, target: str) -> OpenTask:
    return OpenTask(key, TaskKind(kind), task_id, history_key, due_at, target)


def summary_from(row: Row) -> InstanceSummary:
    values = (*row[:_TAGS], tags_from(row[_TAGS]), *row[_TAGS + 1 :])
    return InstanceSummary(*values)
