"""What happens when the store fails, the process ends, or the rules have an error."""

from __future__ import annotations

import threading
import time

import pytest
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_scheduler.clock import SystemClock
from durabletask_scheduler.hub import turns
from durabletask_scheduler.hub.model import HubError
from durabletask_scheduler.service import SchedulerService, ServiceOptions

SECOND = 1_000_000_000


def unavailable(call):
    with pytest.raises(HubError) as failure:
        call.result(5)
    assert failure.value.code == "UNAVAILABLE"


# -- the store fails --


def test_a_start_that_could_not_be_written_did_not_happen(runtime):
    worker = runtime.worker()
    runtime.storage.failing.add("write")
    unavailable(runtime.begin("StartInstance", pb.CreateInstanceRequest(instanceId="a", name="order")))
    worker.next()  # turns may leave before the write
    runtime.storage.failing.clear()
    assert not runtime.get("a").exists
    runtime.start("a")
    assert worker.next().orchestratorRequest.instanceId == "a"


def test_the_answer_to_a_turn_that_was_never_durable_is_ignored(runtime, do):
    worker = runtime.worker()
    runtime.storage.failing.add("write")
    unavailable(runtime.begin("StartInstance", pb.CreateInstanceRequest(instanceId="a", name="order")))
    turn = worker.next()
    runtime.storage.failing.clear()
    runtime.answer(turn, do.complete()).result(5)
    assert not runtime.get("a").exists


def test_a_turn_whose_commit_failed_is_delivered_again_under_a_new_token(runtime, do):
    worker = runtime.worker(capabilities=[1001])
    runtime.start("a")
    turn = worker.next()
    runtime.storage.failing.add("write")
    unavailable(runtime.answer(turn, do.activity(1)))
    runtime.storage.failing.clear()
    again = worker.next()
    assert again.completionToken != turn.completionToken
    assert "durabletask.warm-base" not in again.orchestratorRequest.properties
    runtime.answer(turn, do.complete(1, '"stale"')).result(5)
    runtime.answer(again, do.complete(1, '"fresh"')).result(5)
    assert runtime.get("a").orchestrationState.output.value == '"fresh"'


def test_activities_are_handed_out_only_once_they_are_durable(runtime, do):
    worker = runtime.worker()
    runtime.start("a")
    turn = worker.next()
    seen = []
    runtime.storage.before_write = lambda commits: seen.append(worker.waiting)
    runtime.answer(turn, do.activity(1)).result(5)
    worker.next()
    assert seen == [0]


def test_a_result_that_could_not_be_written_is_asked_for_again(runtime, do):
    worker = runtime.worker()
    runtime.start("a")
    runtime.answer(worker.next(), do.activity(1)).result(5)
    activity = worker.next()
    runtime.storage.failing.add("write")
    unavailable(runtime.result(activity))
    runtime.storage.failing.clear()
    items = [worker.next()]
    while not items[-1].HasField("activityRequest"):
        items.append(worker.next())
    runtime.result(items[-1]).result(5)
    turn = worker.next()
    assert len(turn.orchestratorRequest.newEvents) == 2


def test_callers_are_told_unavailable_while_the_store_is_down_and_served_afterwards(runtime, do):
    worker = runtime.worker()
    runtime.start("a")
    waiting = runtime.wait("a")
    turn = worker.next()
    assert runtime.get("a").exists
    runtime.storage.failing.update(["write", "load", "history"])
    unavailable(runtime.answer(turn, do.activity(1)))
    for _ in range(3):
        unavailable(runtime.begin("GetInstance", pb.GetInstanceRequest(instanceId="a")))
    assert not waiting.done()
    runtime.storage.failing.clear()
    runtime.answer(worker.next(), do.complete()).result(5)
    assert waiting.result(5).exists


def test_a_turn_whose_history_cannot_be_read_now_is_handed_out_later(small, do):
    worker = small.worker()
    small.start("a")
    small.answer(worker.next(), do.activity(1)).result(5)
    activity = worker.next()
    asked = threading.Event()
    small.storage.on_failure = asked.set
    small.storage.failing.add("history")
    small.result(activity).result(5)
    assert asked.wait(5)
    assert worker.waiting == 0
    small.storage.failing.clear()
    request = worker.next().orchestratorRequest
    assert [event.HasField("taskCompleted") for event in request.newEvents] == [False, True]
    assert request.pastEvents


