"""The workloads' programs for Restate: an orchestration is a workflow, an activity is a step that ``run`` records.

A workflow's function begins anew when it is replayed, so what it counts is counted once for each key.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import restate

from drivers.counts import Count

waiters, advanced = Count(), Count()
lateness: list[float] = []
_begun: dict[str, float] = {}
COUNT = "count"


def _echo(value: Any) -> Any:
    return value


def _advance(value: Any) -> Any:
    advanced.add()
    return value


def _first_time(key: str) -> bool:
    return _begun.setdefault(key, now := time.time()) == now


async def _single(ctx: restate.WorkflowContext, value: Any) -> Any:
    return await ctx.run_typed("echo", _echo, value=value)


async def _chain(ctx: restate.WorkflowContext, length: int) -> int:
    for number in range(length):
        await ctx.run_typed("echo", _echo, value=number)
    return length


async def _fan(ctx: restate.WorkflowContext, width: int) -> int:
    steps = [ctx.run_typed("echo", _echo, value=number) for number in range(width)]
    return len([await step for step in await restate.gather(*steps)])


async def _relay(ctx: restate.WorkflowContext, order: dict[str, Any]) -> Any:
    value = order["payload"]
    for _ in range(order["times"]):
        value = await ctx.run_typed("echo", _echo, value=value)
    return value


async def _waiting(ctx: restate.WorkflowContext, _: Any) -> Any:
    if _first_time(ctx.key()):
        waiters.add()
    return await ctx.promise("0").value()


async def _stepper(ctx: restate.WorkflowContext, steps: int) -> int:
    if _first_time(ctx.key()):
        waiters.add()
    for number in range(steps):
        await ctx.promise(str(number)).value()
        await ctx.run_typed("advance", _advance, value=number)
    return steps


async def _sleeper(ctx: restate.WorkflowContext, _: Any) -> None:
    _first_time(ctx.key())
    await ctx.sleep(timedelta(seconds=1))
    lateness.append(time.time() - _begun[ctx.key()] - 1)


async def _wake(ctx: restate.WorkflowSharedContext, name: str) -> None:
    """Give a workflow the event for which it waits: each is a promise of its own."""
    promise: restate.DurablePromise[int] = ctx.promise(name, type_hint=int)
    await promise.resolve(1)


counter = restate.VirtualObject("counter")


@counter.handler()
async def add(ctx: restate.ObjectContext, amount: int) -> int:
    total: int = (await ctx.get(COUNT, type_hint=int) or 0) + amount
    ctx.set(COUNT, total)
    return total


@counter.handler(kind="shared")
async def total(ctx: restate.ObjectSharedContext) -> int:
    return await ctx.get(COUNT, type_hint=int) or 0


def _workflow(function: Callable[..., Any]) -> restate.Workflow:
    workflow = restate.Workflow(function.__name__.strip("_"))
    workflow.main(name="run")(function)
    workflow.handler(name="wake")(_wake)
    return workflow


WORKFLOWS = [_workflow(one) for one in (_single, _chain, _fan, _relay, _waiting, _stepper, _sleeper)]
APP = restate.app([*WORKFLOWS, counter])
