"""Messages between instances: what the receiver makes of them.

Every message is judged by the receiver's state when it arrives: the sender never looks at it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from durabletask_proto import orchestrator_service_pb2 as pb

from durabletask_scheduler.hub import control, entity_actions, events, instances, rewinding, times
from durabletask_scheduler.hub.entity_model import Sender
from durabletask_scheduler.hub.model import FAILED, Commit, Context, Instance, Message, TaskKind


def needs_history(existing: Instance | None, message: Message) -> bool:
    """Whether :func:`deliver` must be given the receiver's whole history."""
    return (
        existing is not None
        and existing.status == FAILED
        and message.event.WhichOneof("eventType") == instances.REWIND
        and _is_child_of(existing, message.event.executionRewound.parentInstance)
    )


def deliver(
    existing: Instance | None, message: Message, ctx: Context, history: Sequence[pb.HistoryEvent] = ()
) -> Commit:
    """Apply a message to the instance that now has the target id.

    Args:
        existing: that instance, if any.
        history: its whole history; only looked at if :func:`needs_history` says so.

    Returns:
        An empty commit if the rules of de-duplication drop the message.
    """
    kind = message.event.WhichOneof("eventType") or ""
    if kind in _CREATING:
        return _CREATING[kind](existing, message, ctx, history)
    if existing is None or existing.is_terminal or message.execution_id not in ("", existing.execution_id):
        return _UNDELIVERABLE.get(kind, _drop)(message, ctx)
    return _TO_LIVE[kind](existing, message.event, ctx)


def _is_child_of(instance: Instance, parent: pb.ParentInstanceInfo) -> bool:
    return (
        instance.parent_instance_id == parent.orchestrationInstance.instanceId
        and instance.parent_task_id == parent.taskScheduledId
        and bool(instance.parent_instance_id)
    )


def _start_child(
    existing: Instance | None, message: Message, ctx: Context, history: Sequence[pb.HistoryEvent]
) -> Commit:
    """Backend semantics, sub-orchestration id conflicts."""
    started = message.event.executionStarted
    parent = started.parentInstance
    commit = Commit()
    is_own_parent = parent.orchestrationInstance.instanceId == message.target
    if is_own_parent or (existing is not None and not existing.is_terminal):
        delivered_before = (
            existing is not None
            and _is_child_of(existing, parent)
            and existing.parent_execution_id == parent.orchestrationInstance.executionId.value
        )
        if started.HasField("parentInstance") and not delivered_before:
            commit.messages.append(_conflict(message, parent, ctx))
        return commit
    if existing is not None:
        instances.replace(existing, ctx, commit)
    at = times.from_timestamp(started.scheduledStartTimestamp) if started.HasField("scheduledStartTimestamp") else 0
    instances.create(message.task_hub, message.event, at, ctx, commit)
    return commit


def _conflict(message: Message, parent: pb.ParentInstanceInfo, ctx: Context) -> Message:
    details = events.failure("OrchestrationAlreadyExists", f"Orchestration instance '{message.target}' already exists")
    return Message(
        message.task_hub,
        parent.orchestrationInstance.instanceId,
        events.child_failed(ctx.now, parent.taskScheduledId, details),
        parent.orchestrationInstance.executionId.value,
    )


def _rewind_child(
    existing: Instance | None, message: Message, ctx: Context, history: Sequence[pb.HistoryEvent]
) -> Commit:
    """A parent was rewound and still waits for this child (backend semantics, rewind)."""
    rewound = message.event.executionRewound
    if existing is None or not _is_child_of(existing, rewound.parentInstance):
        start = rewinding.recreation(message, ctx)
        return _start_child(existing, start, ctx, ())
    commit = Commit()
    rewinding.adopt(existing, rewound.parentExecutionId.value, commit)
    if existing.status == FAILED:
        reason = rewound.reason if rewound.HasField("reason") else None
        rewinding.rewind(existing, history, reason, ctx, commit)
    elif existing.is_terminal:
        completed = pb.HistoryEvent.FromString(existing.completed).executionCompleted
        commit.messages.append(instances.outcome(existing, completed, ctx))
    return commit


def _receive(instance: Instance, event: pb.HistoryEvent, ctx: Context) -> Commit:
    """An event of another orchestration. Its sender cannot be refused any more, and events are never dropped."""
    commit = Commit()
    if len(instance.inbox) < ctx.limits.inbox_events:
        instances.receive(instance, event, ctx, commit)
        return commit
    text = (
        f"Another orchestration sent this one the event '{event.eventRaised.name}' while {len(instance.inbox)} events "
        "were waiting, which is the most it may have. Let senders wait for an answer now and then"
    )
    instances.fail(instance, "TooManyEvents", text, ctx, commit)
    return commit


def _child_result(task_id: int, instance: Instance, event: pb.HistoryEvent, ctx: Context) -> Commit:
    commit = Commit()
    task = instances.find_task(instance, TaskKind.CHILD, task_id)
    if task is not None:
        instances.close_task(instance, task, commit)
        instances.receive(instance, event, ctx, commit)
    return commit


def _child_completed(instance: Instance, event: pb.HistoryEvent, ctx: Context) -> Commit:
    return _child_result(event.subOrchestrationInstanceCompleted.taskScheduledId, instance, event, ctx)


def _child_failed(instance: Instance, event: pb.HistoryEvent, ctx: Context) -> Commit:
    return _child_result(event.subOrchestrationInstanceFailed.taskScheduledId, instance, event, ctx)


def _terminate(instance: Instance, event: pb.HistoryEvent, ctx: Context) -> Commit:
    commit = Commit()
    terminated = event.executionTerminated
    output = terminated.input if terminated.HasField("input") else None
    instances.terminate(instance, output, terminated.recurse, ctx, commit)
    return commit


def _drop(message: Message, ctx: Context) -> Commit:
    return Commit()


def _lock_unwanted(message: Message, ctx: Context) -> Commit:
    owner = Sender(message.target, message.execution_id)
    return entity_actions.unwanted(message.task_hub, owner, message.event, ctx)


_CREATING: dict[str, Callable[[Instance | None, Message, Context, Sequence[pb.HistoryEvent]], Commit]] = {
    "executionStarted": _start_child,
    instances.REWIND: _rewind_child,
}

_TO_LIVE: dict[str, Callable[[Instance, pb.HistoryEvent, Context], Commit]] = {
    "eventRaised": _receive,
    "subOrchestrationInstanceCompleted": _child_completed,
    "subOrchestrationInstanceFailed": _child_failed,
    "executionTerminated": _terminate,
    instances.SUSPEND: control.suspend,
    instances.RESUME: control.resume,
    "entityOperationCompleted": entity_actions.completed,
    "entityOperationFailed": entity_actions.failed,
    "entityLockRequested": entity_actions.granted,
}

# To whom it may concern no longer; everything else is just dropped.
_UNDELIVERABLE: dict[str, Callable[[Message, Context], Commit]] = {"entityLockRequested": _lock_unwanted}
