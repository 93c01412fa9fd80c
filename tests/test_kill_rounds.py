"""A few rounds of ``scripts/kill_rounds.py``: real processes, killed under load."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from kill_rounds import run

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(sys.platform == "win32" or not hasattr(signal, "SIGKILL"), reason="needs SIGKILL"),
]


def test_nothing_is_lost_and_nothing_doubled_when_scheduler_and_workers_are_killed(tmp_path: Path) -> None:
    """Lessons 46, 47, 58, 59 and 60: ``run`` raises if anything was lost, doubled or damaged."""
    figures = run(tmp_path, rounds=3, seed=7, instances=21)
    assert figures.rounds == 3
    assert figures.instances == 63
    assert sum(figures.kills.values()) == 5
    assert figures.kills["scheduler"] == 2


def test_a_standby_takes_over_from_a_killed_scheduler_and_nothing_is_lost(
    tmp_path: Path, postgres_database: Any
) -> None:
    url = f"{postgres_database.url}?schema={postgres_database.schema}"
    figures = run(tmp_path, rounds=3, seed=1, instances=12, url=url)
    assert figures.rounds == 3
    assert figures.instances == 36
    assert figures.kills["scheduler"] > 0
