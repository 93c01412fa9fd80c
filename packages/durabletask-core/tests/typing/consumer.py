"""What type checkers infer for code that uses the package; never run, only checked."""

from collections.abc import AsyncIterator, Generator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from durabletask import client, task, worker
from durabletask.testing import Environment
from durabletask.versioning import VersionInfo
from typing_extensions import assert_type


@dataclass
class Order:
    item: str


@dataclass
class Receipt:
    total: int


def charge(ctx: task.ActivityContext, order: Order) -> Receipt:
    assert_type(ctx.orchestration_id, str)
    assert_type(ctx.task_id, int)
    return Receipt(len(order.item))


async def ship(ctx: task.ActivityContext, order: Order) -> datetime:
    return datetime(2026, 1, 1)


async def child(ctx: task.OrchestrationContext, order: Order) -> Receipt:
    return Receipt(1)


def generator_child(ctx: task.OrchestrationContext, order: Order) -> Generator[task.Task[None], object, Receipt]:
    yield ctx.create_timer(timedelta(1))
    return Receipt(1)


def plain_child(ctx: task.OrchestrationContext, order: Order) -> Receipt:
    return Receipt(1)


# As such functions are mostly written: what is yielded and sent is Any, and so may be what is taken or returned.


def loose_child(ctx: task.OrchestrationContext, order: Any) -> Generator[task.Task[Any], Any, Receipt]:
    yield ctx.create_timer(timedelta(1))
    return Receipt(1)


def looser_child(ctx: task.OrchestrationContext, _: Any) -> Generator[Any, Any, dict[str, Any]]:
    yield ctx.create_timer(timedelta(1))
    return {}


async def loose_async_child(ctx: task.OrchestrationContext, _: Any) -> dict[str, Any]:
    return {}


def silent_child(ctx: task.OrchestrationContext, _: Any) -> Generator[task.Task[Any], Any, None]:
    yield ctx.create_timer(timedelta(1))


def loose_activity(ctx: task.ActivityContext, _: Any) -> dict[str, Any] | None:
    return {}


async def loose_async_activity(ctx: task.ActivityContext, _: Any) -> list[Any]:
    return []


async def silent_async_activity(ctx: task.ActivityContext, _: Any) -> None: ...


class Shipping:
    def ship(self, ctx: task.ActivityContext, order: Any) -> dict[str, Any]:
        return {}


async def loose_parent(ctx: task.OrchestrationContext, _: Any) -> None:
    assert_type(ctx.call_sub_orchestrator(loose_child), task.CompletableTask[Receipt])
    assert_type(ctx.call_sub_orchestrator(looser_child), task.CompletableTask[dict[str, Any]])
    assert_type(ctx.call_sub_orchestrator(loose_async_child), task.CompletableTask[dict[str, Any]])
    assert_type(ctx.call_sub_orchestrator(silent_child), task.CompletableTask[None])
    assert_type(ctx.call_sub_orchestrator(loose_child, return_type=int), task.CompletableTask[int])
    assert_type(ctx.call_activity(loose_activity), task.CompletableTask[dict[str, Any] | None])
    assert_type(ctx.call_activity(loose_async_activity), task.CompletableTask[list[Any]])
    assert_type(ctx.call_activity(silent_async_activity), task.CompletableTask[None])
    assert_type(ctx.call_activity(Shipping().ship), task.CompletableTask[dict[str, Any]])


def generator_parent(ctx: task.OrchestrationContext, _: Any) -> Generator[task.Task[Any], Any, int]:
    waiting = ctx.wait_for_external_event("go", data_type=int)
    yield waiting
    assert_type(waiting.get_result(), int)
    child_task = ctx.call_sub_orchestrator(loose_child)
    yield child_task
    return child_task.get_result().total


