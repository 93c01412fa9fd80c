"""What clients ask for: each function turns one request into a commit.

All of them raise :class:`HubError` before they change anything.
"""

from __future__ import annotations

from collections.abc import Sequence

from durabletask_proto import orchestrator_service_pb2 as pb

from durabletask_scheduler.hub import checks, control, events, instances, rewinding, times
from durabletask_scheduler.hub.model import FAILED, Commit, Context, HubError, Instance, added
from durabletask_scheduler.hub.reuse import Reuse, decide


def start(
    existing: Instance | None,
    request: pb.CreateInstanceRequest,
    task_hub: str,
    ctx: Context,
    commit: Commit | None = None,
) -> Commit:
    """Create an instance, or replace the existing one of that id if the reuse policy allows it.

    Args:
        existing: the instance that has the id now, if any.
        request: with an instance id; the caller fills an empty one.
        commit: takes the instance too, among others whose ids are different; by default a new commit.

    Returns:
        An empty commit if an older client's policy says to ignore the existing instance.

    Raises:
        HubError: INVALID_ARGUMENT, ALREADY_EXISTS.
    """
    checks.check_instance_id(request.instanceId, ctx.limits)
    checks.check_name("the orchestrator", request.name, ctx.limits)
    checks.check_tags(request.tags, ctx.limits)
    if request.HasField("executionId"):
        checks.check_execution_id(request.executionId.value, ctx.limits)
    scheduled_at = 0
    if request.HasField("scheduledStartTimestamp"):
        checks.check_timestamp("scheduledStartTimestamp", request.scheduledStartTimestamp)
        scheduled_at = times.from_timestamp(request.scheduledStartTimestamp)
    commit = Commit() if commit is None else commit
    if decide(existing, request) is Reuse.IGNORE:
        return commit
    if existing is not None:
        instances.replace(existing, ctx, commit)
    generation = instances.NewGeneration(
        name=request.name,
        version=request.version if request.HasField("version") else None,
        input=request.input if request.HasField("input") else None,
        # An empty map is slow to copy.
        tags=dict(request.tags) if request.tags else {},
        trace=request.parentTraceContext if request.HasField("parentTraceContext") else None,
        # Some clients always send a time, the epoch when they mean none.
        scheduled_at=scheduled_at if scheduled_at > ctx.now else 0,
    )
    execution_id = request.executionId.value if request.HasField("executionId") else ctx.new_id()
    event = instances.execution_started(generation, request.instanceId, execution_id, None, ctx.now)
    instances.create(task_hub, event, generation.scheduled_at, ctx, commit)
    return commit


def raise_event(instance: Instance | None, request: pb.RaiseEventRequest, ctx: Context) -> Commit:
    """Deliver an external event; a terminal instance drops it.

    Raises:
        HubError: NOT_FOUND, INVALID_ARGUMENT (name), RESOURCE_EXHAUSTED (too many events wait).
    """
    checks.check_name("the external event", request.name, ctx.limits)
    instance = _found(instance, request.instanceId)
    commit = Commit()
    if instance.is_terminal:
        return commit
    if len(instance.inbox) >= ctx.limits.inbox_events:
        raise HubError(
            "RESOURCE_EXHAUSTED",
            f"orchestration instance '{instance.instance_id}' has {len(instance.inbox)} events waiting, "
            "which is the most it may have; raise the event again when it has processed some",
        )
    data = request.input if request.HasField("input") else None
    instances.receive(instance, events.event_raised(ctx.now, request.name, data), ctx, commit)
    return commit


def terminate(instance: Instance | None, request: pb.TerminateRequest, ctx: Context) -> Commit:
    """End a live instance at once; nothing happens to a missing or terminal one."""
    commit = Commit()
    if instance is not None and not instance.is_terminal:
        output = request.output if request.HasField("output") else None
        instances.terminate(instance, output, request.recursive, ctx, commit)
    return commit


