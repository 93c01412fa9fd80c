"""When the engine waits a moment before it writes."""

from __future__ import annotations

import time

from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_scheduler.linger import Linger
from google.protobuf.wrappers_pb2 import StringValue


def practised(write_seconds=0.001):
    linger = Linger()
    for _ in range(100):
        linger.wrote(write_seconds)
    return linger


def test_it_waits_for_less_than_a_write_and_a_tick_take():
    tick = practised(0.0).patience(1, 1)
    assert tick < practised(0.001).patience(1, 1) < tick + 0.001
    assert practised(10).patience(1, 1) <= 0.002
    assert 0 < Linger().patience(1, 1) < 0.0005


def test_it_waits_neither_without_a_commit_nor_without_a_turn_nor_in_a_crowd():
    linger = practised()
    assert [linger.patience(*case) for case in [(0, 1), (1, 0), (50, 1), (1, 50)]] == [0.0] * 4


def test_it_gives_up_what_does_not_pay_and_tries_again_now_and_then():
    linger = practised()
    for _ in range(100):
        linger.waited(answered=False)
    tries = [linger.patience(1, 1) > 0 for _ in range(1_000)]
    assert 1 <= sum(tries) <= 20
    for _ in range(100):
        linger.waited(answered=True)
    assert linger.patience(1, 1) > 0


def a_result_and_its_turn(runtime, do, worker, turn, number):
    """Answer the turn by an activity, and that and the turn that comes of it at once; ``groups`` holds their writes."""
    runtime.answer(turn, do.activity(number)).result(5)
    activity = worker.next()
    runtime.storage.groups.clear()
    pending = runtime.result(activity)
    answered = runtime.answer(worker.next(), do.timer(1_000 + number, time.time_ns() + 10**12))
    assert pending.result(5) and answered.result(5)


def test_a_result_and_the_turn_it_makes_share_one_write(runtime, do):
    """A worker that answers at once, on a store whose writes take a while."""
    runtime.storage.before_write = lambda commits: time.sleep(0.004)
    worker = runtime.worker(capabilities=[1001])
    runtime.start("a")
    turn = worker.next()
    for number in range(1, 41):
        a_result_and_its_turn(runtime, do, worker, turn, number)
        if len(runtime.storage.groups) == 1:
            assert len(runtime.storage.groups[0]) == 2
            return
        runtime.call("RaiseEvent", pb.RaiseEventRequest(instanceId="a", name="go"))
        turn = worker.next()
    raise AssertionError("every result was written by itself")


def test_a_signal_and_the_answer_to_its_batch_share_one_write(runtime):
    """As a result and its turn; the worker is in another process."""
    runtime.storage.before_write = lambda commits: time.sleep(0.004)
    worker = runtime.worker()
    for number in range(40):
        runtime.storage.groups.clear()
        signal = pb.SignalEntityRequest(instanceId=f"@counter@{number}", name="add")
        signalled = runtime.begin("SignalEntity", signal)
        item = worker.next()
        result = pb.EntityBatchResult(
            results=[pb.OperationResult(success=pb.OperationResultSuccess())],
            entityState=StringValue(value="1"),
            completionToken=item.completionToken,
        )
        answered = runtime.begin("CompleteEntityTask", result)
        assert signalled.result(5) is not None and answered.result(5) is not None
        if len(runtime.storage.groups) == 1:
            return
    raise AssertionError("every signal was written by itself")


def test_entities_that_answer_late_do_not_cost_turns_their_chance(runtime, do):
    """Whether it pays is learnt for each: entities may do I/O."""
    runtime.storage.before_write = lambda commits: time.sleep(0.004)
    worker = runtime.worker(capabilities=[1001])
    for number in range(60):
        runtime.call("SignalEntity", pb.SignalEntityRequest(instanceId=f"@slow@{number}", name="add"))
        worker.next()
    runtime.start("a")
    turn, shared, steps = worker.next(), 0, 20
    for number in range(1, steps + 1):
        a_result_and_its_turn(runtime, do, worker, turn, number)
        shared += len(runtime.storage.groups) == 1
        runtime.call("RaiseEvent", pb.RaiseEventRequest(instanceId="a", name="go"))
        turn = worker.next()
    assert shared > steps / 2
