"""Orchestrations that transfer money under locks and count in a register, their worker, and what their results mean.

    python scripts/entity_workload.py HOST:PORT        run a worker

``entity_kill_rounds.py`` puts this load on a scheduler.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Generator, Sequence
from typing import Any

from durabletask import entities, task
from durabletask.worker import TaskHubGrpcWorker
from workload import CHANNEL, WORKER_READY, Instance, Kind

ACCOUNTS = [entities.EntityInstanceId("Account", str(number)) for number in range(5)]
OPENING_BALANCE = 1000
MOVERS = 8
MOVES = 3
READERS = 2
READS = 3
REGISTER = entities.EntityInstanceId("register", "moves")
TOTAL = entities.EntityInstanceId("register", "amounts")

Gen = Generator[task.Task[Any], Any, Any]
Balances = tuple[int, ...]


# --- what workers run


class Account(entities.DurableEntity):
    """A bank account; its state is the balance."""

    def __init__(self) -> None:
        self.set_state(OPENING_BALANCE)

    def change(self, amount: int) -> int:
        self.set_state(self.get_state(int, 0) + amount)
        return self.get_state(int, 0)


def register(ctx: entities.EntityContext, amount: int) -> int:
    """A number that only grows; the result of every operation is its value after it."""
    value = ctx.get_state(int, 0) + (amount if ctx.operation == "increment" else 0)
    ctx.set_state(value)
    return value


def transfer(ctx: task.OrchestrationContext, move: list[int]) -> Gen:
    """Move an amount from a source to a target and count that; returns both balances before it, and the count."""
    source, target, amount = ACCOUNTS[move[0]], ACCOUNTS[move[1]], move[2]
    with (yield ctx.lock_entities([source, target])):
        before = yield ctx.call_entity(source, "change", 0)
        after = yield ctx.call_entity(source, "change", -amount)
        received = yield ctx.call_entity(target, "change", amount)
        kept = yield ctx.call_entity(source, "change", 0)
    if not before - amount == after == kept:
        raise RuntimeError(f"account {source} was changed while it was locked: {before}, {after}, {kept}")
    ctx.signal_entity(TOTAL, "increment", amount)
    return [before, received - amount, (yield ctx.call_entity(REGISTER, "increment", 1))]


def hold(ctx: task.OrchestrationContext, pair: list[int]) -> Gen:
    """Lock two accounts and keep them; it ends only by being terminated."""
    with (yield ctx.lock_entities([ACCOUNTS[number] for number in pair])):
        yield ctx.wait_for_external_event("never")


def audit(ctx: task.OrchestrationContext, _: None) -> Gen:
    """The balances, and the sum of all that was moved, while nobody else can change an account."""
    with (yield ctx.lock_entities(ACCOUNTS)):
        balances = yield task.when_all([ctx.call_entity(account, "change", 0) for account in ACCOUNTS])
    return [balances, (yield ctx.call_entity(TOTAL, "get"))]


def run_worker(address: str) -> None:
    """Run a worker until SIGTERM."""
    worker = TaskHubGrpcWorker(host_address=address, channel_options=CHANNEL)
    for entity in (Account, register):
        worker.add_entity(entity)
    for orchestrator in (transfer, hold, audit):
        worker.add_orchestrator(orchestrator)
    print(WORKER_READY, flush=True)
    worker.run()


# --- what clients ask for, and look at afterwards


def moves(chance: random.Random) -> list[list[int]]:
    """What one client moves, one after the other; locks of several clients cross each other in every direction."""
    return [[*chance.sample(range(len(ACCOUNTS)), 2), chance.randint(1, 50)] for _ in range(MOVES)]


def transferrer(prefix: str, move: list[int]) -> Instance:
    return Instance(f"{prefix}-transfer", Kind(transfer, 1, move, None))


def holder(prefix: str, chance: random.Random) -> Instance:
    return Instance(f"{prefix}-hold", Kind(hold, 1, chance.sample(range(len(ACCOUNTS)), 2), None))


def auditor(prefix: str) -> Instance:
    return Instance(f"{prefix}-audit", Kind(audit, 1, None, None))


# --- what the answers mean: for each, the state after it, or None if it does not fit the state before


def transferred(balances: Balances, move: list[int], before: Sequence[int]) -> Balances | None:
    source, target, amount = move
    if [balances[source], balances[target]] != list(before):
        return None
    after = list(balances)
    after[source] -= amount
    after[target] += amount
    return tuple(after)


def audited(balances: Balances, seen: Sequence[int]) -> Balances | None:
    return balances if balances == tuple(seen) else None


def counted(count: int, result: int) -> int | None:
    return result if result == count + 1 else None


def read(count: int, seen: int) -> int | None:
    return count if count == seen else None


if __name__ == "__main__":
    run_worker(sys.argv[1])
