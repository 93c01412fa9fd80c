"""Over gRPC the state of an entity travels to its worker once, and again only to a worker that has it no longer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from durabletask import entities, task
from durabletask.client import TaskHubGrpcClient
from durabletask.worker import TaskHubGrpcWorker
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto import scheduler_additions_pb2 as additions_pb
from durabletask_proto import warm
from durabletask_scheduler import Scheduler

WAIT = 20
SIZE = 200_000
CALLS = 8
NOTES = entities.EntityInstanceId("notes", "all")


class Tapped:
    """The stream of work items or frames, each shown to ``look`` as it came from the wire, which may change it."""

    def __init__(self, call: Any, look: Callable[[Any], None]) -> None:
        self._call = call
        self._look = look

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        message = next(self._call)
        self._look(message)
        return message

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


def batch_results(request: Any) -> list[pb.EntityBatchResult]:
    """The answers to batches in one call or frame, which has one or several of any kind."""
    if isinstance(request, additions_pb.WorkerFrame):
        return [answer.batch for answer in request.answers if answer.HasField("batch")]
    return [request] if isinstance(request, pb.EntityBatchResult) else []


class Wire(  # type: ignore[type-arg]
    grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor, grpc.StreamStreamClientInterceptor
):
    """What passes between one worker and the scheduler: batches, and the answers to them.

    Attributes:
        forgotten: how many of the next batches name a state that this worker never had.
    """

    def __init__(self) -> None:
        self.requests: list[pb.EntityRequest] = []
        self.answers: list[pb.EntityBatchResult] = []
        self.bytes = 0
        self.forgotten = 0

    def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        call = continuation(details, request)
        return Tapped(call, self._look) if isinstance(request, pb.GetWorkItemsRequest) else call

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        self.answers += batch_results(request)
        return continuation(details, request)

    def intercept_stream_stream(self, continuation: Any, details: Any, request_iterator: Any) -> Any:
        def noted() -> Iterator[Any]:
            for frame in request_iterator:
                self.answers += batch_results(frame)
                yield frame

        return Tapped(continuation(details, noted()), self._look)

    def _look(self, message: Any) -> None:
        for item in message.items if isinstance(message, additions_pb.SchedulerFrame) else [message]:
            if item.HasField("entityRequestV2"):
                self._note(item)

    def _note(self, item: pb.WorkItem) -> None:
        request = item.entityRequestV2
        seen = pb.EntityRequest()
        seen.CopyFrom(request)
        self.requests.append(seen)
        self.bytes += item.ByteSize()
        if self.forgotten and request.executionId.startswith(warm.ENTITY_BASE):
            self.forgotten -= 1
            request.executionId = warm.ENTITY_BASE + "another"


def notes(ctx: entities.EntityContext, text: str) -> int:
    """Keeps a text and counts the calls."""
    kept = ctx.get_state(list, ["x" * SIZE, 0])
    kept[1] += 1
    ctx.set_state(kept)
    return int(kept[1])


def count(ctx: task.OrchestrationContext, calls: int) -> Any:
    numbers = []
    for _ in range(calls):
        numbers.append((yield ctx.call_entity(NOTES, "add", return_type=int)))
    return numbers


class Site:
    def __init__(self, database: Path) -> None:
        self.scheduler = Scheduler(database)
        self.scheduler.start()
        self.address = f"127.0.0.1:{self.scheduler.serve('127.0.0.1', 0)}"
        self.client = TaskHubGrpcClient(host_address=self.address)

    def worker(self, wire: Wire) -> TaskHubGrpcWorker:
        worker = TaskHubGrpcWorker(host_address=self.address, interceptors=[wire])
        worker.add_orchestrator(count)
        worker.add_entity(notes)
        worker.start()
        return worker

    def numbers(self) -> Any:
        instance_id = self.client.schedule_new_orchestration(count, input=CALLS)
        state = self.client.wait_for_orchestration_completion(instance_id, timeout=WAIT)
        assert state is not None
        state.raise_if_failed()
        return state.get_output()

    def close(self) -> None:
        self.client.close()
        self.scheduler.stop()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path / "hub.db")
    yield site
    site.close()


def states_sent(wire: Wire) -> list[bool]:
    return [request.HasField("entityState") for request in wire.requests]


def test_a_state_is_sent_to_nobody_who_has_it(site: Site) -> None:
    wire = Wire()
    with site.worker(wire):
        assert site.numbers() == list(range(1, CALLS + 1))
    assert len(wire.requests) == CALLS
    # The first batch finds no state, and each of the others one that this worker wrote.
    assert not any(states_sent(wire))
    assert [request.executionId[: len(warm.ENTITY_BASE)] for request in wire.requests[1:]] == [warm.ENTITY_BASE] * 7
    assert wire.bytes < CALLS * 1_000
    assert all(len(answer.entityState.value) > SIZE for answer in wire.answers)


def test_a_worker_that_has_lost_the_state_asks_for_it(site: Site) -> None:
    wire = Wire()
    with site.worker(wire):
        assert site.numbers() == list(range(1, CALLS + 1))
        before = len(wire.requests)
        wire.forgotten = 1
        assert site.numbers() == list(range(CALLS + 1, 2 * CALLS + 1))
    assert [answer.requiresState for answer in wire.answers].count(True) == 1
    asking = wire.answers[before]
    assert asking.requiresState and not asking.results and not asking.HasField("entityState")
    # The batch that was not understood, the same with its state, and the others without it again.
    assert states_sent(wire)[before:] == [False, True] + [False] * (CALLS - 1)
    assert len(wire.requests[before + 1].entityState.value) > SIZE


def test_another_worker_is_sent_the_state_once(site: Site) -> None:
    with site.worker(Wire()):
        site.numbers()
    wire = Wire()
    with site.worker(wire):
        assert site.numbers() == list(range(CALLS + 1, 2 * CALLS + 1))
    assert states_sent(wire) == [True] + [False] * (CALLS - 1)
