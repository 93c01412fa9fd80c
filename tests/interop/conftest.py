"""Foreign SDKs of the family, each in an environment of its own, against our scheduler, client and worker.

The environments are made on first use, from the package registries by the ordinary clients, and kept:

* ``DURABLETASK_INTEROP_CACHE`` names their folder (default: ``.venv/interop`` below the repository's root);
* ``DURABLETASK_OFFLINE=1`` skips what needs an environment that is not there yet. Otherwise that is a failure.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from programs import Program

sys.path.insert(0, str(Path(__file__).parent))

import interop_environments as environments

READY_SECONDS = 30
# One scheduler serves the workloads of a foreign program; those that need workers of their own have a task hub each.
TASK_HUBS = (
    "default",
    "apart",
    "children",
    "filters",
    "filters-by-version",
    "large",
    "listing",
    "managed",
    "oversized",
    "purging",
    "strict",
    "takeover",
    "timers",
    "upgrade",
    "versions",
)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "interop: runs SDKs of others, installed from the package registries")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker("interop")
            item.add_marker(pytest.mark.timeout(environments.CREATE_SECONDS + 120))


def environment(create: Callable[[], Path]) -> Path:
    """The interpreter of an environment; the test is skipped or fails where there can be none."""
    try:
        return create()
    except environments.NotHere as reason:
        pytest.skip(str(reason))
    except environments.CannotCreate as reason:
        pytest.fail(str(reason), pytrace=False)


@pytest.fixture(scope="session")
def foreign_python() -> Path:
    """The interpreter beside the official Python SDK."""
    return environment(environments.python_sdk)


@pytest.fixture(scope="session")
def foreign_javascript() -> environments.JavaScript:
    """How to run a program beside the official JavaScript SDK."""
    return environment(environments.javascript_sdk)


class Scheduler(Program):
    """Our scheduler as a program of its own, on a port that the system chose."""

    def __init__(self, database: Path) -> None:
        hubs = [word for hub in TASK_HUBS for word in ("--task-hub", hub)]
        command = [sys.executable, "-m", "durabletask_scheduler", "serve", "--db", str(database), "--port", "0", *hubs]
        super().__init__("scheduler", command)
        self.address = self.wait_for(r"ready on http://", READY_SECONDS).split("http://")[1].split(",")[0]


@pytest.fixture(scope="session")
def new_scheduler(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Scheduler]:
    """Start a scheduler with a file of its own; the caller ends it."""
    return lambda: Scheduler(tmp_path_factory.mktemp("scheduler") / "hub.db")


@pytest.fixture(scope="module")
def scheduler(new_scheduler: Callable[[], Scheduler]) -> Iterator[Scheduler]:
    with new_scheduler() as program:
        yield program


class Outcomes:
    """What a program of workloads said, a line of JSON each."""

    def __init__(self, program: Program, seconds: float) -> None:
        self._code = program.wait(seconds)
        self._output = program.output
        lines = [json.loads(line) for line in self._output.splitlines() if line.startswith('{"workload"')]
        self._lines: dict[str, dict[str, Any]] = {line["workload"]: line for line in lines}

    @property
    def names(self) -> set[str]:
        return set(self._lines)

    def of(self, workload: str) -> Any:
        """The outcome of a workload; the test fails if it ended with an error, or the program before it."""
        line = self._lines.get(workload)
        if line is None:
            pytest.fail(f"no line for {workload}; the program ended with {self._code}:\n{self._output[-4000:]}", False)
        if "error" in line:
            pytest.fail(f"{workload} ended with an error:\n{line['error']}", pytrace=False)
        return line["outcome"]


@pytest.fixture(scope="session")
def outcomes_of() -> Callable[..., Outcomes]:
    """Run a foreign program to its end and gather its outcomes."""

    def gather(*command: str | Path, seconds: float = 120, **options: Any) -> Outcomes:
        words = [str(word) for word in command]
        with Program(Path(words[1]).name, words, **options) as program:
            return Outcomes(program, seconds)

    return gather
