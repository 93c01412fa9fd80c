"""Who gets which work item, under which lease, and what becomes of it."""

from __future__ import annotations

import dataclasses
import threading
import time

import pytest
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_scheduler.service import ServiceOptions
from google.protobuf.wrappers_pb2 import StringValue

WARM = [1001]
NANOSECONDS = 1_000_000_000


def orchestrations(*filters):
    wanted = pb.WorkItemFilters()
    for name, *versions in filters:
        wanted.orchestrations.add(name=name, versions=versions)
    return {"workItemFilters": wanted}


def ids(worker, count):
    return {worker.next().orchestratorRequest.instanceId for _ in range(count)}


def settle(runtime):
    """Everything submitted so far has been acted upon: one more round trip through the engine."""
    runtime.get("nobody")
    runtime.get("nobody")


# -- permits --


def test_a_stream_gets_no_more_turns_than_it_has_permits(runtime, do):
    worker = runtime.worker(maxConcurrentOrchestrationWorkItems=2)
    for number in range(3):
        runtime.start(f"a{number}")
    turns = [worker.next(), worker.next()]
    settle(runtime)
    assert worker.waiting == 0
    runtime.answer(turns[0], do.complete()).result(5)
    assert worker.next().orchestratorRequest.instanceId == "a2"


def test_activities_do_not_take_the_permits_of_turns(runtime, do):
    """R5."""
    worker = runtime.worker(maxConcurrentOrchestrationWorkItems=1, maxConcurrentActivityWorkItems=1)
    runtime.start("a")
    runtime.answer(worker.next(), do.activity(1), do.activity(2)).result(5)
    assert worker.next().HasField("activityRequest")
    runtime.start("b")
    assert worker.next().orchestratorRequest.instanceId == "b"


def test_no_limit_means_a_hundred(runtime):
    worker = runtime.worker()
    for number in range(101):
        runtime.begin("StartInstance", pb.CreateInstanceRequest(instanceId=f"a{number}", name="order"))
    ids(worker, 100)
    settle(runtime)
    assert worker.waiting == 0


def test_work_is_spread_over_workers(runtime):
    workers = [runtime.worker(maxConcurrentOrchestrationWorkItems=2) for _ in range(2)]
    for number in range(4):
        runtime.start(f"a{number}")
    assert ids(workers[0], 2) | ids(workers[1], 2) == {"a0", "a1", "a2", "a3"}


def test_a_long_backlog_of_one_name_does_not_starve_another(runtime, do):
    for number in range(20):
        runtime.start(f"a{number}", name="flood")
    runtime.start("b", name="rare")
    worker = runtime.worker(maxConcurrentOrchestrationWorkItems=1)
    served = []
    for _ in range(3):
        turn = worker.next()
        served.append(turn.orchestratorRequest.instanceId)
        runtime.answer(turn).result(5)
    assert "b" in served


# -- what has begun goes first --


def waiting_behind(runtime, worker, do, *begun):
    """One turn is out; behind it wait twelve first turns, and events for instances that have begun."""
    for instance_id in begun:
        runtime.start(instance_id)
        runtime.answer(worker.next()).result(5)
    runtime.start("out")
    out = worker.next()
    for number in range(12):
        runtime.start(f"new-{number:02}")
    for instance_id in begun:
        runtime.call("RaiseEvent", pb.RaiseEventRequest(instanceId=instance_id, name="go"))
    return out


def serve(runtime, worker, turn, *actions):
    """Answer a turn, and take the next one."""
    runtime.answer(turn, *actions).result(5)
    return worker.next()


def order_of(runtime, worker, turn, count, *actions):
    served = []
    for _ in range(count):
        turn = serve(runtime, worker, turn, *actions)
        served.append(turn.orchestratorRequest.instanceId)
    return served


def test_what_has_begun_goes_before_what_begins(runtime, do):
    worker = runtime.worker(maxConcurrentOrchestrationWorkItems=1)
    out = waiting_behind(runtime, worker, do, "a", "b")
    served = order_of(runtime, worker, out, 14, do.complete())
    assert served == ["a", "b", *(f"new-{number:02}" for number in range(12))]


