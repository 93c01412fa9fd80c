"""From the start of an instance to its end, over the service alone."""

from __future__ import annotations

import time

import pytest
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_scheduler.hub.model import HubError
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

SECOND = 1_000_000_000


def kinds(events):
    return [event.WhichOneof("eventType") for event in events]


def test_an_activity_runs_and_its_result_completes_the_instance(runtime, do):
    worker = runtime.worker()
    runtime.start("a", input=StringValue(value="5"))
    waiting = runtime.wait("a")

    first = worker.next()
    assert kinds(first.orchestratorRequest.newEvents) == ["orchestratorStarted", "executionStarted"]
    assert not first.orchestratorRequest.pastEvents
    runtime.answer(first, do.activity(1)).result(5)
    activity = worker.next()
    assert (activity.activityRequest.name, activity.activityRequest.taskId) == ("charge", 1)
    runtime.result(activity, "7").result(5)
    second = worker.next()
    assert kinds(second.orchestratorRequest.pastEvents) == ["orchestratorStarted", "executionStarted", "taskScheduled"]
    assert kinds(second.orchestratorRequest.newEvents) == ["orchestratorStarted", "taskCompleted"]
    assert not waiting.done()
    runtime.answer(second, do.complete(2, "8")).result(5)

    state = waiting.result(5).orchestrationState
    assert state.orchestrationStatus == pb.ORCHESTRATION_STATUS_COMPLETED
    assert (state.input.value, state.output.value) == ("5", "8")


def test_an_instance_is_pending_until_its_first_turn_is_committed(runtime, do):
    worker = runtime.worker()
    runtime.start("a")
    started = runtime.wait("a", "WaitForInstanceStart")
    turn = worker.next()
    assert runtime.status("a") == "PENDING"
    assert not started.done()
    runtime.answer(turn).result(5)
    assert started.result(5).orchestrationState.orchestrationStatus == pb.ORCHESTRATION_STATUS_RUNNING


def test_a_child_runs_and_answers_its_parent(runtime, do):
    worker = runtime.worker()
    runtime.start("parent")
    runtime.answer(worker.next(), do.child(1, "kid")).result(5)
    child = worker.next()
    assert child.orchestratorRequest.instanceId == "kid"
    runtime.answer(child, do.complete(1, '"done"')).result(5)
    turn = worker.next()
    assert kinds(turn.orchestratorRequest.newEvents) == ["orchestratorStarted", "subOrchestrationInstanceCompleted"]
    runtime.answer(turn, do.complete(2)).result(5)
    assert runtime.status("parent") == "COMPLETED"


def test_a_timer_fires_after_its_time_and_not_before(runtime, do):
    worker = runtime.worker()
    runtime.start("a")
    at = time.time_ns() + SECOND // 5
    runtime.answer(worker.next(), do.timer(1, at)).result(5)
    turn = worker.next()
    assert time.time_ns() >= at
    assert kinds(turn.orchestratorRequest.newEvents) == ["orchestratorStarted", "timerFired"]
    assert turn.orchestratorRequest.newEvents[0].timestamp.ToNanoseconds() > at


def test_a_scheduled_instance_begins_when_its_time_has_come(runtime):
    worker = runtime.worker()
    request = pb.CreateInstanceRequest(instanceId="a", name="order")
    at = time.time_ns() + SECOND // 5
    request.scheduledStartTimestamp.FromNanoseconds(at)
    runtime.call("StartInstance", request)
    worker.next()
    assert time.time_ns() >= at - 1_000_000


def test_events_raised_in_a_turn_wait_for_the_next(runtime, do):
    worker = runtime.worker()
    runtime.start("a")
    turn = worker.next()
    for number in range(3):
        event = pb.RaiseEventRequest(instanceId="a", name="go", input=StringValue(value=str(number)))
        runtime.call("RaiseEvent", event)
    assert worker.waiting == 0
    runtime.answer(turn).result(5)
    events = worker.next().orchestratorRequest.newEvents
    assert [event.eventRaised.input.value for event in events[1:]] == ["0", "1", "2"]


def test_continue_as_new_begins_a_new_generation(runtime, do):
    worker = runtime.worker()
    runtime.start("a")
    first = worker.next()
    again = do.complete(1, "2", pb.ORCHESTRATION_STATUS_CONTINUED_AS_NEW)
    runtime.answer(first, again).result(5)
    second = worker.next()
    assert not second.orchestratorRequest.pastEvents
    assert second.orchestratorRequest.newEvents[1].executionStarted.input.value == "2"
    assert second.orchestratorRequest.executionId.value != first.orchestratorRequest.executionId.value
    assert runtime.status("a") == "RUNNING"
    runtime.answer(second, do.activity(1)).result(5)
    runtime.result(worker.next()).result(5)
    past = worker.next().orchestratorRequest.pastEvents
    assert kinds(past) == ["orchestratorStarted", "executionStarted", "taskScheduled"]
    assert past[1].executionStarted.input.value == "2"


