"""Workers that are replaced one after the other, as a deployment does, leave nothing behind.

The scheduler here would wait an hour before it hands out again what a worker has taken and says nothing more about.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from durabletask import entities, task
from durabletask.client import OrchestrationStatus, TaskHubGrpcClient
from durabletask.worker import TaskHubGrpcWorker
from durabletask_scheduler import Scheduler
from durabletask_scheduler.limits import ServiceOptions

WAIT = 30
HOUR = 3_600 * 10**9
ROUNDS = 12
AT_ONCE = 30
COUNTER = entities.EntityInstanceId("counter", "one")

Connect = Callable[[], dict[str, Any]]


@pytest.fixture(params=["in process", "over a network"])
def connect(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Connect]:
    options = ServiceOptions(stream_grace=HOUR)
    with Scheduler(tmp_path / "hub.db", synchronous="NORMAL", service_options=options) as scheduler:
        if request.param == "in process":
            yield lambda: {"channel": scheduler.channel()}
        else:
            port = scheduler.serve(port=0)
            yield lambda: {"host_address": f"127.0.0.1:{port}"}


def one_more(_: task.ActivityContext, number: int) -> int:
    return number + 1


def journey(ctx: task.OrchestrationContext, _: Any) -> Any:
    number = 0
    for _step in range(3):
        number = yield ctx.call_activity(one_more, input=number)
    both = yield task.when_all([ctx.call_activity(one_more, input=number) for _ in range(2)])
    yield ctx.call_entity(COUNTER, "add", 1)
    return both


def counter(ctx: entities.EntityContext, by: int) -> None:
    ctx.set_state((ctx.get_state(int) or 0) + by)


class NeverEnding(grpc.StreamStreamClientInterceptor):  # type: ignore[type-arg]
    """The scheduler does not hear that a worker has nothing more to say."""

    def __init__(self) -> None:
        self.over = threading.Event()

    def intercept_stream_stream(self, continuation: Any, details: Any, request_iterator: Any) -> Any:
        return continuation(details, self._and_wait(request_iterator))

    def _and_wait(self, requests: Iterator[Any]) -> Iterator[Any]:
        yield from requests
        self.over.wait(WAIT)


def started(connect: Connect, **options: Any) -> TaskHubGrpcWorker:
    worker = TaskHubGrpcWorker(**connect(), **options)
    worker.add_orchestrator(journey)
    worker.add_activity(one_more)
    worker.add_entity(counter)
    worker.start()
    return worker


def test_what_was_on_its_way_to_a_worker_that_stops_goes_to_the_next_one(connect: Connect) -> None:
    worker = started(connect)
    with TaskHubGrpcClient(**connect()) as client:
        for _ in range(ROUNDS):
            ids = [client.schedule_new_orchestration(journey) for _ in range(AT_ONCE)]
            old, worker = worker, started(connect)
            old.stop()
            for instance_id in ids:
                state = client.wait_for_orchestration_completion(instance_id, timeout=WAIT)
                assert state is not None and state.runtime_status is OrchestrationStatus.COMPLETED, state
                assert state.get_output() == [4, 4]
        worker.stop()
        entity = client.get_entity(COUNTER)
        assert entity is not None and entity.get_state(int) == ROUNDS * AT_ONCE


def test_a_worker_without_work_does_not_wait_to_be_told_so(connect: Connect) -> None:
    taken = []
    for _ in range(5):
        worker = started(connect)
        begun = time.monotonic()
        worker.stop()
        taken.append(time.monotonic() - begun)
    assert min(taken) < 0.5


@pytest.mark.parametrize("connect", ["over a network"], indirect=True)
def test_a_scheduler_that_does_not_end_the_stream_is_not_waited_for(connect: Connect) -> None:
    deaf = NeverEnding()
    worker = started(connect, interceptors=[deaf])
    with TaskHubGrpcClient(**connect()) as client:
        first = client.schedule_new_orchestration(journey)
        assert client.wait_for_orchestration_completion(first, timeout=WAIT) is not None
        begun = time.monotonic()
        worker.stop(timeout=WAIT)
        assert time.monotonic() - begun < WAIT / 2
        # If the stream were still open, turns would go to nobody.
        worker = started(connect)
        for _ in range(5):
            state = client.wait_for_orchestration_completion(client.schedule_new_orchestration(journey), timeout=WAIT)
            assert state is not None and state.get_output() == [4, 4]
    deaf.over.set()
    worker.stop()
