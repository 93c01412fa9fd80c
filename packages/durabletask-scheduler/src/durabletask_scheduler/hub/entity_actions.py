"""What orchestrations send to entities, and what comes back (backend semantics, entities, orchestration side).

Four kinds of messages, one table row each: a check made before anything changes, and a handler. The
history keeps them as they were sent; the entity gets a copy that says who sent it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from durabletask_proto import orchestrator_service_pb2 as pb
from google.protobuf.wrappers_pb2 import StringValue

from durabletask_scheduler.hub import checks, entity_ids, entity_sections, events, instances, times
from durabletask_scheduler.hub.entity_model import Sender
from durabletask_scheduler.hub.model import (
    Commit,
    Context,
    HubError,
    Instance,
    Limits,
    Message,
    OpenTask,
    TaskKind,
)

if TYPE_CHECKING:
    from durabletask_scheduler.hub.actions import Effects


def check(action: pb.OrchestratorAction, limits: Limits) -> None:
    """Refuse a message that no entity could make sense of.

    Raises:
        HubError: INVALID_ARGUMENT.
    """
    kind = action.sendEntityMessage.WhichOneof("EntityMessageType")
    if kind is None:
        raise HubError(checks.INVALID_ARGUMENT, "it holds no message to an entity that this task hub supports")
    _TABLE[kind].check(action.sendEntityMessage, limits)


def handle(effects: Effects, action: pb.OrchestratorAction) -> None:
    """Carry out a message that :func:`check` has accepted."""
    _TABLE[action.sendEntityMessage.WhichOneof("EntityMessageType") or ""].handle(effects, action)


def _check_target(target: StringValue, limits: Limits) -> None:
    entity_ids.check_entity_id(target.value, limits)


def _check_operation(asked: pb.EntityOperationCalledEvent | pb.EntityOperationSignaledEvent, limits: Limits) -> None:
    _check_target(asked.targetInstanceId, limits)
    checks.check_name("the entity operation", asked.operation, limits)
    if asked.HasField("scheduledTime"):
        checks.check_timestamp("scheduledTime", asked.scheduledTime)


def _check_call(message: pb.SendEntityMessageAction, limits: Limits) -> None:
    _check_operation(message.entityOperationCalled, limits)
    entity_ids.check_request_id(message.entityOperationCalled.requestId)


def _check_signal(message: pb.SendEntityMessageAction, limits: Limits) -> None:
    _check_operation(message.entityOperationSignaled, limits)
    if message.entityOperationSignaled.requestId:
        entity_ids.check_request_id(message.entityOperationSignaled.requestId)


def _check_lock(message: pb.SendEntityMessageAction, limits: Limits) -> None:
    asked = message.entityLockRequested
    checks.check_text("the id of the critical section", asked.criticalSectionId, limits.id_bytes)
    if not asked.lockSet:
        raise HubError(checks.INVALID_ARGUMENT, "the lock set is empty; expected at least one entity id")
    for entity in asked.lockSet:
        entity_ids.check_entity_id(entity, limits)


def _check_unlock(message: pb.SendEntityMessageAction, limits: Limits) -> None:
    _check_target(message.entityUnlockSent.targetInstanceId, limits)
    checks.check_text("the id of the critical section", message.entityUnlockSent.criticalSectionId, limits.id_bytes)


def _confirm(effects: Effects, action: pb.OrchestratorAction) -> None:
    """The history keeps the message as it was sent, under the id of the action."""
    kind = action.sendEntityMessage.WhichOneof("EntityMessageType") or ""
    event = pb.HistoryEvent(eventId=action.id, timestamp=times.to_timestamp(effects.at))
    getattr(event, kind).CopyFrom(getattr(action.sendEntityMessage, kind))
    effects.confirmations.append(event)


def _call(effects: Effects, action: pb.OrchestratorAction) -> None:
    """A generation that ends still makes its calls; nobody waits for their results."""
    asked = action.sendEntityMessage.entityOperationCalled
    if effects.is_unresolved(TaskKind.CALL, asked.requestId):
        return
    _confirm(effects, action)
    sender = entity_sections.sender(effects.instance)
    event = pb.HistoryEvent(eventId=events.NO_ID, timestamp=times.to_timestamp(effects.at))
    event.entityOperationCalled.CopyFrom(asked)
    event.entityOperationCalled.ClearField("targetInstanceId")
    event.entityOperationCalled.parentInstanceId.value = sender.instance_id
    event.entityOperationCalled.parentExecutionId.value = sender.execution_id
    entity = entity_ids.normalise(asked.targetInstanceId.value)
    effects.commit.messages.append(Message(effects.instance.task_hub, entity, event, sender=sender))
    if effects.ends:
        effects.note_started(TaskKind.CALL, asked.requestId)
        return
    target = f"{asked.requestId}\n{entity}"
    task = OpenTask(effects.ctx.new_key(), TaskKind.CALL, action.id, effects.row_key, target=target)
    instances.open_task(effects.instance, task, effects.commit)


def _signal(effects: Effects, action: pb.OrchestratorAction) -> None:
    asked = action.sendEntityMessage.entityOperationSignaled
    _confirm(effects, action)
    event = pb.HistoryEvent(eventId=events.NO_ID, timestamp=times.to_timestamp(effects.at))
    event.entityOperationSignaled.CopyFrom(asked)
    event.entityOperationSignaled.ClearField("targetInstanceId")
    if not asked.requestId:
        event.entityOperationSignaled.requestId = entity_ids.guid(effects.ctx.new_id())
    entity = entity_ids.normalise(asked.targetInstanceId.value)
    sender = entity_sections.sender(effects.instance)
    effects.commit.messages.append(Message(effects.instance.task_hub, entity, event, sender=sender))


def _request_lock(effects: Effects, action: pb.OrchestratorAction) -> None:
    """SDKs of the family sort lock sets differently; one order of the scheduler's own avoids deadlocks."""
    asked = action.sendEntityMessage.entityLockRequested
    section = asked.criticalSectionId
    if effects.ends or any(effects.is_unresolved(kind, section) for kind in (TaskKind.LOCK, TaskKind.CRITICAL_SECTION)):
        return
    _confirm(effects, action)
    entities = sorted({entity_ids.normalise(entity) for entity in asked.lockSet})
    owner = entity_sections.sender(effects.instance)
    message = entity_sections.lock_request(effects.instance.task_hub, owner, section, entities, effects.at)
    effects.commit.messages.append(message)
    target = entity_sections.target(section, entities)
    task = OpenTask(effects.ctx.new_key(), TaskKind.LOCK, action.id, effects.row_key, target=target)
    instances.open_task(effects.instance, task, effects.commit)


