"""A worker rewinds instances that an entity's failure has ended, or says why it does not."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

import pytest
from durabletask import task
from durabletask.entities import EntityInstanceId
from durabletask.registry import Registry
from durabletask.replay import OrchestrationRun, RunOptions
from durabletask_proto import orchestrator_service_pb2 as pb
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import StringValue

A, B = (EntityInstanceId("Counter", key) for key in "ab")
Steps = Generator[task.Task[Any], Any, Any]
Orchestrator = Callable[[task.OrchestrationContext, Any], Steps]


def event(kind: str, message: Any, event_id: int = -1) -> pb.HistoryEvent:
    return pb.HistoryEvent(eventId=event_id, **{kind: message})


def advance(registry: Registry, past: Sequence[pb.HistoryEvent], *new: pb.HistoryEvent) -> list[pb.OrchestratorAction]:
    run = OrchestrationRun("i", registry, RunOptions())
    run.replay(past)
    turn = event("orchestratorStarted", pb.OrchestratorStartedEvent())
    turn.timestamp.CopyFrom(Timestamp(seconds=len(past)))
    actions = run.advance([turn, *new])
    run.close()
    return actions.actions


class Failed:
    """An instance that answers of entities, in order, have brought to its end: ``ok``, ``no`` or ``granted``."""

    def __init__(self, orchestrator: Orchestrator, *answers: str) -> None:
        self.registry = Registry()
        self.registry.add_orchestrator(orchestrator, "orch")
        self.history: list[pb.HistoryEvent] = []
        self._waiting: list[Any] = []
        instance = pb.OrchestrationInstance(instanceId="i", executionId=StringValue(value="first"))
        self._turn(event("executionStarted", pb.ExecutionStartedEvent(name="orch", orchestrationInstance=instance)))
        for answer in answers:
            self._turn(self._answer(answer))

    def rewound(self) -> pb.OrchestratorAction:
        (action,) = advance(self.registry, self.history, event("executionRewound", pb.ExecutionRewoundEvent()))
        return action

    def sent_again(self) -> list[tuple[int, str]]:
        """What the first turn after the rewind sends, by id and kind."""
        actions = advance(self.registry, list(self.rewound().rewindOrchestration.newHistory))
        return [(a.id, a.sendEntityMessage.WhichOneof("EntityMessageType") or "other") for a in actions]

    def _turn(self, arrived: pb.HistoryEvent) -> None:
        actions = advance(self.registry, self.history, arrived)
        start = event("orchestratorStarted", pb.OrchestratorStartedEvent())
        start.timestamp.CopyFrom(Timestamp(seconds=len(self.history)))
        self.history += [start, arrived]
        for action in actions:
            if action.HasField("sendEntityMessage"):
                kind = action.sendEntityMessage.WhichOneof("EntityMessageType")
                assert kind is not None
                message = getattr(action.sendEntityMessage, kind)
                self.history.append(event(kind, message, action.id))
                if kind in ("entityOperationCalled", "entityLockRequested"):
                    self._waiting.append(message)
            elif action.HasField("completeOrchestration"):
                done = action.completeOrchestration
                assert done.orchestrationStatus == pb.ORCHESTRATION_STATUS_FAILED
                self.history.append(
                    event(
                        "executionCompleted",
                        pb.ExecutionCompletedEvent(
                            orchestrationStatus=done.orchestrationStatus, failureDetails=done.failureDetails
                        ),
                    )
                )

    def _answer(self, answer: str) -> pb.HistoryEvent:
        message = self._waiting.pop(0)
        if answer == "granted":
            granted = pb.EntityLockGrantedEvent(criticalSectionId=message.criticalSectionId)
            return event("entityLockGranted", granted)
        if answer == "ok":
            completed = pb.EntityOperationCompletedEvent(requestId=message.requestId, output=StringValue(value="1"))
            return event("entityOperationCompleted", completed)
        details = pb.TaskFailureDetails(errorType="builtins.ValueError", errorMessage=f"not {message.operation}")
        failed = pb.EntityOperationFailedEvent(requestId=message.requestId, failureDetails=details)
        return event("entityOperationFailed", failed)


def in_order(ctx: task.OrchestrationContext, _: Any) -> Steps:
    yield ctx.call_entity(A, "add", 1)
    yield ctx.call_entity(B, "add", 1)


def with_clean_up(ctx: task.OrchestrationContext, _: Any) -> Steps:
    try:
        yield ctx.call_entity(A, "add", 1)
    except task.TaskFailedError:
        ctx.signal_entity(B, "reset")
        yield ctx.call_entity(B, "get")
        raise


def with_a_substitute(ctx: task.OrchestrationContext, _: Any) -> Steps:
    try:
        yield ctx.call_entity(A, "add", 1)
    except task.TaskFailedError:
        yield ctx.call_entity(B, "add", 1)
    yield ctx.call_entity(A, "get")


def at_once(ctx: task.OrchestrationContext, _: Any) -> Steps:
    yield (yield task.when_any([ctx.call_entity(A, "add", 1), ctx.call_entity(B, "add", 1)]))


def after_a_section(ctx: task.OrchestrationContext, _: Any) -> Steps:
    with (yield ctx.lock_entities([A, B])):
        yield ctx.call_entity(A, "add", 1)
    yield ctx.call_entity(B, "get")


def waiting_for_locks(ctx: task.OrchestrationContext, _: Any) -> Steps:
    call = ctx.call_entity(A, "add", 1)
    yield (yield task.when_any([call, ctx.lock_entities([B])]))


def inside(ctx: task.OrchestrationContext, _: Any) -> Steps:
    with (yield ctx.lock_entities([A, B])):
        yield ctx.call_entity(A, "add", 1)


CALL, LOCK = "entityOperationCalled", "entityLockRequested"
CASES: dict[str, tuple[Orchestrator, tuple[str, ...], list[tuple[int, str]]]] = {
    "the second of two": (in_order, ("ok", "no"), [(2, CALL)]),
    "clean-up after the failure (R20)": (with_clean_up, ("no", "ok"), [(1, CALL)]),
    "not one that the code has handled": (with_a_substitute, ("no", "ok", "no"), [(3, CALL)]),
    "with what has no answer": (at_once, ("no",), [(1, CALL), (2, CALL)]),
    "after a critical section": (after_a_section, ("granted", "ok", "no"), [(5, CALL)]),
    "with locks that were not granted": (waiting_for_locks, ("no",), [(1, CALL), (2, LOCK)]),
}


@pytest.mark.parametrize(("orchestrator", "answers", "sent_again"), CASES.values(), ids=CASES)
def test_failed_calls_are_made_again_and_nothing_that_succeeded(
    orchestrator: Orchestrator, answers: tuple[str, ...], sent_again: list[tuple[int, str]]
) -> None:
    """pinned 15, lesson 15, R20"""
    assert Failed(orchestrator, *answers).sent_again() == sent_again


def test_a_call_that_is_made_again_names_the_new_execution() -> None:
    """Otherwise its answer would be taken for one to the execution that failed."""
    instance = Failed(in_order, "no")
    (call,) = advance(instance.registry, list(instance.rewound().rewindOrchestration.newHistory))
    execution = call.sendEntityMessage.entityOperationCalled.parentExecutionId.value
    assert execution and execution != "first"


def test_an_instance_that_failed_in_a_critical_section_is_not_let_on_without_its_locks() -> None:
    """Lesson 62: the failure gave the locks back, and a worker cannot ask for them again."""
    failure = Failed(inside, "granted", "no").rewound().completeOrchestration.failureDetails
    assert "it failed while it held the locks of @counter@a, @counter@b" in failure.errorMessage
    assert "not add" in failure.innerFailure.errorMessage