def test_what_begins_has_its_turn_after_eight_others(runtime, do):
    worker = runtime.worker(maxConcurrentOrchestrationWorkItems=1)
    begun = [f"begun-{number:02}" for number in range(20)]
    out = waiting_behind(runtime, worker, do, *begun)
    served = order_of(runtime, worker, out, 27, do.complete())
    assert served == [*begun[:8], "new-00", *begun[8:16], "new-01", *begun[16:], *(f"new-{n:02}" for n in range(2, 7))]


def test_children_belong_to_what_has_begun(runtime, do):
    worker = runtime.worker(maxConcurrentOrchestrationWorkItems=1)
    out = waiting_behind(runtime, worker, do)
    assert serve(runtime, worker, out, do.child(1, "child", "order")).orchestratorRequest.instanceId == "child"


def test_a_new_generation_begins(runtime, do):
    worker = runtime.worker(maxConcurrentOrchestrationWorkItems=1)
    out = waiting_behind(runtime, worker, do)
    again = do.complete(status=pb.ORCHESTRATION_STATUS_CONTINUED_AS_NEW)
    turn = serve(runtime, worker, out, again)
    served = [turn.orchestratorRequest.instanceId, *order_of(runtime, worker, turn, 12, do.complete())]
    assert served == [*(f"new-{number:02}" for number in range(12)), "out"]


def test_what_is_no_longer_wanted_is_passed_over(runtime, do):
    worker = runtime.worker(maxConcurrentOrchestrationWorkItems=1)
    out = waiting_behind(runtime, worker, do, "a", "b")
    for instance_id in ("a", "new-00", "new-11"):
        runtime.call("TerminateInstance", pb.TerminateRequest(instanceId=instance_id))
    purge = pb.PurgeInstancesRequest(instanceBatch=pb.InstanceBatch(instanceIds=["a", "new-00", "new-11"]))
    assert runtime.call("PurgeInstances", purge).deletedInstanceCount == 3
    served = order_of(runtime, worker, out, 11, do.complete())
    assert served == ["b", *(f"new-{number:02}" for number in range(1, 11))]


def test_the_permit_of_a_void_turn_is_held_until_the_worker_answers(runtime, do):
    worker = runtime.worker(maxConcurrentOrchestrationWorkItems=1)
    runtime.start("a")
    turn = worker.next()
    runtime.call("TerminateInstance", pb.TerminateRequest(instanceId="a"))
    runtime.start("b")
    settle(runtime)
    assert worker.waiting == 0
    runtime.answer(turn, do.complete()).result(5)
    assert worker.next().orchestratorRequest.instanceId == "b"


# -- filters --


@pytest.mark.parametrize(
    ("filters", "version", "taken"),
    [
        ([("order",)], None, True),
        ([("order",)], "2.0.0", True),
        ([("order", "1.0.0")], "1.0.0", True),
        ([("order", "1.0.0", "2.0.0")], "2.0.0", True),
        ([("order", "1.0.0")], "2.0.0", False),
        ([("order", "1.0.0")], None, False),
        ([("order", "")], None, True),
        ([("order", "")], "1.0.0", False),
        ([("order", "1.0.0"), ("order", "")], None, True),
        ([("ORDER",)], None, True),
        ([("other",)], None, False),
        ([], None, False),
    ],
)
def test_filters_choose_by_name_and_version(runtime, filters, version, taken):
    worker = runtime.worker(**orchestrations(*filters))
    runtime.start("a", version=None if version is None else StringValue(value=version))
    if taken:
        assert worker.next().orchestratorRequest.instanceId == "a"
    else:
        settle(runtime)
        assert worker.waiting == 0
        assert runtime.status("a") == "PENDING"


def test_an_exact_name_is_preferred_to_one_in_another_case(runtime):
    folded = runtime.worker(**orchestrations(("ORDER",)))
    exact = runtime.worker(**orchestrations(("order",)))
    runtime.start("a")
    assert exact.next().orchestratorRequest.instanceId == "a"
    exact.cancel()
    runtime.start("b")
    assert {folded.next().orchestratorRequest.instanceId, folded.next().orchestratorRequest.instanceId} == {"a", "b"}


def test_an_empty_category_gets_nothing_of_that_kind(runtime, do):
    turns_only = runtime.worker(**orchestrations(("order",)))
    runtime.start("a")
    runtime.answer(turns_only.next(), do.activity(1)).result(5)
    settle(runtime)
    assert turns_only.waiting == 0
    assert runtime.worker().next().HasField("activityRequest")