async def orchestrator(ctx: task.OrchestrationContext, order: Order) -> Receipt:
    assert_type(ctx.call_activity(charge, input=order), task.CompletableTask[Receipt])
    assert_type(await ctx.call_activity(charge, input=order), Receipt)
    assert_type(await ctx.call_activity(ship, input=order), datetime)
    assert_type(await ctx.call_activity("charge", return_type=Receipt), Receipt)
    assert_type(ctx.call_activity("charge"), task.CompletableTask[Any])

    assert_type(ctx.call_sub_orchestrator(child, input=order), task.CompletableTask[Receipt])
    assert_type(await ctx.call_sub_orchestrator(generator_child, input=order), Receipt)
    assert_type(await ctx.call_sub_orchestrator(plain_child, input=order), Receipt)
    assert_type(await ctx.call_sub_orchestrator("child", return_type=Receipt), Receipt)
    assert_type(ctx.call_sub_orchestrator("child"), task.CompletableTask[Any])

    assert_type(ctx.wait_for_external_event("go", data_type=Order), task.CancellableTask[Order])
    assert_type(await ctx.wait_for_external_event("go", data_type=Order), Order)
    assert_type(ctx.wait_for_external_event("go"), task.CancellableTask[Any])
    assert_type(ctx.wait_for_external_event("go").cancel(), bool)

    timer = ctx.create_timer(timedelta(hours=1))
    assert_type(await timer, None)
    assert_type(timer.cancel(), bool)

    receipts = await task.when_all([ctx.call_activity(charge, input=order) for _ in range(3)])
    assert_type(receipts, list[Receipt])
    winner = await task.when_any([ctx.call_activity(charge, input=order), ctx.call_activity(charge, input=order)])
    assert_type(winner, task.Task[Receipt])
    assert_type(winner.get_result(), Receipt)

    assert_type(ctx.version, str | None)
    assert_type(ctx.version_info, VersionInfo)
    assert_type(ctx.version_info >= "2.0.0", bool)
    assert_type(ctx.version_at_least("2.0.0"), bool)
    assert_type(ctx.current_utc_datetime, datetime)
    return receipts[0]


def register(app: worker.TaskHubGrpcWorker) -> None:
    assert_type(app.add_orchestrator(orchestrator), str)
    assert_type(app.add_activity(charge, version="2.0", process=True), str)

    @app.activity(name="other")
    def decorated(ctx: task.ActivityContext, order: Order) -> Receipt:
        return Receipt(1)

    assert_type(decorated(task.ActivityContext("i", 1), Order("tea")), Receipt)


class OwnWorker(worker.TaskHubGrpcWorker):
    own = 1


class OwnClient(client.TaskHubGrpcClient):
    own = 1


def use_entities(ctx: task.OrchestrationContext, entity: Any) -> None:
    assert_type(ctx.call_entity(entity, "get", return_type=int), task.CompletableTask[int])
    assert_type(ctx.call_entity(entity, operation="get"), task.CompletableTask[Any])
    assert_type(ctx.call_entity(entity, operation_name="get", return_type=int), task.CompletableTask[int])
    assert_type(ctx.call_entity(entity, operation_name="get"), task.CompletableTask[Any])
    ctx.signal_entity(entity, "add", 1)
    ctx.signal_entity(entity, operation_name="add", input=1)
    ctx.signal_entity(entity, operation="add", input=1)


class OwnAsyncClient(client.AsyncTaskHubGrpcClient):
    own = 1


class OwnEnvironment(Environment):
    own = 1


async def what_a_with_block_is_given() -> None:
    with OwnWorker() as own_worker, OwnClient() as own_client, OwnEnvironment() as own_environment:
        assert_type(own_worker, OwnWorker)
        assert_type(own_client, OwnClient)
        assert_type(own_environment, OwnEnvironment)
    async with OwnAsyncClient() as own_async_client:
        assert_type(own_async_client, OwnAsyncClient)


def start(sync: client.TaskHubGrpcClient) -> None:
    for started in (orchestrator, child, "orchestrator"):
        assert_type(sync.schedule_new_orchestration(started, input=Order("tea")), str)
    assert_type(sync.schedule_new_orchestration(generator_child), str)
    assert_type(sync.wait_for_orchestration_completion("i"), client.OrchestrationState | None)
    assert_type(sync.list_instance_ids(), client.Page[str])


async def start_later(later: client.AsyncTaskHubGrpcClient) -> AsyncIterator[str]:
    yield await later.schedule_new_orchestration(orchestrator, input=Order("tea"))
    assert_type(await later.get_orchestration_state("i"), client.OrchestrationState | None)
