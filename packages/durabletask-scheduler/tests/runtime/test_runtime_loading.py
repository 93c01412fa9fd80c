"""How instances come into memory: those of many calls together."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_scheduler.hub.model import HubError

COUNT = 20


class Gathering:
    """Holds a write up, so that the calls made meanwhile are the commands of one tick."""

    def __init__(self, runtime):
        self._runtime = runtime
        self._writing, self._go_on = threading.Event(), threading.Event()

    def __enter__(self):
        self._runtime.storage.before_write = self._hold
        self._runtime.begin("StartInstance", pb.CreateInstanceRequest(instanceId="first", name="elsewhere"))
        assert self._writing.wait(5)
        self._runtime.storage.calls.clear()
        return self

    def __exit__(self, *_):
        self._runtime.storage.before_write = lambda commits: None
        self._go_on.set()

    def _hold(self, _):
        self._writing.set()
        assert self._go_on.wait(5)


def raised(runtime, instance_id):
    return runtime.begin("RaiseEvent", pb.RaiseEventRequest(instanceId=instance_id, name="go"))


def loads(runtime):
    return [call for call in runtime.storage.calls if call in ("load", "load_many", "history", "existing")]


@pytest.fixture
def waiting(small):
    """Instances that wait for an event; of these none is in memory, but another that waits."""
    worker = small.worker(workItemFilters=pb.WorkItemFilters(orchestrations=[pb.OrchestrationFilter(name="order")]))
    for number in range(COUNT + 1):
        small.start(f"a{number}")
        small.answer(worker.next()).result(5)
    return worker


def test_calls_that_gathered_load_their_instances_and_histories_at_once(small, waiting):
    with Gathering(small):
        calls = [raised(small, f"a{number}") for number in range(COUNT)]
    turns = [waiting.next().orchestratorRequest for _ in range(COUNT)]
    assert all(call.result(5) is not None for call in calls)
    assert {turn.instanceId for turn in turns} == {f"a{number}" for number in range(COUNT)}
    assert {len(turn.pastEvents) for turn in turns} == {2}
    assert loads(small) == ["load_many"]


def test_calls_for_ids_with_nul_leave_the_instance_alone_whose_id_they_begin_with(small):
    worker = small.worker(workItemFilters=pb.WorkItemFilters(orchestrations=[pb.OrchestrationFilter(name="order")]))
    small.start("a")
    turn = worker.next()
    with Gathering(small):
        calls = [raised(small, f"a\0{number}") for number in range(COUNT)]
    for call in calls:
        with pytest.raises(HubError) as refusal:
            call.result(5)
        assert refusal.value.code == "NOT_FOUND"
    small.answer(turn).result(5)
    raised(small, "a").result(5)
    # Nothing came before it: the first turn was not handed out a second time.
    assert [event.WhichOneof("eventType") for event in worker.next().orchestratorRequest.newEvents] == [
        "orchestratorStarted",
        "eventRaised",
    ]


def test_waits_that_gathered_load_their_instances_at_once(small, waiting):
    with Gathering(small):
        calls = [small.wait(f"a{number}", "WaitForInstanceStart") for number in range(COUNT)]
    assert all(call.result(5).exists for call in calls)
    assert loads(small) == ["load_many"]


def test_starts_that_gathered_ask_at_once_whether_their_ids_are_taken(small, waiting):
    ids = ["a1", "new", "new", "newer", "one more", "and one"]
    with Gathering(small):
        calls = [
            small.begin("StartInstance", pb.CreateInstanceRequest(instanceId=one, name="elsewhere")) for one in ids
        ]
    assert [isinstance(call.exception(5), HubError) for call in calls] == [True, False, True, False, False, False]
    assert loads(small) == ["load_many"]
    small.start("newest", name="elsewhere")
    assert small.status("newest") == "PENDING"


def test_an_event_for_an_instance_that_is_not_there_is_refused_until_it_is(small, waiting):
    with Gathering(small):
        calls = [raised(small, name) for name in ("later", "never", "nor this", "nor that")]
        start = small.begin("StartInstance", pb.CreateInstanceRequest(instanceId="later", name="elsewhere"))
        calls.append(raised(small, "later"))
    assert start.result(5).instanceId == "later"
    assert [call.exception(5) is None for call in calls] == [False, False, False, False, True]


def test_calls_whose_instances_cannot_be_loaded_say_so_and_work_later(small, waiting):
    with Gathering(small):
        small.storage.failing.add("load")
        calls = [raised(small, f"a{number}") for number in range(COUNT)]
    assert {call.exception(5).code for call in calls} == {"UNAVAILABLE"}
    small.storage.failing.clear()
    again = [raised(small, f"a{number}") for number in range(COUNT)]
    assert all(call.result(5) is not None for call in again)
    assert len({waiting.next().orchestratorRequest.instanceId for _ in range(COUNT)}) == COUNT


def test_what_a_failed_write_dropped_is_taken_up_again_when_the_store_can_be_read(runtime):
    worker = runtime.worker()
    for number in range(COUNT):
        runtime.start(f"a{number}")
        runtime.answer(worker.next()).result(5)
    tried = threading.Event()
    runtime.storage.on_failure = tried.set
    with Gathering(runtime):
        calls = [raised(runtime, f"a{number}") for number in range(COUNT)]
        runtime.storage.failing.update(("write", "load"))
    assert {call.exception(5).code for call in calls} == {"UNAVAILABLE"}
    assert tried.wait(5)
    runtime.storage.failing.clear()
    for number in range(COUNT):
        # Turns may have left before the write that failed: what counts is that later ones come.
        raised(runtime, f"a{number}").result(5)
    assert all(runtime.get(f"a{number}").exists for number in range(COUNT))


# -- runs that workers have let go --


BASE = "durabletask.warm-base"


@pytest.fixture
def first_turns(runtime) -> Callable[..., None]:
    """Starts instances one after the other and answers their first turns."""

    def run(worker, *instance_ids, actions=()):
        for instance_id in instance_ids:
            runtime.start(instance_id)
            runtime.answer(worker.next(), *actions).result(5)

    return run


def turn_after_event(runtime, worker, instance_id):
    raised(runtime, instance_id).result(5)
    return worker.next()


def test_a_run_missed_tells_of_those_used_before_it(runtime, first_turns):
    worker = runtime.worker(capabilities=[1001])
    first_turns(worker, "older", "old", "new")
    missed = turn_after_event(runtime, worker, "old")
    assert BASE in missed.orchestratorRequest.properties
    runtime.answer(missed, requiresHistory=True).result(5)
    assert len(worker.next().orchestratorRequest.pastEvents) == 2

    older = turn_after_event(runtime, worker, "older")
    assert BASE not in older.orchestratorRequest.properties
    assert len(older.orchestratorRequest.pastEvents) == 2
    new = turn_after_event(runtime, worker, "new")
    assert BASE in new.orchestratorRequest.properties

    runtime.answer(older).result(5)
    again = turn_after_event(runtime, worker, "older")
    assert BASE in again.orchestratorRequest.properties, "the run was used since"


def test_a_long_history_is_sent_only_when_it_is_asked_for(runtime, do, first_turns):
    worker = runtime.worker(capabilities=[1001])
    far = 4_000_000_000_000_000_000
    first_turns(worker, "long", actions=[do.timer(number, far) for number in range(1, 61)])
    first_turns(worker, "old")
    missed = turn_after_event(runtime, worker, "old")
    runtime.answer(missed, requiresHistory=True).result(5)
    worker.next()
    assert BASE in turn_after_event(runtime, worker, "long").orchestratorRequest.properties


def test_another_worker_forgot_nothing(runtime, do, first_turns):
    forgetful = runtime.worker(capabilities=[1001])
    first_turns(forgetful, "old")
    missed = turn_after_event(runtime, forgetful, "old")
    runtime.answer(missed, requiresHistory=True).result(5)
    runtime.answer(forgetful.next(), do.complete()).result(5)
    forgetful.cancel()
    runtime.start("next")
    worker = runtime.worker(capabilities=[1001])
    runtime.answer(worker.next()).result(5)
    assert BASE in turn_after_event(runtime, worker, "next").orchestratorRequest.properties
