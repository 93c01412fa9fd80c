"""The program does not get slower unnoticed: counts and ratios that are the same on every machine keep their limits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

GUARD = Path(__file__).parents[1] / "benchmarks" / "guard.py"
SECONDS = 100


@pytest.mark.processes
def test_calls_memory_and_growth_keep_their_limits() -> None:
    result = subprocess.run([sys.executable, str(GUARD)], capture_output=True, text=True, timeout=SECONDS, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("ok  ") == len(result.stdout.splitlines()) >= 5
