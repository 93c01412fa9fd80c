"""Mistakes that type checkers must find, one in each line that says so; never run."""

from durabletask import task


def charge(ctx: task.ActivityContext, order: str) -> int:
    return 1


async def orchestrator(ctx: task.OrchestrationContext, order: str) -> None:
    text: str = await ctx.call_activity(charge, input=order)  # mistake
    ctx.call_activity(charge, order)  # mistake
    number: int = await ctx.wait_for_external_event("go", data_type=str)  # mistake
    ctx.wait_for_external_event("go", datatype=str)  # mistake
    ctx.call_activity(charge).cancel()  # mistake
    print(text, number)