def test_activities_are_filtered_by_their_own_version(runtime, do):
    """R7: an unversioned activity does not match a filter for another version."""
    wanted = pb.WorkItemFilters()
    wanted.orchestrations.add(name="order")
    wanted.activities.add(name="charge", versions=["2"])
    worker = runtime.worker(workItemFilters=wanted)
    runtime.start("a")
    runtime.answer(worker.next(), do.activity(1), do.activity(2, version="2")).result(5)
    assert worker.next().activityRequest.taskId == 2
    settle(runtime)
    assert worker.waiting == 0


def test_work_waits_for_a_worker_that_wants_it(runtime):
    runtime.start("a")
    runtime.worker(**orchestrations(("other",)))
    assert runtime.worker(**orchestrations(("order",))).next().orchestratorRequest.instanceId == "a"


# -- leases --


def test_a_lost_worker_s_work_goes_to_another_under_a_new_token(runtime, do):
    lost = runtime.worker()
    runtime.start("a")
    turn = lost.next()
    lost.cancel()
    other = runtime.worker()
    again = other.next()
    assert again.orchestratorRequest.instanceId == "a"
    assert again.completionToken != turn.completionToken
    runtime.answer(turn, do.complete(1, '"stale"')).result(5)
    assert runtime.status("a") == "PENDING"
    runtime.answer(again, do.complete(1, '"fresh"')).result(5)
    assert runtime.get("a").orchestrationState.output.value == '"fresh"'


def test_a_lost_worker_s_activity_goes_to_another(runtime, do):
    lost = runtime.worker()
    runtime.start("a")
    runtime.answer(lost.next(), do.activity(1)).result(5)
    activity = lost.next()
    lost.cancel()
    other = runtime.worker()
    again = other.next()
    assert again.completionToken != activity.completionToken
    runtime.result(activity, '"stale"').result(5)
    runtime.result(again, '"fresh"').result(5)
    events = other.next().orchestratorRequest.newEvents
    assert [event.taskCompleted.result.value for event in events[1:]] == ['"fresh"']


def test_a_small_turn_is_delivered_however_often_it_is_lost(runtime, options):
    runtime.start("a")
    for _ in range(options.worker_losses + 1):
        worker = runtime.worker()
        assert worker.next().orchestratorRequest.instanceId == "a"
        worker.cancel()
    assert runtime.worker().next().orchestratorRequest.instanceId == "a"
    assert runtime.status("a") == "PENDING"


class TestWorkThatIsLostOnce:
    @pytest.fixture
    def options(self, options):
        return dataclasses.replace(options, worker_losses=1, idle_instances=0)

    def test_what_cannot_be_given_up_now_does_not_keep_the_rest_of_its_worker_s_work(self, runtime, do):
        """A turn that is too large fails, of which its parent is to be told; and that cannot be read for now."""
        lost = runtime.worker()
        runtime.start("parent")
        child = do.child(1, "kid")
        child.createSubOrchestration.input.value = "x" * 5_000_000
        runtime.answer(lost.next(), child).result(5)
        assert lost.next().orchestratorRequest.instanceId == "kid"
        runtime.start("a")
        runtime.answer(lost.next(), *(do.activity(number) for number in range(10))).result(5)
        assert sorted(lost.next().activityRequest.taskId for _ in range(10)) == list(range(10))
        given_up = threading.Event()
        runtime.storage.on_failure = given_up.set
        runtime.storage.failing.add("load")
        lost.cancel()
        assert given_up.wait(10)
        runtime.storage.failing.clear()
        other, handed_out = runtime.worker(), set()
        while len(handed_out) < 10:
            item = other.next()
            if item.HasField("activityRequest"):
                handed_out.add(item.activityRequest.taskId)