def suspend(instance: Instance | None, request: pb.SuspendRequest, ctx: Context) -> Commit:
    """Suspend a live instance; nothing happens to a suspended or terminal one.

    Raises:
        HubError: NOT_FOUND.
    """
    instance = _found(instance, request.instanceId)
    reason = request.reason if request.HasField("reason") else None
    return control.suspend(instance, events.execution_suspended(ctx.now, reason), ctx)


def resume(instance: Instance | None, request: pb.ResumeRequest, ctx: Context) -> Commit:
    """Resume a suspended instance; nothing happens to any other.

    Raises:
        HubError: NOT_FOUND.
    """
    instance = _found(instance, request.instanceId)
    reason = request.reason if request.HasField("reason") else None
    return control.resume(instance, events.execution_resumed(ctx.now, reason), ctx)


def purge(instance: Instance | None, ctx: Context, *, single: bool) -> Commit:
    """Delete a terminal instance; ``Commit.deleted`` says whether anything was.

    Args:
        single: the caller named this one instance, so a live one is an error; else it is skipped.

    Raises:
        HubError: FAILED_PRECONDITION.
    """
    commit = Commit()
    if instance is None:
        return commit
    if instance.is_terminal:
        commit.deleted = added(commit.deleted, instance.key)
    elif single:
        raise HubError(
            "FAILED_PRECONDITION",
            f"orchestration instance '{instance.instance_id}' is {instance.status_name}; "
            "only a completed, failed, canceled or terminated instance can be purged: terminate it first",
        )
    return commit


def rewind(
    instance: Instance | None, request: pb.RewindInstanceRequest, history: Sequence[pb.HistoryEvent], ctx: Context
) -> Commit:
    """Let a FAILED instance run again from before its failure; failed children are rewound with it.

    Args:
        history: the whole history of the instance.

    Raises:
        HubError: NOT_FOUND, FAILED_PRECONDITION.
    """
    instance = _found(instance, request.instanceId)
    if instance.status != FAILED:
        raise HubError(
            "FAILED_PRECONDITION",
            f"orchestration instance '{instance.instance_id}' is {instance.status_name}; "
            "only a failed instance can be rewound",
        )
    commit = Commit()
    reason = request.reason if request.HasField("reason") else None
    rewinding.rewind(instance, history, reason, ctx, commit)
    return commit


def restart(
    source: Instance | None,
    existing_target: Instance | None,
    request: pb.RestartInstanceRequest,
    new_instance_id: str,
    ctx: Context,
) -> Commit:
    """Start a new instance with the name, version, input and tags of another one, without its parent.

    Args:
        source: the instance to copy.
        existing_target: the instance that has the new id; ``source`` itself when the id is kept.
        new_instance_id: id of the new instance; ignored when the id is kept.

    Raises:
        HubError: NOT_FOUND; FAILED_PRECONDITION if the id is kept and the source is live;
            ALREADY_EXISTS if another instance has the new id.
    """
    source = _found(source, request.instanceId)
    commit = Commit()
    target_id = source.instance_id
    if request.restartWithNewInstanceId:
        checks.check_instance_id(new_instance_id, ctx.limits)
        if existing_target is not None:
            raise HubError("ALREADY_EXISTS", f"orchestration instance '{new_instance_id}' already exists")
        target_id = new_instance_id
    elif not source.is_terminal:
        raise HubError(
            "FAILED_PRECONDITION",
            f"orchestration instance '{source.instance_id}' is {source.status_name}; "
            "only a terminal instance can be restarted under its own id: restart it under a new one",
        )
    else:
        instances.replace(source, ctx, commit)
    event = instances.execution_started(_copy(source), target_id, ctx.new_id(), None, ctx.now)
    instances.create(source.task_hub, event, 0, ctx, commit)
    return commit


def _copy(source: Instance) -> instances.NewGeneration:
    started = events.started_event(source).executionStarted
    return instances.NewGeneration(
        name=started.name,
        version=started.version if started.HasField("version") else None,
        input=started.input if started.HasField("input") else None,
        tags=dict(started.tags),
    )


def _found(instance: Instance | None, instance_id: str) -> Instance:
    if instance is None:
        raise HubError("NOT_FOUND", f"there is no orchestration instance '{instance_id}' in this task hub")
    return instance