def _unlock(effects: Effects, action: pb.OrchestratorAction) -> None:
    asked = action.sendEntityMessage.entityUnlockSent
    _confirm(effects, action)
    instance, section = effects.instance, asked.criticalSectionId
    entity = entity_ids.normalise(asked.targetInstanceId.value)
    owner = entity_sections.sender(instance)
    effects.commit.messages.append(entity_sections.unlock(instance.task_hub, owner, section, entity, effects.at))
    held = instances.find_task(instance, TaskKind.CRITICAL_SECTION, section)
    if held is None:
        return
    left = [other for other in entity_sections.covered(held)[1] if other != entity]
    instances.close_task(instance, held, effects.commit)
    if left:
        _hold(instance, held, left, effects.ctx, effects.commit)


def _hold(instance: Instance, task: OpenTask, entities: list[str], ctx: Context, commit: Commit) -> None:
    """Take the place of an open task of the same critical section."""
    target = entity_sections.target(entity_sections.covered(task)[0], entities)
    held = OpenTask(ctx.new_key(), TaskKind.CRITICAL_SECTION, task.task_id, task.history_key, target=target)
    instances.open_task(instance, held, commit)


@dataclass(frozen=True, slots=True)
class _Row:
    check: Callable[[pb.SendEntityMessageAction, Limits], None]
    handle: Callable[[Effects, pb.OrchestratorAction], None]


_TABLE: dict[str, _Row] = {
    "entityOperationCalled": _Row(_check_call, _call),
    "entityOperationSignaled": _Row(_check_signal, _signal),
    "entityLockRequested": _Row(_check_lock, _request_lock),
    "entityUnlockSent": _Row(_check_unlock, _unlock),
}


# --- what comes back


def completed(instance: Instance, event: pb.HistoryEvent, ctx: Context) -> Commit:
    """The result of a call, accepted once."""
    return _result(instance, event.entityOperationCompleted.requestId, event, ctx)


def failed(instance: Instance, event: pb.HistoryEvent, ctx: Context) -> Commit:
    """The failure of a call, accepted once."""
    return _result(instance, event.entityOperationFailed.requestId, event, ctx)


def _result(instance: Instance, request_id: str, event: pb.HistoryEvent, ctx: Context) -> Commit:
    commit = Commit()
    task = instances.find_task(instance, TaskKind.CALL, request_id)
    if task is not None:
        instances.close_task(instance, task, commit)
        instances.receive(instance, event, ctx, commit)
    return commit


def granted(instance: Instance, event: pb.HistoryEvent, ctx: Context) -> Commit:
    """The lock request has been through all entities and comes home."""
    commit = Commit()
    section = event.entityLockRequested.criticalSectionId
    task = instances.find_task(instance, TaskKind.LOCK, section)
    if task is not None:
        grant = pb.HistoryEvent(
            eventId=events.NO_ID,
            timestamp=times.to_timestamp(ctx.now),
            entityLockGranted=pb.EntityLockGrantedEvent(criticalSectionId=section),
        )
        instances.receive(instance, grant, ctx, commit)
    else:
        task = instances.find_task(instance, TaskKind.LOCK_AGAIN, 0)
        if task is None or entity_sections.covered(task)[0] != section:
            return unwanted(instance.task_hub, entity_sections.sender(instance), event, ctx)
        # The history has the first grant already: the orchestration just goes on.
        commit.runnable.append(instance)
    instances.close_task(instance, task, commit)
    _hold(instance, task, entity_sections.covered(task)[1], ctx, commit)
    return commit


def unwanted(task_hub: str, owner: Sender, event: pb.HistoryEvent, ctx: Context) -> Commit:
    """A grant that nobody waits for any more: the entities are let go."""
    asked = event.entityLockRequested
    section = asked.criticalSectionId
    messages = [entity_sections.unlock(task_hub, owner, section, entity, ctx.now) for entity in asked.lockSet]
    return Commit(messages=messages)
