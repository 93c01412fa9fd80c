"""Activities: the work item of an open task, and its result."""

from __future__ import annotations

from durabletask_proto import orchestrator_service_pb2 as pb

from durabletask_scheduler.hub import events, failures, instances
from durabletask_scheduler.hub.model import Commit, Context, Instance, OpenTask, TaskKind


def activity_request(
    instance: Instance, task: OpenTask, request: pb.ActivityRequest | None = None
) -> pb.ActivityRequest:
    """The work item of an open activity.

    Args:
        request: an empty one to fill in; by default a new one.

    Raises:
        ValueError: the task has no event; read its confirmation from the history row first.
    """
    if task.event is None:
        raise ValueError(f"task {task.key} has no TaskScheduled event; read it from its history row first")
    scheduled = task.event.taskScheduled
    request = pb.ActivityRequest() if request is None else request
    request.name = scheduled.name
    request.taskId = task.task_id
    target = request.orchestrationInstance
    target.instanceId = instance.instance_id
    target.executionId.value = instance.execution_id
    events.copy_fields(scheduled, request, "version", "input", "parentTraceContext")
    if scheduled.tags:
        request.tags.update(scheduled.tags)
    return request


def complete_activity(instance: Instance, task_key: int, response: pb.ActivityResponse, ctx: Context) -> Commit:
    """Accept the result of an activity, once; an unknown or closed task changes nothing."""
    commit = Commit()
    task = instance.open_tasks.get(task_key)
    if task is None or task.kind is not TaskKind.ACTIVITY:
        return commit
    instances.close_task(instance, task, commit)
    instances.receive(instance, _result(task.task_id, response, ctx), ctx, commit)
    return commit


def _result(task_id: int, response: pb.ActivityResponse, ctx: Context) -> pb.HistoryEvent:
    event = events.new_event(events.NO_ID, ctx.now)
    if response.HasField("failureDetails"):
        event.taskFailed.taskScheduledId = task_id
        event.taskFailed.failureDetails.CopyFrom(failures.bounded(response.failureDetails, ctx.limits.failure_depth))
        return event
    completed = event.taskCompleted
    completed.taskScheduledId = task_id
    events.copy_fields(response, completed, "result")
    return event
