"""What clients ask for in close succession leaves together; what somebody waits for, or comes alone, leaves at once."""

from __future__ import annotations

import dataclasses
import random
import threading
from typing import Any

import pytest
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto import scheduler_additions_pb2 as additions_pb
from durabletask_scheduler.alarms import Alarms
from durabletask_scheduler.burst import Burst
from durabletask_scheduler.clock import SystemClock
from durabletask_scheduler.dispatch import Kind, LeaseOf, Route, WorkOf
from durabletask_scheduler.hub.times import MILLISECOND, SECOND
from durabletask_scheduler.service import ServiceOptions
from durabletask_scheduler.virtual_clock import VirtualClock
from google.protobuf.wrappers_pb2 import StringValue

HOLD = 16 * MILLISECOND
MOST = 64
"""Calls whose work leaves together at the latest."""

WAIT = 10.0
ENTITY = "@counter@a"


class Calls:
    """Calls of clients, each of which makes one piece of work, at times that the test chooses."""

    def __init__(self, hold: int = HOLD) -> None:
        self.now = SECOND
        self.alarms = Alarms()
        self.left: list[Any] = []
        self.burst = Burst(self.alarms, self.left.append, hold)

    def make(self, count: int, every: int) -> list[Any]:
        """So many calls at this interval; their work."""
        made = []
        for _ in range(count):
            self.now += every
            while (action := self.alarms.pop_due(self.now)) is not None:
                action()
            work: Any = WorkOf(Route(Kind.TURN, "hub", "order", ""), None)
            made.append(work)
            if self.burst.goes_on(self.now):
                self.burst.hold(work, self.now)
            else:
                self.left.append(work)
        return made

    def burst_of(self, count: int) -> list[Any]:
        """Calls that are held: their work, none of which has left."""
        self.make(20, MILLISECOND)
        self.burst.end()
        held = self.make(count, MILLISECOND // 10)
        assert not set(map(id, held)) & set(map(id, self.left))
        return held


class TestRule:
    def test_calls_that_come_now_and_then_are_not_held(self) -> None:
        calls = Calls()
        assert calls.make(100, HOLD) == calls.left

    def test_the_first_calls_of_a_burst_are_not_held(self) -> None:
        calls = Calls()
        made = calls.make(30, MILLISECOND)
        assert 2 <= len(calls.left) < 30
        assert calls.left == made[: len(calls.left)]

    def test_calls_of_one_tick_are_not_held(self) -> None:
        """They gather by themselves."""
        calls = Calls()
        calls.make(20, MILLISECOND)
        calls.burst.end()
        made = calls.make(50, 0)
        assert calls.left[-len(made) + 1 :] == made[1:]

    def test_what_is_held_leaves_in_order_when_its_time_is_over(self) -> None:
        calls = Calls()
        held = calls.burst_of(5)
        assert calls.alarms.next_at() is not None
        assert (calls.alarms.next_at() or 0) <= calls.now + HOLD
        later = calls.make(1, HOLD)
        assert calls.left[-6:] == [*held, *later]

    def test_a_call_beyond_the_most_lets_all_leave_with_it(self) -> None:
        calls = Calls()
        held = calls.burst_of(MOST - 1)
        last = calls.make(1, MILLISECOND // 10)
        assert calls.left[-MOST:] == [*held, *last]
        assert calls.alarms.next_at() is None

    def test_a_burst_that_is_over_leaves_nothing_behind(self) -> None:
        calls = Calls()
        held = calls.burst_of(5)
        calls.burst.end()
        assert calls.left[-5:] == held
        assert len(calls.alarms) == 0
        calls.burst.end()
        assert calls.left[-5:] == held
        assert not calls.burst.holds(held[0])

    def test_only_what_has_not_left_is_held(self) -> None:
        calls = Calls()
        assert not calls.burst.holds(WorkOf(Route(Kind.TURN, "hub", "order", ""), None))
        (held,) = calls.burst_of(1)
        assert calls.burst.holds(held)
        assert not calls.burst.holds(None)
        held.lease = LeaseOf("token", held, None)  # type: ignore[arg-type]
        assert not calls.burst.holds(held)

    def test_where_each_call_is_missed_at_once_it_is_given_up(self) -> None:
        """As with clients that start one and wait for it: now and then it is tried again."""
        calls = Calls()
        held = 0
        for _ in range(1_000):
            work = calls.make(1, MILLISECOND)[0]
            held += calls.burst.holds(work)
            calls.burst.end()
        assert 0 < held < 50

    def test_nothing_is_held_for_no_time(self) -> None:
        calls = Calls(hold=0)
        assert calls.make(200, 1_000) == calls.left

    def test_nothing_is_lost_whatever_the_pace(self) -> None:
        chance = random.Random(17)
        calls = Calls()
        made: list[Any] = []
        for _ in range(300):
            made += calls.make(chance.randint(1, 20), chance.choice((0, 1_000, MILLISECOND, 5 * MILLISECOND, SECOND)))
            if chance.random() < 0.2:
                calls.burst.end()
        calls.burst.end()
        assert calls.left == made


@pytest.fixture
def options(request: pytest.FixtureRequest, options: ServiceOptions) -> ServiceOptions:
    """Held for so long that nothing leaves before the test lets it, unless the test says otherwise."""
    return dataclasses.replace(options, burst_hold=getattr(request, "param", 600 * SECOND))


def settle(runtime: Any) -> None:
    """What was called for before has been done when this is answered."""
    runtime.get("nobody")


def drain(runtime: Any, worker: Any, do: Any) -> None:
    """Answer the turns that are there."""
    while worker.waiting:
        runtime.answer(worker.next(), do.complete()).result(WAIT)


def arrivals(worker: Any, count: int) -> list[str]:
    """The instances of the next so many turns."""
    return [worker.next().orchestratorRequest.instanceId for _ in range(count)]


def in_a_burst(runtime: Any, worker: Any, do: Any) -> None:
    """Make calls until one is held, whose turn is to leave first then; those before it are done."""
    for number in range(100):
        runtime.start(f"before-{number}")
        settle(runtime)
        if not worker.waiting:
            return
        drain(runtime, worker, do)
    raise AssertionError("nothing is ever held")


def start_held(runtime: Any, worker: Any, do: Any, count: int = 3) -> list[str]:
    """So many instances more whose first turns are held."""
    in_a_burst(runtime, worker, do)
    ids = [runtime.start(f"held-{number}") for number in range(count)]
    settle(runtime)
    assert worker.waiting == 0
    return ids


class TestTurns:
    @pytest.mark.parametrize("rpc", ["WaitForInstanceCompletion", "WaitForInstanceStart", "GetInstance"])
    def test_who_asks_for_one_lets_all_leave(self, runtime: Any, do: Any, rpc: str) -> None:
        worker = runtime.worker()
        ids = start_held(runtime, worker, do)
        asked = runtime.begin(rpc, pb.GetInstanceRequest(instanceId=ids[1]))
        turns = [worker.next() for _ in range(1 + len(ids))]
        assert [turn.orchestratorRequest.instanceId for turn in turns][1:] == ids
        for turn in turns:
            runtime.answer(turn, do.complete()).result(WAIT)
        assert asked.result(WAIT).exists

    def test_who_asks_for_another_changes_nothing(self, runtime: Any, do: Any) -> None:
        worker = runtime.worker()
        start_held(runtime, worker, do)
        other = runtime.wait("to-come")
        settle(runtime)
        assert worker.waiting == 0
        other.cancel_call()

    def test_one_that_is_awaited_already_is_not_held(self, runtime: Any, do: Any) -> None:
        worker = runtime.worker()
        in_a_burst(runtime, worker, do)
        waiting = runtime.wait("awaited")
        settle(runtime)
        runtime.start("awaited")
        turn = worker.next()
        assert turn.orchestratorRequest.instanceId == "awaited"
        runtime.answer(turn, do.complete()).result(WAIT)
        assert waiting.result(WAIT).exists

    def test_children_are_not_held(self, runtime: Any, do: Any) -> None:
        worker = runtime.worker()
        runtime.start("parent")
        parent = worker.next()
        start_held(runtime, worker, do)
        runtime.answer(parent, do.child(1, "kid")).result(WAIT)
        child = worker.next()
        assert child.orchestratorRequest.instanceId == "kid"
        event = pb.RaiseEventRequest(instanceId="kid", name="go")
        runtime.answer(child).result(WAIT)
        runtime.call("RaiseEvent", event)
        assert worker.next().orchestratorRequest.instanceId == "kid"

    def test_events_are_held_like_starts(self, runtime: Any, do: Any) -> None:
        worker = runtime.worker()
        runtime.start("waiting")
        runtime.answer(worker.next()).result(WAIT)
        start_held(runtime, worker, do)
        runtime.call("RaiseEvent", pb.RaiseEventRequest(instanceId="waiting", name="go"))
        settle(runtime)
        assert worker.waiting == 0
        runtime.wait("waiting")
        arrived = worker.next().orchestratorRequest
        assert arrived.instanceId == "waiting"
        assert arrived.newEvents[-1].eventRaised.name == "go"

    def test_a_result_is_never_held(self, runtime: Any, do: Any) -> None:
        worker = runtime.worker()
        runtime.start("order")
        runtime.answer(worker.next(), do.activity(1)).result(WAIT)
        activity = worker.next()
        start_held(runtime, worker, do)
        runtime.result(activity).result(WAIT)
        assert worker.next().orchestratorRequest.instanceId == "order"

    def test_a_result_does_not_wait_behind_an_event_that_is_held(self, runtime: Any, do: Any) -> None:
        worker = runtime.worker()
        runtime.start("order")
        runtime.answer(worker.next(), do.activity(1)).result(WAIT)
        activity = worker.next()
        start_held(runtime, worker, do, count=1)
        runtime.call("RaiseEvent", pb.RaiseEventRequest(instanceId="order", name="go"))
        assert worker.waiting == 0
        runtime.result(activity).result(WAIT)
        turn = worker.next().orchestratorRequest
        assert turn.instanceId == "order"
        assert [one.WhichOneof("eventType") for one in turn.newEvents][1:] == ["eventRaised", "taskCompleted"]

    @pytest.mark.parametrize("event_first", [True, False])
    def test_nor_with_one_that_comes_in_the_same_step(self, runtime: Any, do: Any, event_first: bool) -> None:
        worker = runtime.worker()
        runtime.start("order")
        runtime.answer(worker.next(), do.activity(1)).result(WAIT)
        activity = worker.next()
        in_a_burst(runtime, worker, do)
        writing, go_on = threading.Event(), threading.Event()

        def wait(_: Any) -> None:
            writing.set()
            go_on.wait(WAIT)

        runtime.storage.before_write = wait
        first = runtime.begin("StartInstance", pb.CreateInstanceRequest(instanceId="first", name="order"))
        assert writing.wait(WAIT)
        event = pb.RaiseEventRequest(instanceId="order", name="go")
        calls = [lambda: runtime.begin("RaiseEvent", event), lambda: runtime.result(activity)]
        together = [call() for call in (calls if event_first else reversed(calls))]
        go_on.set()
        for call in (first, *together):
            call.result(WAIT)
        settle(runtime)
        while (turn := worker.next().orchestratorRequest).instanceId != "order":
            pass
        assert len(turn.newEvents) == 3

    def test_a_bulk_start_leaves_at_once(self, runtime: Any, do: Any) -> None:
        worker = runtime.worker()
        in_a_burst(runtime, worker, do)
        starts = [pb.CreateInstanceRequest(instanceId=f"bulk-{number}", name="order") for number in range(3)]
        runtime.call("StartInstances", additions_pb.StartInstancesRequest(requests=starts))
        assert worker.next().orchestratorRequest.instanceId == "bulk-0"

    def test_one_that_is_terminated_meanwhile_never_leaves(self, runtime: Any, do: Any) -> None:
        worker = runtime.worker()
        first, second, third = start_held(runtime, worker, do)
        runtime.call("TerminateInstance", pb.TerminateRequest(instanceId=second))
        assert runtime.status(second) == "TERMINATED"
        runtime.wait(third)
        assert arrivals(worker, 3)[1:] == [first, third]

    def test_what_is_held_survives(self, runtime: Any, do: Any) -> None:
        ids = start_held(runtime, runtime.worker(), do)
        runtime.restart()
        assert arrivals(runtime.worker(), 4)[1:] == ids

    def test_what_is_held_when_a_write_fails_leaves_all_the_same(self, runtime: Any, do: Any) -> None:
        worker = runtime.worker()
        (held,) = start_held(runtime, worker, do, count=1)
        runtime.storage.fail_next_writes(1)
        failed = runtime.begin("RaiseEvent", pb.RaiseEventRequest(instanceId=held, name="go"))
        assert "disk is full" in str(failed.exception(WAIT))
        # It is loaded again from storage, and with that at once.
        assert worker.next().orchestratorRequest.instanceId == held
        assert worker.waiting == 0

    @pytest.mark.parametrize("options", [20 * MILLISECOND], indirect=True)
    def test_they_leave_by_themselves(self, runtime: Any, do: Any) -> None:
        worker = runtime.worker()
        ids = [runtime.start(f"one-of-{number}") for number in range(200)]
        arrived = []
        for _ in ids:
            turn = worker.next()
            arrived.append(turn.orchestratorRequest.instanceId)
            runtime.answer(turn, do.complete()).result(WAIT)
        assert sorted(arrived) == sorted(ids)

    @pytest.mark.parametrize("options", [0], indirect=True)
    def test_it_can_be_switched_off(self, runtime: Any, do: Any) -> None:
        worker = runtime.worker()
        for number in range(100):
            runtime.start(f"one-of-{number}")
            assert worker.next().orchestratorRequest.instanceId == f"one-of-{number}"

    def test_more_are_held_than_stay_in_memory(self, small: Any, do: Any) -> None:
        """A runtime that keeps one idle instance."""
        worker = small.worker()
        ids = start_held(small, worker, do, count=10)
        small.wait(ids[-1])
        assert arrivals(worker, 11)[1:] == ids


class TestVirtualClock:
    @pytest.fixture
    def options(self, options: ServiceOptions) -> ServiceOptions:
        return dataclasses.replace(options, clock=VirtualClock(SystemClock().now(), skips=False))

    def test_holds_nothing(self, runtime: Any) -> None:
        worker = runtime.worker()
        for number in range(50):
            runtime.start(f"one-of-{number}")
            assert worker.next().orchestratorRequest.instanceId == f"one-of-{number}"


class TestBatches:
    def signal(self, runtime: Any, name: str, entity: str = ENTITY) -> None:
        runtime.call("SignalEntity", pb.SignalEntityRequest(instanceId=entity, name=name))

    def test_signals_to_one_entity_make_one_batch(self, runtime: Any, do: Any) -> None:
        worker = runtime.worker()
        in_a_burst(runtime, worker, do)
        for name in ("a", "b", "c"):
            self.signal(runtime, name)
        settle(runtime)
        assert worker.waiting == 0
        assert not runtime.call("GetEntity", pb.GetEntityRequest(instanceId=ENTITY)).exists
        batch = [worker.next() for _ in range(2)][-1].entityRequestV2
        assert [one.entityOperationSignaled.operation for one in batch.operationRequests] == ["a", "b", "c"]

    def test_a_call_of_an_orchestration_does_not_wait_behind_a_signal(self, runtime: Any, do: Any) -> None:
        """What was held leaves with it, turns included."""
        worker = runtime.worker()
        runtime.start("caller")
        caller = worker.next()
        (held,) = start_held(runtime, worker, do, count=1)
        self.signal(runtime, "a")
        settle(runtime)
        assert worker.waiting == 0
        called = pb.EntityOperationCalledEvent(
            requestId="00000000-0000-0000-0000-000000000001", operation="b", targetInstanceId=StringValue(value=ENTITY)
        )
        action = pb.SendEntityMessageAction(entityOperationCalled=called)
        runtime.answer(caller, pb.OrchestratorAction(id=1, sendEntityMessage=action)).result(WAIT)
        items = [worker.next() for _ in range(3)]
        turns = [one.orchestratorRequest.instanceId for one in items if one.HasField("orchestratorRequest")]
        assert turns[-1:] == [held]
        (batch,) = [one.entityRequestV2 for one in items if one.HasField("entityRequestV2")]
        assert len(batch.operationRequests) == 2

    def test_who_asks_for_another_changes_nothing(self, runtime: Any, do: Any) -> None:
        worker = runtime.worker()
        in_a_burst(runtime, worker, do)
        self.signal(runtime, "a")
        runtime.call("GetEntity", pb.GetEntityRequest(instanceId="@counter@other"))
        assert worker.waiting == 0
