"""The benchmark suite runs: workloads, reports, and clear words for names that do not exist."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "benchmarks" / "run.py"
SECONDS = 100


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCH), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)


@pytest.mark.processes
def test_it_measures_and_writes_all_three_reports(tmp_path: Path) -> None:
    report, kept, picture = tmp_path / "report.md", tmp_path / "report.json", tmp_path / "report.svg"
    files = ["--markdown", str(report), "--json", str(kept), "--svg", str(picture)]
    result = bench("--only", "W4,L", "--systems", "ours-memory,limits", *files)
    assert result.returncode == 0, result.stderr
    assert report.read_text("utf-8").strip() == result.stdout.strip()
    assert "| W4 | p50 ms |" in result.stdout
    results = json.loads(kept.read_text("utf-8"))["results"]
    measured = {(one["workload"], one["system"]): one["rounds"] for one in results}
    assert set(measured) == {("W4", "ours-memory"), ("L", "limits")}
    assert 0 < measured["W4", "ours-memory"][0]["p50_ms"] <= measured["W4", "ours-memory"][0]["p99_ms"]
    assert xml.etree.ElementTree.parse(picture).getroot().tag.endswith("svg")


@pytest.mark.parametrize(("option", "name"), [("--only", "W99"), ("--systems", "theirs")])
def test_a_name_that_does_not_exist_is_refused_with_those_that_do(option: str, name: str) -> None:
    result = bench(option, name)
    assert result.returncode != 0
    assert f"unknown: {name}; expected some of" in result.stderr
