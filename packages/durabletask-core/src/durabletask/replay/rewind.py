"""Rewinding a failed instance: a history from which its failure is taken out, so that it can go on.

This is what a worker does for a task hub that leaves rewinding to it; durabletask-scheduler does it by itself,
by the same rule. Undone is the last failure that the final failure speaks of (or, if it speaks of none, the last
one there is), and those before it as long as the orchestrator did nothing in between, as when it waits for several
tasks at once. What it did *after* that failure (a clean-up, say) goes too, with its results, because the code will
not come that way again. All else stays: earlier failures that the code has handled stay handled, and failures that
a retry has answered stay, so that the retried call goes on with its next attempt.

Calls that failed or were never answered lose their confirmation, so that the code makes them again: what answers a
failed instance is dropped. Children keep theirs, because the task hub rewinds them with their parent.
"""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from durabletask_proto import orchestrator_service_pb2 as pb

from durabletask.failures import failure_of
from durabletask.features import AwaitedCall, RewindRules

if TYPE_CHECKING:
    from durabletask.replay.run import OrchestrationRun

_SPACE = uuid.uuid5(uuid.NAMESPACE_OID, "durabletask/rewind")
_CORE_RULES = RewindRules(
    calls=(
        AwaitedCall("taskScheduled", "taskCompleted", "taskFailed", answer_field="taskScheduledId"),
        AwaitedCall("timerCreated", "timerFired", answer_field="timerId"),
        AwaitedCall(
            "subOrchestrationInstanceCreated",
            "subOrchestrationInstanceCompleted",
            "subOrchestrationInstanceFailed",
            answer_field="taskScheduledId",
            is_made_again=False,
        ),
    ),
    sends=frozenset({"eventSent"}),
)
_ENDS = frozenset({"executionCompleted", "orchestratorCompleted"})
_CONTROLS = ("executionSuspended", "executionResumed")


@dataclass(slots=True)
class _Made:
    """One call in a history; positions are indexes into it."""

    call: AwaitedCall
    made_at: int
    answered_at: int = -1
    failed: bool = False


@dataclass(slots=True)
class _Chart:
    """Where things are in a history: the kind and the turn of each event, and the calls in their order."""

    kinds: list[str] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)
    calls: list[_Made] = field(default_factory=list)


def has_ended(past: Sequence[pb.HistoryEvent]) -> bool:
    """Whether a recorded past ends with the completion of its generation, which only a rewind turn shows."""
    return any(_kind(event) == "executionCompleted" for event in past[-2:])


def is_asked(new: Sequence[pb.HistoryEvent]) -> bool:
    """Whether the turn of these events asks for its ended past to be rewound."""
    return any(_kind(event) == "executionRewound" for event in new)


def rewind_action(
    run: "OrchestrationRun", past: Sequence[pb.HistoryEvent], new: Sequence[pb.HistoryEvent]
) -> pb.OrchestratorAction:
    """The action that replaces the history of a failed generation, or fails it again if a feature refuses that."""
    if [_kind(event) for event in new] != ["orchestratorStarted", "executionRewound"]:
        kinds = ", ".join(_kind(event) for event in new)
        message = f"A rewind turn must hold orchestratorStarted and executionRewound only, got {kinds}."
        return _failed(ValueError(message), past)
    rules = [_CORE_RULES, *(feature.rewinding for feature in run.options.features.values())]
    kept = _kept(past, rules)
    for rule in rules:
        refusal = rule.refusal(kept) if rule.refusal is not None else None
        if refusal is not None:
            return _failed(RuntimeError(f"{run.instance_id!r} cannot be rewound: {refusal}"), past)
    action = pb.OrchestratorAction(id=-1)
    rewound = action.rewindOrchestration.newHistory
    rewound.extend(kept)
    rewound.extend(new)
    _renew_execution(run.instance_id, rewound, new)
    return action


def _failed(error: Exception, past: Sequence[pb.HistoryEvent]) -> pb.OrchestratorAction:
    """Fails the generation once more; what it had failed by stays known as the cause."""
    action = pb.OrchestratorAction(id=-1)
    action.completeOrchestration.orchestrationStatus = pb.ORCHESTRATION_STATUS_FAILED
    details = failure_of(error)
    details.innerFailure.CopyFrom(_final_failure(past))
    action.completeOrchestration.failureDetails.CopyFrom(details)
    return action