class TestGrace:
    @pytest.fixture
    def options(self, options):
        return dataclasses.replace(options, stream_grace=60 * NANOSECONDS)

    def test_an_answer_shortly_after_the_stream_ended_counts(self, runtime, do):
        worker = runtime.worker()
        runtime.start("a")
        turn = worker.next()
        worker.cancel()
        runtime.answer(turn, do.complete()).result(5)
        assert runtime.status("a") == "COMPLETED"

    def test_what_a_worker_gives_back_while_it_shuts_down_goes_on_at_once(self, runtime):
        """Lesson 40."""
        leaving = runtime.worker()
        runtime.start("a")
        turn = leaving.next()
        other = runtime.worker()
        leaving.cancel()
        begun = time.monotonic()
        abandon = pb.AbandonOrchestrationTaskRequest(completionToken=turn.completionToken)
        runtime.call("AbandonTaskOrchestratorWorkItem", abandon)
        assert other.next().orchestratorRequest.instanceId == "a"
        assert time.monotonic() - begun < 0.9

    def test_so_does_an_activity(self, runtime, do):
        leaving = runtime.worker()
        runtime.start("a")
        runtime.answer(leaving.next(), do.activity(1)).result(5)
        activity = leaving.next()
        other = runtime.worker()
        leaving.cancel()
        begun = time.monotonic()
        abandon = pb.AbandonActivityTaskRequest(completionToken=activity.completionToken)
        runtime.call("AbandonTaskActivityWorkItem", abandon)
        assert other.next().activityRequest.taskId == activity.activityRequest.taskId
        assert time.monotonic() - begun < 0.9


