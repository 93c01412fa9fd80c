"""What instances leave in memory that have ended, were deleted, or were never stored: nothing."""

from __future__ import annotations

import dataclasses
import gc
from functools import partial

import pytest
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_scheduler.hub.model import HubError
from durabletask_scheduler.instances import Entry
from google.protobuf.timestamp_pb2 import Timestamp

MANY = 200
FEW = 20
IN_A_LONG_TIME = 4_000_000_000 * 1_000_000_000


def alive(kind: type) -> int:
    gc.collect()
    return sum(type(one) is kind for one in gc.get_objects())


@pytest.fixture
def options(options):
    return dataclasses.replace(options, idle_instances=FEW // 2)


def terminate(runtime, instance_id):
    runtime.call("TerminateInstance", pb.TerminateRequest(instanceId=instance_id))


def test_those_that_end_before_a_worker_has_come_leave_memory(runtime):
    runtime.start("waits for a worker")
    before = alive(Entry)
    for number in range(MANY):
        terminate(runtime, runtime.start(f"i{number}"))
    assert alive(Entry) < before + 3 * FEW + 64
    for number in range(MANY):
        runtime.call("PurgeInstances", pb.PurgeInstancesRequest(instanceId=f"i{number}"))
    assert runtime.worker().next().orchestratorRequest.instanceId == "waits for a worker"


def test_activities_that_nobody_wants_any_more_leave_memory_although_others_wait(runtime, do):
    orchestrations = runtime.worker(workItemFilters=pb.WorkItemFilters(orchestrations=[{"name": "order"}]))
    runtime.start("waits for a worker")
    runtime.answer(orchestrations.next(), do.activity(1)).result(5)
    before = alive(Entry)
    for number in range(MANY):
        runtime.start(f"i{number}")
        runtime.answer(orchestrations.next(), do.activity(1)).result(5)
        terminate(runtime, f"i{number}")
    assert alive(Entry) < before + 3 * FEW + 64
    activity = runtime.worker().next().activityRequest
    assert activity.orchestrationInstance.instanceId == "waits for a worker"


class TestAlarms:
    def test_of_instances_that_were_replaced(self, runtime, do):
        replaceable = [pb.ORCHESTRATION_STATUS_RUNNING, pb.ORCHESTRATION_STATUS_TERMINATED]
        policy = pb.OrchestrationIdReusePolicy(replaceableStatus=replaceable)
        worker = runtime.worker()
        before = alive(partial)
        for _ in range(MANY):
            runtime.start("a", orchestrationIdReusePolicy=policy)
            runtime.answer(worker.next(), do.timer(1, IN_A_LONG_TIME)).result(5)
        assert alive(partial) < before + FEW

    def test_of_starts_that_were_terminated_before_their_time(self, runtime):
        at = Timestamp()
        at.FromNanoseconds(IN_A_LONG_TIME)
        before = alive(partial)
        for number in range(MANY):
            terminate(runtime, runtime.start(f"i{number}", scheduledStartTimestamp=at))
        assert alive(partial) < before + FEW

    def test_of_turns_that_could_not_be_written(self, runtime, do):
        worker = runtime.worker()
        runtime.start("a")
        before = alive(partial)
        for _ in range(6):
            runtime.storage.fail_next_writes(1)
            with pytest.raises(HubError, match="the disk is full"):
                runtime.answer(worker.next(), do.timer(1, IN_A_LONG_TIME)).result(5)
        turn = worker.next()
        assert alive(partial) < before + 4
        runtime.answer(turn, do.complete()).result(5)
        assert runtime.status("a") == "COMPLETED"
