"""Messages to entities: what the receiver makes of them.

Like messages between instances they are judged by the receiver's state when they arrive.
"""

from __future__ import annotations

from collections.abc import Callable

from durabletask_scheduler.hub import entity_queue, entity_sections, times
from durabletask_scheduler.hub.entity_model import Entity
from durabletask_scheduler.hub.model import Commit, Context, Message


def deliver(existing: Entity | None, message: Message, ctx: Context) -> Commit:
    """Apply a message to the entity that has the target id, which is made if need be.

    Args:
        existing: that entity, if there is one.
        message: its target is a normalised entity id.

    Returns:
        An empty commit if the message means nothing to the entity.
    """
    rule = _RULES.get(message.event.WhichOneof("eventType") or "", _ignore)
    return rule(existing, message, ctx)


def _operation(existing: Entity | None, message: Message, ctx: Context) -> Commit:
    """An operation joins the inbox, unless the same sender has sent it and it still waits."""
    commit = Commit()
    operation = getattr(message.event, message.event.WhichOneof("eventType") or "")
    if existing is not None and entity_queue.waits(existing, message.sender, operation.requestId):
        return commit
    entity = existing or entity_queue.create(message.task_hub, message.target, ctx, commit)
    due_at = times.from_timestamp(operation.scheduledTime) if operation.HasField("scheduledTime") else 0
    entity_queue.append(entity, message.event, message.sender, ctx, commit, due_at)
    entity_queue.settle(entity, ctx, commit)
    return commit


def _lock_request(existing: Entity | None, message: Message, ctx: Context) -> Commit:
    commit = Commit()
    entity = existing or entity_queue.create(message.task_hub, message.target, ctx, commit)
    entity_queue.append(entity, message.event, message.sender, ctx, commit)
    entity_queue.settle(entity, ctx, commit)
    return commit


def _unlock(existing: Entity | None, message: Message, ctx: Context) -> Commit:
    """Honoured for the holder and its critical section, after what the holder has sent before."""
    commit = Commit()
    if existing is None:
        return commit
    section = message.event.entityUnlockSent.criticalSectionId
    if not entity_queue.holds(existing, message.sender, section):
        if not entity_queue.give_up(existing, message.sender, section, commit):
            return commit
    elif entity_queue.owned(existing):
        entity_queue.append(existing, message.event, message.sender, ctx, commit)
    else:
        entity_queue.release(existing, commit)
    entity_queue.settle(existing, ctx, commit)
    return commit


def _owner_ended(existing: Entity | None, message: Message, ctx: Context) -> Commit:
    """The sender's generation is over: it holds nothing and waits for nothing any more, from now on."""
    commit = Commit()
    if existing is None:
        return commit
    dropped = entity_queue.give_up(existing, message.sender, None, commit)
    held = existing.lock is not None and existing.lock.owner == message.sender
    if held:
        entity_queue.release(existing, commit)
    if held or dropped:
        entity_queue.settle(existing, ctx, commit)
    return commit


def _ignore(existing: Entity | None, message: Message, ctx: Context) -> Commit:
    """Instances are terminated, suspended and sent events; entities are not."""
    return Commit()


_RULES: dict[str, Callable[[Entity | None, Message, Context], Commit]] = {
    entity_queue.CALLED: _operation,
    entity_queue.SIGNALED: _operation,
    entity_queue.LOCK: _lock_request,
    entity_queue.UNLOCK: _unlock,
    entity_sections.ENDED: _owner_ended,
}
