"""The worker of the transfer: bank accounts as a class, a statistic as a function, transfers under a lock."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from connection import run_worker
from durabletask import entities, task
from durabletask.azuremanaged.worker import DurableTaskSchedulerWorker

STATISTIC = entities.EntityInstanceId("statistic", "transfers")


class Account(entities.DurableEntity):
    """A bank account; its state is the balance."""

    def __init__(self) -> None:
        self.set_state(0)

    def deposit(self, amount: int) -> int:
        self.set_state(self.get_state(int, 0) + amount)
        return self.get_state(int, 0)

    def withdraw(self, amount: int) -> int:
        balance = self.get_state(int, 0)
        if amount > balance:
            raise ValueError(f"{amount} is more than the balance of {balance}")
        self.set_state(balance - amount)
        return balance - amount

    def balance(self) -> int:
        return self.get_state(int, 0)


def statistic(ctx: entities.EntityContext, amount: int) -> int | None:
    """How much was transferred in all; the name of the operation says what to do."""
    total = ctx.get_state(int, 0)
    if ctx.operation == "add":
        ctx.set_state(total + amount)
    elif ctx.operation == "get":
        return total
    return None


@dataclass
class Transfer:
    source: str
    target: str
    amount: int


def transfer(ctx: task.OrchestrationContext, order: Transfer) -> Generator[task.Task[Any], Any, dict[str, int]]:
    """Move money between two accounts; while it does, nobody else can change either of them."""
    source = entities.EntityInstanceId("Account", order.source)
    target = entities.EntityInstanceId("Account", order.target)
    with (yield ctx.lock_entities([source, target])):
        # A failed withdrawal ends the orchestration here; the locks are released in any case.
        left = yield ctx.call_entity(source, "withdraw", order.amount, return_type=int)
        right = yield ctx.call_entity(target, "deposit", order.amount, return_type=int)
    ctx.signal_entity(STATISTIC, "add", order.amount)
    return {order.source: left, order.target: right}


def setup(worker: DurableTaskSchedulerWorker) -> None:
    worker.add_entity(Account)
    worker.add_entity(statistic)
    worker.add_orchestrator(transfer)


if __name__ == "__main__":
    run_worker(setup)
