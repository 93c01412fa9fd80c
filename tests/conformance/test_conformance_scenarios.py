"""The scenarios that a task hub has to pass for the SDKs of the family, over gRPC and with nothing but the stubs.

Numbers in the docstrings are those of the protocol's conformance checklist. Scenarios 9 to 12 concern entities.
"""

from __future__ import annotations

import time

import grpc
import pytest
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto.orchestrator_service_pb2_grpc import TaskHubSidecarServiceStub

MILLISECOND = 1_000_000
COMPLETED = pb.ORCHESTRATION_STATUS_COMPLETED


def test_the_result_of_an_activity_counts_once(site, do):
    """Scenario 1: twice under one token, and by two workers after an abandon."""
    first = site.worker()
    site.start("a")
    first.step(do.activity(1))
    item = first.activity()
    site.stub.AbandonTaskActivityWorkItem(pb.AbandonActivityTaskRequest(completionToken=item.completionToken))
    again = first.activity()
    assert again.completionToken != item.completionToken
    first.result(item, "stale")
    first.result(again, "2")
    first.result(again, "3")
    first.step(do.complete())
    results = [event.taskCompleted.result.value for event in site.history("a") if event.HasField("taskCompleted")]
    assert results == ["2"]


def test_a_retry_may_use_its_action_id_again(site, do):
    """Scenario 2: Python schedules each attempt under the same id."""
    worker = site.worker()
    site.start("a")
    worker.step(do.activity(1))
    for attempt in range(2):
        worker.failure(worker.activity(), f"attempt {attempt}")
        worker.step(do.activity(1))
    worker.result(worker.activity(), "3")
    assert worker.step(do.complete(2, "3")) == ["orchestratorStarted", "taskCompleted"]
    assert site.wait("a").output.value == "3"
    assert site.kinds("a").count("taskScheduled") == 3


def test_a_result_for_an_older_generation_is_dropped(site, do):
    """Scenario 3: the new generation has an activity of the same id."""
    worker = site.worker()
    site.start("a")
    worker.step(do.activity(1), do.timer(2))
    old = worker.activity()
    worker.step(do.again())
    worker.step(do.activity(1))
    new = worker.activity()
    worker.result(old, "old")
    worker.result(new, "new")
    worker.step(do.complete())
    assert [e.taskCompleted.result.value for e in site.history("a") if e.HasField("taskCompleted")] == ["new"]


def test_events_sent_to_itself_reach_the_new_generation_once(site, do):
    """Scenario 4: .NET sends what it has buffered to itself in the turn that continues as new."""
    worker = site.worker()
    site.start("a")
    worker.step()
    site.raise_event("a", "one")
    worker.answer(worker.turn(), do.send(1, "a", "one"), do.again())
    item = worker.turn()
    names = [e.eventRaised.name for e in item.orchestratorRequest.newEvents if e.HasField("eventRaised")]
    assert names == ["one"]
    worker.answer(item, do.complete())
    assert site.status("a") == "COMPLETED"


def test_a_child_id_is_used_again_in_each_generation(site, do):
    """Scenario 5: Python and Go make the same id from the parent's id and the action's number."""
    worker = site.worker()
    site.start("a")
    for generation in range(3):
        worker.step(do.child(1, "a:0001"))
        child = worker.turn()
        assert child.orchestratorRequest.instanceId == "a:0001"
        worker.answer(child, do.complete(1, str(generation)))
        item = worker.turn()
        assert item.orchestratorRequest.newEvents[-1].subOrchestrationInstanceCompleted.result.value == str(generation)
        worker.answer(item, do.again() if generation < 2 else do.complete())
    assert site.status("a") == "COMPLETED"


