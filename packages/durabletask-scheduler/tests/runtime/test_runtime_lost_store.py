"""A scheduler whose store was taken over by another one ends: it must not answer from what it remembers."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_scheduler.hub.model import HubError
from durabletask_scheduler.hub.times import SECOND
from durabletask_scheduler.service import ServiceOptions
from durabletask_scheduler.storage import StorageLost
from durabletask_scheduler.virtual_clock import VirtualClock

WAIT = 5.0
START = 1_700_000_000 * SECOND
EVERY = 5


@pytest.fixture
def ended() -> threading.Event:
    return threading.Event()


@pytest.fixture
def options(ended: threading.Event) -> ServiceOptions:
    return ServiceOptions(on_failure=ended.set, clock=VirtualClock(START, skips=False))


def lost(*_: Any) -> None:
    raise StorageLost("another scheduler has taken over")


def test_whoever_waits_for_the_write_is_told_and_the_scheduler_ends(runtime: Any, ended: threading.Event) -> None:
    runtime.start("before")
    waiting = runtime.wait("before")
    runtime.storage.before_write = lost
    with pytest.raises(HubError, match="the scheduler is not running") as refused:
        runtime.start("after")
    assert refused.value.code == "UNAVAILABLE"
    assert ended.wait(WAIT)
    with pytest.raises(HubError) as refused:
        waiting.result(WAIT)
    assert refused.value.code == "UNAVAILABLE"
    with pytest.raises(HubError):
        runtime.get("before")


def test_a_read_finds_out_as_well(runtime: Any, ended: threading.Event) -> None:
    runtime.storage.load = runtime.storage.load_many = lost
    with pytest.raises(HubError):
        runtime.start("not-in-memory")
    assert ended.wait(WAIT)


def test_commands_that_came_with_the_one_that_found_out_are_answered(runtime: Any, ended: threading.Event) -> None:
    """They were taken out of the inbox together; none of their callers may wait for ever."""
    engine_is_held, go_on = threading.Event(), threading.Event()

    def hold(_: Any) -> None:
        engine_is_held.set()
        assert go_on.wait(WAIT)

    runtime.storage.before_write = hold
    runtime.begin("StartInstance", pb.CreateInstanceRequest(instanceId="held", name="order"))
    assert engine_is_held.wait(WAIT)
    runtime.storage.load = runtime.storage.load_many = lost
    calls = [
        runtime.begin("StartInstance", pb.CreateInstanceRequest(instanceId=f"next-{number}", name="order"))
        for number in range(5)
    ]
    go_on.set()
    for call in calls:
        with pytest.raises(HubError) as refused:
            call.result(WAIT)
        assert refused.value.code == "UNAVAILABLE"
    assert ended.wait(WAIT)


def test_workers_of_an_idle_scheduler_are_let_go(
    confirming: Any, ended: threading.Event, options: ServiceOptions
) -> None:
    """Nobody writes anything: only asking for it finds out, every few seconds."""
    worker = confirming.worker()
    _advance(options, 2 * EVERY)
    assert confirming.storage.calls.count("confirm") == 2
    assert not ended.is_set()
    confirming.storage.confirm = lost
    with pytest.raises(TimeoutError):
        _advance(options, EVERY, timeout=0.2)
    assert ended.wait(WAIT)
    assert worker.closed.wait(WAIT)


def test_a_server_that_cannot_be_reached_for_a_while_is_no_reason_to_end(
    confirming: Any, ended: threading.Event, options: ServiceOptions
) -> None:
    confirming.storage.failing.add("confirm")
    _advance(options, 3 * EVERY)
    assert confirming.storage.calls.count("confirm") == 3
    assert not ended.is_set()
    confirming.start("still-there")


@pytest.fixture
def confirming(runtime: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A runtime whose store can be lost without a write."""
    monkeypatch.setattr(type(runtime.storage), "confirm_seconds", EVERY)
    runtime.restart()
    return runtime


def _advance(options: ServiceOptions, seconds: int, timeout: float = WAIT) -> None:
    clock = options.clock
    assert isinstance(clock, VirtualClock)
    clock.advance(seconds * SECOND, while_activities_run=False, timeout=timeout)
