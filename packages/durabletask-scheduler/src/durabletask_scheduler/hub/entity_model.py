"""The nouns of entities: what waits at them, who holds them, and the changes that are written.

Times, keys and the rules of writing are those of :mod:`durabletask_scheduler.hub.model`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from durabletask_proto import orchestrator_service_pb2 as pb


class Sender(NamedTuple):
    """Who sent something to an entity, or owns its lock: one generation of an orchestration instance, or an entity.

    Attributes:
        instance_id: empty for clients.
        execution_id: empty for clients and entities.
    """

    instance_id: str = ""
    execution_id: str = ""


CLIENT = Sender()


@dataclass(slots=True)
class Queued:
    """Something that waits at an entity: an operation, a lock request, or the unlock of its owner.

    Attributes:
        key: storage key of its row.
        event: as the worker will see it (operations), or as the hub keeps it.
        data: the event, serialized.
        due_at: when a scheduled operation may run; 0 for at once.
    """

    key: int
    event: pb.HistoryEvent
    data: bytes
    sender: Sender = CLIENT
    due_at: int = 0


@dataclass(frozen=True, slots=True)
class Lock:
    """Who holds an entity.

    Attributes:
        owner: the generation in whose critical section the entity is.
        section: id of the critical section.
        since: when it was acquired.
    """

    owner: Sender
    section: str
    since: int


@dataclass(slots=True)
class Batch:
    """Operations in the hands of a worker. They stay in the inbox until its answer is committed.

    Attributes:
        token: completion token of the work item.
    """

    token: str
    operations: list[Queued]


@dataclass(slots=True)
class Entity:
    """The hot state of one entity. It exists for clients while it has a state; empty ones have no row.

    Attributes:
        key: storage key of its row.
        instance_id: ``@name@key``, the name in lower case.
        execution_id: opaque; made when the row is.
        state: serialized state; None if it has none.
        modified_at: when the state last changed, or the entity was made.
        lock: who holds it, if anybody.
        inbox: what may run now, by key, in the order of arrival; includes the batch in flight.
        scheduled: what is not due yet, ordered by (due_at, key).
        batch: the batch in flight, if any.
        abandoned: how often in a row its batches were abandoned or failed.
        failed: how often in a row they failed.
        retrying: how many operations the next batch may have, as the last one failed; 0 if it did not.
        distrusted: the last operation failed as its answer could not be accepted, and no batch has succeeded since.
        not_before: no batch begins before this time (back-off).
        owned, known: derived, in memory only: how many entries of the inbox the owner of the lock has
            sent (-1: not counted); (sender, request id) of all operations that wait (None: not collected).
    """

    key: int
    task_hub: str
    instance_id: str
    execution_id: str
    modified_at: int
    state: str | None = None
    lock: Lock | None = None
    inbox: dict[int, Queued] = field(default_factory=dict)
    scheduled: list[Queued] = field(default_factory=list)
    batch: Batch | None = None
    abandoned: int = 0
    failed: int = 0
    retrying: int = 0
    distrusted: bool = False
    not_before: int = 0
    owned: int = field(default=-1, compare=False, repr=False)
    known: set[tuple[Sender, str]] | None = field(default=None, compare=False, repr=False)

    @property
    def name(self) -> str:
        """The entity's name: what selects its worker."""
        return self.instance_id[1:].partition("@")[0]

    @property
    def backlog(self) -> int:
        """How much waits at the entity, scheduled operations included."""
        return len(self.inbox) + len(self.scheduled)

    @property
    def is_empty(self) -> bool:
        """Nothing is left of it that anybody could miss."""
        return self.state is None and self.lock is None and not self.backlog


@dataclass(frozen=True, slots=True)
class EntityInboxRow:
    key: int
    entity_key: int
    sender: Sender
    due_at: int
    event: bytes


@dataclass(frozen=True, slots=True)
class GivenUp:
    """Signals that are lost, as the worker could not run them.

    Attributes:
        operations: their names.
        why: what the last attempt failed of.
    """

    operations: list[str]
    why: pb.TaskFailureDetails


@dataclass(slots=True)
class EntityChanges:
    """The part of a commit that concerns entities, written in this order.

    Attributes:
        deleted: keys of entities of which every row goes.
        created, updated: entity rows; ``updated`` by key. Written as they are when the group is.
        ready: entities that may have become able to begin a batch: ask ``next_batch_at``.
        given_up: signals that nobody will hear of again; never written, but worth a line in the log.
    """

    deleted: list[int] = field(default_factory=list)
    created: list[Entity] = field(default_factory=list)
    updated: dict[int, Entity] = field(default_factory=dict)
    inbox_added: list[EntityInboxRow] = field(default_factory=list)
    inbox_removed: list[int] = field(default_factory=list)
    ready: list[Entity] = field(default_factory=list)
    given_up: GivenUp | None = None
