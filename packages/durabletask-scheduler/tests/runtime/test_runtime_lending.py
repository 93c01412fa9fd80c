"""Workers in the scheduler's process lend it their threads: the work goes on there, and nobody waits for user code."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import grpc
import pytest
from durabletask import task
from durabletask.client import AsyncTaskHubGrpcClient, OrchestrationStatus, TaskHubGrpcClient
from durabletask.worker import ConcurrencyOptions, TaskHubGrpcWorker
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_scheduler import Scheduler
from durabletask_scheduler.channel import InProcessChannel
from durabletask_scheduler.clock import SystemClock
from durabletask_scheduler.hub.model import HubError
from durabletask_scheduler.service import SchedulerService, ServiceOptions
from durabletask_scheduler.storage import StorageError
from durabletask_scheduler.virtual_clock import VirtualClock

WAIT = 5.0
ENGINE = "durabletask-engine"
LENT = "DurableTask"


class Place:
    """One service with workers and clients of the same process."""

    def __init__(self, service: SchedulerService) -> None:
        self._service = service
        self._stack = contextlib.ExitStack()
        self._held: list[threading.Event] = []
        self._workers = 0

    def client(self) -> TaskHubGrpcClient:
        return self._stack.enter_context(TaskHubGrpcClient(channel=InProcessChannel(self._service)))

    def worker(self, *code: Callable[..., Any], threads: int = 8) -> TaskHubGrpcWorker:
        """A worker that is sent nothing but these: what takes a ``ctx`` is an orchestrator, else an activity."""
        worker = TaskHubGrpcWorker(
            channel=InProcessChannel(self._service),
            concurrency_options=ConcurrencyOptions(maximum_thread_pool_workers=threads),
        )
        # What a scheduler that has ended cannot take any more is not worth waiting for.
        self._stack.callback(worker.stop, timeout=0.5)
        for function in code:
            kind = worker.add_orchestrator if "ctx" in function.__code__.co_varnames[:1] else worker.add_activity
            kind(function)
        self._workers += 1
        ready = worker.add_orchestrator(_named(f"ready_{self._workers}"))
        worker.use_work_item_filters()
        worker.start()
        client = self.client()
        output(client, client.schedule_new_orchestration(ready))
        return worker

    def finally_let_go(self, event: threading.Event) -> None:
        """Have it set at the end, before anything is stopped."""
        self._held.append(event)

    def close(self) -> None:
        for event in self._held:
            event.set()
        self._stack.close()


def _named(name: str) -> Any:
    def orchestrator(ctx: Any, _: Any) -> Any:
        return None

    orchestrator.__name__ = name
    return orchestrator


@pytest.fixture
def place(runtime: Any) -> Iterator[Place]:
    place = Place(runtime.service)
    yield place
    place.close()


def output(client: TaskHubGrpcClient, instance_id: str) -> Any:
    state = client.wait_for_orchestration_completion(instance_id, timeout=WAIT)
    assert state is not None and state.runtime_status is OrchestrationStatus.COMPLETED, state
    return state.get_output()


def double(_: Any, number: int) -> int:
    return 2 * number


def quick(ctx: Any, number: int) -> Any:
    return (yield ctx.call_activity(double, input=number))


class Blocked:
    """An orchestrator that does what none should: it waits."""

    def __init__(self, place: Place) -> None:
        self.entered = threading.Event()
        self.go_on = threading.Event()
        place.finally_let_go(self.go_on)

        def blocks(ctx: Any, _: Any) -> Any:
            if not ctx.is_replaying:
                self.entered.set()
                assert self.go_on.wait(3 * WAIT)
            return "over"
            yield

        self.orchestrator = blocks


def here() -> str:
    return threading.current_thread().name


def is_lent(name: str) -> bool:
    return name.startswith(LENT)


class Threads:
    """On which threads groups are written; ``on_lent`` is called before each on a lent one that starts nothing new."""

    def __init__(self, runtime: Any) -> None:
        self.names: Counter[str] = Counter()
        self.on_lent: Callable[[], None] = lambda: None
        runtime.storage.before_write = self._note

    def _note(self, commits: Any) -> None:
        self.names[here()] += 1
        if is_lent(here()) and not any(commit.created for commit in commits):
            self.on_lent()


# -- where the work is done --


@pytest.mark.parametrize(
    ("clock", "borrows"),
    [(SystemClock(), True), (VirtualClock(time.time_ns(), skips=True), False)],
    ids=["system", "virtual"],
)
def test_threads_are_borrowed_only_where_time_goes_by_itself(runtime, options, clock, borrows):
    service = SchedulerService(runtime.storage, dataclasses.replace(options, clock=clock))
    assert (InProcessChannel(service).lending is not None) == borrows


def test_a_chain_goes_on_on_the_thread_that_ran_its_last_activity(runtime, place):
    steps = 50
    turns: list[str] = []
    activities: list[str] = []

    def where(_: Any, __: Any) -> None:
        activities.append(here())

    def chain(ctx: Any, _: Any) -> Any:
        for _ in range(steps):
            yield ctx.call_activity(where)
            turns.append(here())

    place.worker(chain, where)
    threads = Threads(runtime)
    client = place.client()
    output(client, client.schedule_new_orchestration(chain))
    assert len(activities) == len(turns) == steps
    # The engine's thread may step in when this one is not given the processor for some milliseconds.
    assert sum(turn == activity for turn, activity in zip(turns, activities, strict=True)) > steps / 2
    assert sum(turn == activity for turn, activity in zip(turns, activities[1:], strict=False)) > steps / 2
    lent = sum(count for name, count in threads.names.items() if is_lent(name))
    assert lent > sum(threads.names.values()) / 2


def test_a_clients_thread_never_does_the_engines_work(runtime, place):
    """An exception that a signal raises there must not hit the engine in the midst of a change."""
    place.worker(quick, double)
    threads = Threads(runtime)
    client = place.client()
    for number in range(50):
        assert output(client, client.schedule_new_orchestration(quick, input=number)) == 2 * number
    assert threads.names
    assert [name for name in threads.names if not is_lent(name) and name != ENGINE] == []


def test_a_timer_of_a_turn_on_a_lent_thread_fires_in_time(runtime, place):
    """The engine's thread, which waits for timers, sleeps for much longer then."""

    def naps(ctx: Any, _: Any) -> Any:
        yield ctx.create_timer(timedelta(milliseconds=50))

    place.worker(naps)
    client = place.client()
    for _ in range(3):
        # Long enough for the engine's thread to stop looking after lent threads.
        runtime.pause(0.2)
        begun = time.monotonic()
        output(client, client.schedule_new_orchestration(naps))
        assert 0.05 <= time.monotonic() - begun < 2


