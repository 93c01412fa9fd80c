"""Orchestrations that transfer money under locks and count in a register, their worker, and the register's checker.

    python scripts/entity_workload.py HOST:PORT        run a worker

``entity_kill_rounds.py`` puts this load on a scheduler.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Generator, Iterable, Sequence
from typing import Any

from durabletask import entities, task
from durabletask.worker import TaskHubGrpcWorker
from workload import CHANNEL, WORKER_READY, Instance, Kind, Lost

ACCOUNTS = [entities.EntityInstanceId("Account", str(number)) for number in range(5)]
OPENING_BALANCE = 1000
MOVERS = 8
MOVES = 3
REGISTER = entities.EntityInstanceId("register", "moves")
TOTAL = entities.EntityInstanceId("register", "amounts")

Gen = Generator[task.Task[Any], Any, Any]
Operation = tuple[str, int]
"""What was asked of the register, ``increment`` or ``get``, and its result."""


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


def move(ctx: task.OrchestrationContext, moves: list[list[int]]) -> Gen:
    """Transfers one after the other: source, target, amount. Returns its register operations in their order."""
    seen: list[Operation] = []
    for source, target, amount in moves:
        with (yield ctx.lock_entities([ACCOUNTS[source], ACCOUNTS[target]])):
            before = yield ctx.call_entity(ACCOUNTS[source], "change", 0)
            after = yield ctx.call_entity(ACCOUNTS[source], "change", -amount)
            yield ctx.call_entity(ACCOUNTS[target], "change", amount)
            kept = yield ctx.call_entity(ACCOUNTS[source], "change", 0)
        if not before - amount == after == kept:
            raise RuntimeError(f"account {source} was changed while it was locked: {before}, {after}, {kept}")
        seen.append(("increment", (yield ctx.call_entity(REGISTER, "increment", 1))))
        ctx.signal_entity(TOTAL, "increment", amount)
        seen.append(("get", (yield ctx.call_entity(REGISTER, "get"))))
    return seen


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
    for orchestrator in (move, hold, audit):
        worker.add_orchestrator(orchestrator)
    print(WORKER_READY, flush=True)
    worker.run()


# --- what clients ask for, and look at afterwards


def movers(prefix: str, chance: random.Random) -> list[Instance]:
    """Instances of ``move`` whose locks cross each other in every direction."""

    def moves() -> list[list[int]]:
        return [[*chance.sample(range(len(ACCOUNTS)), 2), chance.randint(1, 50)] for _ in range(MOVES)]

    return [Instance(f"{prefix}-move-{number}", Kind(move, MOVES, moves(), None)) for number in range(MOVERS)]


def holder(prefix: str, chance: random.Random) -> Instance:
    return Instance(f"{prefix}-hold", Kind(hold, 1, chance.sample(range(len(ACCOUNTS)), 2), None))


def auditor(prefix: str) -> Instance:
    return Instance(f"{prefix}-audit", Kind(audit, 1, None, None))


def check_register(histories: Iterable[Sequence[Operation]], first: int) -> int:
    """Check that one order of all increments explains every result.

    An increment returns the value after it, so the results are that order: each of them has to be there once and
    without a gap, beginning at ``first``. In this order, those of one history have to come as it made them, and a
    ``get`` has to see at least the increments before it in its own history and none that was never made.

    Returns:
        The value after all increments.

    Raises:
        Lost: there is no such order.
    """
    histories = list(histories)
    values = sorted(value for history in histories for kind, value in history if kind == "increment")
    if values != list(range(first, first + len(values))):
        raise Lost(f"{len(values)} increments from {first} on returned {values}")
    last = first + len(values) - 1
    for history in histories:
        seen = first - 1
        for kind, value in history:
            if value > last or value < seen + (kind == "increment"):
                raise Lost(f"{kind} returned {value}, but {seen} was seen before it and the last is {last}: {history}")
            seen = value
    return last


if __name__ == "__main__":
    run_worker(sys.argv[1])
