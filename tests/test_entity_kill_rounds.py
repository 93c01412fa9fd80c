"""A few rounds of ``scripts/entity_kill_rounds.py``, and the checker of its register."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
from entity_kill_rounds import run
from entity_workload import MOVERS, MOVES, check_register
from workload import Lost


@pytest.mark.processes
@pytest.mark.skipif(sys.platform == "win32" or not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_money_and_locks_survive_kills_of_scheduler_and_workers(tmp_path: Path) -> None:
    """Lessons 62, 63, 64 and 65: ``run`` raises if money, a signal or a register operation is lost or doubled,
    an orchestration is stuck, or a lock outlives its owner."""
    figures = run(tmp_path, rounds=3, seed=39)
    assert figures.rounds == 3
    assert figures.register == 3 * MOVERS * MOVES
    assert figures.kills == {"scheduler": 2, "worker 1": 1, "worker 2": 1}


def test_the_checker_accepts_what_one_order_explains() -> None:
    histories = [[("increment", 4), ("get", 6), ("increment", 7)], [("increment", 5), ("increment", 6), ("get", 6)]]
    assert check_register(histories, 4) == 7
    assert check_register([], 4) == 3


@pytest.mark.parametrize(
    ("histories", "message"),
    [
        ([[("increment", 1)], [("increment", 1)]], r"returned \[1, 1\]"),
        ([[("increment", 1)], [("increment", 3)]], r"returned \[1, 3\]"),
        ([[("increment", 2)]], r"returned \[2\]"),
        ([[("increment", 2), ("increment", 1)]], "2 was seen before"),
        ([[("increment", 1), ("get", 0)]], "get returned 0, but 1 was seen"),
        ([[("increment", 1), ("get", 2)]], "the last is 1"),
        ([[("get", 1), ("increment", 1)]], "increment returned 1, but 1 was seen"),
    ],
    ids=["doubled", "lost", "from nowhere", "backwards", "stale", "of the future", "before itself"],
)
def test_the_checker_finds(histories: list[list[tuple[str, int]]], message: str) -> None:
    with pytest.raises(Lost, match=message):
        check_register(histories, 1)
