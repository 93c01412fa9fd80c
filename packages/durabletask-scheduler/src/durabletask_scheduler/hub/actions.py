"""What a turn's actions do: confirmations in the history, open tasks, messages.

One table row per kind of action: a check, made for all actions before anything changes, and a
handler. A kind without a row fails the orchestration, visibly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from durabletask_proto import orchestrator_service_pb2 as pb

from durabletask_scheduler.hub import checks, entity_actions, events, instances, times
from durabletask_scheduler.hub.model import (
    CANCELED,
    COMPLETED,
    CONTINUED_AS_NEW,
    FAILED,
    TERMINATED,
    Commit,
    Context,
    HubError,
    Instance,
    Limits,
    Message,
    OpenTask,
    TaskKind,
    added,
)

COMPLETE = "completeOrchestration"
INVALID_ACTION = "InvalidOrchestratorAction"

_NO_TRACE = pb.TraceContext()
"""Of all instances that were started with none; never changed."""
_ENDINGS = frozenset({COMPLETED, FAILED, CANCELED, TERMINATED, CONTINUED_AS_NEW})


@dataclass(slots=True)
class Effects:
    """What the actions of one turn have brought about so far.

    Attributes:
        at: time of the confirmations.
        row_key: key of the history row that the turn adds.
        ends: the generation ends with this turn, so nothing is opened whose result it could not see.
        confirmations: in the order of processing.
        waiting: tasks that are unresolved although they are not open: their result is in the inbox but
            was not part of the turn, or they were started by a generation that ends. None until asked.
    """

    instance: Instance
    ctx: Context
    commit: Commit
    at: int
    row_key: int
    ends: bool
    confirmations: list[pb.HistoryEvent] = field(default_factory=list)
    waiting: set[tuple[TaskKind, int | str]] | None = None

    def is_unresolved(self, kind: TaskKind, identity: int | str) -> bool:
        """Whether the worker repeats an action whose result it has not seen yet."""
        if self.instance.open_tasks and instances.find_task(self.instance, kind, identity) is not None:
            return True
        if not self.instance.inbox and self.waiting is None:
            return False
        return (kind, identity) in self._waiting()

    def note_started(self, kind: TaskKind, identity: int | str) -> None:
        """Remember a task that was started without being opened."""
        self._waiting().add((kind, identity))

    def _waiting(self) -> set[tuple[TaskKind, int | str]]:
        if self.waiting is None:
            self.waiting = _results_waiting(self.instance)
        return self.waiting


_RESULT_IDS: dict[str, Callable[[pb.HistoryEvent], tuple[TaskKind, int | str]]] = {
    "taskCompleted": lambda e: (TaskKind.ACTIVITY, e.taskCompleted.taskScheduledId),
    "taskFailed": lambda e: (TaskKind.ACTIVITY, e.taskFailed.taskScheduledId),
    "subOrchestrationInstanceCompleted": lambda e: (
        TaskKind.CHILD,
        e.subOrchestrationInstanceCompleted.taskScheduledId,
    ),
    "subOrchestrationInstanceFailed": lambda e: (TaskKind.CHILD, e.subOrchestrationInstanceFailed.taskScheduledId),
    "entityOperationCompleted": lambda e: (TaskKind.CALL, e.entityOperationCompleted.requestId),
    "entityOperationFailed": lambda e: (TaskKind.CALL, e.entityOperationFailed.requestId),
}


def _results_waiting(instance: Instance) -> set[tuple[TaskKind, int | str]]:
    found: set[tuple[TaskKind, int | str]] = set()
    for entry in instance.inbox:
        read = _RESULT_IDS.get(entry.event.WhichOneof("eventType") or "")
        if read is not None:
            found.add(read(entry.event))
    return found


def failed_completion(error_type: str, message: str) -> pb.OrchestratorAction:
    """A completion that the scheduler puts in place of an answer it cannot accept."""
    return pb.OrchestratorAction(
        id=events.NO_ID,
        completeOrchestration=pb.CompleteOrchestrationAction(
            orchestrationStatus=FAILED, failureDetails=events.failure(error_type, message)
        ),
    )


def plan(
    actions: Iterable[pb.OrchestratorAction], limits: Limits
) -> tuple[list[pb.OrchestratorAction], pb.OrchestratorAction | None]:
    """The actions in the order of processing, and the completion, which comes after all of them.

    The order of the list means nothing (some SDKs iterate a map): actions are sorted by id. The
    first completion counts. If any action is unacceptable the orchestration fails and nothing else
    happens.
    """
    completion: pb.OrchestratorAction | None = None
    others: list[pb.OrchestratorAction] = []
    for action in actions:
        kind = action.WhichOneof("orchestratorActionType") or "(none)"
        row = _TABLE.get(kind)
        try:
            if row is None:
                raise HubError("UNIMPLEMENTED", "this task hub does not support this kind of action")
            row.check(action, limits)
        except HubError as error:
            text = "The worker answered with an action that cannot be carried out"
            return [], failed_completion(INVALID_ACTION, f"{text} (id {action.id}, {kind}): {error.message}")
        if kind != COMPLETE:
            others.append(action)
        elif completion is None:
            completion = action
    if len(others) > 1:
        others.sort(key=_id)
    return others, completion


def _id(action: pb.OrchestratorAction) -> int:
    return action.id


def apply(effects: Effects, action: pb.OrchestratorAction) -> None:
    """Carry out one action that :func:`plan` has accepted, other than the completion."""
    _TABLE[action.WhichOneof("orchestratorActionType") or ""].handle(effects, action)


def _trace(effects: Effects, own: pb.TraceContext | None) -> pb.TraceContext | None:
    """The action's trace context, else the one with which this orchestration was started."""
    if own is not None:
        return own
    instance = effects.instance
    if instance.parent_trace is None:
        started = events.started_event(instance).executionStarted
        instance.parent_trace = _NO_TRACE
        if started.HasField("parentTraceContext"):
            instance.parent_trace = pb.TraceContext()
            instance.parent_trace.CopyFrom(started.parentTraceContext)
    return instance.parent_trace if instance.parent_trace.traceParent else None


