"""Rewind: take back what led to a failure, and run the orchestration again from there.

Which failures are undone: the last one that the final failure speaks of (or, if it speaks of none,
the last one there is), and those before it as long as the orchestrator did nothing in between, as
when it waits for several tasks at once. What the orchestrator did *after* that failure (a clean-up
in an ``except`` block, say) belongs to the abandoned course of events: its actions and their
results go too. All else stays, so that the code replays the same way up to the point of the
failure; earlier failures that the code has handled stay handled.

Failed activities lose their TaskScheduled event, so that the code schedules them again. Failed
children keep their creation event, and are rewound themselves. Calls of entities and lock requests
without a result are made again; a critical section that is still open is entered again, as the failure
had released its entities, before the orchestration goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from durabletask_proto import orchestrator_service_pb2 as pb
from google.protobuf.wrappers_pb2 import StringValue

from durabletask_scheduler.hub import entity_ids, entity_sections, events, instances, times
from durabletask_scheduler.hub.model import RUNNING, Commit, Context, Instance, Message, OpenTask, TaskKind, added

_CONFIRMATIONS = {
    "taskScheduled": TaskKind.ACTIVITY,
    "timerCreated": TaskKind.TIMER,
    "subOrchestrationInstanceCreated": TaskKind.CHILD,
    "entityOperationCalled": TaskKind.CALL,
    "entityLockRequested": TaskKind.LOCK,
}
# What names a task whose confirmation does not name it by its eventId.
_NAMES = {"entityOperationCalled": "requestId", "entityLockRequested": "criticalSectionId"}
# Kind of task, field that names it, whether it is a failure.
_RESULTS = {
    "taskCompleted": (TaskKind.ACTIVITY, "taskScheduledId", False),
    "taskFailed": (TaskKind.ACTIVITY, "taskScheduledId", True),
    "timerFired": (TaskKind.TIMER, "timerId", False),
    "subOrchestrationInstanceCompleted": (TaskKind.CHILD, "taskScheduledId", False),
    "subOrchestrationInstanceFailed": (TaskKind.CHILD, "taskScheduledId", True),
    "entityOperationCompleted": (TaskKind.CALL, "requestId", False),
    "entityOperationFailed": (TaskKind.CALL, "requestId", True),
    "entityLockGranted": (TaskKind.LOCK, "criticalSectionId", False),
}
_SENDING = frozenset({*_CONFIRMATIONS, "eventSent", "entityOperationSignaled", "entityUnlockSent"})
# Without a result after a rewind: the code does these again, the others are waited for.
_DONE_AGAIN = frozenset({TaskKind.ACTIVITY, TaskKind.CALL, TaskKind.LOCK})
_ENDS = frozenset({"executionCompleted", "orchestratorCompleted"})


@dataclass(slots=True)
class _Task:
    kind: TaskKind
    confirmation: pb.HistoryEvent
    confirmed_at: int
    result_at: int = -1
    failed: bool = False


@dataclass(slots=True)
class _Map:
    """Where things are in a history; positions are indexes into it."""

    kinds: list[str] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)
    tasks: list[_Task] = field(default_factory=list)


def _chart(history: Sequence[pb.HistoryEvent]) -> _Map:
    chart = _Map()
    unresolved: dict[tuple[TaskKind, int | str], _Task] = {}
    turn = -1
    for position, event in enumerate(history):
        kind = event.WhichOneof("eventType") or ""
        turn += kind == "orchestratorStarted"
        chart.kinds.append(kind)
        chart.turns.append(turn)
        if kind in _CONFIRMATIONS:
            task = _Task(_CONFIRMATIONS[kind], event, position)
            name = getattr(getattr(event, kind), _NAMES[kind]) if kind in _NAMES else event.eventId
            unresolved[task.kind, name] = task
            chart.tasks.append(task)
        elif kind in _RESULTS:
            task_kind, field_name, failed = _RESULTS[kind]
            resolved = unresolved.pop((task_kind, getattr(getattr(event, kind), field_name)), None)
            if resolved is not None:
                resolved.result_at, resolved.failed = position, failed
    return chart


def _failure_texts(details: pb.TaskFailureDetails) -> list[str]:
    texts = [details.errorMessage]
    while details.HasField("innerFailure"):
        details = details.innerFailure
        texts.append(details.errorMessage)
    return texts


def _undone(history: Sequence[pb.HistoryEvent], chart: _Map) -> list[_Task]:
    """The failed tasks to undo, in the order of their results."""
    failed = sorted((task for task in chart.tasks if task.failed), key=lambda task: task.result_at)
    if not failed:
        return []
    final = history[-1].executionCompleted.failureDetails
    texts = _failure_texts(final)
    anchor = len(failed) - 1
    for index in range(len(failed) - 1, -1, -1):
        event = history[failed[index].result_at]
        message = getattr(event, chart.kinds[failed[index].result_at]).failureDetails.errorMessage
        if message and any(message in text for text in texts):
            anchor = index
            break
    sending_turns = {chart.turns[i] for i, kind in enumerate(chart.kinds) if kind in _SENDING}
    first = anchor
    while first > 0:
        earlier, later = (chart.turns[failed[i].result_at] for i in (first - 1, first))
        if any(turn in sending_turns for turn in range(earlier, later)):
            break
        first -= 1
    return failed[first:]


def _kept(history: Sequence[pb.HistoryEvent], chart: _Map) -> tuple[list[int], list[_Task]]:
    """Positions of the events that stay, and the tasks that are open afterwards."""
    undone = _undone(history, chart)
    # The orchestrator did nothing between the first and the last failure of a group.
    cut = chart.turns[undone[0].result_at] if undone else len(history)
    drop = {i for i, kind in enumerate(chart.kinds) if kind in _SENDING and chart.turns[i] >= cut}
    drop |= {i for i, kind in enumerate(chart.kinds) if kind in _ENDS or kind == "executionStarted"}
    undone_results = {task.result_at for task in undone}
    waiting: list[_Task] = []
    for task in chart.tasks:
        if task.confirmed_at in drop:
            drop.add(task.result_at)
            continue
        if task.result_at >= 0 and task.result_at not in undone_results:
            continue
        drop.add(task.result_at)
        if task.kind in _DONE_AGAIN:
            drop.add(task.confirmed_at)
        else:
            waiting.append(task)
    controls = [i for i, kind in enumerate(chart.kinds) if kind in (instances.SUSPEND, instances.RESUME)]
    if controls and chart.kinds[controls[-1]] == instances.SUSPEND:
        drop.add(controls[-1])
    return [i for i in range(len(history)) if i not in drop], waiting


def rewind(
    instance: Instance, history: Sequence[pb.HistoryEvent], reason: StringValue | None, ctx: Context, commit: Commit
) -> None:
    """Make a FAILED instance RUNNING again, as a new execution, from before its failure."""
    chart = _chart(history)
    kept, waiting = _kept(history, chart)
    instance.execution_id = ctx.new_id()
    _rewrite_started(instance, commit)
    instance.status = RUNNING
    instance.completed = b""
    instance.completed_at = 0
    instance.updated_at = ctx.now
    instance.trace_context = b""
    instance.event_count = 0
    commit.history_dropped = added(commit.history_dropped, instance.key)
    commit.updated[instance.key] = instance
    row_key = ctx.new_key()
    instances.append_history(instance, row_key, [history[i].SerializeToString() for i in kept], commit)
    for task in waiting:
        _reopen(instance, task, row_key, reason, ctx, commit)
    _enter_again(instance, [history[i] for i in kept], row_key, ctx, commit)
    # Starts the next turn; it is never shown to a worker, since some SDKs fail on it.
    marker = pb.HistoryEvent(
        eventId=events.NO_ID,
        timestamp=times.to_timestamp(ctx.now),
        executionRewound=pb.ExecutionRewoundEvent(reason=reason),
    )
    instances.receive(instance, marker, ctx, commit)


def _rewrite_started(instance: Instance, commit: Commit) -> None:
    """Put the instance's execution id and its parent's into its ExecutionStarted event."""
    event = pb.HistoryEvent.FromString(instance.started)
    started = event.executionStarted
    started.orchestrationInstance.executionId.value = instance.execution_id
    if started.HasField("parentInstance"):
        started.parentInstance.orchestrationInstance.executionId.value = instance.parent_execution_id
    instance.started = event.SerializeToString()
    if instance.key not in commit.restarted:
        commit.restarted = added(commit.restarted, instance.key)
    commit.updated[instance.key] = instance


def adopt(child: Instance, parent_execution_id: str, commit: Commit) -> None:
    """A rewound parent has a new execution id: its children report to that one."""
    if child.parent_execution_id != parent_execution_id:
        child.parent_execution_id = parent_execution_id
        _rewrite_started(child, commit)


def _reopen(
    instance: Instance,
    task: _Task,
    row_key: int,
    reason: StringValue | None,
    ctx: Context,
    commit: Commit,
) -> None:
    confirmation = task.confirmation
    again = OpenTask(ctx.new_key(), task.kind, confirmation.eventId, row_key)
    if task.kind is TaskKind.TIMER:
        again.due_at = times.from_timestamp(confirmation.timerCreated.fireAt)
        commit.timers = added(commit.timers, (instance, again))
    else:
        again.target = confirmation.subOrchestrationInstanceCreated.instanceId
        commit.messages.append(_to_child(instance, confirmation, reason, ctx))
    instances.open_task(instance, again, commit)


def _enter_again(
    instance: Instance, kept: Sequence[pb.HistoryEvent], row_key: int, ctx: Context, commit: Commit
) -> None:
    """Ask once more for the entities of the critical section that the history leaves open; SDKs allow one at a time."""
    requested: dict[str, set[str]] = {}
    granted: dict[str, set[str]] = {}
    for event in kept:
        kind = event.WhichOneof("eventType")
        if kind == "entityLockRequested":
            asked = event.entityLockRequested
            requested[asked.criticalSectionId] = {entity_ids.normalise(entity) for entity in asked.lockSet}
        elif kind == "entityLockGranted":
            section = event.entityLockGranted.criticalSectionId
            granted[section] = requested.pop(section, set())
        elif kind == "entityUnlockSent":
            sent = event.entityUnlockSent
            granted.get(sent.criticalSectionId, set()).discard(entity_ids.normalise(sent.targetInstanceId.value))
    still_open = [(section, sorted(entities)) for section, entities in granted.items() if entities]
    if still_open:
        section, entities = still_open[-1]
        target = entity_sections.target(section, entities)
        again = OpenTask(ctx.new_key(), TaskKind.LOCK_AGAIN, 0, row_key, target=target)
        instances.open_task(instance, again, commit)
        owner = entity_sections.sender(instance)
        commit.messages.append(entity_sections.lock_request(instance.task_hub, owner, section, entities, ctx.now))


def _to_child(instance: Instance, confirmation: pb.HistoryEvent, reason: StringValue | None, ctx: Context) -> Message:
    """Carries all that is needed to create the child again if it is gone."""
    created = confirmation.subOrchestrationInstanceCreated
    event = pb.HistoryEvent(
        eventId=events.NO_ID,
        timestamp=times.to_timestamp(ctx.now),
        executionRewound=pb.ExecutionRewoundEvent(
            reason=reason,
            parentExecutionId=StringValue(value=instance.execution_id),
            instanceId=StringValue(value=created.instanceId),
            parentTraceContext=created.parentTraceContext if created.HasField("parentTraceContext") else None,
            name=StringValue(value=created.name),
            version=created.version if created.HasField("version") else None,
            input=created.input if created.HasField("input") else None,
            parentInstance=instances.as_parent(instance, confirmation.eventId),
            tags={**instance.tags, **created.tags},
        ),
    )
    return Message(instance.task_hub, created.instanceId, event)


def recreation(message: Message, ctx: Context) -> Message:
    """The start message for a child that a rewound parent waits for and that is gone."""
    rewound = message.event.executionRewound
    generation = instances.NewGeneration(
        name=rewound.name.value,
        version=rewound.version if rewound.HasField("version") else None,
        input=rewound.input if rewound.HasField("input") else None,
        tags=dict(rewound.tags),
        trace=rewound.parentTraceContext if rewound.HasField("parentTraceContext") else None,
    )
    event = instances.execution_started(generation, message.target, ctx.new_id(), rewound.parentInstance, ctx.now)
    return Message(message.task_hub, message.target, event)
