"""A few rounds of ``scripts/entity_kill_rounds.py``, and its checker."""

from __future__ import annotations

import random
import signal
import sys
from functools import partial
from pathlib import Path

import pytest
from entity_kill_rounds import run
from entity_workload import MOVERS, MOVES, READERS, READS, Balances, audited, counted, moves, read, transferred
from linearizability import Operation, linearize
from workload import Lost


@pytest.mark.processes
@pytest.mark.skipif(sys.platform == "win32" or not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_money_and_locks_survive_kills_of_scheduler_and_workers(tmp_path: Path) -> None:
    """Lessons 62, 63, 64 and 65: ``run`` raises if money, a signal or a register operation is lost or doubled,
    an orchestration is stuck, a lock outlives its owner, or no order explains what was read."""
    figures = run(tmp_path, rounds=2, seed=39)
    assert figures.rounds == 2
    assert figures.register == 2 * MOVERS * MOVES
    assert figures.reads == 2 * (3 * READERS * READS + 1)
    assert figures.kills["scheduler"] and sum(figures.kills.values()) >= 2


def move(begun: float, ended: float, source: int, target: int, amount: int, *before: int) -> Operation[Balances]:
    apply = partial(transferred, move=[source, target, amount], before=before)
    return Operation(f"{amount} from {source} to {target}", begun, ended, apply)


def audit(begun: float, ended: float, *seen: int) -> Operation[Balances]:
    return Operation(f"saw {seen}", begun, ended, partial(audited, seen=seen))


def count(begun: float, ended: float, result: int) -> Operation[int]:
    return Operation(f"counted {result}", begun, ended, partial(counted, result=result))


def get(begun: float, ended: float, seen: int) -> Operation[int]:
    return Operation(f"got {seen}", begun, ended, partial(read, seen=seen))


OPENING = (10, 10, 10)
TRANSFERS = {
    "nothing": ([], OPENING),
    "one after the other": ([move(0, 1, 0, 1, 5, 10, 10), move(2, 3, 1, 2, 1, 15, 10)], (5, 14, 11)),
    "at once, in the order that the balances tell": (
        [move(0, 9, 1, 2, 1, 15, 10), move(0, 9, 0, 1, 5, 10, 10)],
        (5, 14, 11),
    ),
    "a read before, during and after": (
        [audit(0, 1, 10, 10, 10), audit(2, 9, 5, 15, 10), move(2, 3, 0, 1, 5, 10, 10), audit(8, 9, 5, 15, 10)],
        (5, 15, 10),
    ),
    "a read during one may come before it": ([move(0, 9, 0, 1, 5, 10, 10), audit(8, 9, 10, 10, 10)], (5, 15, 10)),
}
NOT_TRANSFERS = {
    "a read of the past": [move(0, 1, 0, 1, 5, 10, 10), audit(2, 3, 10, 10, 10)],
    "a read of the future": [audit(0, 1, 5, 15, 10), move(2, 3, 0, 1, 5, 10, 10)],
    "half a transfer": [move(0, 9, 0, 1, 5, 10, 10), audit(0, 9, 5, 10, 10)],
    "reads that go back": [move(0, 9, 0, 1, 5, 10, 10), audit(1, 2, 5, 15, 10), audit(3, 4, 10, 10, 10)],
    "reads that disagree on the order": [
        move(0, 9, 0, 1, 5, 10, 10),
        move(0, 9, 2, 1, 1, 10, 15),
        audit(1, 2, 5, 15, 10),
        audit(3, 4, 10, 11, 9),
    ],
    "a lost transfer": [move(0, 1, 0, 1, 5, 10, 10), move(2, 3, 0, 1, 5, 10, 10)],
    "a doubled transfer": [move(0, 1, 0, 1, 5, 10, 10), audit(2, 3, 0, 20, 10)],
    "not isolated": [move(0, 9, 0, 1, 5, 10, 10), move(0, 9, 0, 2, 5, 10, 10)],
}
COUNTS = {
    "in any order while they overlap": ([count(0, 9, 2), count(0, 9, 1), get(0, 9, 1), get(8, 9, 2)], 2),
    "a read before the end of the count that it saw": ([count(0, 9, 1), get(1, 2, 1), get(3, 4, 1)], 1),
}
NOT_COUNTS = {
    "doubled": [count(0, 1, 1), count(0, 1, 1)],
    "lost": [count(0, 1, 1), count(0, 1, 3)],
    "against time": [count(0, 1, 2), count(2, 3, 1)],
    "stale": [count(0, 1, 1), get(2, 3, 0)],
    "seen and forgotten": [count(0, 9, 1), get(1, 2, 1), get(3, 4, 0)],
    "from nowhere": [get(0, 1, 1), count(2, 3, 1)],
}


@pytest.mark.parametrize(("history", "after"), TRANSFERS.values(), ids=TRANSFERS)
def test_transfers_and_reads_that_one_order_explains(history: list[Operation[Balances]], after: Balances) -> None:
    assert linearize(history, OPENING) == after


@pytest.mark.parametrize("history", NOT_TRANSFERS.values(), ids=NOT_TRANSFERS)
def test_transfers_and_reads_that_no_order_explains(history: list[Operation[Balances]]) -> None:
    with pytest.raises(Lost, match="no order explains"):
        linearize(history, OPENING)


@pytest.mark.parametrize(("history", "after"), COUNTS.values(), ids=COUNTS)
def test_counts_that_one_order_explains(history: list[Operation[int]], after: int) -> None:
    assert linearize(history, 0) == after


@pytest.mark.parametrize("history", NOT_COUNTS.values(), ids=NOT_COUNTS)
def test_counts_that_no_order_explains(history: list[Operation[int]]) -> None:
    with pytest.raises(Lost, match="no order explains"):
        linearize(history, 0)


@pytest.mark.parametrize("seed", range(5))
def test_what_happened_in_some_order_is_explained_and_one_changed_answer_is_not(seed: int) -> None:
    """As many operations as a round has, with intervals as wide as seven operations around their moments."""
    chance = random.Random(seed)
    history: list[Operation[Balances]] = []
    balances: Balances = (1000,) * 5
    for moment in range(MOVERS * MOVES):
        begun, ended = moment - chance.uniform(0, 3), moment + chance.uniform(0, 3)
        source, target, amount = moves(chance)[0]
        history.append(move(begun, ended, source, target, amount, balances[source], balances[target]))
        changed = list(balances)
        changed[source], changed[target] = changed[source] - amount, changed[target] + amount
        balances = tuple(changed)
        if moment % 4 == 0:
            history.append(audit(moment + 0.1, moment + 0.1 + chance.uniform(0, 3), *balances))
    chance.shuffle(history)
    assert linearize(history, (1000,) * 5) == balances
    with pytest.raises(Lost):
        linearize([*history, audit(100, 101, *balances[:-1], balances[-1] + 1)], (1000,) * 5)