def test_termination_needs_no_worker_and_voids_the_turn_in_flight(runtime, do):
    """Lesson 50."""
    worker = runtime.worker()
    runtime.start("a")
    turn = worker.next()
    waiting = runtime.wait("a")
    runtime.call("TerminateInstance", pb.TerminateRequest(instanceId="a", output=StringValue(value='"stop"')))
    state = waiting.result(5).orchestrationState
    assert (state.orchestrationStatus, state.output.value) == (pb.ORCHESTRATION_STATUS_TERMINATED, '"stop"')
    runtime.answer(turn, do.complete()).result(5)
    assert runtime.status("a") == "TERMINATED"


def test_the_result_of_an_activity_of_a_terminated_instance_is_dropped(runtime, do):
    worker = runtime.worker()
    runtime.start("a")
    runtime.answer(worker.next(), do.activity(1)).result(5)
    activity = worker.next()
    runtime.call("TerminateInstance", pb.TerminateRequest(instanceId="a"))
    runtime.result(activity).result(5)
    assert runtime.status("a") == "TERMINATED"


def test_a_suspended_instance_gets_its_events_after_the_resume(runtime):
    worker = runtime.worker()
    runtime.start("a")
    runtime.answer(worker.next()).result(5)
    runtime.call("SuspendInstance", pb.SuspendRequest(instanceId="a"))
    suspended = worker.next()
    assert kinds(suspended.orchestratorRequest.newEvents) == ["orchestratorStarted", "executionSuspended"]
    runtime.answer(suspended).result(5)
    runtime.call("RaiseEvent", pb.RaiseEventRequest(instanceId="a", name="go"))
    assert runtime.status("a") == "SUSPENDED"
    assert worker.waiting == 0
    runtime.call("ResumeInstance", pb.ResumeRequest(instanceId="a"))
    assert kinds(worker.next().orchestratorRequest.newEvents)[1:] == ["executionResumed", "eventRaised"]


def test_a_failed_instance_is_rewound_and_completes(runtime, do):
    worker = runtime.worker()
    runtime.start("a")
    runtime.answer(worker.next(), do.complete(1, "", pb.ORCHESTRATION_STATUS_FAILED)).result(5)
    assert runtime.status("a") == "FAILED"
    runtime.call("RewindInstance", pb.RewindInstanceRequest(instanceId="a"))
    runtime.answer(worker.next(), do.complete(1)).result(5)
    assert runtime.status("a") == "COMPLETED"


@pytest.mark.parametrize("restarted", [False, True])
class TestARewindOfWhatFailedInTheFirstTurnOfItsGeneration:
    """What that turn consumed is in the history from which the next generation is made, in memory and in the store."""

    def rewound(self, runtime, restarted):
        if restarted:
            runtime.restart()
        runtime.call("RewindInstance", pb.RewindInstanceRequest(instanceId="a"))
        return kinds(runtime.worker().next().orchestratorRequest.pastEvents)

    def test_keeps_the_events_that_were_raised(self, runtime, do, restarted):
        runtime.start("a")
        runtime.call("RaiseEvent", pb.RaiseEventRequest(instanceId="a", name="go"))
        worker = runtime.worker()
        runtime.answer(worker.next(), do.complete(1, "", pb.ORCHESTRATION_STATUS_FAILED)).result(5)
        worker.cancel()
        assert self.rewound(runtime, restarted) == ["orchestratorStarted", "executionStarted", "eventRaised"]

    def test_keeps_the_events_that_were_carried_over(self, runtime, do, restarted):
        worker = runtime.worker()
        runtime.start("a")
        again = do.complete(1, "2", pb.ORCHESTRATION_STATUS_CONTINUED_AS_NEW)
        again.completeOrchestration.carryoverEvents.add().eventRaised.name = "go"
        runtime.answer(worker.next(), again).result(5)
        runtime.answer(worker.next(), do.complete(1, "", pb.ORCHESTRATION_STATUS_FAILED)).result(5)
        worker.cancel()
        assert "eventRaised" in self.rewound(runtime, restarted)


def test_restart_copies_a_running_instance_under_a_new_id(runtime):
    runtime.start("a", input=StringValue(value="5"))
    again = runtime.call("RestartInstance", pb.RestartInstanceRequest(instanceId="a", restartWithNewInstanceId=True))
    assert again.instanceId != "a"
    assert runtime.get(again.instanceId).orchestrationState.input.value == "5"


def test_a_completed_id_is_used_again_and_the_old_instance_is_gone(runtime, do):
    worker = runtime.worker()
    runtime.start("a")
    runtime.answer(worker.next(), do.complete()).result(5)
    runtime.start("a", name="second")
    assert runtime.get("a").orchestrationState.name == "second"
    runtime.answer(worker.next(), do.complete()).result(5)
    assert runtime.status("a") == "COMPLETED"


