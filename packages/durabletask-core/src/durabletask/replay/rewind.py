"""Rewinding a failed instance: a history from which its failures are taken out, so that it can go on."""

import uuid
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from durabletask_proto import orchestrator_service_pb2 as pb

from durabletask.failures import failure_of

if TYPE_CHECKING:
    from durabletask.replay.run import OrchestrationRun

_SPACE = uuid.uuid5(uuid.NAMESPACE_OID, "durabletask/rewind")
_CONFIRMATIONS = frozenset(
    {
        "taskScheduled",
        "subOrchestrationInstanceCreated",
        "timerCreated",
        "eventSent",
        "entityOperationCalled",
        "entityOperationSignaled",
        "entityLockRequested",
        "entityUnlockSent",
    }
)
# Which field of an event refers to the action it answers.
_ANSWERS = {
    "taskCompleted": "taskScheduledId",
    "taskFailed": "taskScheduledId",
    "subOrchestrationInstanceCompleted": "taskScheduledId",
    "subOrchestrationInstanceFailed": "taskScheduledId",
    "timerFired": "timerId",
}


def has_ended(past: Sequence[pb.HistoryEvent]) -> bool:
    """Whether a recorded past ends with the completion of its generation, which only a rewind turn shows."""
    return any(_kind(event) == "executionCompleted" for event in past[-2:])


def is_asked(past: Sequence[pb.HistoryEvent], new: Sequence[pb.HistoryEvent]) -> bool:
    """Whether this turn asks for the ended past to be rewound."""
    return bool(past) and any(_kind(event) == "executionRewound" for event in new)


def rewind_action(
    run: "OrchestrationRun", past: Sequence[pb.HistoryEvent], new: Sequence[pb.HistoryEvent]
) -> pb.OrchestratorAction:
    """The action that replaces the history of a failed generation.

    Left out are its completion, the final failures of activities with their scheduling, and the failures of
    sub-orchestrations. Failures that a retry has answered stay, so that the retried call goes on with its
    next attempt. If the orchestrator acted after a failure (a clean-up, say), what it did then is left out
    as well, because the code will not come that way again.

    Failures of entity calls stay, since their request ids have been answered. An orchestration that failed by
    one fails again, unless the task hub rewinds by itself, as durabletask-scheduler does, and makes the call anew.
    """
    if [_kind(event) for event in new] != ["orchestratorStarted", "executionRewound"]:
        kinds = ", ".join(str(_kind(event)) for event in new)
        message = f"A rewind turn must hold orchestratorStarted and executionRewound only, got {kinds}."
        return _failed(ValueError(message))
    kept = _without_failures(past, cut=False)
    if not _replays(run, kept):
        kept = _without_failures(past, cut=True)
    action = pb.OrchestratorAction(id=-1)
    rewound = action.rewindOrchestration.newHistory
    rewound.extend(kept)
    rewound.extend(new)
    _renew_execution(run.instance_id, rewound, new)
    return action


def _failed(error: ValueError) -> pb.OrchestratorAction:
    action = pb.OrchestratorAction(id=-1)
    action.completeOrchestration.orchestrationStatus = pb.ORCHESTRATION_STATUS_FAILED
    action.completeOrchestration.failureDetails.CopyFrom(failure_of(error))
    return action


def _without_failures(history: Sequence[pb.HistoryEvent], *, cut: bool) -> list[pb.HistoryEvent]:
    dropped = {i for i, event in enumerate(history) if _kind(event) == "executionCompleted"}
    failures = _final_failures(history)
    for position, scheduled_at in failures.items():
        dropped.add(position)
        if _kind(history[position]) == "taskFailed" and scheduled_at is not None:
            dropped.add(scheduled_at)
    if cut and failures:
        dropped |= _aftermath(history, min(failures))
    return [event for i, event in enumerate(history) if i not in dropped]


def _final_failures(history: Sequence[pb.HistoryEvent]) -> dict[int, int | None]:
    """Where calls failed for good, each with the place of its last scheduling."""
    scheduled: dict[int, int] = {}
    failed: dict[int, int] = {}
    for i, event in enumerate(history):
        kind = _kind(event)
        if kind in ("taskScheduled", "subOrchestrationInstanceCreated"):
            scheduled[event.eventId] = i
            # Scheduled again: the failure before was one that the retry policy took.
            failed.pop(event.eventId, None)
        elif kind in ("taskFailed", "subOrchestrationInstanceFailed"):
            failed[_answered(event, str(kind))] = i
    return {position: scheduled.get(task_id) for task_id, position in failed.items()}


def _aftermath(history: Sequence[pb.HistoryEvent], first_failure: int) -> set[int]:
    """What was scheduled after the first failure, and the answers to it."""
    places: set[int] = set()
    ids: set[int] = set()
    for i in range(first_failure + 1, len(history)):
        event, kind = history[i], str(_kind(history[i]))
        if kind in _CONFIRMATIONS:
            ids.add(event.eventId)
            places.add(i)
        elif kind in _ANSWERS and _answered(event, kind) in ids:
            places.add(i)
    return places


def _replays(run: "OrchestrationRun", history: Sequence[pb.HistoryEvent]) -> bool:
    """Whether the orchestrator accepts a history as its own."""
    trial = type(run)(run.instance_id, run.registry, run.options)
    trial.replay(history)
    trial.close()
    return not trial.is_broken


def _renew_execution(instance_id: str, history: Iterable[pb.HistoryEvent], turn: Sequence[pb.HistoryEvent]) -> None:
    """Give the generation a new execution id, which the old one and the time of the turn determine."""
    time, request = turn[0].timestamp, turn[1].executionRewound
    for event in history:
        if _kind(event) != "executionStarted":
            continue
        started = event.executionStarted
        instance = started.orchestrationInstance
        seed = f"{instance_id}/{instance.executionId.value}/{time.seconds}.{time.nanos}"
        instance.instanceId = instance_id
        instance.executionId.value = uuid.uuid5(_SPACE, seed).hex
        if request.HasField("parentExecutionId") and started.HasField("parentInstance"):
            parent = started.parentInstance.orchestrationInstance
            parent.executionId.value = request.parentExecutionId.value


def _answered(event: pb.HistoryEvent, kind: str) -> int:
    answered: int = getattr(getattr(event, kind), _ANSWERS[kind])
    return answered


def _kind(event: pb.HistoryEvent) -> str | None:
    return event.WhichOneof("eventType")
