"""What clients and operators ask of entities: each function turns one request into a commit.

All of them raise :class:`HubError` before they change anything.
"""

from __future__ import annotations

from typing import Protocol

from durabletask_proto import orchestrator_service_pb2 as pb
from google.protobuf.wrappers_pb2 import StringValue

from durabletask_scheduler.hub import checks, entity_delivery, entity_ids, entity_queue, events, times
from durabletask_scheduler.hub.entity_model import Entity, Lock
from durabletask_scheduler.hub.model import Commit, Context, HubError, Message


def check_signal(request: pb.SignalEntityRequest, ctx: Context) -> None:
    """What can be said about a signal without looking at the entity.

    Raises:
        HubError: INVALID_ARGUMENT.
    """
    entity_ids.check_entity_id(request.instanceId, ctx.limits)
    checks.check_name("the entity operation", request.name, ctx.limits)
    if request.requestId:
        entity_ids.check_request_id(request.requestId)
    if request.HasField("scheduledTime"):
        checks.check_timestamp("scheduledTime", request.scheduledTime)


def signal(existing: Entity | None, request: pb.SignalEntityRequest, task_hub: str, ctx: Context) -> Commit:
    """Queue an operation whose result nobody waits for; the entity is made if need be.

    A signal whose request id waits already is the same one, sent again.

    Args:
        existing: the entity of the normalised id, if there is one.
        request: one that :func:`check_signal` has accepted.

    Raises:
        HubError: RESOURCE_EXHAUSTED (too much waits at the entity).
    """
    if existing is not None and existing.backlog >= ctx.limits.inbox_events:
        raise HubError(
            "RESOURCE_EXHAUSTED",
            f"{existing.backlog} operations wait at entity '{existing.instance_id}', which is the most it may have; "
            "signal it again when it has processed some",
        )
    event = pb.HistoryEvent(
        eventId=events.NO_ID,
        timestamp=times.to_timestamp(ctx.now),
        entityOperationSignaled=pb.EntityOperationSignaledEvent(
            requestId=request.requestId or entity_ids.guid(ctx.new_id()),
            operation=request.name,
            scheduledTime=request.scheduledTime if request.HasField("scheduledTime") else None,
            input=request.input if request.HasField("input") else None,
        ),
    )
    message = Message(task_hub, entity_ids.normalise(request.instanceId), event)
    return entity_delivery.deliver(existing, message, ctx)


def purge(entity: Entity | None, ctx: Context) -> Commit:
    """Delete an entity's state; whether anything was there shows in ``Commit.entities``.

    What waits at it stays and runs on the entity without a state, and its holder keeps it: callers and
    owners must not wait for ever. A batch in flight becomes void and runs again.
    """
    commit = Commit()
    if entity is None:
        return commit
    entity.state = None
    entity.modified_at = ctx.now
    entity.batch = None
    entity_queue.changed(entity, commit)
    entity_queue.settle(entity, ctx, commit)
    return commit


def force_unlock(entity: Entity | None, instance_id: str, ctx: Context) -> Commit:
    """Take the entity from its holder, whoever that is, and let the next one have it.

    Raises:
        HubError: NOT_FOUND, FAILED_PRECONDITION (nobody holds it).
    """
    if entity is None:
        raise HubError("NOT_FOUND", f"there is no entity '{instance_id}' in this task hub")
    if entity.lock is None:
        raise HubError("FAILED_PRECONDITION", f"entity '{entity.instance_id}' is not locked; there is nothing to do")
    commit = Commit()
    entity_queue.release(entity, commit)
    entity_queue.settle(entity, ctx, commit)
    return commit


def remove_if_empty(entity: Entity, ctx: Context) -> Commit:
    """Remove an entity of which nothing is left (backend semantics, CleanEntityStorage)."""
    commit = Commit()
    if entity.is_empty:
        entity_queue.settle(entity, ctx, commit)
    return commit


class Described(Protocol):
    """What :func:`metadata` reads; entities and the rows of queries both have it."""

    @property
    def instance_id(self) -> str: ...
    @property
    def modified_at(self) -> int: ...
    @property
    def backlog(self) -> int: ...
    @property
    def lock(self) -> Lock | None: ...
    @property
    def state(self) -> str | None: ...


def metadata(entity: Described, *, state: bool) -> pb.EntityMetadata:
    """What clients get to see of an entity."""
    return pb.EntityMetadata(
        instanceId=entity.instance_id,
        lastModifiedTime=times.to_timestamp(entity.modified_at),
        backlogQueueSize=entity.backlog,
        lockedBy=None if entity.lock is None else StringValue(value=entity.lock.owner.instance_id),
        serializedState=None if entity.state is None or not state else StringValue(value=entity.state),
    )