# -- user code that blocks --


def test_who_starts_an_orchestration_is_answered_although_its_first_turn_blocks(runtime, place):
    blocked = Blocked(place)
    place.worker(blocked.orchestrator)
    begun = runtime.begin("StartInstance", pb.CreateInstanceRequest(instanceId="a", name="blocks"))
    assert blocked.entered.wait(WAIT)
    assert begun.result(WAIT).instanceId == "a"


def test_the_answer_to_a_turn_does_not_wait_for_the_turns_behind_it(runtime, place):
    """Two turns come at once; the first takes so long that nobody looks after it any more, the second blocks."""
    blocked = Blocked(place)
    slow_entered, slow_goes_on = threading.Event(), threading.Event()

    def slow(ctx: Any, _: Any) -> Any:
        slow_entered.set()
        assert slow_goes_on.wait(WAIT)
        return 1
        yield

    place.worker(slow, blocked.orchestrator)
    client = place.client()
    client.schedule_new_orchestration(slow, instance_id="slow")
    assert slow_entered.wait(WAIT)
    client.schedule_new_orchestration(blocked.orchestrator, instance_id="blocks")
    # From here on nobody calls the scheduler.
    ended = runtime.wait("slow")
    runtime.pause(0.3)
    slow_goes_on.set()
    assert blocked.entered.wait(WAIT)
    assert ended.result(WAIT).orchestrationState.output.value == "1"


def test_an_activity_does_not_wait_for_a_turn_that_blocks(runtime, place):
    """Both are handed out one right after the other, so that one thread finds them together."""
    blocked, ran = Blocked(place), threading.Event()

    def reports(_: Any, __: Any) -> None:
        ran.set()

    def calls(ctx: Any, _: Any) -> Any:
        yield ctx.call_activity(reports)

    place.worker(calls, reports, blocked.orchestrator)

    def start_another(commits: Any) -> None:
        if any(commit.opened for commit in commits):
            runtime.storage.before_write = lambda _: None
            runtime.begin("StartInstance", pb.CreateInstanceRequest(instanceId="b", name="blocks"))

    runtime.storage.before_write = start_another
    place.client().schedule_new_orchestration(calls)
    assert blocked.entered.wait(WAIT)
    assert ran.wait(WAIT)