def test_an_answer_in_parts_is_one_commit(runtime, do):
    worker = runtime.worker()
    runtime.start("a")
    turn = worker.next()
    runtime.answer(turn, do.activity(1), isPartial=True).result(5)
    assert worker.waiting == 0
    runtime.answer(turn, do.activity(2), isPartial=True, numEventsProcessed=Int32Value(value=0)).result(5)
    runtime.answer(turn, do.activity(3), numEventsProcessed=Int32Value(value=0)).result(5)
    assert [worker.next().activityRequest.taskId for _ in range(3)] == [1, 2, 3]


@pytest.mark.parametrize("index", [None, Int32Value(value=0)], ids=["without an index", "with an index"])
def test_a_part_that_is_sent_again_counts_once(runtime, do, index):
    """Its worker was not told of it: the answer was lost, or the group of somebody else's change was not written."""
    worker = runtime.worker()
    runtime.start("target")
    runtime.answer(worker.next()).result(5)
    runtime.start("a")
    turn = worker.next()
    send = pb.OrchestratorAction(
        id=1, sendEvent=pb.SendEventAction(name="ping", instance=pb.OrchestrationInstance(instanceId="target"))
    )
    for _ in range(2):
        runtime.answer(turn, send, isPartial=True, chunkIndex=index).result(5)
    runtime.answer(turn, do.complete(), chunkIndex=index and Int32Value(value=1)).result(5)
    assert kinds(worker.next().orchestratorRequest.newEvents) == ["orchestratorStarted", "eventRaised"]


@pytest.mark.parametrize(
    ("rpc", "request_", "code"),
    [
        ("StartInstance", pb.CreateInstanceRequest(instanceId="there", name="order"), "ALREADY_EXISTS"),
        ("StartInstance", pb.CreateInstanceRequest(instanceId="@a@b", name="order"), "INVALID_ARGUMENT"),
        ("StartInstance", pb.CreateInstanceRequest(instanceId="b"), "INVALID_ARGUMENT"),
        ("RaiseEvent", pb.RaiseEventRequest(instanceId="none", name="go"), "NOT_FOUND"),
        ("RewindInstance", pb.RewindInstanceRequest(instanceId="none"), "NOT_FOUND"),
        ("RewindInstance", pb.RewindInstanceRequest(instanceId="there"), "FAILED_PRECONDITION"),
        ("RestartInstance", pb.RestartInstanceRequest(instanceId="none"), "NOT_FOUND"),
        ("RestartInstance", pb.RestartInstanceRequest(instanceId="there"), "FAILED_PRECONDITION"),
        ("PurgeInstances", pb.PurgeInstancesRequest(instanceId="there"), "FAILED_PRECONDITION"),
        ("PurgeInstances", pb.PurgeInstancesRequest(), "INVALID_ARGUMENT"),
        ("SignalEntity", pb.SignalEntityRequest(instanceId="a"), "INVALID_ARGUMENT"),
        ("DeleteTaskHub", pb.DeleteTaskHubRequest(), "UNIMPLEMENTED"),
        ("CreateTaskHub", pb.CreateTaskHubRequest(recreateIfExists=True), "FAILED_PRECONDITION"),
    ],
)
def test_refusals_have_the_codes_of_the_protocol(runtime, rpc, request_, code):
    runtime.start("there")
    with pytest.raises(HubError) as refusal:
        runtime.call(rpc, request_)
    assert refusal.value.code == code
    assert refusal.value.message


@pytest.mark.parametrize("rpc", ["Hello", "GetInstance", "StartInstance", "QueryInstances"])
def test_an_unknown_task_hub_is_not_found(runtime, rpc):
    with pytest.raises(HubError, match="Task hub not found: nowhere") as refusal:
        runtime.call(rpc, hub="nowhere")
    assert refusal.value.code == "NOT_FOUND"


def test_an_unknown_task_hub_ends_the_stream(runtime):
    worker = runtime.worker(hub="nowhere")
    assert worker.closed.wait(5)
    assert worker.error.code == "NOT_FOUND"


def test_task_hubs_are_separate_and_can_be_created(runtime):
    runtime.call("CreateTaskHub", hub="new")
    other = runtime.worker(hub="new")
    runtime.start("a", hub="new")
    assert other.next().orchestratorRequest.instanceId == "a"
    assert not runtime.get("a").exists


def test_a_missing_instance_does_not_exist(runtime):
    assert not runtime.get("none").exists
    assert not runtime.get("@counter@1").exists
    runtime.call("TerminateInstance", pb.TerminateRequest(instanceId="none"))


def test_the_server_gives_an_id_to_an_instance_without_one(runtime):
    request = pb.CreateInstanceRequest(name="order")
    instance_id = runtime.call("StartInstance", request).instanceId
    assert runtime.get(instance_id).exists
    assert not request.instanceId


def test_hello_says_what_is_supported_beyond_the_protocol(runtime):
    expected = (("durabletask-warm-runs", "1"), ("durabletask-additions", "1"))
    assert runtime.service.initial_metadata("Hello") == expected
    assert runtime.service.initial_metadata("StartInstance") == ()
    runtime.call("Hello")