# --- activities


def _check_activity(action: pb.OrchestratorAction, limits: Limits) -> None:
    checks.check_name("the activity", action.scheduleTask.name, limits)
    checks.check_tags(action.scheduleTask.tags, limits)


def _schedule_activity(effects: Effects, action: pb.OrchestratorAction) -> None:
    if effects.ends or effects.is_unresolved(TaskKind.ACTIVITY, action.id):
        return
    asked = action.scheduleTask
    confirmation = events.new_event(action.id, effects.at)
    scheduled = confirmation.taskScheduled
    scheduled.name = asked.name
    events.copy_fields(asked, scheduled, "version", "input")
    trace = _trace(effects, asked.parentTraceContext if asked.HasField("parentTraceContext") else None)
    if trace is not None:
        scheduled.parentTraceContext.CopyFrom(trace)
    if asked.tags:
        scheduled.tags.update(asked.tags)
    effects.confirmations.append(confirmation)
    task = OpenTask(effects.ctx.new_key(), TaskKind.ACTIVITY, action.id, effects.row_key, event=confirmation)
    instances.open_task(effects.instance, task, effects.commit)
    effects.commit.activities = added(effects.commit.activities, (effects.instance, task))


# --- timers


def _check_timer(action: pb.OrchestratorAction, limits: Limits) -> None:
    checks.check_timestamp("fireAt", action.createTimer.fireAt)


def _create_timer(effects: Effects, action: pb.OrchestratorAction) -> None:
    if effects.ends or effects.is_unresolved(TaskKind.TIMER, action.id):
        return
    fire_at = action.createTimer.fireAt
    effects.confirmations.append(
        pb.HistoryEvent(
            eventId=action.id,
            timestamp=times.to_timestamp(effects.at),
            timerCreated=pb.TimerCreatedEvent(fireAt=fire_at),
        )
    )
    task = OpenTask(
        effects.ctx.new_key(), TaskKind.TIMER, action.id, effects.row_key, due_at=times.from_timestamp(fire_at)
    )
    instances.open_task(effects.instance, task, effects.commit)
    effects.commit.timers = added(effects.commit.timers, (effects.instance, task))


# --- sub-orchestrations


def _check_child(action: pb.OrchestratorAction, limits: Limits) -> None:
    asked = action.createSubOrchestration
    checks.check_name("the sub-orchestration", asked.name, limits)
    if asked.instanceId:
        checks.check_instance_id(asked.instanceId, limits)
    checks.check_tags(asked.tags, limits)


