"""What type checkers infer for code that uses the package; never run, only checked."""

from collections.abc import AsyncIterator, Generator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from durabletask import client, task, worker
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


def start(sync: client.TaskHubGrpcClient) -> None:
    for started in (orchestrator, child, "orchestrator"):
        assert_type(sync.schedule_new_orchestration(started, input=Order("tea")), str)
    assert_type(sync.schedule_new_orchestration(generator_child), str)
    assert_type(sync.wait_for_orchestration_completion("i"), client.OrchestrationState | None)
    assert_type(sync.list_instance_ids(), client.Page[str])


async def start_later(later: client.AsyncTaskHubGrpcClient) -> AsyncIterator[str]:
    yield await later.schedule_new_orchestration(orchestrator, input=Order("tea"))
    assert_type(await later.get_orchestration_state("i"), client.OrchestrationState | None)
