"""The engine on a clock that tests move: what is due comes when the clock says so, in order, and never early."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_scheduler.clock import SystemClock, UnderWay
from durabletask_scheduler.hub.times import SECOND
from durabletask_scheduler.service import ServiceOptions
from durabletask_scheduler.virtual_clock import VirtualClock

START = 1_767_225_600 * SECOND
DAY = 86_400 * SECOND
NEVER = 10**30
IDLE = UnderWay(0, 0, 0)
WAITED_FOR = UnderWay(0, 0, 1)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(START, skips=True)


@pytest.fixture
def options(clock: VirtualClock) -> ServiceOptions:
    return ServiceOptions(clock=clock, ping_interval=NEVER, turn_max_age=NEVER)


class Advance:
    """An ``advance`` on a thread of its own, because it waits for workers that the test plays."""

    def __init__(self, clock: VirtualClock, duration: int, *, while_activities_run: bool = False) -> None:
        self._clock = clock
        self._arguments = (duration, while_activities_run)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        duration, while_activities_run = self._arguments
        try:
            self._clock.advance(duration, while_activities_run=while_activities_run, timeout=5)
        except BaseException as error:
            self._error = error

    @property
    def is_over(self) -> bool:
        return not self._thread.is_alive()

    def end(self) -> None:
        self._thread.join(10)
        assert self.is_over
        if self._error is not None:
            raise self._error


def test_the_engine_writes_the_time_of_its_clock(runtime):
    runtime.start("a")
    assert runtime.get("a").orchestrationState.createdTimestamp.ToNanoseconds() == START


def test_a_timer_fires_when_the_clock_is_moved_to_it(runtime, clock, do):
    worker = runtime.worker()
    runtime.start("a")
    runtime.answer(worker.next(), do.timer(1, START + 30 * DAY)).result(5)
    clock.advance(30 * DAY - SECOND // 100, while_activities_run=False, timeout=5)
    assert worker.waiting == 0
    advance = Advance(clock, SECOND // 100)
    turn = worker.next()
    assert [event.WhichOneof("eventType") for event in turn.orchestratorRequest.newEvents][-1] == "timerFired"
    runtime.answer(turn, do.complete(2)).result(5)
    advance.end()
    assert clock.now() == START + 30 * DAY


def test_an_advance_is_over_when_the_turn_it_set_off_is_answered(runtime, clock, do):
    worker = runtime.worker()
    runtime.start("a")
    runtime.answer(worker.next(), do.timer(1, START + DAY)).result(5)
    advance = Advance(clock, DAY)
    turn = worker.next()
    assert not advance.is_over
    assert clock.now() == START + DAY
    runtime.answer(turn, do.complete(2)).result(5)
    advance.end()


def test_timers_fire_one_after_the_other(runtime, clock, do):
    worker = runtime.worker()
    runtime.start("a")
    runtime.answer(worker.next(), do.timer(2, START + 2 * DAY), do.timer(1, START + DAY)).result(5)
    advance = Advance(clock, 3 * DAY)
    for number in (1, 2):
        turn = worker.next()
        assert turn.orchestratorRequest.newEvents[-1].timerFired.timerId == number
        assert clock.now() == START + number * DAY
        runtime.answer(turn).result(5)
    advance.end()
    assert clock.now() == START + 3 * DAY


def test_a_wait_moves_the_clock_only_when_all_is_quiet(runtime, clock, do):
    worker = runtime.worker()
    runtime.start("a")
    runtime.answer(worker.next(), do.timer(1, START + DAY), do.activity(2)).result(5)
    activity = worker.next()
    wait = runtime.wait("a")
    runtime.get("a")
    assert clock.now() == START, "an activity is running"
    runtime.result(activity).result(5)
    runtime.answer(worker.next()).result(5)
    turn = worker.next()
    assert turn.orchestratorRequest.newEvents[-1].HasField("timerFired")
    runtime.answer(turn, do.complete(3)).result(5)
    assert wait.result(5).orchestrationState.orchestrationStatus == pb.ORCHESTRATION_STATUS_COMPLETED
    assert clock.now() == START + DAY


def test_what_a_vanished_worker_had_does_not_stop_the_time(runtime, clock, do):
    worker = runtime.worker()
    runtime.start("a")
    worker.next()
    worker.cancel()
    wait = runtime.wait("a")
    other = runtime.worker()
    runtime.answer(other.next(), do.complete(1)).result(5)
    wait.result(5)
    assert clock.now() == START + ServiceOptions().stream_grace


def test_a_clock_without_skipping_ignores_waits():
    clock = VirtualClock(START, skips=False)
    assert clock.patience(START + DAY, lambda: WAITED_FOR) > 10**6
    assert clock.now() == START


@pytest.fixture
def woken(clock: VirtualClock) -> Iterator[threading.Event]:
    event = threading.Event()
    clock.attach(event.set)
    yield event


@pytest.mark.parametrize(
    ("due", "under_way", "now"),
    [
        (START + DAY, WAITED_FOR, START + DAY),
        (START + DAY, IDLE, START),
        (START + DAY, UnderWay(1, 0, 1), START),
        (START + DAY, UnderWay(0, 1, 1), START),
        (None, WAITED_FOR, START),
        (NEVER, WAITED_FOR, START),
    ],
    ids=["waited for", "nobody waits", "a turn runs", "an activity runs", "nothing is due", "due after all time"],
)
def test_when_the_clock_skips(clock, due, under_way, now):
    patience = clock.patience(due, lambda: under_way)
    assert clock.now() == now
    assert (patience == 0.0) == (now != START)


def test_an_advance_wakes_the_engine_and_tells_what_it_waited_for(clock, woken):
    clock.patience(None, lambda: UnderWay(2, 3, 0))
    with pytest.raises(TimeoutError, match="2 orchestrator turns and 3 activities"):
        clock.advance(DAY, while_activities_run=False, timeout=0.05)
    assert woken.is_set()
    clock.patience(None, lambda: IDLE)
    assert clock.now() == START, "an advance that was given up has no effect"


def test_an_activity_may_advance_while_another_advance_waits_for_it(clock):
    begun = threading.Semaphore(0)
    clock.attach(begun.release)
    order: list[str] = []

    def advance(name: str, duration: int, while_activities_run: bool) -> None:
        clock.advance(duration, while_activities_run=while_activities_run, timeout=5)
        order.append(name)

    threads = [
        threading.Thread(target=advance, args=("test", 2 * DAY, False)),
        threading.Thread(target=advance, args=("activity", DAY, True)),
    ]
    for thread in threads:
        thread.start()
    assert begun.acquire(timeout=5) and begun.acquire(timeout=5)
    while threads[1].is_alive():
        clock.patience(START + 3 * DAY, lambda: UnderWay(0, 1, 0))
    assert clock.now() == START + DAY
    while threads[0].is_alive():
        clock.patience(START + 3 * DAY, lambda: IDLE)
    for thread in threads:
        thread.join(5)
    assert order == ["activity", "test"]
    assert clock.now() == START + 2 * DAY


def test_the_system_clock_waits_as_long_as_the_system_says():
    clock = SystemClock()
    now = clock.now()
    assert clock.patience(now - SECOND, lambda: IDLE) == 0.0
    assert 0.0 < clock.patience(now + 100 * SECOND, lambda: IDLE) <= 100.0
    assert clock.patience(None, lambda: IDLE) > 10**6