def test_others_are_served_while_a_turn_blocks(runtime, place):
    """Their own starts, waits, queries, activities and turns: at another worker, on the same scheduler."""
    blocked = Blocked(place)
    place.worker(quick, double)
    # Who came last is called first.
    place.worker(blocked.orchestrator)
    client = place.client()
    client.schedule_new_orchestration(blocked.orchestrator, instance_id="blocks")
    assert blocked.entered.wait(WAIT)
    slowest = 0.0
    for number in range(20):
        begun = time.monotonic()
        assert output(client, client.schedule_new_orchestration(quick, input=number)) == 2 * number
        slowest = max(slowest, time.monotonic() - begun)
    state = client.get_orchestration_state("blocks")
    assert state is not None and state.runtime_status is OrchestrationStatus.PENDING
    assert len(client.get_all_orchestration_states()) >= 21
    assert slowest < 1
    blocked.go_on.set()
    assert output(client, "blocks") == "over"


def test_others_are_served_while_all_threads_of_a_worker_are_in_activities_that_block(place):
    go_on, started = threading.Event(), threading.Semaphore(0)
    place.finally_let_go(go_on)

    def waits(_: Any, __: Any) -> str:
        started.release()
        assert go_on.wait(3 * WAIT)
        return "over"

    def all_wait(ctx: Any, _: Any) -> Any:
        return (yield task.when_all([ctx.call_activity(waits) for _ in range(4)]))

    place.worker(quick, double)
    place.worker(all_wait, waits, threads=4)
    client = place.client()
    client.schedule_new_orchestration(all_wait, instance_id="waits")
    for _ in range(4):
        assert started.acquire(timeout=WAIT)
    for number in range(20):
        assert output(client, client.schedule_new_orchestration(quick, input=number)) == 2 * number
    go_on.set()
    assert output(client, "waits") == ["over"] * 4


# -- workers and the scheduler end --


def test_a_worker_that_is_stopped_under_load_loses_and_doubles_nothing(place):
    runs: Counter[tuple[int, int]] = Counter()
    lock = threading.Lock()

    def counted(_: Any, step: list[int]) -> int:
        with lock:
            runs[step[0], step[1]] += 1
        return step[1]

    def three(ctx: Any, number: int) -> Any:
        steps = yield task.when_all([ctx.call_activity(counted, input=[number, step]) for step in range(2)])
        return [*steps, (yield ctx.call_activity(counted, input=[number, 2]))]

    place.worker(three, counted)
    leaving = place.worker(three, counted)
    client = place.client()
    ids = [client.schedule_new_orchestration(three, input=number) for number in range(150)]
    leaving.stop()
    ids += [client.schedule_new_orchestration(three, input=number) for number in range(150, 200)]
    assert [output(client, instance_id) for instance_id in ids] == [[0, 1, 2]] * 200
    assert runs == Counter({(number, step): 1 for number in range(200) for step in range(3)})


def test_the_service_stops_in_time_while_lent_threads_are_at_work(runtime, place):
    place.worker(endless, double)
    client = place.client()
    waits = [runtime.wait(client.schedule_new_orchestration(endless)) for _ in range(10)]
    begun = time.monotonic()
    runtime.service.stop(WAIT)
    assert time.monotonic() - begun < WAIT
    for wait in waits:
        error = wait.exception(WAIT)
        assert isinstance(error, HubError) and error.code == "UNAVAILABLE"
    with pytest.raises(grpc.RpcError) as caught:
        client.schedule_new_orchestration(quick)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_the_service_stops_in_time_while_a_turn_blocks(runtime, place):
    blocked = Blocked(place)
    place.worker(blocked.orchestrator)
    wait = runtime.wait(place.client().schedule_new_orchestration(blocked.orchestrator))
    assert blocked.entered.wait(WAIT)
    runtime.service.stop(WAIT)
    assert isinstance(wait.exception(WAIT), HubError)
    blocked.go_on.set()


def endless(ctx: Any, number: int) -> Any:
    number = yield ctx.call_activity(double, input=1)
    ctx.continue_as_new(number)


# -- errors on a lent thread --


@pytest.mark.parametrize("error", [StorageError("the disk is full"), RuntimeError("a bug")], ids=repr)
def test_a_write_that_fails_on_a_lent_thread_is_made_good(runtime, place, error, caplog):
    failed: list[str] = []

    def fail_at_times() -> None:
        if len(failed) < 3:
            failed.append(here())
            raise error

    place.worker(chain_of_ten, double)
    client = place.client()
    Threads(runtime).on_lent = fail_at_times
    assert output(client, client.schedule_new_orchestration(chain_of_ten, input=1)) == 1024
    assert len(failed) == 3
    assert "could not be written" in caplog.text


def chain_of_ten(ctx: Any, number: int) -> Any:
    for _ in range(10):
        number = yield ctx.call_activity(double, input=number)
    return number