class TestMaximumAge:
    @pytest.fixture
    def options(self, options):
        return dataclasses.replace(options, turn_max_age=NANOSECONDS // 10)

    def test_a_turn_that_is_never_answered_is_delivered_again(self, runtime, do):
        worker = runtime.worker(maxConcurrentOrchestrationWorkItems=1)
        runtime.start("a")
        first = worker.next()
        second = worker.next()
        assert first.completionToken != second.completionToken
        runtime.answer(first, do.complete(1, '"stale"')).result(5)
        runtime.answer(second, do.complete(1, '"fresh"')).result(5)
        assert runtime.get("a").orchestrationState.output.value == '"fresh"'


def test_a_second_answer_under_the_same_token_changes_nothing(runtime, do):
    worker = runtime.worker()
    runtime.start("a")
    turn = worker.next()
    for _ in range(2):
        runtime.answer(turn, do.activity(1)).result(5)
    activity = worker.next()
    for _ in range(2):
        runtime.result(activity).result(5)
    assert len(worker.next().orchestratorRequest.newEvents) == 2
    settle(runtime)
    assert worker.waiting == 0


def test_workers_without_tokens_answer_by_id(runtime, do):
    worker = runtime.worker()
    runtime.start("a")
    runtime.answer(worker.next(), do.activity(1), do.activity(2), token="").result(5)
    for activity in (worker.next(), worker.next()):
        runtime.result(activity, token="").result(5)
    turn = worker.next()
    runtime.answer(turn, token="").result(5)
    turn = worker.next()
    runtime.answer(turn, do.complete(), token="").result(5)
    assert runtime.status("a") == "COMPLETED"


@pytest.mark.parametrize("token", ["", "unknown"])
def test_unknown_tokens_are_accepted_and_ignored(runtime, token):
    runtime.call("CompleteOrchestratorTask", pb.OrchestratorResponse(instanceId="a", completionToken=token))
    runtime.call("CompleteActivityTask", pb.ActivityResponse(instanceId="a", completionToken=token))
    runtime.call("AbandonTaskOrchestratorWorkItem", pb.AbandonOrchestrationTaskRequest(completionToken=token))
    runtime.call("AbandonTaskActivityWorkItem", pb.AbandonActivityTaskRequest(completionToken=token))


def test_a_token_of_another_kind_or_hub_is_ignored(runtime, do):
    worker = runtime.worker()
    runtime.start("a")
    turn = worker.next()
    token = turn.completionToken
    runtime.call("AbandonTaskActivityWorkItem", pb.AbandonActivityTaskRequest(completionToken=token))
    stranger = pb.OrchestratorResponse(instanceId="a", completionToken=token, actions=[do.complete()])
    runtime.call("CompleteOrchestratorTask", stranger, hub="other")
    assert runtime.status("a") == "PENDING"
    runtime.answer(turn, do.complete()).result(5)
    assert runtime.status("a") == "COMPLETED"


def test_an_abandoned_turn_comes_back_after_a_pause_and_elsewhere(runtime):
    """R8, lesson 57."""
    first = runtime.worker(maxConcurrentOrchestrationWorkItems=5)
    runtime.start("a")
    turn = first.next()
    second = runtime.worker(maxConcurrentOrchestrationWorkItems=1)
    begun = time.monotonic()
    abandon = pb.AbandonOrchestrationTaskRequest(completionToken=turn.completionToken)
    runtime.call("AbandonTaskOrchestratorWorkItem", abandon)
    assert second.next().completionToken != turn.completionToken
    assert time.monotonic() - begun >= 0.9
    assert first.waiting == 0


def test_an_abandoned_activity_comes_back_after_a_pause(runtime, do):
    worker = runtime.worker()
    runtime.start("a")
    runtime.answer(worker.next(), do.activity(1)).result(5)
    activity = worker.next()
    begun = time.monotonic()
    abandon = pb.AbandonActivityTaskRequest(completionToken=activity.completionToken)
    runtime.call("AbandonTaskActivityWorkItem", abandon)
    again = worker.next()
    assert time.monotonic() - begun >= 0.9
    assert again.completionToken != activity.completionToken
    runtime.result(again).result(5)
    assert worker.next().HasField("orchestratorRequest")


def test_a_transport_that_fails_to_take_a_work_item_loses_its_stream(runtime, caplog):
    class Broken:
        lends = False

        def send(self, message):
            raise RuntimeError("the pipe burst")

        def close(self, error=None):
            pass

    runtime.service.open_stream("GetWorkItems", pb.GetWorkItemsRequest(), {}, Broken())
    runtime.start("a")
    worker = runtime.worker()
    assert worker.next().orchestratorRequest.instanceId == "a"
    assert "the pipe burst" in caplog.text


# -- warm runs --


def base(item):
    return item.orchestratorRequest.properties["durabletask.warm-base"].string_value


def warm_up(runtime, do, worker):
    """One committed turn with an activity; returns that turn and the activity."""
    runtime.start("a")
    turn = worker.next()
    runtime.answer(turn, do.activity(1)).result(5)
    return turn, worker.next()


def test_a_warm_worker_gets_only_what_is_new(runtime, do):
    worker = runtime.worker(capabilities=WARM)
    turn, activity = warm_up(runtime, do, worker)
    assert "durabletask.warm-base" not in turn.orchestratorRequest.properties
    runtime.result(activity).result(5)
    warm = worker.next()
    assert base(warm) == turn.completionToken
    assert not warm.orchestratorRequest.pastEvents
    assert len(warm.orchestratorRequest.newEvents) == 2
    runtime.answer(warm, do.activity(2)).result(5)
    runtime.result(worker.next()).result(5)
    assert base(worker.next()) == warm.completionToken


def test_an_event_that_arrives_during_a_warm_turn_waits_for_its_commit(runtime, do):
    """The worker may only go on from a turn of whose commit it has been told."""
    worker = runtime.worker(capabilities=WARM)
    runtime.start("a")
    turn = worker.next()
    runtime.call("RaiseEvent", pb.RaiseEventRequest(instanceId="a", name="go"))
    told = []
    runtime.storage.before_write = lambda commits: told.append(worker.waiting)
    runtime.answer(turn).result(5)
    following = worker.next()
    assert base(following) == turn.completionToken
    assert told == [0]


def test_a_worker_that_no_longer_has_the_run_gets_the_history(runtime, do):
    worker = runtime.worker(capabilities=WARM)
    _, activity = warm_up(runtime, do, worker)
    runtime.result(activity).result(5)
    warm = worker.next()
    begun = time.monotonic()
    runtime.answer(warm, requiresHistory=True).result(5)
    full = worker.next()
    assert time.monotonic() - begun < 0.9
    assert full.completionToken != warm.completionToken
    assert "durabletask.warm-base" not in full.orchestratorRequest.properties
    assert len(full.orchestratorRequest.pastEvents) == 3
    assert len(full.orchestratorRequest.newEvents) == 2


def test_a_warm_worker_is_preferred(runtime, do):
    worker = runtime.worker(capabilities=WARM, maxConcurrentOrchestrationWorkItems=1)
    turn, activity = warm_up(runtime, do, worker)
    idle = runtime.worker(capabilities=WARM, maxConcurrentOrchestrationWorkItems=50)
    runtime.result(activity).result(5)
    assert base(worker.next()) == turn.completionToken
    assert idle.waiting == 0


def test_a_busy_warm_worker_leaves_the_turn_to_another_with_full_history(runtime, do):
    worker = runtime.worker(capabilities=WARM, maxConcurrentOrchestrationWorkItems=1)
    _, activity = warm_up(runtime, do, worker)
    runtime.start("busy")
    worker.next()
    idle = runtime.worker(capabilities=WARM)
    runtime.result(activity).result(5)
    full = idle.next()
    assert "durabletask.warm-base" not in full.orchestratorRequest.properties
    assert len(full.orchestratorRequest.pastEvents) == 3


@pytest.mark.parametrize("how", ["stream ends", "abandon", "continue as new", "no capability"])
def test_warmth_ends(runtime, do, how):
    worker = runtime.worker(capabilities=[] if how == "no capability" else WARM)
    turn, activity = warm_up(runtime, do, worker)
    if how == "stream ends":
        worker.cancel()
        worker = runtime.worker(capabilities=WARM)
        activity = worker.next()
    runtime.result(activity).result(5)
    item = worker.next()
    if how == "abandon":
        abandon = pb.AbandonOrchestrationTaskRequest(completionToken=item.completionToken)
        runtime.call("AbandonTaskOrchestratorWorkItem", abandon)
        item = worker.next()
    if how == "continue as new":
        runtime.answer(item, do.complete(2, "", pb.ORCHESTRATION_STATUS_CONTINUED_AS_NEW)).result(5)
        item = worker.next()
    assert "durabletask.warm-base" not in item.orchestratorRequest.properties
    assert item.completionToken != turn.completionToken


# -- history streaming --


class TestHistoryStreaming:
    @pytest.fixture
    def options(self, options):
        return dataclasses.replace(options, history_stream_bytes=1)

    def test_a_capable_worker_fetches_just_the_past_of_its_turn(self, runtime, do):
        worker = runtime.worker(capabilities=[pb.WORKER_CAPABILITY_HISTORY_STREAMING])
        _, activity = warm_up(runtime, do, worker)
        runtime.result(activity).result(5)
        turn = worker.next()
        assert turn.orchestratorRequest.requiresHistoryStreaming
        assert not turn.orchestratorRequest.pastEvents
        assert len(turn.orchestratorRequest.newEvents) == 2
        runtime.call("RaiseEvent", pb.RaiseEventRequest(instanceId="a", name="late"))
        request = pb.StreamInstanceHistoryRequest(instanceId="a", forWorkItemProcessing=True)
        chunks = runtime.stream("StreamInstanceHistory", request).rest()
        events = [event.WhichOneof("eventType") for chunk in chunks for event in chunk.events]
        assert events == ["orchestratorStarted", "executionStarted", "taskScheduled"]

    def test_the_past_can_be_fetched_as_soon_as_the_turn_arrives(self, runtime):
        """A turn that follows another at once has to wait until the other's events are in the store."""
        worker = runtime.worker(capabilities=[pb.WORKER_CAPABILITY_HISTORY_STREAMING])
        runtime.start("a")
        turn = worker.next()
        runtime.call("RaiseEvent", pb.RaiseEventRequest(instanceId="a", name="go"))
        seen = []
        runtime.storage.before_write = lambda commits: seen.append(worker.waiting)
        runtime.answer(turn).result(5)
        assert worker.next().orchestratorRequest.requiresHistoryStreaming
        assert seen == [0]

    def test_others_get_it_in_one_piece(self, runtime, do):
        worker = runtime.worker()
        _, activity = warm_up(runtime, do, worker)
        runtime.result(activity).result(5)
        turn = worker.next()
        assert not turn.orchestratorRequest.requiresHistoryStreaming
        assert len(turn.orchestratorRequest.pastEvents) == 3


def test_history_for_a_turn_that_is_not_in_flight_is_not_found(runtime):
    request = pb.StreamInstanceHistoryRequest(instanceId="a", forWorkItemProcessing=True)
    stream = runtime.stream("StreamInstanceHistory", request)
    assert stream.closed.wait(5)
    assert stream.error.code == "NOT_FOUND"


# -- pings --


class TestPings:
    @pytest.fixture
    def options(self):
        return ServiceOptions(ping_interval=NANOSECONDS // 20)

    def test_an_idle_stream_hears_from_the_server(self, runtime):
        worker = runtime.worker()
        for _ in range(2):
            assert worker.next().HasField("healthPing")
        worker.cancel()


def test_stopping_ends_the_streams_in_good_order(runtime):
    worker = runtime.worker()
    waiting = runtime.wait("a")
    runtime.restart()
    assert worker.closed.is_set()
    assert worker.error is None
    assert waiting.exception(5).code == "UNAVAILABLE"
