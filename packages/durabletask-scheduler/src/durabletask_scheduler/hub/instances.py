"""What every transition does to an instance: create, receive, open and close tasks, finish.

Each function changes the instance in place and notes in the commit what has to be written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from durabletask_proto import orchestrator_service_pb2 as pb
from google.protobuf.wrappers_pb2 import StringValue

from durabletask_scheduler.hub import entity_sections, events
from durabletask_scheduler.hub.model import (
    COMPLETED,
    FAILED,
    NO_TAGS,
    NO_TASKS,
    PENDING,
    TERMINATED,
    Commit,
    Context,
    HistoryRow,
    Inbound,
    InboxRow,
    Instance,
    Message,
    OpenTask,
    TaskKind,
    added,
)
from durabletask_scheduler.hub.times import to_timestamp

# Delivered by rules of their own instead of plain order of arrival.
SUSPEND = "executionSuspended"
RESUME = "executionResumed"
REWIND = "executionRewound"
SPECIALS = frozenset({SUSPEND, RESUME, REWIND})


def create(task_hub: str, event: pb.HistoryEvent, scheduled_at: int, ctx: Context, commit: Commit) -> Instance:
    """A new PENDING instance from its ExecutionStarted event."""
    started = event.executionStarted
    parent = started.parentInstance if started.HasField("parentInstance") else None
    instance = Instance(
        key=ctx.new_key(),
        task_hub=task_hub,
        instance_id=started.orchestrationInstance.instanceId,
        execution_id=started.orchestrationInstance.executionId.value,
        name=started.name,
        version=started.version.value if started.HasField("version") else None,
        status=PENDING,
        created_at=ctx.now,
        updated_at=ctx.now,
        started=event.SerializeToString(),
        scheduled_at=scheduled_at,
        tags=dict(started.tags) if started.tags else NO_TAGS,
        specials=0,
    )
    if parent is not None:
        instance.parent_instance_id = parent.orchestrationInstance.instanceId
        instance.parent_execution_id = parent.orchestrationInstance.executionId.value
        instance.parent_task_id = parent.taskScheduledId
    commit.created = added(commit.created, instance)
    commit.runnable.append(instance)
    return instance


def replace(existing: Instance, ctx: Context, commit: Commit) -> None:
    """Make room for a new instance of the same id; a live one is terminated, and its parent told."""
    commit.deleted = added(commit.deleted, existing.key)
    if existing.is_terminal:
        return
    commit.messages.extend(entity_sections.releases(existing))
    existing.status = TERMINATED
    existing.completed_at = existing.updated_at = ctx.now
    existing.inbox = ()
    existing.turn = None
    if existing.parent_instance_id:
        details = events.failure(
            "OrchestrationReplaced",
            f"Orchestration instance '{existing.instance_id}' was terminated and replaced by a new instance of that id",
        )
        commit.messages.append(to_parent(existing, events.child_failed(ctx.now, existing.parent_task_id, details)))


def receive(instance: Instance, event: pb.HistoryEvent, ctx: Context, commit: Commit) -> None:
    """Append an event to the inbox."""
    data = event.SerializeToString()
    key = ctx.new_key()
    add_inbound(instance, Inbound(key, event, None, data))
    if event.WhichOneof("eventType") in SPECIALS:
        instance.specials = -1
    commit.inbox_added = added(commit.inbox_added, InboxRow(key, instance.key, data))
    commit.runnable.append(instance)


def add_inbound(instance: Instance, entry: Inbound) -> None:
    if instance.inbox:
        instance.inbox.append(entry)
    else:
        instance.inbox = [entry]


def specials(instance: Instance) -> int:
    """How many entries of the inbox are not delivered in plain order of arrival."""
    if instance.specials < 0:
        instance.specials = sum(entry.event.WhichOneof("eventType") in SPECIALS for entry in instance.inbox)
    return instance.specials


def remove_inbound(instance: Instance, count: int, commit: Commit) -> Sequence[Inbound]:
    """Take entries from the front of the inbox; the timers among them are closed."""
    taken = instance.inbox[:count]
    instance.inbox = [*instance.inbox[count:]] if count < len(instance.inbox) else ()
    if instance.specials:
        instance.specials = -1
    for entry in taken:
        if entry.key:
            commit.inbox_removed = added(commit.inbox_removed, entry.key)
        if entry.timer is not None:
            close_task(instance, entry.timer, commit)
    return taken


def _by_id(instance: Instance) -> dict[tuple[int, int | str], OpenTask]:
    if instance.by_id is None:
        instance.by_id = {(task.kind, task.identity): task for task in instance.open_tasks.values()}
    return instance.by_id


def find_task(instance: Instance, kind: TaskKind, identity: int | str) -> OpenTask | None:
    """The open task of that kind and identity (task id; request id, id of a critical section), if any."""
    if not instance.open_tasks:
        return None
    return _by_id(instance).get((kind, identity))


def open_task(instance: Instance, task: OpenTask, commit: Commit) -> None:
    _by_id(instance)[task.kind, task.identity] = task
    if instance.open_tasks:
        instance.open_tasks[task.key] = task
    else:
        instance.open_tasks = {task.key: task}
    commit.opened = added(commit.opened, (instance.key, task))


def close_task(instance: Instance, task: OpenTask, commit: Commit) -> None:
    instance.open_tasks.pop(task.key, None)
    if not instance.open_tasks:
        _forget_tasks(instance)
    elif instance.by_id is not None:
        instance.by_id.pop((task.kind, task.identity), None)
    _note_closed([task.key], commit)


def close_all_tasks(instance: Instance, commit: Commit) -> None:
    """The generation ends: nothing is waited for any more, and no entity stays locked."""
    if not instance.open_tasks:
        return
    commit.messages.extend(entity_sections.releases(instance))
    _note_closed(instance.open_tasks, commit)
    _forget_tasks(instance)


def _forget_tasks(instance: Instance) -> None:
    instance.open_tasks = NO_TASKS
    instance.by_id = None


def _note_closed(keys: Iterable[int], commit: Commit) -> None:
    """What the same commit has opened is never written."""
    if not commit.opened:
        commit.closed = added(commit.closed, *keys)
        return
    gone = set(keys)
    never = {task.key for _, task in commit.opened if task.key in gone}
    if never:
        commit.opened = [(owner, task) for owner, task in commit.opened if task.key not in never]
    commit.closed = added(commit.closed, *sorted(gone - never))


def append_history(instance: Instance, key: int, encoded: list[bytes], commit: Commit) -> None:
    """One history row of events without ExecutionStarted and ExecutionCompleted."""
    # The first row of a generation brings its ExecutionStarted into the history.
    instance.event_count += len(encoded) + (instance.event_count == 0)
    commit.history = added(commit.history, HistoryRow(key, instance.key, events.encode_chunk(encoded), len(encoded)))


def finish(instance: Instance, completed: pb.HistoryEvent, ctx: Context, commit: Commit) -> None:
    """Make the instance terminal; what it still waits for is dropped, who waits for it is told."""
    close_all_tasks(instance, commit)
    if instance.inbox:
        commit.inbox_removed = added(commit.inbox_removed, *(entry.key for entry in instance.inbox if entry.key))
    instance.inbox = ()
    instance.specials = 0
    instance.turn = None
    instance.abandoned = instance.not_before = 0
    instance.status = completed.executionCompleted.orchestrationStatus
    instance.completed = completed.SerializeToString()
    instance.event_count += 1
    instance.completed_at = instance.updated_at = ctx.now
    commit.updated[instance.key] = instance
    commit.finished = added(commit.finished, instance)
    if instance.parent_instance_id:
        commit.messages.append(outcome(instance, completed.executionCompleted, ctx))


def to_parent(instance: Instance, event: pb.HistoryEvent) -> Message:
    return Message(instance.task_hub, instance.parent_instance_id, event, instance.parent_execution_id)


def outcome(instance: Instance, completed: pb.ExecutionCompletedEvent, ctx: Context) -> Message:
    """What a terminal child tells its parent (backend semantics, sub-orchestrations)."""
    task_id = instance.parent_task_id
    if completed.orchestrationStatus == COMPLETED:
        result = completed.result if completed.HasField("result") else None
        return to_parent(instance, events.child_completed(ctx.now, task_id, result))
    if completed.orchestrationStatus == FAILED:
        details = completed.failureDetails
    else:
        word = "terminated" if completed.orchestrationStatus == TERMINATED else "canceled"
        details = events.failure(
            f"Orchestration{word.capitalize()}", f"Orchestration instance '{instance.instance_id}' was {word}"
        )
    return to_parent(instance, events.child_failed(ctx.now, task_id, details))


def terminate(instance: Instance, output: StringValue | None, recurse: bool, ctx: Context, commit: Commit) -> None:
    """End a live instance without a worker, whatever it is doing; a turn in flight becomes void."""
    at = instance.clock = events.next_clock(instance, ctx)
    if recurse:
        commit.messages.extend(
            Message(instance.task_hub, task.target, events.execution_terminated(at, output, True))
            for task in instance.open_tasks.values()
            if task.kind is TaskKind.CHILD
        )
    row = [
        events.orchestrator_started(at).SerializeToString(),
        events.execution_terminated(at, output, recurse).SerializeToString(),
    ]
    append_history(instance, ctx.new_key(), row, commit)
    finish(instance, events.execution_completed(at, TERMINATED, output), ctx, commit)


def fail(instance: Instance, error_type: str, message: str, ctx: Context, commit: Commit) -> None:
    """End a live instance as FAILED without a worker; a turn in flight becomes void."""
    at = instance.clock = events.next_clock(instance, ctx)
    append_history(instance, ctx.new_key(), [events.orchestrator_started(at).SerializeToString()], commit)
    finish(instance, events.execution_completed(at, FAILED, None, events.failure(error_type, message)), ctx, commit)


@dataclass(frozen=True, slots=True)
class NewGeneration:
    """What an ExecutionStarted event is made of, apart from ids and parent."""

    name: str
    version: StringValue | None
    input: StringValue | None
    tags: dict[str, str]
    trace: pb.TraceContext | None = None
    scheduled_at: int = 0


def execution_started(
    what: NewGeneration, instance_id: str, execution_id: str, parent: pb.ParentInstanceInfo | None, at: int
) -> pb.HistoryEvent:
    event = events.new_event(events.NO_ID, at)
    started = event.executionStarted
    started.name = what.name
    started.orchestrationInstance.instanceId = instance_id
    started.orchestrationInstance.executionId.value = execution_id
    if what.scheduled_at:
        started.scheduledStartTimestamp.CopyFrom(to_timestamp(what.scheduled_at))
    if what.version is not None:
        started.version.CopyFrom(what.version)
    if what.input is not None:
        started.input.CopyFrom(what.input)
    if parent is not None:
        started.parentInstance.CopyFrom(parent)
    if what.trace is not None:
        started.parentTraceContext.CopyFrom(what.trace)
    if what.tags:
        started.tags.update(what.tags)
    return event


def as_parent(instance: Instance, task_id: int) -> pb.ParentInstanceInfo:
    """How a child refers to the instance that created it with the action of that id."""
    return pb.ParentInstanceInfo(
        taskScheduledId=task_id,
        name=StringValue(value=instance.name),
        version=None if instance.version is None else StringValue(value=instance.version),
        orchestrationInstance=pb.OrchestrationInstance(
            instanceId=instance.instance_id, executionId=StringValue(value=instance.execution_id)
        ),
    )