def test_suspending_twice_is_suspending_once(site, do, tools):
    """Scenario 6: events wait for the resume and keep their order; repeated actions are not confirmed again."""
    worker = site.worker()
    site.start("a")
    worker.step(do.activity(1))
    activity = worker.activity()
    site.suspend("a")
    site.suspend("a")
    # Some SDKs, while suspended, answer with actions that are confirmed already.
    assert worker.step(do.activity(1)) == ["orchestratorStarted", "executionSuspended"]
    for name in ("one", "two"):
        site.raise_event("a", name)
    worker.result(activity)
    assert site.status("a") == "SUSPENDED"
    assert worker.nothing(0.2)
    site.resume("a")
    item = worker.turn()
    events = item.orchestratorRequest.newEvents
    expected = ["orchestratorStarted", "executionResumed", "eventRaised", "eventRaised", "taskCompleted"]
    assert tools.kinds(events) == expected
    assert [event.eventRaised.name for event in events[2:4]] == ["one", "two"]
    worker.answer(item, do.complete())
    history = site.kinds("a")
    assert [history.count(kind) for kind in ("executionSuspended", "executionResumed", "taskScheduled")] == [1, 1, 1]


@pytest.mark.parametrize("how", ["suspended", "pending", "scheduled", "without a worker", "in a turn", "waiting"])
def test_terminate_works_in_every_state(site, do, how):
    """Scenario 7."""
    if how == "scheduled":
        request = pb.CreateInstanceRequest(instanceId="a", name="order")
        request.scheduledStartTimestamp.FromSeconds(int(time.time()) + 3600)
        site.stub.StartInstance(request)
    elif how in ("pending", "without a worker"):
        site.start("a")
    else:
        worker = site.worker()
        site.start("a")
        item = worker.turn()
        if how != "in a turn":
            worker.answer(item, do.activity(1), do.timer(2, 3600 * 10**9))
        if how == "suspended":
            site.suspend("a")
    waiting = site.begin_wait("a")
    site.terminate("a", '"why"')
    state = waiting.result().orchestrationState
    assert (state.orchestrationStatus, state.output.value) == (pb.ORCHESTRATION_STATUS_TERMINATED, '"why"')
    assert state.HasField("completedTimestamp")
    assert site.kinds("a")[-2:] == ["executionTerminated", "executionCompleted"]
    if how == "in a turn":
        worker.answer(item, do.complete(1, "late"))
        assert site.state("a").output.value == '"why"'


@pytest.mark.parametrize(
    ("recursive", "expected"),
    [
        (True, ["TERMINATED", "TERMINATED", "TERMINATED"]),
        (False, ["TERMINATED", "RUNNING", "RUNNING"]),
    ],
)
def test_terminate_reaches_children_only_if_asked(site, do, recursive, expected):
    """Scenario 8."""
    worker = site.worker()
    site.start("a")
    worker.step(do.child(1, "b"))
    worker.step(do.child(1, "c"))
    worker.step()
    site.terminate("a", recursive=recursive)
    assert [site.status(name) for name in "abc"] == expected


def test_a_lost_stream_s_turn_is_delivered_again(site, do):
    """Scenario 13: under a new token; the old completion is accepted and ignored."""
    first, second_channel = site.worker(), site.connect()
    site.start("a")
    lost = first.turn()
    first.close()
    second = site.worker(channel=second_channel)
    again = second.turn()
    assert again.completionToken != lost.completionToken
    second.answer(lost, do.complete(1, "lost"))
    assert site.status("a") == "PENDING"
    second.answer(again, do.complete(1, "again"))
    assert site.wait("a").output.value == "again"


def test_a_completion_repeated_after_a_restart_changes_nothing(site, do):
    """Scenario 14: the worker never heard that its completion was committed, and sends it again."""
    worker = site.worker()
    site.start("a")
    item = worker.turn()
    worker.answer(item, do.activity(1), do.child(2, "b"))
    before = site.kinds("a")
    site.restart()
    worker = site.worker()
    worker.answer(item, do.activity(1), do.child(2, "b"))
    assert site.kinds("a") == before
    assert worker.activity().activityRequest.taskId == 1
    assert worker.turn().orchestratorRequest.instanceId == "b"
    assert worker.nothing(0.2)


