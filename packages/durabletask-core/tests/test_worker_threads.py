"""The threads of a worker: how many, which one is taken, and what goes on where it was submitted."""

from __future__ import annotations

import gc
import logging
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from durabletask._worker.threads import ThreadPool
from durabletask.transport.lane import Lane

WAIT = 10

Pools = Callable[..., ThreadPool]


def pooled() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("pooled_")]


@pytest.fixture
def pools() -> Iterator[Pools]:
    made: list[ThreadPool] = []

    def make(size: int, lane: Lane | None = None) -> ThreadPool:
        made.append(ThreadPool(size, "pooled", logging.getLogger("pool"), lane))
        return made[-1]

    yield make
    for pool in made:
        pool.close()
    for thread in pooled():
        thread.join(WAIT)


def here() -> str:
    return threading.current_thread().name


class Countdown:
    """Set once it was called so many times."""

    def __init__(self, count: int) -> None:
        self._left = count
        self._lock = threading.Lock()
        self._zero = threading.Event()

    def __call__(self) -> None:
        with self._lock:
            self._left -= 1
            if self._left == 0:
                self._zero.set()

    def wait(self) -> bool:
        return self._zero.wait(WAIT)


def occupy(pool: ThreadPool, count: int) -> threading.Event:
    """So many threads are at work until the event is set."""
    go_on, barrier = threading.Event(), threading.Barrier(count + 1)

    def work() -> None:
        barrier.wait(WAIT)
        go_on.wait(WAIT)

    for _ in range(count):
        pool.submit(work)
    barrier.wait(WAIT)
    return go_on


@pytest.mark.parametrize("size", [1, 3])
def test_never_more_than_size_run_at_once_and_all_run(pools: Pools, size: int) -> None:
    pool, done, lock = pools(size), Countdown(200), threading.Lock()
    running, most, names = 0, 0, set()

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            names.add(here())
        with lock:
            running -= 1
        done()

    go_on = occupy(pool, size)
    for _ in range(200):
        pool.submit(work)
    go_on.set()
    assert done.wait()
    assert most <= size
    assert names <= {f"pooled_{number}" for number in range(size)}


def test_threads_start_only_as_they_are_needed(pools: Pools) -> None:
    pool = pools(50)
    go_on = occupy(pool, 2)
    assert len(pooled()) == 2
    go_on.set()


def test_the_thread_that_was_busy_last_is_taken_first(pools: Pools) -> None:
    pool = pools(6)
    occupy(pool, 6).set()
    names: Counter[str] = Counter()
    for _ in range(300):
        done = threading.Event()

        def work(done: threading.Event = done) -> None:
            names[here()] += 1
            done.set()

        pool.submit(work)
        assert done.wait(WAIT)
    # It may not be back yet when the next one comes; in turn they would have 50 each.
    assert sum(count for _, count in names.most_common(2)) > 200


def test_what_work_submits_goes_on_behind_it_on_the_same_thread(pools: Pools) -> None:
    pool, done = pools(4), threading.Event()
    log: list[tuple[str, str]] = []

    def after() -> None:
        log.append(("after", here()))
        done.set()

    def first() -> None:
        pool.submit(after)
        log.append(("first", here()))

    occupy(pool, 3).set()
    pool.submit(first)
    assert done.wait(WAIT)
    assert [what for what, _ in log] == ["first", "after"]
    assert log[0][1] == log[1][1]


def test_only_one_piece_waits_for_the_thread_that_submits_it(pools: Pools) -> None:
    pool, second_ran, done = pools(4), threading.Event(), Countdown(2)
    names: dict[str, str] = {}

    def second() -> None:
        names["second"] = here()
        second_ran.set()
        done()

    def first() -> None:
        names["first"] = here()
        pool.submit(done)
        pool.submit(second)
        assert second_ran.wait(WAIT)

    pool.submit(first)
    assert done.wait()
    assert names["second"] != names["first"]


def test_a_thread_of_another_pool_keeps_nothing_to_itself(pools: Pools) -> None:
    pool, other, ran, done = pools(2), pools(2), threading.Event(), threading.Event()

    def submits() -> None:
        pool.submit(ran.set)
        assert ran.wait(WAIT)
        done.set()

    other.submit(submits)
    assert done.wait(WAIT)