def _final_failure(past: Sequence[pb.HistoryEvent]) -> pb.TaskFailureDetails:
    ended = next(event for event in reversed(past) if _kind(event) == "executionCompleted")
    return ended.executionCompleted.failureDetails


def _kept(history: Sequence[pb.HistoryEvent], rules: Sequence[RewindRules]) -> list[pb.HistoryEvent]:
    """The events that stay."""
    calls = [call for rule in rules for call in rule.calls]
    sending = frozenset().union({call.confirmation for call in calls}, *(rule.sends for rule in rules))
    chart = _chart(history, calls)
    undone = _undone(history, chart, sending)
    cut = chart.turns[undone[0].answered_at] if undone else len(history)
    dropped = {i for i, kind in enumerate(chart.kinds) if kind in sending and chart.turns[i] >= cut}
    dropped |= {i for i, kind in enumerate(chart.kinds) if kind in _ENDS}
    undone_places = {made.made_at for made in undone}
    for made in chart.calls:
        is_open = made.answered_at < 0 or made.made_at in undone_places
        if is_open and made.call.is_made_again:
            dropped.add(made.made_at)
        if is_open or made.made_at in dropped:
            dropped.add(made.answered_at)
    controls = [i for i, kind in enumerate(chart.kinds) if kind in _CONTROLS]
    if controls and chart.kinds[controls[-1]] == "executionSuspended":
        # The instance runs again.
        dropped.add(controls[-1])
    return [event for i, event in enumerate(history) if i not in dropped]


def _chart(history: Sequence[pb.HistoryEvent], calls: Iterable[AwaitedCall]) -> _Chart:
    confirmations = {call.confirmation: call for call in calls}
    answers = {kind: call for call in confirmations.values() for kind in (call.completed, call.failed) if kind}
    chart = _Chart()
    open_calls: dict[tuple[str, int | str], _Made] = {}
    turn = -1
    for position, event in enumerate(history):
        kind = _kind(event)
        turn += kind == "orchestratorStarted"
        chart.kinds.append(kind)
        chart.turns.append(turn)
        if kind in confirmations:
            call = confirmations[kind]
            name = getattr(getattr(event, kind), call.name_field) if call.name_field else event.eventId
            made = open_calls[call.confirmation, name] = _Made(call, position)
            chart.calls.append(made)
        elif kind in answers:
            call = answers[kind]
            answered = open_calls.pop((call.confirmation, getattr(getattr(event, kind), call.answer_field)), None)
            if answered is not None:
                answered.answered_at, answered.failed = position, kind == call.failed
    return chart


def _undone(history: Sequence[pb.HistoryEvent], chart: _Chart, sending: frozenset[str]) -> list[_Made]:
    """The failed calls to undo, in the order of their failures."""
    failed = sorted((made for made in chart.calls if made.failed), key=lambda made: made.answered_at)
    if not failed:
        return []
    texts = _texts(_final_failure(history))
    messages = [getattr(history[at], chart.kinds[at]).failureDetails.errorMessage for at in _places(failed)]
    named = [i for i, message in enumerate(messages) if message and any(message in text for text in texts)]
    first = named[-1] if named else len(failed) - 1
    turns = [chart.turns[at] for at in _places(failed)]
    busy = {chart.turns[i] for i, kind in enumerate(chart.kinds) if kind in sending}
    while first > 0 and not any(turn in busy for turn in range(turns[first - 1], turns[first])):
        first -= 1
    return failed[first:]


def _places(calls: Iterable[_Made]) -> list[int]:
    return [made.answered_at for made in calls]


def _texts(failure: pb.TaskFailureDetails) -> list[str]:
    """The messages of a failure and of its causes."""
    texts = [failure.errorMessage]
    while failure.HasField("innerFailure"):
        failure = failure.innerFailure
        texts.append(failure.errorMessage)
    return texts


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


def _kind(event: pb.HistoryEvent) -> str:
    return event.WhichOneof("eventType") or ""
