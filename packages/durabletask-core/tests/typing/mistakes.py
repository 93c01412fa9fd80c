"""Mistakes that type checkers must find, one in each line that says so; never run."""

from collections.abc import Generator
from typing import Any

from durabletask import task


def charge(ctx: task.ActivityContext, order: str) -> int:
    return 1


def child(ctx: task.OrchestrationContext, order: Any) -> Generator[task.Task[Any], Any, int]:
    total: int = yield ctx.call_activity(charge, input=order)
    return total


async def orchestrator(ctx: task.OrchestrationContext, order: str, entity: Any) -> None:
    text: str = await ctx.call_activity(charge, input=order)  # mistake
    ctx.call_activity(charge, order)  # mistake
    number: int = await ctx.wait_for_external_event("go", data_type=str)  # mistake
    ctx.wait_for_external_event("go", datatype=str)  # mistake
    ctx.call_activity(charge).cancel()  # mistake
    ctx.call_entity(entity)  # mistake
    ctx.call_entity(entity, "get", operation_name="get")  # mistake
    ctx.signal_entity(entity, input=1)  # mistake
    name: str = await ctx.call_sub_orchestrator(child, input=order)  # mistake
    print(text, number, name)
