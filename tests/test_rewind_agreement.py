"""A worker that rewinds, and the scheduler that does it by itself, go on at the same place."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import pytest
from durabletask import entities, task
from durabletask.registry import Registry
from durabletask.replay import OrchestrationRun, RunOptions
from durabletask.worker import TaskHubGrpcWorker
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto import orchestrator_service_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from conftest import Hub

WAIT = 20
BOX = entities.EntityInstanceId("Box", "b")
Steps = Generator[task.Task[Any], Any, Any]


def an_entity_call(ctx: task.OrchestrationContext, _: Any) -> Steps:
    yield ctx.call_activity("ok", input="before")
    yield ctx.call_entity(BOX, "fail", "call")


def a_clean_up(ctx: task.OrchestrationContext, _: Any) -> Steps:
    try:
        yield ctx.call_entity(BOX, "fail", "call")
    except task.TaskFailedError:
        yield ctx.call_entity(BOX, "ok", "clean-up")
        raise


def a_failure_after_a_handled_one(ctx: task.OrchestrationContext, _: Any) -> Steps:
    try:
        yield ctx.call_entity(BOX, "fail", "handled")
    except task.TaskFailedError:
        yield ctx.call_activity("ok", input="instead")
    yield ctx.call_activity("fail", input="later")


def two_at_once(ctx: task.OrchestrationContext, _: Any) -> Steps:
    yield task.when_all(
        [ctx.call_activity("ok", input="sound"), ctx.call_entity(BOX, "fail", "left"), ctx.call_activity("ok")]
    )


def a_section_that_was_left(ctx: task.OrchestrationContext, _: Any) -> Steps:
    with (yield ctx.lock_entities([BOX])):
        yield ctx.call_entity(BOX, "ok", "inside")
    yield ctx.call_entity(BOX, "fail", "outside")


CASES: dict[Callable[..., Any], list[str]] = {
    an_entity_call: ["call"],
    a_clean_up: ["call"],
    a_failure_after_a_handled_one: ["later"],
    two_at_once: ["left"],
    a_section_that_was_left: ["outside"],
}


@pytest.mark.parametrize("hub", ["in-process"], indirect=True)
@pytest.mark.parametrize("orchestrator", CASES)
def test_worker_and_scheduler_rewind_alike(hub: Hub, orchestrator: Callable[..., Any]) -> None:
    """pinned 15, lesson 15: only what failed is made again, whoever rewinds."""
    repaired = threading.Event()
    done: list[str] = []

    def do(operation: str, what: Any) -> None:
        if operation == "fail" and not repaired.is_set():
            raise ValueError(f"not {what}")
        done.append(what)

    def box(ctx: entities.EntityContext, what: Any) -> None:
        do(ctx.operation, what)

    def setup(worker: TaskHubGrpcWorker) -> None:
        worker.add_orchestrator(orchestrator)
        worker.add_entity(box, "Box")
        for name in ("ok", "fail"):
            worker.add_activity(lambda _, what, name=name: do(name, what), name=name)

    client = hub.client()
    hub.worker(setup)
    instance_id = client.schedule_new_orchestration(orchestrator)
    failed = client.wait_for_orchestration_completion(instance_id, timeout=WAIT)
    assert failed is not None and failed.failure_details is not None
    request = pb.StreamInstanceHistoryRequest(instanceId=instance_id)
    chunks = pb_grpc.TaskHubSidecarServiceStub(hub.scheduler.channel()).StreamInstanceHistory(request)
    history = [event for chunk in chunks for event in chunk.events]

    repaired.set()
    done.clear()
    client.rewind_orchestration(instance_id)
    state = client.wait_for_orchestration_completion(instance_id, timeout=WAIT)
    assert state is not None
    state.raise_if_failed()
    assert done == CASES[orchestrator]
    assert rewound_by_a_worker(orchestrator, history) == done


def rewound_by_a_worker(orchestrator: Callable[..., Any], history: list[pb.HistoryEvent]) -> list[str]:
    """The inputs of what the first turn after a worker's rewind calls."""
    registry = Registry()
    registry.add_orchestrator(orchestrator)
    converter = RunOptions().data_converter
    kept = history
    marker = pb.HistoryEvent(eventId=-1, executionRewound=pb.ExecutionRewoundEvent())
    start = pb.HistoryEvent(eventId=-1, orchestratorStarted=pb.OrchestratorStartedEvent())
    start.timestamp.GetCurrentTime()
    for new in ([start, marker], [start]):
        run = OrchestrationRun("rewound", registry, RunOptions())
        run.replay(kept)
        actions = run.advance(new).actions
        run.close()
        kept = list(actions[0].rewindOrchestration.newHistory)
    texts = [a.scheduleTask.input.value or a.sendEntityMessage.entityOperationCalled.input.value for a in actions]
    return [converter.deserialize(text) for text in texts]
