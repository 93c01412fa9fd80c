"""Core without the add-on durabletask-entities: its tests pass, and what needs the add-on says so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = ROOT / "packages" / "durabletask-core" / "tests"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).with_name("without_entities"))}
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=280, check=False)


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("import durabletask.entities", "No module named 'durabletask.entities'"),
        ("from durabletask import scheduled", "pip install durabletask-entities"),
    ],
)
def test_the_add_on_is_really_hidden(statement: str, error: str) -> None:
    result = run("-c", statement)
    assert result.returncode == 1
    assert error in result.stderr


@pytest.mark.parametrize(
    "call",
    [
        "TaskHubGrpcWorker(channel=channel).add_entity(lambda ctx, x: x)",
        "TaskHubGrpcClient(channel=channel).get_all_entities()",
        "TaskHubGrpcWorker(channel=channel).configure_scheduled_tasks()",
    ],
    ids=["worker", "client", "schedules"],
)
def test_a_call_that_needs_the_add_on_names_it(call: str) -> None:
    code = (
        "from durabletask.client import TaskHubGrpcClient\n"
        "from durabletask.worker import TaskHubGrpcWorker\n"
        "from durabletask_scheduler import Scheduler\n"
        "with Scheduler() as scheduler:\n"
        "    channel = scheduler.channel()\n"
        f"    {call}\n"
    )
    result = run("-c", code)
    assert result.returncode == 1
    assert "pip install durabletask-entities" in result.stderr


@pytest.mark.wheels
@pytest.mark.timeout(300)
def test_the_tests_of_core_pass() -> None:
    """Left out are the slowest, which have nothing to do with entities: process pools, examples of the documentation,
    laws of replay, and imports of which each takes an interpreter of its own."""
    slow = ("processes", "test_testing_pytest_plugin.py", "engine/test_engine_laws.py", "test_lazy_imports.py")
    left_out = [argument for name in slow for argument in ("--ignore", str(CORE / name))]
    result = run("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(CORE), *left_out)
    assert result.returncode == 0, result.stdout[-4000:]
    assert " passed" in result.stdout