def test_thousands_wait_and_leave_nothing_behind(site, do):
    """Scenario 15: 2,000 parked waits whose client goes away; the scheduler goes on."""
    channel = site.connect()
    stub = TaskHubSidecarServiceStub(channel)
    site.start("a")
    waits = [stub.WaitForInstanceCompletion.future(pb.GetInstanceRequest(instanceId="a")) for _ in range(2_000)]
    one = site.begin_wait("a")
    assert site.status("a") == "PENDING"
    channel.close()
    assert all(wait.cancelled() or wait.exception() for wait in waits)
    worker = site.worker()
    worker.step(do.complete(1, "done"))
    assert one.result().orchestrationState.output.value == "done"


def test_a_burst_of_calls_is_served_and_not_shed(site):
    """gRPC servers CANCEL what exceeds 1,000 waiting calls unless told otherwise; workers lost completions by it."""
    request = pb.GetInstanceRequest(instanceId="nobody")
    calls = [site.stub.GetInstance.future(request) for _ in range(5_000)]
    assert [call.code() for call in calls if call.exception() is not None] == []
    assert not any(call.result().exists for call in calls)


class TestLargeWorkItems:
    """Scenario 16: beyond the 4 MiB that most workers accept."""

    BIG = "x" * (3 * 1024 * 1024)

    def large_history(self, site, do):
        worker = site.worker(channel=site.connect([("grpc.max_receive_message_length", -1)]))
        site.start("a")
        worker.step(do.activity(1), do.activity(2))
        for _ in range(2):
            worker.result(worker.activity(), self.BIG)
            worker.step()
        worker.close()

    def test_a_worker_that_streams_histories_gets_them(self, site, do):
        self.large_history(site, do)
        worker = site.worker(
            channel=site.connect(),
            capabilities=[pb.WORKER_CAPABILITY_HISTORY_STREAMING],
        )
        site.raise_event("a")
        item = worker.turn()
        request = item.orchestratorRequest
        assert request.requiresHistoryStreaming
        assert not request.pastEvents
        history = pb.StreamInstanceHistoryRequest(
            instanceId="a", executionId=request.executionId, forWorkItemProcessing=True
        )
        past = [event for chunk in site.stub.StreamInstanceHistory(history) for event in chunk.events]
        assert sum(event.HasField("taskCompleted") for event in past) == 2
        worker.answer(item, do.complete())
        assert site.status("a") == "COMPLETED"

    def test_others_with_a_limit_cannot_and_the_orchestration_fails_clearly(self, site, do):
        self.large_history(site, do)
        site.raise_event("a")
        for _ in range(3):
            worker = site.worker(channel=site.connect())
            assert worker.ended.wait(20)
            assert worker.error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        details = site.wait("a").failureDetails
        assert details.errorType == "WorkItemTooLarge"
        assert "most workers accept 4194304 bytes" in details.errorMessage
        assert "max_receive_message_length" in details.errorMessage

    def test_an_activity_whose_input_is_too_large_fails_and_the_orchestration_learns_it(self, site, do, tools):
        turns = site.worker(channel=site.connect([("grpc.max_receive_message_length", -1)]), **ONLY_TURNS)
        site.start("a")
        turns.step(do.activity(1, input=tools.text("x" * 5 * 1024 * 1024)))
        for _ in range(3):
            worker = site.worker(channel=site.connect(), **ONLY_ACTIVITIES)
            assert worker.ended.wait(20)
        item = turns.turn()
        failed = item.orchestratorRequest.newEvents[-1].taskFailed.failureDetails
        assert failed.errorType == "WorkItemTooLarge"
        assert failed.isNonRetriable

    def test_workers_without_a_limit_just_get_them(self, site, do):
        self.large_history(site, do)
        site.raise_event("a")
        worker = site.worker(channel=site.connect([("grpc.max_receive_message_length", -1)]))
        item = worker.turn()
        assert item.ByteSize() > 6 * 1024 * 1024
        worker.answer(item, do.complete())
        assert site.status("a") == "COMPLETED"


ONLY_TURNS = {"workItemFilters": pb.WorkItemFilters(orchestrations=[pb.OrchestrationFilter(name="order")])}
ONLY_ACTIVITIES = {"workItemFilters": pb.WorkItemFilters(activities=[pb.ActivityFilter(name="charge")])}


