"""The worker of the function-based counter: one function runs every operation."""

from __future__ import annotations

from connection import run_worker
from durabletask import entities
from durabletask.azuremanaged.worker import DurableTaskSchedulerWorker


def counter(ctx: entities.EntityContext, amount: int) -> int | None:
    """The state is a number; the name of the operation says what to do with it."""
    value = ctx.get_state(int, 0)
    if ctx.operation == "add":
        ctx.set_state(value + amount)
    elif ctx.operation == "get":
        return value
    elif ctx.operation == "delete":
        # An entity without a state is gone.
        ctx.set_state(None)
    else:
        raise ValueError(f"counter has no operation {ctx.operation!r}")
    return None


def setup(worker: DurableTaskSchedulerWorker) -> None:
    worker.add_entity(counter)


if __name__ == "__main__":
    run_worker(setup)
