"""Answers of lent threads that nobody waits for share the write of what comes next, or are written soon after."""

from __future__ import annotations

from typing import Any

import pytest
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_scheduler import shifts
from durabletask_scheduler.hub.model import HubError

WAIT = 5.0
ROUNDS = 50
"""The engine's own thread writes what is left behind after a moment; a test that is held up for as long tries again."""


def begin(runtime: Any, worker: Any, instance_id: str) -> pb.WorkItem:
    """Start an orchestration; its first turn."""
    runtime.start(instance_id)
    item = worker.next()
    assert item.orchestratorRequest.instanceId == instance_id
    return item


def answer(runtime: Any, item: pb.WorkItem, *actions: pb.OrchestratorAction) -> Any:
    """Answer a turn on a thread that is lent, which then does the scheduler's work."""
    lending = runtime.service.lending
    assert lending is not None
    pending = lending.quietly(lambda: runtime.answer(item, *actions))
    lending.help(lambda: False)
    return pending


def shared(runtime: Any, ended: str, started: str) -> bool:
    """Whether one group that was written ends the one instance and creates the other."""
    return any(
        ended in [one.instance_id for commit in group for one in commit.finished]
        and started in [one.instance_id for commit in group for one in commit.created]
        for group in runtime.storage.groups
    )


def test_an_end_that_nobody_waits_for_shares_the_write_of_the_next_call(runtime: Any, do: Any) -> None:
    worker = runtime.worker()
    item = begin(runtime, worker, "order-0")
    for number in range(ROUNDS):
        pending = answer(runtime, item, do.complete())
        item = begin(runtime, worker, f"order-{number + 1}")
        pending.result(WAIT)
        if shared(runtime, f"order-{number}", f"order-{number + 1}"):
            return
    raise AssertionError(f"no end shared a write in {ROUNDS} rounds")


def test_without_a_next_call_it_is_written_by_itself(runtime: Any, do: Any) -> None:
    worker = runtime.worker()
    for number in range(ROUNDS):
        pending = answer(runtime, begin(runtime, worker, f"order-{number}"), do.complete())
        waited = not pending.done()
        pending.result(WAIT)
        stored = runtime.storage.load("default", f"order-{number}")
        assert stored is not None and stored.is_terminal
        if waited:
            return
    raise AssertionError("every end was written at once although nobody waited for it")


def test_an_end_that_somebody_waits_for_is_written_at_once(runtime: Any, do: Any) -> None:
    worker = runtime.worker()
    for number in range(ROUNDS):
        item = begin(runtime, worker, f"order-{number}")
        waiting = runtime.wait(f"order-{number}")
        # Answered after the wait before it has been parked.
        runtime.get(f"order-{number}")
        answer(runtime, item, do.complete())
        at_once = waiting.done()
        assert waiting.result(WAIT).exists
        if at_once:
            return
    raise AssertionError("no end was written before its thread went on")


def test_a_refusal_waits_for_nothing(runtime: Any, do: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It shares the write that was put off, and so brings it about: nothing else would for a long time here."""
    monkeypatch.setattr(shifts, "WATCH_SECONDS", 10 * WAIT)
    worker = runtime.worker()
    item, _ = begin(runtime, worker, "order-1"), begin(runtime, worker, "order-2")
    ended = answer(runtime, item, do.complete())
    refused = runtime.begin("StartInstance", pb.CreateInstanceRequest(instanceId="order-2", name="order"))
    with pytest.raises(HubError) as error:
        refused.result(WAIT)
    assert error.value.code == "ALREADY_EXISTS"
    ended.result(WAIT)


def test_callers_who_always_ask_next_are_not_kept_waiting(runtime: Any, do: Any) -> None:
    """Where an end is mostly asked for a moment later, it is written by the thread that has brought it."""
    worker = runtime.worker()
    waited = []
    for number in range(ROUNDS):
        pending = answer(runtime, begin(runtime, worker, f"order-{number}"), do.complete())
        waited.append(not pending.done())
        assert runtime.status(f"order-{number}") == "COMPLETED"
    assert sum(waited[ROUNDS // 2 :]) <= 1


def test_activities_leave_at_once(runtime: Any, do: Any) -> None:
    """What an answer asks for is handed out after the write, so that the write does not wait."""
    worker = runtime.worker()
    for number in range(ROUNDS):
        answer(runtime, begin(runtime, worker, f"order-{number}"), do.activity(0))
        at_once = worker.waiting > 0
        item = worker.next()
        assert item.activityRequest.name == "charge"
        if at_once:
            return
    raise AssertionError("no activity was handed out before the thread that asked for it went on")


def test_whoever_asks_sees_the_end(runtime: Any, do: Any) -> None:
    """A state that is asked for is the committed one, and being asked for commits it."""
    worker = runtime.worker()
    for number in range(ROUNDS):
        pending = answer(runtime, begin(runtime, worker, f"order-{number}"), do.complete())
        assert runtime.status(f"order-{number}") == "COMPLETED"
        assert pending.done()


def test_a_scheduler_that_stops_writes_what_waits(runtime: Any, do: Any) -> None:
    item = begin(runtime, runtime.worker(), "order-1")
    answer(runtime, item, do.complete())
    runtime.restart()
    assert runtime.status("order-1") == "COMPLETED"