@pytest.mark.parametrize("when", ["past", "soon", "sub-millisecond"])
def test_a_timer_fires_once_and_after_its_time(site, do, when):
    """Scenario 17: the turn's time is strictly later than the timer's, also for SDKs that see milliseconds."""
    worker = site.worker()
    site.start("a")
    begun = time.time_ns()
    timers = {
        "past": do.timer(1, seconds=0, nanos=1),
        "soon": do.timer(1, 50 * MILLISECOND),
        "sub-millisecond": do.timer(1, 50 * MILLISECOND + 123_456),
    }
    worker.step(timers[when])
    item = worker.turn()
    clock, fired = item.orchestratorRequest.newEvents
    fire_at = timers[when].createTimer.fireAt
    assert fired.timerFired.timerId == 1
    assert fired.timerFired.fireAt == fire_at
    assert clock.timestamp.ToNanoseconds() // MILLISECOND > fire_at.ToNanoseconds() // MILLISECOND
    if when != "past":
        assert time.time_ns() > begun + 50 * MILLISECOND
    worker.answer(item)
    assert worker.nothing(0.2)


def test_a_timer_of_the_year_9999_waits_and_survives_a_restart(site, do):
    """Scenario 17."""
    worker = site.worker()
    site.start("a")
    worker.step(do.timer(1, seconds=253_402_300_799, nanos=999_999_999))
    site.restart()
    worker = site.worker()
    assert worker.nothing(0.2)
    created = next(event for event in site.history("a") if event.HasField("timerCreated"))
    assert created.timerCreated.fireAt.seconds == 253_402_300_799
    site.raise_event("a")
    assert worker.step(do.complete()) == ["orchestratorStarted", "eventRaised"]


def test_a_worker_without_tokens_completes_and_an_old_client_s_ignore_is_honoured(site, do):
    """Scenario 18: durabletask-go never echoes tokens; its reuse policy has an action in field 2."""
    worker = site.worker()
    # Field 1: statuses to which the policy applies (completed); field 2: the action (1 is "ignore").
    policy = pb.OrchestrationIdReusePolicy.FromString(b"\x0a\x01\x01\x10\x01")
    site.start("a", orchestrationIdReusePolicy=policy)
    worker.step(do.activity(1), completionToken="")
    worker.result(worker.activity(), completionToken="")
    worker.step(do.complete(2, "first"), completionToken="")
    assert site.wait("a").output.value == "first"
    site.start("a", orchestrationIdReusePolicy=policy)
    assert site.state("a").output.value == "first"
    assert worker.nothing(0.2)


def test_a_schedule_of_the_epoch_means_none_and_an_empty_input_stays_empty(site, do, tools):
    """Scenario 19: JavaScript always sends both."""
    request = pb.CreateInstanceRequest(instanceId="a", name="order", input=tools.text(""))
    request.scheduledStartTimestamp.FromSeconds(0)
    site.stub.StartInstance(request)
    worker = site.worker()
    item = worker.turn()
    started = item.orchestratorRequest.newEvents[1].executionStarted
    assert started.HasField("input")
    assert started.input.value == ""
    assert not started.HasField("scheduledStartTimestamp")
    assert not site.state("a").HasField("scheduledStartTimestamp")


def test_the_history_has_the_layout_that_clients_check(site, do):
    """Scenario 20."""
    worker = site.worker()
    site.start("a")
    worker.step(do.activity(1))
    worker.result(worker.activity())
    worker.step(do.timer(2))
    worker.step(do.child(3, "a:3"))
    worker.step(do.complete(1))
    worker.step(do.complete(4))
    history = site.history("a")
    assert [event.WhichOneof("eventType") for event in history] == [
        "orchestratorStarted",
        "executionStarted",
        "taskScheduled",
        "orchestratorStarted",
        "taskCompleted",
        "timerCreated",
        "orchestratorStarted",
        "timerFired",
        "subOrchestrationInstanceCreated",
        "orchestratorStarted",
        "subOrchestrationInstanceCompleted",
        "executionCompleted",
    ]
    ids = [event.eventId for event in history]
    positive = [number for number in ids if number >= 0]
    assert positive == sorted(set(positive))
    assert [number for number in ids if number < 0] == [-1] * (len(ids) - len(positive))
    assert all(event.HasField("timestamp") for event in history)


