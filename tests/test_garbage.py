"""What an operation leaves behind is freed when it ends, with nothing left to the garbage collector.

Cycles hold payloads until the collector comes round, and make it come round more often.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import grpc
import pytest
from durabletask import entities, task
from durabletask.client import AsyncTaskHubGrpcClient, TaskHubGrpcClient
from durabletask.worker import TaskHubGrpcWorker
from durabletask_scheduler import Scheduler

TIMES = 20
WAIT = 30
QUIET = logging.getLogger("test_garbage")
QUIET.setLevel(logging.CRITICAL + 1)


class Tally(entities.DurableEntity):
    def add(self, amount: int) -> int:
        self.set_state(self.get_state(int, 0) + amount)
        return self.get_state(int, 0)


TALLY = entities.EntityInstanceId("Tally", "one")
AT_ONCE = task.RetryPolicy(first_retry_interval=timedelta(milliseconds=1), max_number_of_attempts=2)


def echo(_: task.ActivityContext, value: Any) -> Any:
    return value


def refuse(_: task.ActivityContext, value: Any) -> Any:
    raise ValueError(f"{value!r} is refused")


def calls(ctx: task.OrchestrationContext, value: Any) -> Any:
    return (yield ctx.call_activity(echo, input=value))


async def awaits(ctx: task.OrchestrationContext, value: Any) -> Any:
    return await ctx.call_activity(echo, input=value)


def fans_out(ctx: task.OrchestrationContext, value: Any) -> Any:
    return (yield task.when_all([ctx.call_activity(echo, input=value) for _ in range(3)]))


def races(ctx: task.OrchestrationContext, value: Any) -> Any:
    rivals = [ctx.create_timer(timedelta(hours=1)), ctx.wait_for_external_event("never")]
    yield task.when_any([*rivals, ctx.call_activity(echo, input=value)])


def fails(ctx: task.OrchestrationContext, value: Any) -> Any:
    yield ctx.call_activity(refuse, input=value)


def catches(ctx: task.OrchestrationContext, value: Any) -> Any:
    try:
        yield ctx.call_activity(refuse, input=value)
    except task.TaskFailedError as error:
        return str(error)


def retries(ctx: task.OrchestrationContext, value: Any) -> Any:
    yield ctx.call_activity(refuse, input=value, retry_policy=AT_ONCE)


def has_a_child(ctx: task.OrchestrationContext, value: Any) -> Any:
    return (yield ctx.call_sub_orchestrator(calls, input=value))


def begins_again(ctx: task.OrchestrationContext, generation: int) -> Any:
    yield ctx.call_activity(echo)
    if generation < 2:
        ctx.continue_as_new(generation + 1)


def locks(ctx: task.OrchestrationContext, _: Any) -> Any:
    with (yield ctx.lock_entities([TALLY])):
        yield ctx.call_entity(TALLY, "add", 1)
    ctx.signal_entity(TALLY, "add", 1)


def waits(ctx: task.OrchestrationContext, _: Any) -> Any:
    yield ctx.wait_for_external_event("never")


ORCHESTRATORS = [calls, awaits, fans_out, races, fails, catches, retries, has_a_child, begins_again, locks]


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    with Scheduler() as scheduler:
        yield scheduler


@pytest.fixture
def client(scheduler: Scheduler) -> Iterator[TaskHubGrpcClient]:
    with TaskHubGrpcWorker(channel=scheduler.channel(), logger=QUIET) as worker:
        for orchestrator in (*ORCHESTRATORS, waits):
            worker.add_orchestrator(orchestrator)
        worker.add_activity(echo)
        worker.add_activity(refuse)
        worker.add_entity(Tally)
        worker.start()
        with TaskHubGrpcClient(channel=scheduler.channel(), logger=QUIET) as client:
            yield client


def left_by(action: Callable[[], object]) -> Counter[str]:
    """The objects that only the garbage collector could free, by type, of doing this once more."""
    for _ in range(TIMES):
        # What all later ones share comes now.
        action()
    gc.collect()
    gc.disable()
    try:
        for _ in range(TIMES):
            action()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        return Counter(f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def assert_leaves_nothing(action: Callable[[], object]) -> None:
    found = left_by(action)
    # Other threads may be in the middle of something.
    assert sum(found.values()) < TIMES, found.most_common()


def run(client: TaskHubGrpcClient, orchestrator: Any) -> None:
    instance_id = client.schedule_new_orchestration(orchestrator, input=0)
    assert client.wait_for_orchestration_completion(instance_id, timeout=WAIT) is not None


def test_the_measure_sees_what_only_the_collector_frees() -> None:
    def cycle() -> None:
        one: list[Any] = []
        one.append(one)

    assert left_by(cycle)["builtins.list"] == TIMES


@pytest.mark.parametrize("orchestrator", ORCHESTRATORS, ids=lambda one: one.__name__)
def test_an_orchestration_leaves_nothing_to_the_collector(client: TaskHubGrpcClient, orchestrator: Any) -> None:
    assert_leaves_nothing(lambda: run(client, orchestrator))


def test_a_terminated_orchestration_leaves_nothing_to_the_collector(client: TaskHubGrpcClient) -> None:
    def terminate() -> None:
        instance_id = client.schedule_new_orchestration(waits)
        client.wait_for_orchestration_start(instance_id, timeout=WAIT)
        client.terminate_orchestration(instance_id)
        client.wait_for_orchestration_completion(instance_id, timeout=WAIT)

    assert_leaves_nothing(terminate)


def test_calls_that_end_without_an_answer_leave_nothing_to_the_collector(client: TaskHubGrpcClient) -> None:
    instance_id = client.schedule_new_orchestration(waits)

    def give_up() -> None:
        with contextlib.suppress(TimeoutError):
            client.wait_for_orchestration_completion(instance_id, timeout=0.001)

    assert_leaves_nothing(give_up)


def test_refused_calls_leave_nothing_to_the_collector(client: TaskHubGrpcClient) -> None:
    def ask_for_nothing() -> None:
        with contextlib.suppress(grpc.RpcError):
            client.raise_orchestration_event("nobody", "event")

    assert_leaves_nothing(ask_for_nothing)


def test_the_asyncio_client_leaves_nothing_to_the_collector(client: TaskHubGrpcClient, scheduler: Scheduler) -> None:
    async def use(aio: AsyncTaskHubGrpcClient) -> None:
        instance_id = await aio.schedule_new_orchestration(calls, input=0)
        await aio.wait_for_orchestration_completion(instance_id, timeout=WAIT)
        with contextlib.suppress(grpc.RpcError):
            await aio.raise_orchestration_event("nobody", "event")
        with contextlib.suppress(TimeoutError):
            await aio.wait_for_orchestration_completion("nobody", timeout=0.001)

    async def open_client() -> AsyncTaskHubGrpcClient:
        return AsyncTaskHubGrpcClient(channel=scheduler.aio_channel(), logger=QUIET)

    with contextlib.closing(asyncio.new_event_loop()) as loop:
        aio = loop.run_until_complete(open_client())
        assert_leaves_nothing(lambda: loop.run_until_complete(use(aio)))
        loop.run_until_complete(aio.close())
