"""Many starts in one request, and counts: what our scheduler adds to the protocol."""

from __future__ import annotations

import grpc
import pytest
from durabletask_proto import additions
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto import scheduler_additions_pb2 as additions_pb
from durabletask_scheduler.hub.model import HubError
from google.protobuf.wrappers_pb2 import StringValue

REPLACE = pb.OrchestrationIdReusePolicy(
    replaceableStatus=[pb.ORCHESTRATION_STATUS_PENDING, pb.ORCHESTRATION_STATUS_TERMINATED]
)


def new(instance_id, name="order", **fields):
    return pb.CreateInstanceRequest(instanceId=instance_id, name=name, **fields)


def start_all(runtime, *requests, hub="default"):
    return runtime.call("StartInstances", additions_pb.StartInstancesRequest(requests=requests), hub)


def refusals(response):
    return {refusal.index: grpc_name(refusal.code) for refusal in response.refusals}


def grpc_name(code):
    return next(status.name for status in grpc.StatusCode if status.value[0] == code)


def counted(runtime, hub="default", **fields):
    response = runtime.call("CountInstances", additions_pb.CountInstancesRequest(**fields), hub)
    return {
        (
            pb.OrchestrationStatus.Name(one.status).removeprefix("ORCHESTRATION_STATUS_"),
            one.name,
            one.version,
        ): one.count
        for one in response.counts
    }


class TestBulkStart:
    def test_thousands_start_in_one_transaction(self, runtime):
        runtime.start("before")
        writes = len(runtime.storage.groups)
        response = start_all(runtime, *(new(f"i{number}") for number in range(3_000)))
        assert list(response.instanceIds) == [f"i{number}" for number in range(3_000)]
        assert len(runtime.storage.groups) == writes + 1 and not response.refusals
        assert counted(runtime) == {("PENDING", "", ""): 3_001}

    def test_each_has_an_outcome_of_its_own(self, runtime):
        runtime.start("taken")
        response = start_all(
            runtime, new("a"), new("taken"), new("@entity@key"), new("b"), new("nameless", name=""), new("a")
        )
        assert list(response.instanceIds) == ["a", "", "", "b", "", ""]
        assert refusals(response) == {
            1: "ALREADY_EXISTS",
            2: "INVALID_ARGUMENT",
            4: "INVALID_ARGUMENT",
            5: "ALREADY_EXISTS",
        }
        assert "'taken'" in response.refusals[0].message
        assert (runtime.status("a"), runtime.status("b"), runtime.status("taken")) == ("PENDING",) * 3

    def test_an_id_that_is_left_out_is_made_and_the_request_left_alone(self, runtime):
        request = additions_pb.StartInstancesRequest(requests=[new(""), new("")])
        response = runtime.call("StartInstances", request)
        first, second = response.instanceIds
        assert first != second and runtime.get(first).exists and runtime.get(second).exists
        assert [one.instanceId for one in request.requests] == ["", ""]

    @pytest.mark.parametrize("store_has_it", [False, True])
    def test_reuse_policies_hold_for_each(self, runtime, store_has_it):
        runtime.start("a")
        runtime.start("b")
        if store_has_it:
            runtime.restart()
        response = start_all(
            runtime, new("a", "newer", orchestrationIdReusePolicy=REPLACE), new("b"), new("c"), new("c"),
            new("c", "newest", orchestrationIdReusePolicy=REPLACE),
        )  # fmt: skip
        assert refusals(response) == {1: "ALREADY_EXISTS", 3: "ALREADY_EXISTS"}
        runtime.restart()
        names = {one: runtime.get(one).orchestrationState.name for one in "abc"}
        assert names == {"a": "newer", "b": "order", "c": "newest"}

    def test_they_run(self, runtime, do):
        worker = runtime.worker()
        start_all(runtime, *(new(f"i{number}") for number in range(20)))
        for _ in range(20):
            runtime.answer(worker.next(), do.complete())
        for number in range(20):
            runtime.wait(f"i{number}").result(10)
        assert counted(runtime) == {("COMPLETED", "", ""): 20}

    def test_a_scheduled_start_waits_for_its_time(self, runtime):
        later = new("later")
        later.scheduledStartTimestamp.GetCurrentTime()
        later.scheduledStartTimestamp.seconds += 3600
        worker = runtime.worker()
        start_all(runtime, later, new("now"))
        assert worker.next().orchestratorRequest.instanceId == "now"
        assert runtime.status("later") == "PENDING"

    def test_task_hubs_are_apart(self, runtime):
        start_all(runtime, new("a"), hub="other")
        assert start_all(runtime, new("a")).instanceIds == ["a"]
        assert counted(runtime) == counted(runtime, "other") == {("PENDING", "", ""): 1}
        with pytest.raises(HubError, match="Task hub not found"):
            start_all(runtime, new("a"), hub="nowhere")

    def test_too_many_are_refused_and_told_how_many(self, runtime):
        many = [new(f"i{number}") for number in range(additions.MOST_STARTS + 1)]
        with pytest.raises(HubError, match=f"at most {additions.MOST_STARTS}") as caught:
            start_all(runtime, *many)
        assert caught.value.code == "INVALID_ARGUMENT"
        assert counted(runtime) == {}

    def test_none_is_started_when_the_store_cannot_be_read(self, runtime):
        runtime.storage.failing.add("existing")
        with pytest.raises(HubError) as caught:
            start_all(runtime, new("a"))
        assert caught.value.code == "UNAVAILABLE"
        runtime.storage.failing.clear()
        assert not runtime.get("a").exists

    def test_none_is_started_when_the_write_fails(self, runtime):
        """Lesson 60."""
        runtime.storage.fail_next_writes(1)
        with pytest.raises(HubError) as caught:
            start_all(runtime, new("a"), new("b"))
        assert caught.value.code == "UNAVAILABLE"
        assert not runtime.get("a").exists
        assert not start_all(runtime, new("a"), new("b")).refusals


class TestCounts:
    def test_all_conditions_of_a_query_hold(self, runtime):
        start_all(
            runtime,
            new("a-1", "order", version=StringValue(value="1"), tags={"eu": "yes"}),
            new("a-2", "order", version=StringValue(value="2"), tags={"eu": "yes"}),
            new("b-1", "other"),
        )
        runtime.call("TerminateInstance", pb.TerminateRequest(instanceId="a-2"))
        assert counted(runtime, byName=True) == {
            ("PENDING", "order", ""): 1,
            ("PENDING", "other", ""): 1,
            ("TERMINATED", "order", ""): 1,
        }
        assert counted(runtime, byVersion=True, name=StringValue(value="order")) == {
            ("PENDING", "", "1"): 1,
            ("TERMINATED", "", "2"): 1,
        }
        assert counted(runtime, version=StringValue(value="")) == {("PENDING", "", ""): 1}
        assert counted(runtime, tags={"eu": "yes"}) == {("PENDING", "", ""): 1, ("TERMINATED", "", ""): 1}
        assert counted(runtime, query=pb.InstanceQuery(instanceIdPrefix=StringValue(value="b-"))) == {
            ("PENDING", "", ""): 1
        }
        assert counted(runtime, query=pb.InstanceQuery(runtimeStatus=[pb.ORCHESTRATION_STATUS_FAILED])) == {}


def test_hello_announces_the_additions(runtime):
    assert (additions.HEADER, additions.VERSION) in runtime.service.initial_metadata("Hello")
    assert not runtime.service.initial_metadata("StartInstance")
