"""Critical sections as seen by their owner: which entities one covers, and how it lets them go.

While its lock is requested or held, a critical section is an open task of the orchestration. So
whoever ends a generation closes the task, and whoever closes it has the entities released.
"""

from __future__ import annotations

from collections.abc import Iterable

from durabletask_proto import orchestrator_service_pb2 as pb
from google.protobuf.wrappers_pb2 import StringValue

from durabletask_scheduler.hub.entity_model import Sender
from durabletask_scheduler.hub.model import Instance, Message, OpenTask, TaskKind
from durabletask_scheduler.hub.times import to_timestamp

ENDED = "executionCompleted"
"""To an entity: the sender's generation has ended; give up what it holds and what it has asked to hold."""

_SECTIONS = frozenset({TaskKind.LOCK, TaskKind.CRITICAL_SECTION, TaskKind.LOCK_AGAIN})


def sender(instance: Instance) -> Sender:
    """How entities know this generation."""
    return Sender(instance.instance_id, instance.execution_id)


def target(section: str, entities: Iterable[str]) -> str:
    """What the open task of a critical section keeps."""
    return "\n".join((section, *entities))


def covered(task: OpenTask) -> tuple[str, list[str]]:
    """Id of the critical section and ids of its entities that are not released yet."""
    section, *entities = task.target.split("\n")
    return section, entities


def has_sections(instance: Instance) -> bool:
    """Whether it holds entities or has asked to."""
    return any(task.kind in _SECTIONS for task in instance.open_tasks.values())


def releases(instance: Instance) -> list[Message]:
    """Tells all entities that this generation holds, or has asked to hold, that it ends."""
    ended = pb.HistoryEvent(eventId=-1, executionCompleted=pb.ExecutionCompletedEvent())
    return [
        Message(instance.task_hub, entity, ended, sender=sender(instance))
        for task in instance.open_tasks.values()
        if task.kind in _SECTIONS
        for entity in covered(task)[1]
    ]


def lock_request(task_hub: str, owner: Sender, section: str, entities: list[str], at: int) -> Message:
    """Asks the first entity, which passes the request on.

    Args:
        entities: normalised, distinct, and in the one order in which all owners acquire them.
    """
    event = pb.HistoryEvent(
        eventId=-1,
        timestamp=to_timestamp(at),
        entityLockRequested=pb.EntityLockRequestedEvent(
            criticalSectionId=section, lockSet=entities, parentInstanceId=StringValue(value=owner.instance_id)
        ),
    )
    return Message(task_hub, entities[0], event, sender=owner)


def unlock(task_hub: str, owner: Sender, section: str, entity: str, at: int) -> Message:
    """Releases one entity once it has done what its owner asked for before."""
    event = pb.HistoryEvent(
        eventId=-1,
        timestamp=to_timestamp(at),
        entityUnlockSent=pb.EntityUnlockSentEvent(
            criticalSectionId=section, parentInstanceId=StringValue(value=owner.instance_id)
        ),
    )
    return Message(task_hub, entity, event, sender=owner)