def test_a_query_while_the_store_is_down_is_unavailable(runtime):
    runtime.storage.failing.add("query")
    unavailable(runtime.begin("QueryInstances"))


def test_an_error_in_the_rules_undoes_what_was_under_way_and_nothing_else(runtime, do, monkeypatch, caplog):
    worker = runtime.worker()
    runtime.start("a")
    turn = worker.next()

    def broken(*_):
        raise RuntimeError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(turns, "complete_turn", broken)
        with pytest.raises(HubError) as failure:
            runtime.answer(turn, do.complete()).result(5)
    assert failure.value.code == "INTERNAL"
    assert "a bug" in caplog.text
    again = worker.next()
    runtime.answer(again, do.complete()).result(5)
    assert runtime.status("a") == "COMPLETED"


def test_a_timer_that_is_due_while_the_store_is_down_fires_afterwards(small, do):
    worker = small.worker()
    small.start("a")
    small.answer(worker.next(), do.timer(1, time.time_ns() + SECOND // 5)).result(5)
    small.start("b")
    small.answer(worker.next(), do.complete()).result(5)
    tried = threading.Event()
    small.storage.on_failure = tried.set
    small.storage.failing.add("load")
    assert tried.wait(5)
    small.storage.failing.clear()
    turn = worker.next()
    assert turn.orchestratorRequest.newEvents[1].HasField("timerFired")


# -- group commit --


def test_what_gathers_during_a_write_is_written_together(runtime):
    writing, go_on = threading.Event(), threading.Event()

    def slow(commits):
        writing.set()
        assert go_on.wait(5)

    runtime.storage.before_write = slow
    first = runtime.begin("StartInstance", pb.CreateInstanceRequest(instanceId="a", name="order"))
    assert writing.wait(5)
    others = [
        runtime.begin("StartInstance", pb.CreateInstanceRequest(instanceId=f"b{number}", name="order"))
        for number in range(50)
    ]
    assert not first.done()
    go_on.set()
    assert all(call.result(5) for call in [first, *others])
    assert [len(group) for group in runtime.storage.groups] == [1, 50]


def test_nothing_is_answered_before_it_is_durable(runtime):
    answered = []
    calls = []
    runtime.storage.before_write = lambda commits: answered.append(any(call.done() for call in calls))
    calls.append(runtime.begin("StartInstance", pb.CreateInstanceRequest(instanceId="a", name="order")))
    calls[0].result(5)
    assert answered == [False]


def test_a_running_instance_reads_nothing_from_the_store(runtime, do):
    worker = runtime.worker()
    runtime.start("a")
    turn = worker.next()
    runtime.storage.calls.clear()
    for number in range(1, 6):
        runtime.answer(turn, do.activity(number)).result(5)
        runtime.result(worker.next()).result(5)
        turn = worker.next()
    assert len(turn.orchestratorRequest.pastEvents) == 2 + 1 + 4 * 3
    assert set(runtime.storage.calls) == {"write"}


# -- restart --


def test_a_restart_takes_up_turns_activities_and_timers(runtime, do):
    worker = runtime.worker()
    for name in ("turn", "activity", "timer", "waits"):
        runtime.start(name, name=name)
    at = time.time_ns() + SECOND // 3
    answers = {
        "activity": (do.activity(1),),
        "timer": (do.timer(1, at),),
        "waits": (),
    }
    for _ in range(4):
        turn = worker.next()
        actions = answers.get(turn.orchestratorRequest.instanceId)
        if actions is not None:
            runtime.answer(turn, *actions).result(5)
    worker.next()
    runtime.restart()
    worker = runtime.worker()
    found = {}
    for _ in range(3):
        item = worker.next()
        kind = item.WhichOneof("request")
        request = getattr(item, kind)
        instance_id = request.orchestrationInstance.instanceId if kind == "activityRequest" else request.instanceId
        found[instance_id] = item
    assert set(found) == {"turn", "activity", "timer"}
    assert found["activity"].activityRequest.name == "charge"
    assert [event.WhichOneof("eventType") for event in found["timer"].orchestratorRequest.newEvents[1:]] == [
        "timerFired"
    ]
    runtime.result(found["activity"], "7").result(5)
    turn = worker.next()
    assert turn.orchestratorRequest.newEvents[1].taskCompleted.result.value == "7"
    runtime.call("RaiseEvent", pb.RaiseEventRequest(instanceId="waits", name="go"))
    assert worker.next().orchestratorRequest.instanceId == "waits"


def test_an_inbox_survives_a_restart_in_order(runtime):
    runtime.start("a")
    for name in ("x", "y", "z"):
        runtime.call("RaiseEvent", pb.RaiseEventRequest(instanceId="a", name=name))
    runtime.restart()
    events = runtime.worker().next().orchestratorRequest.newEvents
    assert [event.eventRaised.name for event in events[2:]] == ["x", "y", "z"]


def test_answers_to_work_of_before_a_restart_are_ignored(runtime, do):
    worker = runtime.worker()
    runtime.start("a")
    turn = worker.next()
    runtime.restart()
    runtime.answer(turn, do.complete(1, '"stale"')).result(5)
    assert runtime.status("a") == "PENDING"


def test_many_instances_come_back(runtime, do):
    for number in range(600):
        runtime.begin("StartInstance", pb.CreateInstanceRequest(instanceId=f"a{number}", name="order"))
    runtime.restart()
    worker = runtime.worker(maxConcurrentOrchestrationWorkItems=1_000)
    assert {worker.next().orchestratorRequest.instanceId for _ in range(600)} == {f"a{n}" for n in range(600)}


def test_a_stopped_service_refuses_calls(runtime):
    service = SchedulerService(runtime.storage, ServiceOptions())
    service.start()
    service.stop(5)
    answers = []
    service.call("GetInstance", pb.GetInstanceRequest(), {}, lambda _, error: answers.append(error))
    service.call("QueryInstances", pb.QueryInstancesRequest(), {}, lambda _, error: answers.append(error))
    assert [error.code for error in answers] == ["UNAVAILABLE", "UNAVAILABLE"]


class TestSmallMemory:
    @pytest.fixture
    def runtime(self, small):
        return small

    def test_instances_that_left_memory_come_back_with_all_they_had(self, runtime, do):
        worker = runtime.worker()
        at = time.time_ns() + SECOND // 2
        for number in range(5):
            runtime.start(f"a{number}")
            runtime.answer(worker.next(), do.timer(1, at)).result(5)
        turns_ = [worker.next() for _ in range(5)]
        assert {turn.orchestratorRequest.instanceId for turn in turns_} == {f"a{n}" for n in range(5)}
        for turn in turns_:
            assert len(turn.orchestratorRequest.pastEvents) == 3
            assert len(turn.orchestratorRequest.newEvents) == 2
            runtime.answer(turn, do.complete(2)).result(5)
        assert all(runtime.status(f"a{n}") == "COMPLETED" for n in range(5))

    def test_a_turn_right_after_another_has_the_whole_past(self, runtime, do):
        worker = runtime.worker()
        runtime.start("a")
        turn = worker.next()
        for number in range(1, 4):
            runtime.call("RaiseEvent", pb.RaiseEventRequest(instanceId="a", name="go"))
            runtime.answer(turn).result(5)
            turn = worker.next()
            assert len(turn.orchestratorRequest.pastEvents) == 2 * number


class BrokenClock(SystemClock):
    """Fails when it is told to, which nothing in the engine expects."""

    broken = False

    def patience(self, due, under_way):
        if self.broken:
            raise RuntimeError("the clock is broken")
        return super().patience(due, under_way)


class TestTheEnd:
    clock = BrokenClock()
    told = threading.Event()

    @pytest.fixture
    def options(self):
        return ServiceOptions(clock=self.clock, on_failure=self.told.set)

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
    def test_an_engine_that_can_go_on_no_more_says_so_and_leaves_nobody_waiting(self, runtime):
        """A supervisor is to start it again; calls must not hang meanwhile."""
        runtime.start("a")
        waiting = runtime.wait("a")
        self.clock.broken = True
        runtime.begin("GetInstance", pb.GetInstanceRequest(instanceId="a"))
        assert self.told.wait(5)
        assert waiting.exception(5).code == "UNAVAILABLE"
        with pytest.raises(HubError) as caught:
            runtime.start("b")
        assert caught.value.code == "UNAVAILABLE"

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
    def test_those_whose_group_is_never_written_are_told(self, runtime):
        def end(_):
            raise SystemExit("in the midst of a write")

        self.clock.broken = False
        runtime.storage.before_write = end
        with pytest.raises(HubError) as caught:
            runtime.start("a")
        assert caught.value.code == "UNAVAILABLE"
        assert self.told.wait(5)
