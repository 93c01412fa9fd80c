"""Reading what is in memory on the caller's own thread: only while no step of the engine is under way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_scheduler.clock import SystemClock
from durabletask_scheduler.engine import Command
from durabletask_scheduler.hub.model import HubError
from durabletask_scheduler.shifts import Shifts

WAIT = 10.0


class Steps:
    """Runs commands and nothing else.

    Attributes:
        shifts: where they come from.
        ran: set when one has run.
        ended: set when nothing more will be done.
    """

    has_work = False
    lingers_for = 0.0
    turns_out = 0
    answers_come_by_themselves = True
    linger: Any = None

    def __init__(self) -> None:
        self.shifts: Shifts
        self.ran = threading.Event()
        self.ended = threading.Event()

    def begin(self) -> None:
        for command in self.shifts.gathered(100):
            command.run()
            self.ran.set()

    run_commands = begin

    def hand_out_turns(self) -> None:
        pass

    def finish(self) -> None:
        pass

    def break_down(self) -> None:
        pass

    def shut_down(self) -> None:
        self.ended.set()

    def patience(self) -> float:
        return 60.0

    def due(self) -> int | None:
        return None

    def puts_off_write(self) -> bool:
        return False


@pytest.fixture
def steps() -> Iterator[Steps]:
    steps = Steps()
    steps.shifts = Shifts(steps, SystemClock())
    steps.shifts.start()
    yield steps
    assert steps.shifts.stop(WAIT)


def command(action: Callable[[], object]) -> Command:
    def run() -> None:
        action()

    return Command(run)


def test_what_was_read_is_returned(steps: Steps) -> None:
    assert steps.shifts.between_steps(lambda: 1) == 1


def test_nothing_is_read_during_a_step(steps: Steps) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def step() -> None:
        begun.set()
        go_on.wait(WAIT)

    steps.shifts.submit(command(step))
    assert begun.wait(WAIT)
    assert steps.shifts.between_steps(lambda: 1) is None
    go_on.set()


def test_no_step_is_taken_while_something_is_read(steps: Steps) -> None:
    """And what comes meanwhile is not forgotten: whoever finds the baton taken counts on that."""

    def read() -> int:
        steps.shifts.submit(command(lambda: None))
        assert not steps.ran.wait(0.05)
        return 1

    assert steps.shifts.between_steps(read) == 1
    assert steps.ran.wait(WAIT)


def test_an_exception_in_it_leaves_everything_as_it_was(steps: Steps) -> None:
    """Such as KeyboardInterrupt in the main thread."""

    def read() -> None:
        steps.shifts.submit(command(lambda: None))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        steps.shifts.between_steps(read)
    assert steps.ran.wait(WAIT)
    assert steps.shifts.between_steps(lambda: 1) == 1


def test_nothing_is_read_after_the_end() -> None:
    steps = Steps()
    steps.shifts = Shifts(steps, SystemClock())
    steps.shifts.start()
    assert steps.shifts.stop(WAIT)
    assert steps.ended.is_set()
    assert steps.shifts.between_steps(lambda: 1) is None


def ended(runtime: Any, do: Any, instance_id: str = "order") -> None:
    """An instance that has come to its end."""
    worker = runtime.worker()
    runtime.start(instance_id)
    runtime.answer(worker.next(), do.complete()).result(WAIT)
    # Once this is answered, the step that wrote the end is over.
    runtime.call("RaiseEvent", pb.RaiseEventRequest(instanceId=instance_id, name="late"))
    worker.cancel()


@pytest.mark.parametrize("rpc", ["GetInstance", "WaitForInstanceCompletion", "WaitForInstanceStart"])
def test_a_call_about_an_instance_at_rest_needs_no_other_thread(runtime: Any, do: Any, rpc: str) -> None:
    ended(runtime, do)
    before = runtime.storage.calls.copy()
    for _ in range(1_000):
        asked = runtime.begin(rpc, pb.GetInstanceRequest(instanceId="order", getInputsAndOutputs=True))
        if asked.done():
            assert asked.result().orchestrationState.output.value == "1"
            assert runtime.storage.calls == before
            return
        # The engine was just at something else.
        asked.result(WAIT)
    raise AssertionError("each call was handed over")


@pytest.mark.parametrize("payloads", [True, False])
def test_payloads_come_if_wanted(runtime: Any, do: Any, payloads: bool) -> None:
    ended(runtime, do)
    state = runtime.call("GetInstance", pb.GetInstanceRequest(instanceId="order", getInputsAndOutputs=payloads))
    assert state.orchestrationState.HasField("output") == payloads


def test_nobody_sees_what_is_not_written(runtime: Any, do: Any) -> None:
    worker = runtime.worker()
    runtime.start("order")
    turn = worker.next()
    writing, go_on = threading.Event(), threading.Event()

    def hold(_: Any) -> None:
        writing.set()
        go_on.wait(WAIT)

    runtime.storage.before_write = hold
    answered = runtime.answer(turn, do.complete())
    assert writing.wait(WAIT)
    asked = runtime.begin("GetInstance", pb.GetInstanceRequest(instanceId="order"))
    waits = runtime.wait("order")
    assert not asked.done()
    assert not waits.done()
    go_on.set()
    assert answered.result(WAIT) is not None
    assert asked.result(WAIT).orchestrationState.orchestrationStatus == pb.ORCHESTRATION_STATUS_COMPLETED
    assert waits.result(WAIT).exists


def test_a_stopped_service_answers_nothing_from_memory(runtime: Any, do: Any) -> None:
    ended(runtime, do)
    runtime.service.stop(WAIT)
    asked = runtime.begin("GetInstance", pb.GetInstanceRequest(instanceId="order"))
    error = asked.exception(WAIT)
    assert isinstance(error, HubError)
    assert error.code == "UNAVAILABLE"
