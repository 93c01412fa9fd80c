"""The nouns of the hub: instances, what they wait for, and the commits that change them.

Times are integers: nanoseconds since the Unix epoch, UTC; 0 means "not set". Keys are integers
that name a stored row for ever; the shell hands them out (``Context.new_key``), so that a commit
can be built before it is written. Events and details are the protocol's own messages, or their
bytes where nobody has to look inside.

The machine changes an :class:`Instance` in place and says in a :class:`Commit` what has to be
written. If writing fails, the shell forgets the instances in memory and loads them again: storage
is the truth, memory is a cache.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from durabletask_proto import orchestrator_service_pb2 as pb

from durabletask_scheduler.hub.entity_model import CLIENT, EntityChanges, Sender

T = TypeVar("T")

RUNNING = pb.ORCHESTRATION_STATUS_RUNNING
COMPLETED = pb.ORCHESTRATION_STATUS_COMPLETED
CONTINUED_AS_NEW = pb.ORCHESTRATION_STATUS_CONTINUED_AS_NEW
FAILED = pb.ORCHESTRATION_STATUS_FAILED
CANCELED = pb.ORCHESTRATION_STATUS_CANCELED
TERMINATED = pb.ORCHESTRATION_STATUS_TERMINATED
PENDING = pb.ORCHESTRATION_STATUS_PENDING
SUSPENDED = pb.ORCHESTRATION_STATUS_SUSPENDED

TERMINAL = frozenset({COMPLETED, FAILED, CANCELED, TERMINATED})


class HubError(Exception):
    """A request that the rules refuse.

    Attributes:
        code: name of the gRPC status code that says so, such as ``"ALREADY_EXISTS"``.
        message: what was expected, what was found, what to do.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one instance may take. Going beyond is refused, never cut off silently.

    Attributes:
        history_events: events in one generation; a turn that would go beyond fails the orchestration.
        inbox_events: events that may wait for a turn. Further ones that clients raise are refused; one that
            another orchestration sends fails the receiver, because its sender cannot be refused any more.
        id_bytes: length of an instance id and of an execution id, in UTF-8.
        name_bytes: length of the name of an orchestrator or an external event, in UTF-8.
        tags, tag_bytes: how many tags an instance, an activity or a child may have, and the length of all
            their names and values together, in UTF-8.
        custom_status_bytes: length of the custom status, in UTF-8; a longer one fails the orchestration.
        actions: what one turn may ask for; more fails the orchestration.
        failure_depth: how many causes of a failure are kept, one within the other; its properties may be nested
            half as deeply. Deeper ones are replaced by a text that says so: protobuf reads 100 levels at most.
    """

    history_events: int = 200_000
    inbox_events: int = 100_000
    id_bytes: int = 1_024
    name_bytes: int = 1_024
    tags: int = 1_000
    tag_bytes: int = 64 * 1024
    custom_status_bytes: int = 1024 * 1024
    actions: int = 100_000
    failure_depth: int = 32


@dataclass(slots=True)
class Context:
    """What the machine may not find out by itself.

    Attributes:
        now: the time of this transition; the shell sets it anew for each of its ticks.
        new_key: returns the next unused storage key.
        new_id: returns a new random id, 32 hexadecimal digits (execution ids, completion tokens).
        limits: how much one instance may take.
        turn_started: the time of the turn that began last, and the event that says so; see ``events.turn_started``.
    """

    now: int
    new_key: Callable[[], int]
    new_id: Callable[[], str]
    limits: Limits = Limits()
    turn_started: tuple[int, pb.HistoryEvent] | None = None


class TaskKind(enum.IntEnum):
    """What an open task waits for. The numbers are stored: never reuse one.

    ACTIVITY, TIMER, CHILD and CALL (an entity operation) wait for a result. LOCK waits for the grant of
    a critical section, which turns it into CRITICAL_SECTION: that waits for nothing, and says what has
    to be released. LOCK_AGAIN (at most one, its task id is 0) holds a rewound orchestration back until
    its critical section is granted once more.
    """

    ACTIVITY = 1
    TIMER = 2
    CHILD = 3
    CALL = 4
    LOCK = 5
    CRITICAL_SECTION = 6
    LOCK_AGAIN = 7


# Known by a text (request id, id of the critical section) that their sender chose.
NAMED_TASKS = frozenset({TaskKind.CALL, TaskKind.LOCK, TaskKind.CRITICAL_SECTION})


@dataclass(slots=True)
class OpenTask:
    """A task that the current generation has scheduled and whose result has not arrived.

    Attributes:
        key: storage key of its row.
        kind: what it waits for.
        task_id: id of the action that scheduled it, which is the eventId of its confirmation.
        history_key: key of the history row that holds the confirmation.
        due_at: timers: when it fires.
        target: sub-orchestrations: instance id of the child. Entity calls: request id and entity id.
            Locks, requested or held: id of the critical section and ids of its entities. Lines.
        event: activities: the confirmation (``TaskScheduled``) from which the work item is made;
            None after loading, until the shell reads it from the history row.
        fired: timers: its TimerFired is in the inbox. In memory only.
    """

    key: int
    kind: TaskKind
    task_id: int
    history_key: int
    due_at: int = 0
    target: str = ""
    event: pb.HistoryEvent | None = None
    fired: bool = False

    @property
    def identity(self) -> int | str:
        """What tells open tasks of one kind apart."""
        return self.target.partition("\n")[0] if self.kind in NAMED_TASKS else self.task_id


@dataclass(slots=True)
class Inbound:
    """An event that waits for the next turn.

    Attributes:
        key: storage key of its inbox row; 0 for a due timer, whose open task is what is stored.
        event: the event as the worker will see it.
        timer: the open timer that fired, else None. A timer stays open until the turn that consumed
            it commits; activities and children are closed when their result arrives.
        data: the event, serialized, if that is at hand; else empty. In memory only, so that a large
            payload is encoded once although it is written twice (inbox, history).
    """

    key: int
    event: pb.HistoryEvent
    timer: OpenTask | None = None
    data: bytes = b""


@dataclass(slots=True)
class Turn:
    """One turn in flight: the events it consumes are frozen when it begins.

    Attributes:
        token: completion token of the work item.
        events: ``newEvents``, beginning with OrchestratorStarted.
        taken: how many entries from the front of the instance's inbox are among them.
        started_at: time of its OrchestratorStarted.
    """

    token: str
    events: list[pb.HistoryEvent]
    taken: int
    started_at: int


NO_TASKS: Final[dict[int, OpenTask]] = {}
"""What every instance has that waits for no task; never changed."""

NO_TAGS: Final[dict[str, str]] = {}
"""What every instance has that has no tags; never changed."""


@dataclass(slots=True)
class Instance:
    """The hot state of one orchestration instance: all that the rules ask about it.

    Many are kept that wait for one event only, so what is empty takes no memory: it is the same for all, and whoever
    adds to it makes one of the instance's own.

    Attributes:
        key: storage key of its row; a replaced instance id gets a new key.
        started: the ExecutionStarted event of this generation, serialized. Kept apart from the
            history rows so that a large input is stored once: a full history is OrchestratorStarted
            of the first turn, this event, everything else, and ``completed`` at the very end.
        completed: the ExecutionCompleted event, serialized, once terminal; else empty.
        scheduled_at: when the first turn may begin; 0 for at once.
        parent_instance_id, parent_execution_id, parent_task_id: who waits for the result; empty
            and 0 for instances without a parent.
        event_count: committed events of this generation, including ``started``.
        clock: time of the last OrchestratorStarted handed out; it never goes back.
        trace_context: the OrchestrationTraceContext of the last answer, serialized.
        tags: never changed in place.
        open_tasks: by key, unresolved tasks of this generation in the order of scheduling; changed by
            ``instances.open_task`` and ``instances.close_task`` only.
        inbox: events for the next turn, first in first out, including those of a turn in flight; added to by
            ``instances.add_inbound`` only.
        turn: the turn in flight, if any.
        abandoned: how often in a row turns of this instance were abandoned.
        not_before: no turn begins before this time (back-off after an abandon).
        by_id, specials, parent_trace: derived, in memory only, rebuilt by the hub when they are at
            their defaults: open tasks by (kind, identity); how many entries of the inbox are not
            delivered in plain order of arrival (-1: not counted); the trace context that activities
            and children without one inherit (None: not looked up).
    """

    key: int
    task_hub: str
    instance_id: str
    execution_id: str
    name: str
    version: str | None
    status: int
    created_at: int
    updated_at: int
    started: bytes
    scheduled_at: int = 0
    completed_at: int = 0
    completed: bytes = b""
    custom_status: str | None = None
    tags: dict[str, str] = field(default_factory=lambda: NO_TAGS)
    parent_instance_id: str = ""
    parent_execution_id: str = ""
    parent_task_id: int = 0
    event_count: int = 0
    clock: int = 0
    trace_context: bytes = b""
    open_tasks: dict[int, OpenTask] = field(default_factory=lambda: NO_TASKS)
    inbox: list[Inbound] | tuple[()] = ()
    turn: Turn | None = None
    abandoned: int = 0
    not_before: int = 0
    by_id: dict[tuple[int, int | str], OpenTask] | None = field(default=None, compare=False, repr=False)
    specials: int = field(default=-1, compare=False, repr=False)
    parent_trace: pb.TraceContext | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        self.tags = self.tags or NO_TAGS
        self.open_tasks = self.open_tasks or NO_TASKS
        self.inbox = self.inbox or ()

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL

    @property
    def status_name(self) -> str:
        """The status as people write it, such as ``RUNNING``."""
        name = pb.OrchestrationStatus.Name(pb.OrchestrationStatus.ValueType(self.status))
        return name.removeprefix("ORCHESTRATION_STATUS_")


@dataclass(frozen=True, slots=True)
class Message:
    """Something for another instance (or the sender itself), or for an entity.

    Messages to instances are applied by ``hub.delivery``, those to entities by ``hub.entity_delivery``.

    Attributes:
        target: instance id in the same task hub; normalised entity ids begin with '@'.
        event: to an instance: ExecutionStarted creates the target; the others are appended to its inbox
            if the rules of de-duplication accept them, or (terminate, suspend, resume) change it at once.
            To an entity: an operation, a lock request, an unlock.
        execution_id: accept only while this is the target's generation; empty for any.
        sender: who sent it, for entities.
    """

    task_hub: str
    target: str
    event: pb.HistoryEvent
    execution_id: str = ""
    sender: Sender = CLIENT


# Rows are made with every turn and never changed. Not frozen: that makes making one three times as dear.
@dataclass(slots=True)
class HistoryRow:
    """The events that one turn added, without ExecutionStarted and ExecutionCompleted.

    Attributes:
        events: a serialized ``HistoryChunk``.
        count: number of events in it.
    """

    key: int
    instance_key: int
    events: bytes
    count: int


@dataclass(slots=True)
class InboxRow:
    key: int
    instance_key: int
    event: bytes


def added(rows: list[T] | tuple[()], *more: T) -> list[T]:
    """The rows of a commit and more of them: the first ones make the list."""
    if isinstance(rows, tuple):
        return [*more]
    rows += more
    return rows


@dataclass(slots=True)
class Commit:
    """All that one transition changes. Storage writes it wholly or not at all, in this order:

    ``deleted``, ``history_dropped``, ``created``, ``updated``, ``history``, ``closed``, ``opened``,
    ``inbox_removed``, ``inbox_added``. Rows of instances are written from the objects as they are
    when the group is written.

    Most commits change little, and many are made at a time: lists that most have no use for are made by :func:`added`.

    Attributes:
        deleted: keys of instances of which every row goes.
        history_dropped: keys of instances whose history rows go (a new generation begins).
        created, updated: instance rows; ``updated`` by key.
        restarted: keys among ``updated`` whose ``started`` event changed (it is stored apart).
        opened, closed: rows of open tasks: (instance key, task) and task keys.
        messages: for other instances and for entities; the shell delivers them into the same transaction.
        entities: what changes in entities; None for nothing.

    For the shell, after the write:
        activities: tasks to hand to workers.
        timers: tasks to wake up for.
        runnable: instances that may have become able to begin a turn: ask ``next_turn_at``. The same
            instance may be listed more than once.
        finished: instances that became terminal, or left PENDING: look at their waiters.
    """

    deleted: list[int] | tuple[()] = ()
    history_dropped: list[int] | tuple[()] = ()
    created: list[Instance] | tuple[()] = ()
    updated: dict[int, Instance] = field(default_factory=dict)
    restarted: list[int] | tuple[()] = ()
    history: list[HistoryRow] | tuple[()] = ()
    opened: list[tuple[int, OpenTask]] | tuple[()] = ()
    closed: list[int] | tuple[()] = ()
    inbox_added: list[InboxRow] | tuple[()] = ()
    inbox_removed: list[int] | tuple[()] = ()
    messages: list[Message] = field(default_factory=list)
    entities: EntityChanges | None = None
    activities: list[tuple[Instance, OpenTask]] | tuple[()] = ()
    timers: list[tuple[Instance, OpenTask]] | tuple[()] = ()
    runnable: list[Instance] = field(default_factory=list)
    finished: list[Instance] | tuple[()] = ()

    def on_entities(self) -> EntityChanges:
        """What changes in entities, to add to."""
        if self.entities is None:
            self.entities = EntityChanges()
        return self.entities