def test_paging_ends_with_an_unset_token(site, do):
    """Scenario 21: .NET goes on until the token is unset; pages are full while there is more."""
    worker = site.worker()
    for number in range(7):
        site.start(f"a{number}")
        worker.step(do.complete())
    sizes, token = [], None
    while True:
        query = pb.InstanceQuery(maxInstanceCount=3, continuationToken=token)
        page = site.stub.QueryInstances(pb.QueryInstancesRequest(query=query))
        sizes.append(len(page.orchestrationState))
        if not page.HasField("continuationToken"):
            break
        token = page.continuationToken
    assert sizes == [3, 3, 1]
    listed, key = [], None
    while True:
        response = site.stub.ListInstanceIds(pb.ListInstanceIdsRequest(pageSize=3, lastInstanceKey=key))
        listed += response.instanceIds
        if not response.HasField("lastInstanceKey"):
            break
        key = response.lastInstanceKey
    assert listed == [f"a{number}" for number in range(7)]


def test_restart_of_a_running_instance_needs_a_new_id(site, do, tools):
    """Scenario 22."""
    site.start("a", input=tools.text("7"), tags={"team": "x"})
    code, details = tools.refused(lambda: site.stub.RestartInstance(pb.RestartInstanceRequest(instanceId="a")))
    assert code == "FAILED_PRECONDITION"
    assert "restart it under a new one" in details
    copy = site.stub.RestartInstance(pb.RestartInstanceRequest(instanceId="a", restartWithNewInstanceId=True))
    state = site.state(copy.instanceId)
    assert (state.name, state.input.value, dict(state.tags)) == ("order", "7", {"team": "x"})
    assert state.executionId != site.state("a").executionId
    site.terminate("a")
    assert site.stub.RestartInstance(pb.RestartInstanceRequest(instanceId="a")).instanceId == "a"
    assert site.status("a") == "PENDING"


class TestRewind:
    """Scenario 23."""

    def test_a_failed_activity_runs_again_and_that_twice(self, site, do):
        worker = site.worker()
        site.start("a")
        worker.step(do.activity(1))
        for _ in range(2):
            worker.failure(worker.activity())
            worker.step(do.fail())
            site.rewind("a")
            worker.step(do.activity(1))
        worker.result(worker.activity())
        worker.step(do.complete(2, "at last"))
        assert site.wait("a").output.value == "at last"

    @pytest.mark.parametrize("purged", [False, True])
    def test_a_failed_child_runs_again_even_if_it_was_purged(self, site, do, purged):
        worker = site.worker()
        site.start("a")
        worker.step(do.child(1, "b"))
        worker.step(do.fail())
        worker.step(do.fail())
        if purged:
            site.stub.PurgeInstances(pb.PurgeInstancesRequest(instanceId="b", isOrchestration=True))
        site.rewind("a")
        done = 0
        while done < 2:
            item = worker.turn()
            if item.orchestratorRequest.instanceId == "b":
                worker.answer(item, do.complete(1, "child"))
                done += 1
            elif any(e.HasField("subOrchestrationInstanceCompleted") for e in item.orchestratorRequest.newEvents):
                worker.answer(item, do.complete(2, "parent"))
                done += 1
            else:
                worker.answer(item)
        assert site.wait("a").output.value == "parent"


def test_an_instance_is_pending_while_its_first_turn_runs(site, do):
    """Scenario 25: a wait for the start goes on until the first turn is committed."""
    worker = site.worker()
    site.start("a")
    item = worker.turn()
    with pytest.raises(grpc.RpcError) as caught:
        site.begin_wait("a", "WaitForInstanceStart", timeout=0.3).result()
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    waiting = site.begin_wait("a", "WaitForInstanceStart")
    worker.answer(item)
    assert waiting.result().orchestrationState.orchestrationStatus == pb.ORCHESTRATION_STATUS_RUNNING
