"""What clients, workers and operators ask of entities: each request meets its entity in the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from durabletask_proto import orchestrator_service_pb2 as pb
from google.protobuf.message import Message

from durabletask_scheduler.engine import Engine
from durabletask_scheduler.group import logger
from durabletask_scheduler.hub import entity_requests as rules
from durabletask_scheduler.hub.entity_ids import normalise
from durabletask_scheduler.hub.entity_model import Entity, Lock

Handler = Callable[[Engine, str, Any], Message]


def _signal(engine: Engine, task_hub: str, request: pb.SignalEntityRequest) -> pb.SignalEntityResponse:
    rules.check_signal(request, engine.context)
    entity = _entity(engine, task_hub, request.instanceId)
    engine.commit(rules.signal(entity, request, task_hub, engine.context), no_hurry=True)
    return pb.SignalEntityResponse()


def _complete_batch(engine: Engine, task_hub: str, result: pb.EntityBatchResult) -> pb.CompleteTaskResponse:
    engine.desk.entities.complete(task_hub, result)
    return pb.CompleteTaskResponse()


def _abandon_batch(engine: Engine, task_hub: str, request: pb.AbandonEntityTaskRequest) -> pb.AbandonEntityTaskResponse:
    engine.desk.entities.abandon(task_hub, request.completionToken)
    return pb.AbandonEntityTaskResponse()


HANDLERS: Mapping[str, Handler] = {
    "SignalEntity": _signal,
    "CompleteEntityTask": _complete_batch,
    "AbandonTaskEntityWorkItem": _abandon_batch,
}


def get_entity(engine: Engine, task_hub: str, request: pb.GetEntityRequest) -> pb.GetEntityResponse:
    """An entity exists for clients while it has a state."""
    entry = engine.desk.entities.find(task_hub, normalise(request.instanceId))
    if entry is None:
        return pb.GetEntityResponse()
    engine.desk.is_missed(entry.work)
    entity = entry.entity
    if entity.state is None:
        return pb.GetEntityResponse()
    return pb.GetEntityResponse(exists=True, entity=rules.metadata(entity, state=request.includeState))


def purge_entity(engine: Engine, task_hub: str, instance_id: str) -> int:
    """Delete an entity; 1 if there was one."""
    entity = _entity(engine, task_hub, instance_id)
    if entity is None:
        return 0
    engine.commit(rules.purge(entity, engine.context))
    return 1


def remove_if_empty(engine: Engine, task_hub: str, instance_id: str) -> int:
    """Remove an entity of which nothing is left; 1 if that was so."""
    entity = _entity(engine, task_hub, instance_id)
    if entity is None or not entity.is_empty:
        return 0
    engine.commit(rules.remove_if_empty(entity, engine.context))
    return 1


def release_if_orphaned(engine: Engine, task_hub: str, instance_id: str) -> int:
    """Unlock an entity whose holder's generation is over; 1 if that was so."""
    entity = _entity(engine, task_hub, instance_id)
    if entity is None or entity.lock is None or _is_alive(engine, task_hub, entity.lock):
        return 0
    logger.warning("The lock of %s on entity %s was orphaned", entity.lock.owner.instance_id, entity.instance_id)
    engine.commit(rules.force_unlock(entity, instance_id, engine.context))
    return 1


def force_unlock(engine: Engine, task_hub: str, instance_id: str, reason: str) -> int:
    """Take an entity from its holder, who may still be at work.

    Raises:
        HubError: NOT_FOUND, FAILED_PRECONDITION (nobody holds it).
    """
    entity = _entity(engine, task_hub, instance_id)
    lock = None if entity is None else entity.lock
    engine.commit(rules.force_unlock(entity, instance_id, engine.context))
    if lock is not None:
        owner = lock.owner.instance_id
        logger.warning("Entity %s was taken from %s by force: %s", instance_id, owner, _one_line(reason))
    return 1


def _one_line(text: str) -> str:
    """A text of a caller's, which must not look like further lines of the log."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _is_alive(engine: Engine, task_hub: str, lock: Lock) -> bool:
    entry = engine.find(task_hub, lock.owner.instance_id)
    if entry is None:
        return False
    return not entry.instance.is_terminal and entry.instance.execution_id == lock.owner.execution_id


def _entity(engine: Engine, task_hub: str, instance_id: str) -> Entity | None:
    entry = engine.desk.entities.find(task_hub, normalise(instance_id))
    return None if entry is None else entry.entity
