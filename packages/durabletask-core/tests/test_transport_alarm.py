"""The clock behind retries and watchdogs, and the delays between tries."""

import logging
import queue
import threading
from collections.abc import Iterator

import pytest
from durabletask.transport.alarm import AlarmClock
from durabletask.transport.backoff import full_jitter

PATIENCE = 10.0


@pytest.fixture
def clock() -> Iterator[AlarmClock]:
    clock = AlarmClock(logging.getLogger("test"), name="TestClock")
    clock.start()
    yield clock
    clock.stop()


def test_calls_come_in_the_order_of_their_times(clock: AlarmClock) -> None:
    called = queue.SimpleQueue[str]()
    clock.call_later(0.05, lambda: called.put("late"))
    clock.call_later(0.01, lambda: called.put("early"))

    assert [called.get(timeout=PATIENCE) for _ in range(2)] == ["early", "late"]


def test_a_call_that_fails_is_reported_and_the_next_one_comes(
    clock: AlarmClock, caplog: pytest.LogCaptureFixture
) -> None:
    called = threading.Event()
    clock.call_later(0, lambda: 1 // 0)
    clock.call_later(0.01, called.set)

    assert called.wait(PATIENCE)
    assert "ZeroDivisionError" in caplog.text


def test_a_stopped_clock_ends_its_thread_and_calls_nothing() -> None:
    called = threading.Event()
    clock = AlarmClock(logging.getLogger("test"), name="StoppedClock")
    clock.start()
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "StoppedClock"]
    clock.call_later(1000, called.set)

    clock.stop()
    thread.join(PATIENCE)

    assert not thread.is_alive() and not called.is_set()


@pytest.mark.parametrize(("failures", "bound"), [(0, 1.0), (1, 2.0), (4, 16.0), (5, 30.0), (100_000, 30.0)])
def test_delays_are_spread_up_to_a_bound_that_saturates(failures: int, bound: float) -> None:
    """Lesson 34: a fleet does not return in lockstep; R12: the bound never overflows."""
    delays = [full_jitter(1.0, 30.0, failures) for _ in range(400)]

    assert all(0 <= delay <= bound for delay in delays)
    assert max(delays) > bound / 2 > min(delays)