def test_a_transport_that_fails_on_a_lent_thread_loses_its_stream_and_no_work(runtime, place):
    failed: list[str] = []

    class Broken:
        lends = False

        def send(self, _: Any) -> None:
            failed.append(here())
            raise RuntimeError("the pipe burst")

        def when_read(self, go_on: Callable[[], None]) -> None:
            go_on()

        def close(self, error: HubError | None = None) -> None:
            """There is nobody to tell."""

    place.worker(quick)
    filters = pb.WorkItemFilters(activities=[pb.ActivityFilter(name="double")])
    runtime.service.open_stream("GetWorkItems", pb.GetWorkItemsRequest(workItemFilters=filters), {}, Broken())
    client = place.client()
    instance_id = client.schedule_new_orchestration(quick, input=4)
    place.worker(double)
    assert output(client, instance_id) == 8
    assert len(failed) == 1


class TestTheEnd:
    told = threading.Event()

    @pytest.fixture
    def options(self):
        return ServiceOptions(on_failure=self.told.set)

    def test_an_error_that_ends_the_engine_on_a_lent_thread_leaves_nobody_waiting(self, runtime, place):
        def end() -> None:
            raise SystemExit("in the midst of a write")

        place.worker(endless, double)
        client = place.client()
        wait = runtime.wait(client.schedule_new_orchestration(endless))
        Threads(runtime).on_lent = end
        assert self.told.wait(WAIT)
        assert wait.exception(WAIT).code == "UNAVAILABLE"
        with pytest.raises(grpc.RpcError) as caught:
            client.schedule_new_orchestration(endless)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


# -- everything at once --


def fails_at_times(_: Any, number: int) -> int:
    if number % 7 == 0:
        raise ValueError(f"no {number}")
    return 2 * number


def mixed(ctx: Any, number: int) -> Any:
    """Two activities in turn and two at once; those that fail leave -1."""
    total = 0
    for step in range(2):
        try:
            total += yield ctx.call_activity(fails_at_times, input=number + step)
        except task.TaskFailedError:
            total -= 1
    both = [ctx.call_activity(double, input=number), ctx.call_activity(double, input=number + 1)]
    return total + sum((yield task.when_all(both)))


def expected(number: int) -> int:
    steps = [-1 if n % 7 == 0 else 2 * n for n in (number, number + 1)]
    return sum(steps) + 2 * number + 2 * (number + 1)


class Load:
    """What clients have got, and how long their longest call took."""

    seconds = 3.0

    def __init__(self) -> None:
        self._ends = time.monotonic() + self.seconds
        self._lock = threading.Lock()
        self.wrong: list[Any] = []
        self.done = 0
        self.slowest = 0.0

    def numbers(self, client: int) -> Iterator[int]:
        number = 0
        while time.monotonic() < self._ends:
            yield client * 100_000 + number
            number += 1

    def record(self, number: int, value: Any, took: float) -> None:
        with self._lock:
            self.done += 1
            self.slowest = max(self.slowest, took)
            if value != expected(number):
                self.wrong.append((number, value))

    def drive(self, scheduler: Scheduler, first: int) -> None:
        with TaskHubGrpcClient(channel=scheduler.channel()) as client:
            for number in self.numbers(first):
                begun = time.monotonic()
                value = output(client, client.schedule_new_orchestration(mixed, input=number))
                self.record(number, value, time.monotonic() - begun)

    async def drive_async(self, scheduler: Scheduler, first: int) -> None:
        async with AsyncTaskHubGrpcClient(channel=scheduler.aio_channel()) as client:
            for number in self.numbers(first):
                begun = time.monotonic()
                instance_id = await client.schedule_new_orchestration(mixed, input=number)
                state = await client.wait_for_orchestration_completion(instance_id, timeout=WAIT)
                self.record(number, state and state.get_output(), time.monotonic() - begun)


async def test_many_clients_and_two_workers_get_exactly_what_they_asked_for_without_delay():
    """Eight clients on threads, four on an event loop, two workers, and activities that fail now and then."""
    errors: list[BaseException] = []
    with Scheduler(":memory:") as scheduler, contextlib.ExitStack() as stack:
        for _ in range(2):
            worker = stack.enter_context(TaskHubGrpcWorker(channel=scheduler.channel()))
            worker.add_orchestrator(mixed)
            worker.add_activity(double)
            worker.add_activity(fails_at_times)
            worker.start()
        load = Load()

        def drive(client: int) -> None:
            try:
                load.drive(scheduler, client)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=drive, args=[client]) for client in range(8)]
        for thread in threads:
            thread.start()
        await asyncio.gather(*(load.drive_async(scheduler, client) for client in range(8, 12)))
        for thread in threads:
            await asyncio.to_thread(thread.join, 2 * WAIT)
            assert not thread.is_alive()
    assert errors == []
    assert load.wrong == []
    assert load.done > 50
    assert load.slowest < 1
