"""When batches of entities leave: before the write of a small group, after that of a large one."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto import warm
from durabletask_scheduler.hub.times import SECOND
from google.protobuf.wrappers_pb2 import StringValue

A, B = "@counter@a", "@counter@b"
WAIT = 10.0


class OneGroup:
    """What is called for inside the block becomes one group.

    Attributes:
        sent_before: how many messages the worker had when the group was about to be written.
    """

    def __init__(self, runtime: Any, worker: Any) -> None:
        self.sent_before = -1
        self._runtime = runtime
        self._worker = worker
        self._calls: list[Any] = []

    def signal(self, entity: str = A) -> None:
        self._calls.append(self._runtime.begin("SignalEntity", pb.SignalEntityRequest(instanceId=entity, name="add")))

    def answer(self, item: pb.WorkItem, state: str) -> None:
        self._calls.append(answered(self._runtime, item, state))

    def note(self, _: Sequence[Any]) -> None:
        if self.sent_before < 0:
            self.sent_before = self._worker.waiting

    def end(self) -> None:
        for call in self._calls:
            call.result(WAIT)


def answered(runtime: Any, item: pb.WorkItem, state: str) -> Any:
    count = len(item.entityRequestV2.operationRequests)
    results = [pb.OperationResult(success=pb.OperationResultSuccess())] * count
    token = item.completionToken
    result = pb.EntityBatchResult(entityState=StringValue(value=state), completionToken=token, results=results)
    return runtime.begin("CompleteEntityTask", result)


@pytest.fixture
def one_group(runtime: Any) -> Callable[[Any], Any]:
    @contextmanager
    def begin(worker: Any) -> Iterator[OneGroup]:
        group, held, go_on = OneGroup(runtime, worker), threading.Event(), threading.Event()

        def hold(_: Sequence[Any]) -> None:
            runtime.storage.before_write = group.note
            held.set()
            assert go_on.wait(WAIT)

        runtime.storage.before_write = hold
        start = runtime.begin("StartInstance", pb.CreateInstanceRequest(instanceId="holds the write", name="none"))
        assert held.wait(WAIT)
        yield group
        go_on.set()
        start.result(WAIT)
        group.end()

    return begin


@pytest.fixture
def worker(runtime: Any) -> Any:
    filters = pb.WorkItemFilters(entities=[pb.EntityFilter(name="counter")])
    return runtime.worker(capabilities=[warm.ENTITY_CAPABILITY], workItemFilters=filters)


def test_a_batch_leaves_before_the_write_of_a_small_group(worker, one_group):
    with one_group(worker) as group:
        group.signal()
    assert group.sent_before == 1
    assert len(worker.next().entityRequestV2.operationRequests) == 1


def test_signals_of_a_large_group_leave_together_after_its_write(worker, one_group):
    with one_group(worker) as group:
        for _ in range(10):
            group.signal(A)
            group.signal(B)
    assert group.sent_before == 0
    batches = [worker.next().entityRequestV2 for _ in range(2)]
    assert {one.instanceId: len(one.operationRequests) for one in batches} == {A: 10, B: 10}


def test_a_worker_that_comes_with_a_large_group_gets_what_has_waited_for_it(runtime, worker, one_group):
    runtime.call("SignalEntity", pb.SignalEntityRequest(instanceId="@other@x", name="add"))
    with one_group(worker) as group:
        for _ in range(10):
            group.signal(A)
        newcomer = runtime.worker(workItemFilters=pb.WorkItemFilters(entities=[pb.EntityFilter(name="other")]))
    assert newcomer.next().entityRequestV2.instanceId == "@other@x"


def test_a_short_state_is_sent_rather_than_waiting_for_the_write(runtime, worker, one_group):
    """Else the signals of a blocking client would each run behind the write of the one before."""
    runtime.call("SignalEntity", pb.SignalEntityRequest(instanceId=A, name="add"))
    first = worker.next()
    with one_group(worker) as group:
        group.answer(first, "1")
        group.signal()
    assert group.sent_before == 1
    second = worker.next().entityRequestV2
    assert second.entityState.value == "1"
    assert not second.executionId.startswith(warm.ENTITY_BASE)


def test_a_long_state_stays_with_its_worker_which_waits_for_the_write(runtime, worker, one_group):
    runtime.call("SignalEntity", pb.SignalEntityRequest(instanceId=A, name="add"))
    first = worker.next()
    with one_group(worker) as group:
        group.answer(first, "x" * 10_000)
        group.signal()
    assert group.sent_before == 0
    second = worker.next().entityRequestV2
    assert not second.HasField("entityState")
    assert second.executionId == warm.ENTITY_BASE + first.completionToken


class TestMaximumAge:
    @pytest.fixture
    def options(self, options):
        return dataclasses.replace(options, turn_max_age=SECOND // 10)

    def test_a_batch_behind_one_that_was_answered_is_delivered_again_in_time(self, runtime, worker):
        signal = pb.SignalEntityRequest(instanceId=A, name="add")
        runtime.call("SignalEntity", signal)
        answered(runtime, worker.next(), "1").result(WAIT)
        runtime.call("SignalEntity", signal)
        lost = worker.next()
        again = worker.next()
        assert again.completionToken != lost.completionToken
        assert again.entityRequestV2.entityState.value == "1"
