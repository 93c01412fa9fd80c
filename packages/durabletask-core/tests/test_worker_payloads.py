"""Large payloads in a history that the worker fetches by itself."""

import json
from collections.abc import Generator
from typing import Any

from durabletask import task
from durabletask.worker import TaskHubGrpcWorker
from durabletask_proto import orchestrator_service_pb2 as pb
from memory_store import MemoryStore

LARGE = "x" * 60


def event(event_id: int = -1, **kind: Any) -> pb.HistoryEvent:
    built = pb.HistoryEvent(eventId=event_id, **kind)
    built.timestamp.FromJsonString("2026-01-02T03:04:05Z")
    return built


def lengths(ctx: task.OrchestrationContext, text: str) -> Generator[Any, Any, list[int]]:
    first: str = yield ctx.call_activity("read")
    second: str = yield ctx.wait_for_external_event("more")
    return [len(text), len(first), len(second)]


def test_payloads_in_a_streamed_history_come_from_the_store(task_hub: Any) -> None:
    store = MemoryStore(50, 5000)
    token = store.upload(json.dumps(LARGE).encode())
    started = pb.ExecutionStartedEvent(name="lengths", orchestrationInstance=pb.OrchestrationInstance(instanceId="i"))
    started.input.value = token
    completed = pb.TaskCompletedEvent(taskScheduledId=1)
    completed.result.value = token
    raised = pb.EventRaisedEvent(name="more")
    raised.input.value = token
    turn = event(orchestratorStarted=pb.OrchestratorStartedEvent())
    task_hub.history = [
        pb.HistoryChunk(
            events=[
                turn,
                event(executionStarted=started),
                event(1, taskScheduled=pb.TaskScheduledEvent(name="read")),
            ]
        ),
        pb.HistoryChunk(events=[turn, event(taskCompleted=completed)]),
    ]
    request = pb.OrchestratorRequest(
        instanceId="i", newEvents=[turn, event(eventRaised=raised)], requiresHistoryStreaming=True
    )
    worker = TaskHubGrpcWorker(host_address=task_hub.address, payload_store=store)
    worker.add_orchestrator(lengths)
    worker.start()
    try:
        task_hub.stream().send(pb.WorkItem(orchestratorRequest=request, completionToken="t1"))
        assert task_hub.answer()[0] == "StreamInstanceHistory"
        response = task_hub.answer()[1]
    finally:
        worker.stop(0)

    ended = response.actions[-1].completeOrchestration
    assert (ended.failureDetails.errorMessage, ended.result.value) == ("", "[60, 60, 60]")


def test_an_event_above_the_receivers_limit_fails_the_orchestration(task_hub: Any) -> None:
    """Lessons 44 and 45: against a real receiver with the default limit of 4 MiB."""
    scheduled = pb.TaskScheduledEvent(name="read")
    scheduled.input.value = "x" * 5_000_000
    task_hub.history = [pb.HistoryChunk(events=[event(1, taskScheduled=scheduled)])]
    request = pb.OrchestratorRequest(instanceId="i", requiresHistoryStreaming=True)
    worker = TaskHubGrpcWorker(host_address=task_hub.address)
    worker.add_orchestrator(lengths)
    worker.start()
    try:
        task_hub.stream().send(pb.WorkItem(orchestratorRequest=request, completionToken="t1"))
        assert task_hub.answer()[0] == "StreamInstanceHistory"
        rpc, response = task_hub.answer()
    finally:
        worker.stop(0)

    assert (rpc, response.completionToken) == ("CompleteOrchestratorTask", "t1")
    ended = response.actions[-1].completeOrchestration
    assert ended.orchestrationStatus == pb.ORCHESTRATION_STATUS_FAILED
    assert ended.failureDetails.errorType == "durabletask.worker.PayloadTooLargeError"
    assert "max_receive_message_length" in ended.failureDetails.errorMessage