def _create_child(effects: Effects, action: pb.OrchestratorAction) -> None:
    """A generation that ends still starts its children, as fire and forget."""
    if effects.is_unresolved(TaskKind.CHILD, action.id):
        return
    instance = effects.instance
    asked = action.createSubOrchestration
    child_id = asked.instanceId or f"{instance.execution_id}:{action.id:04x}"
    trace = _trace(effects, asked.parentTraceContext if asked.HasField("parentTraceContext") else None)
    version = asked.version if asked.HasField("version") else None
    data = asked.input if asked.HasField("input") else None
    confirmation = events.new_event(action.id, effects.at)
    created = confirmation.subOrchestrationInstanceCreated
    created.instanceId = child_id
    created.name = asked.name
    events.copy_fields(asked, created, "version", "input")
    if trace is not None:
        created.parentTraceContext.CopyFrom(trace)
    if asked.tags:
        created.tags.update(asked.tags)
    effects.confirmations.append(confirmation)
    generation = instances.NewGeneration(asked.name, version, data, {**instance.tags, **asked.tags}, trace)
    parent = instances.as_parent(instance, action.id)
    started = instances.execution_started(generation, child_id, effects.ctx.new_id(), parent, effects.at)
    effects.commit.messages.append(Message(instance.task_hub, child_id, started))
    if effects.ends:
        effects.note_started(TaskKind.CHILD, action.id)
    else:
        task = OpenTask(effects.ctx.new_key(), TaskKind.CHILD, action.id, effects.row_key, target=child_id)
        instances.open_task(instance, task, effects.commit)


# --- events to, and termination of, other instances


def _check_event(action: pb.OrchestratorAction, limits: Limits) -> None:
    checks.check_name("the event", action.sendEvent.name, limits)
    if action.sendEvent.instance.instanceId.startswith(checks.ENTITY_PREFIX):
        raise HubError("UNIMPLEMENTED", "an external event cannot be sent to an entity: call or signal it")


def _send_event(effects: Effects, action: pb.OrchestratorAction) -> None:
    asked = action.sendEvent
    data = asked.data if asked.HasField("data") else None
    target = asked.instance.instanceId
    confirmation = events.new_event(action.id, effects.at)
    sent = confirmation.eventSent
    sent.instanceId = target
    sent.name = asked.name
    if data is not None:
        sent.input.CopyFrom(data)
    effects.confirmations.append(confirmation)
    effects.commit.messages.append(
        Message(effects.instance.task_hub, target, events.event_raised(effects.at, asked.name, data))
    )


def _terminate_other(effects: Effects, action: pb.OrchestratorAction) -> None:
    asked = action.terminateOrchestration
    reason = asked.reason if asked.HasField("reason") else None
    event = events.execution_terminated(effects.at, reason, asked.recurse)
    effects.commit.messages.append(Message(effects.instance.task_hub, asked.instanceId, event))


# --- completion


def _check_completion(action: pb.OrchestratorAction, limits: Limits) -> None:
    asked = action.completeOrchestration
    if asked.orchestrationStatus not in _ENDINGS:
        number = asked.orchestrationStatus
        raise HubError("INVALID_ARGUMENT", f"the status {number} does not complete an orchestration")
    for event in asked.carryoverEvents:
        if event.WhichOneof("eventType") != "eventRaised":
            raise HubError("INVALID_ARGUMENT", "carryoverEvents may hold only EventRaised events")
    if len(asked.carryoverEvents) > limits.inbox_events:
        raise HubError(
            "INVALID_ARGUMENT",
            f"{len(asked.carryoverEvents)} events are carried over; at most {limits.inbox_events} may wait",
        )
    checks.check_tags(asked.tags, limits)


def _accept(action: pb.OrchestratorAction, limits: Limits) -> None:
    """Nothing to check."""


def _nothing(effects: Effects, action: pb.OrchestratorAction) -> None:
    """The completion is carried out by the turn itself, after everything else."""


@dataclass(frozen=True, slots=True)
class _Row:
    check: Callable[[pb.OrchestratorAction, Limits], None]
    handle: Callable[[Effects, pb.OrchestratorAction], None]


_TABLE: dict[str, _Row] = {
    "scheduleTask": _Row(_check_activity, _schedule_activity),
    "createTimer": _Row(_check_timer, _create_timer),
    "createSubOrchestration": _Row(_check_child, _create_child),
    "sendEvent": _Row(_check_event, _send_event),
    "terminateOrchestration": _Row(_accept, _terminate_other),
    "sendEntityMessage": _Row(entity_actions.check, entity_actions.handle),
    COMPLETE: _Row(_check_completion, _nothing),
}
