"""What waits at an entity, and in which order it comes up: operations, lock requests, unlocks.

An entity that nobody holds takes its inbox in the order of arrival. A lock request that comes to the
front makes its owner the holder of the entity and goes on to the next entity of its lock set, or home
when it was the last. While an entity is held only what its owner has sent comes up, ahead of everything
else; the owner's unlock takes effect after what the owner sent before. No worker is needed for locks, and
after every transition what comes up next is an operation.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterator

from durabletask_proto import orchestrator_service_pb2 as pb

from durabletask_scheduler.hub.entity_model import Entity, EntityInboxRow, Lock, Queued, Sender
from durabletask_scheduler.hub.model import Commit, Context, Message

LOCK = "entityLockRequested"
UNLOCK = "entityUnlockSent"
CALLED = "entityOperationCalled"
SIGNALED = "entityOperationSignaled"
OPERATIONS = frozenset({CALLED, SIGNALED})


def kind_of(entry: Queued) -> str:
    return entry.event.WhichOneof("eventType") or ""


def create(task_hub: str, instance_id: str, ctx: Context, commit: Commit) -> Entity:
    """A new entity without a state; its first message comes with the same commit."""
    entity = Entity(ctx.new_key(), task_hub, instance_id, ctx.new_id(), ctx.now, owned=0, known=set())
    commit.on_entities().created.append(entity)
    return entity


def changed(entity: Entity, commit: Commit) -> None:
    """The row of the entity has to be written."""
    commit.on_entities().updated[entity.key] = entity


def settle(entity: Entity, ctx: Context, commit: Commit) -> None:
    """End a transition: let locks move on, and remove the entity if nothing is left of it."""
    _advance(entity, ctx, commit)
    changes = commit.on_entities()
    if entity.is_empty:
        changes.updated.pop(entity.key, None)
        changes.deleted.append(entity.key)
    else:
        changes.ready.append(entity)


# --- entries


def request_id(entry: Queued) -> str:
    """The request id of an operation; empty for anything else."""
    kind = kind_of(entry)
    return str(getattr(entry.event, kind).requestId) if kind in OPERATIONS else ""


def waits(entity: Entity, sender: Sender, wanted: str) -> bool:
    """Whether an operation with this request id of this sender waits already."""
    if entity.known is None:
        entries = (*entity.inbox.values(), *entity.scheduled)
        entity.known = {(entry.sender, request_id(entry)) for entry in entries}
    return (sender, wanted) in entity.known


def append(
    entity: Entity, event: pb.HistoryEvent, sender: Sender, ctx: Context, commit: Commit, due_at: int = 0
) -> None:
    """Put something at the end of the inbox, or aside until it is due."""
    due_at = due_at if due_at > ctx.now else 0
    entry = Queued(ctx.new_key(), event, event.SerializeToString(), sender, due_at)
    if due_at:
        insort(entity.scheduled, entry, key=_due)
    else:
        _enter(entity, entry)
    if entity.known is not None:
        entity.known.add((sender, request_id(entry)))
    row = EntityInboxRow(entry.key, entity.key, sender, due_at, entry.data)
    commit.on_entities().inbox_added.append(row)


def remove(entity: Entity, entry: Queued, commit: Commit) -> None:
    """Take something out of the inbox for good."""
    del entity.inbox[entry.key]
    if entity.owned > 0 and _is_owned(entity, entry):
        entity.owned -= 1
    if entity.known is not None:
        entity.known.discard((entry.sender, request_id(entry)))
    changes = commit.on_entities()
    # A lock request that is granted on arrival is never written.
    kept = [row for row in changes.inbox_added if row.key != entry.key]
    if len(kept) == len(changes.inbox_added):
        changes.inbox_removed.append(entry.key)
    changes.inbox_added = kept


def make_due(entity: Entity, now: int) -> None:
    """Let scheduled operations whose time has come take their place at the end of the inbox."""
    if not entity.scheduled:
        return
    due = 0
    for entry in entity.scheduled:
        if entry.due_at > now:
            break
        _enter(entity, entry)
        due += 1
    del entity.scheduled[:due]
    if due and not _runs(next_up(entity)):
        # After a restart, what was due before it stands behind the lock request or unlock that waits for it.
        entity.inbox = dict(sorted(entity.inbox.items()))


def _runs(entry: Queued | None) -> bool:
    return entry is not None and kind_of(entry) in OPERATIONS


def _due(entry: Queued) -> tuple[int, int]:
    return (entry.due_at, entry.key)


def _enter(entity: Entity, entry: Queued) -> None:
    entity.inbox[entry.key] = entry
    if entity.owned >= 0 and _is_owned(entity, entry):
        entity.owned += 1


def _is_owned(entity: Entity, entry: Queued) -> bool:
    """Sent by the holder, as part of its critical section."""
    return entity.lock is not None and entry.sender == entity.lock.owner and kind_of(entry) != LOCK


def owned(entity: Entity) -> int:
    """How many entries of the inbox the holder has sent."""
    if entity.owned < 0:
        entity.owned = sum(_is_owned(entity, entry) for entry in entity.inbox.values())
    return entity.owned


def eligible(entity: Entity) -> Iterator[Queued]:
    """What may come up, in order: everything, or only what the holder has sent."""
    if entity.lock is None:
        yield from entity.inbox.values()
    elif owned(entity):
        yield from (entry for entry in entity.inbox.values() if _is_owned(entity, entry))


def next_up(entity: Entity) -> Queued | None:
    """What comes up next, if anything may."""
    if entity.lock is None:
        for entry in entity.inbox.values():
            return entry
        return None
    return next(eligible(entity), None)


# --- locks


def _advance(entity: Entity, ctx: Context, commit: Commit) -> None:
    """Lock requests and unlocks that have come up take effect."""
    while True:
        entry = next_up(entity)
        move = None if entry is None else _MOVES.get(kind_of(entry))
        if entry is None or move is None:
            return
        remove(entity, entry, commit)
        move(entity, entry, ctx, commit)


def _acquire(entity: Entity, entry: Queued, ctx: Context, commit: Commit) -> None:
    asked = entry.event.entityLockRequested
    entity.lock = Lock(entry.sender, asked.criticalSectionId, ctx.now)
    entity.owned = -1
    changed(entity, commit)
    onward = pb.HistoryEvent()
    onward.CopyFrom(entry.event)
    position = onward.entityLockRequested.position = asked.position + 1
    if position < len(asked.lockSet):
        message = Message(entity.task_hub, asked.lockSet[position], onward, sender=entry.sender)
    else:
        message = Message(entity.task_hub, entry.sender.instance_id, onward, entry.sender.execution_id)
    commit.messages.append(message)


def _unlock(entity: Entity, entry: Queued, ctx: Context, commit: Commit) -> None:
    """An unlock that has waited; one of a critical section that has ended otherwise finds nothing to do."""
    if holds(entity, entry.sender, entry.event.entityUnlockSent.criticalSectionId):
        release(entity, commit)


_MOVES: dict[str, Callable[[Entity, Queued, Context, Commit], None]] = {LOCK: _acquire, UNLOCK: _unlock}


def holds(entity: Entity, owner: Sender, section: str) -> bool:
    return entity.lock is not None and (entity.lock.owner, entity.lock.section) == (owner, section)


def release(entity: Entity, commit: Commit) -> None:
    """Nobody holds the entity any more."""
    entity.lock = None
    entity.owned = 0
    changed(entity, commit)


def give_up(entity: Entity, owner: Sender, section: str | None, commit: Commit) -> bool:
    """Drop lock requests that wait, of one critical section or of all of an owner's; whether there were any."""
    dropped = [
        entry
        for entry in entity.inbox.values()
        if kind_of(entry) == LOCK
        and entry.sender == owner
        and section in (None, entry.event.entityLockRequested.criticalSectionId)
    ]
    for entry in dropped:
        remove(entity, entry, commit)
    return bool(dropped)
