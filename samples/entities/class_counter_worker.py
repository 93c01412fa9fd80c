"""The worker of the class-based counter: every method is an operation. An orchestrator calls them and gets results."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from connection import run_worker
from durabletask import entities, task
from durabletask.azuremanaged.worker import DurableTaskSchedulerWorker


class Counter(entities.DurableEntity):
    """The state is a number."""

    def __init__(self) -> None:
        # The initial state. An object is made for every operation, but this counts only while there is no state.
        self.set_state(0)

    def add(self, amount: int) -> int:
        value = self.get_state(int, 0) + amount
        self.set_state(value)
        return value

    def get(self) -> int:
        return self.get_state(int, 0)


def count_up(ctx: task.OrchestrationContext, key: str) -> Generator[task.Task[Any], Any, list[int]]:
    """Call the counter three times; each result is there before the next call is made."""
    counter = entities.EntityInstanceId("Counter", key)
    results = []
    for amount in (10, 20, 12):
        results.append((yield ctx.call_entity(counter, "add", amount, return_type=int)))
    results.append((yield ctx.call_entity(counter, "get", return_type=int)))
    return results


def setup(worker: DurableTaskSchedulerWorker) -> None:
    worker.add_entity(Counter)
    worker.add_orchestrator(count_up)


if __name__ == "__main__":
    run_worker(setup)