@pytest.mark.parametrize("error", [ValueError("v"), SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_a_function_that_raises_is_logged_and_its_thread_goes_on(
    pools: Pools, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    pool, names, done = pools(1), [], threading.Event()

    def fails() -> None:
        names.append(here())
        raise error

    def works() -> None:
        names.append(here())
        done.set()

    pool.submit(fails)
    pool.submit(works)
    assert done.wait(WAIT)
    assert names == ["pooled_0", "pooled_0"]
    assert [record.exc_info[1] for record in caplog.records if record.exc_info] == [error]


def test_closing_drops_what_waits_and_ends_the_threads(pools: Pools) -> None:
    pool, ran = pools(2), []
    occupy(pool, 2).set()
    go_on = occupy(pool, 2)
    for number in range(5):
        pool.submit(lambda number=number: ran.append(number))
    threads = pooled()
    assert len(threads) == 2
    pool.close()
    go_on.set()
    pool.submit(lambda: ran.append("late"))
    assert pool.call(lambda: ran.append("called late"))
    for thread in threads:
        thread.join(WAIT)
        assert not thread.is_alive()
    assert ran == []


def test_a_call_needs_a_thread_that_is_free_or_may_be_started(pools: Pools) -> None:
    pool, ran = pools(2), threading.Event()
    first = occupy(pool, 1)
    second, started = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        second.wait(WAIT)

    assert pool.call(work)
    assert started.wait(WAIT)
    assert not pool.call(ran.set)
    second.set()
    first.set()
    pool.submit(ran.set)
    assert ran.wait(WAIT)


class Watched(Lane):
    """Remembers what the pool tells it."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[bool] = []
        self.step_asides: dict[str, Callable[[], None] | None] = {}

    def join(self, step_aside: Callable[[], None] | None = None) -> None:
        self.step_asides[here()] = step_aside

    def answered(self, *, busy: bool) -> None:
        self.answers.append(busy)


def test_the_lane_hears_of_each_function_and_whether_another_one_follows(pools: Pools) -> None:
    lane = Watched()
    pool = pools(1, lane)

    def first() -> None:
        pool.submit(lambda: None)

    pool.submit(first)
    occupy(pool, 1).set()
    assert lane.answers[:2] == [True, False]


def test_who_steps_aside_has_its_next_piece_run_by_another_thread(pools: Pools) -> None:
    lane, ran, done = Watched(), threading.Event(), threading.Event()
    pool = pools(2, lane)
    names: dict[str, Any] = {}

    def after() -> None:
        names["after"] = here()
        ran.set()

    def blocks() -> None:
        names["blocks"] = here()
        pool.submit(after)
        step_aside = lane.step_asides[here()]
        assert step_aside is not None
        step_aside()
        assert ran.wait(WAIT)
        # With nothing to give away it does nothing.
        step_aside()
        done.set()

    pool.submit(blocks)
    assert done.wait(WAIT)
    assert names["after"] != names["blocks"]


def test_who_cannot_step_aside_does_its_next_piece_itself(pools: Pools) -> None:
    lane, done = Watched(), threading.Event()
    pool = pools(1, lane)

    def first() -> None:
        pool.submit(done.set)
        step_aside = lane.step_asides[here()]
        assert step_aside is not None
        step_aside()
        assert not done.is_set()

    pool.submit(first)
    assert done.wait(WAIT)


def test_a_collection_of_garbage_in_the_midst_may_call_a_thread_too(pools: Pools) -> None:
    """A call that is collected is cancelled, and the scheduler may call a thread of the worker for that."""
    some, done = [pools(2) for _ in range(100)], threading.Event()
    pool = some[0]
    called: list[bool] = []

    def nothing() -> None:
        pass

    def collecting(phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            called.append(pool.call(nothing))

    def submit() -> None:
        nonlocal pool
        for number, pool in enumerate(some):
            # So that each time it comes somewhere else.
            kept = [[] for _ in range(number % 4)]
            pool.submit(nothing)
            del kept
        done.set()

    thresholds = gc.get_threshold()
    gc.callbacks.append(collecting)
    gc.set_threshold(1)
    try:
        threading.Thread(target=submit, daemon=True).start()
        assert done.wait(WAIT)
    finally:
        gc.set_threshold(*thresholds)
        gc.callbacks.remove(collecting)
    assert called


@pytest.mark.skipif(sys.platform == "win32", reason="there are no interval timers")
def test_no_thread_is_lost_when_who_calls_it_is_interrupted(pools: Pools) -> None:
    """As a client is by Ctrl-C while it calls the scheduler."""
    pool = pools(3)
    occupy(pool, 3).set()

    class Interrupted(Exception):
        pass

    interruptions = 0

    def interrupt(*_: object) -> None:
        raise Interrupted

    def nothing() -> None:
        pass

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        while interruptions < 3_000:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.000_1 + interruptions % 50 / 1e6)
                while True:
                    pool.call(nothing)
            except Interrupted:
                interruptions += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    occupy(pool, 3).set()


def test_a_thread_that_cannot_be_started_now_is_tried_again_for_the_next_work(
    pools: Pools, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pool, ran = pools(1), threading.Event()
    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            pool.submit(ran.set)
    assert not ran.is_set()
    pool.submit(ran.set)
    assert ran.wait(WAIT)


@pytest.mark.parametrize(("taken", "expected"), [(True, ["first", "soon"]), (False, ["first", "behind"])])
def test_brief_work_is_offered_to_the_lane_and_else_goes_on_behind(
    pools: Pools, taken: bool, expected: list[str]
) -> None:
    log, done = list[str](), threading.Event()

    class Offered(Lane):
        def do_soon(self, work: Callable[[], None]) -> bool:
            if taken:
                log.append("soon")
                done.set()
            return taken

    pool = pools(2, Offered())

    def behind() -> None:
        log.append("behind")
        done.set()

    def first() -> None:
        log.append("first")
        pool.submit(behind, brief=True)

    pool.submit(first)
    assert done.wait(WAIT)
    assert log == expected


def test_brief_work_of_a_thread_of_another_pool_is_not_offered(pools: Pools) -> None:
    class Refusing(Lane):
        def do_soon(self, work: Callable[[], None]) -> bool:
            raise AssertionError("these threads are not for that")

    lane, done = Refusing(), threading.Event()
    pool, other = pools(1, lane), pools(1, lane)
    names: list[str] = []

    def work() -> None:
        names.append(here())
        done.set()

    other.submit(lambda: pool.submit(work, brief=True))
    assert done.wait(WAIT)
    assert names == ["pooled_0"]


def test_the_lane_calls_the_pool_that_was_busy_last(pools: Pools) -> None:
    rests = threading.Semaphore(0)

    class Told(Lane):
        first: Any = None

        def call_first(self, call: Any) -> None:
            self.first = call
            rests.release()

    lane = Told()
    one, other = pools(1, lane), pools(1, lane)
    for pool in (one, other, one):
        pool.submit(lambda: None)
        assert rests.acquire(timeout=WAIT)
        assert lane.first == pool.call_to_help
