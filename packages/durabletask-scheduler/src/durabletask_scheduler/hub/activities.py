"""Activities: the work item of an open task, and its result."""

from __future__ import annotations

from durabletask_proto import orchestrator_service_pb2 as pb
from google.protobuf.wrappers_pb2 import StringValue

from durabletask_scheduler.hub import events, failures, instances
from durabletask_scheduler.hub.model import Commit, Context, Instance, OpenTask, TaskKind
from durabletask_scheduler.hub.times import to_timestamp


def activity_request(instance: Instance, task: OpenTask) -> pb.ActivityRequest:
    """The work item of an open activity.

    Raises:
        ValueError: the task has no event; read its confirmation from the history row first.
    """
    if task.event is None:
        raise ValueError(f"task {task.key} has no TaskScheduled event; read it from its history row first")
    scheduled = task.event.taskScheduled
    return pb.ActivityRequest(
        name=scheduled.name,
        version=scheduled.version if scheduled.HasField("version") else None,
        input=scheduled.input if scheduled.HasField("input") else None,
        orchestrationInstance=pb.OrchestrationInstance(
            instanceId=instance.instance_id, executionId=StringValue(value=instance.execution_id)
        ),
        taskId=task.task_id,
        parentTraceContext=scheduled.parentTraceContext if scheduled.HasField("parentTraceContext") else None,
        tags=scheduled.tags or None,
    )


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
    if response.HasField("failureDetails"):
        details = failures.bounded(response.failureDetails, ctx.limits.failure_depth)
        return pb.HistoryEvent(
            eventId=events.NO_ID,
            timestamp=to_timestamp(ctx.now),
            taskFailed=pb.TaskFailedEvent(taskScheduledId=task_id, failureDetails=details),
        )
    return pb.HistoryEvent(
        eventId=events.NO_ID,
        timestamp=to_timestamp(ctx.now),
        taskCompleted=pb.TaskCompletedEvent(
            taskScheduledId=task_id, result=response.result if response.HasField("result") else None
        ),
    )
