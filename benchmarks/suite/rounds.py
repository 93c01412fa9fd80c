"""Rounds: each system once, in rotating order, every time with a fresh process and database."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from suite.environments import FOLDER, ROOT, Absent, interpreter
from suite.systems import System
from suite.workloads import Workload

SECONDS = 900.0
"""After this time a workload counts as hanging."""


@dataclass(frozen=True)
class Outcome:
    """What one system answered in one round: figures, or why there are none."""

    figures: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""


@dataclass
class Results:
    """All outcomes: by workload and system, one for each round."""

    outcomes: dict[tuple[str, str], list[Outcome]] = field(default_factory=dict)

    def add(self, workload: str, system: str, outcome: Outcome) -> None:
        self.outcomes.setdefault((workload, system), []).append(outcome)

    def rounds(self, workload: str, system: str) -> list[Outcome]:
        return self.outcomes.get((workload, system), [])

    def values(self, workload: str, system: str, metric: str) -> list[float]:
        """The figure in each round that has it."""
        return [one.figures[metric] for one in self.rounds(workload, system) if metric in one.figures]

    def reasons(self, workload: str, system: str) -> list[str]:
        return sorted({one.reason for one in self.rounds(workload, system) if one.reason})


@dataclass(frozen=True)
class Spread:
    """Median, least and most of the rounds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        return cls(statistics.median(values), min(values), max(values)) if values else None


@dataclass(frozen=True)
class Plan:
    """What to run, and how often."""

    workloads: Sequence[Workload]
    systems: Sequence[System]
    rounds: int
    full: bool


def run(plan: Plan, tell: Callable[[str], object]) -> Results:
    """Run all rounds; ``tell`` gets a line of progress for each."""
    results = Results()
    pythons = {system.name: _interpreter_or_reason(system) for system in plan.systems}
    for workload in plan.workloads:
        for number in range(plan.rounds):
            for system in _rotated([one for one in plan.systems if _fits(workload, one)], number):
                begun = time.monotonic()
                outcome = _once(workload, system, pythons[system.name], plan.full)
                results.add(workload.name, system.name, outcome)
                head = f"round {number + 1} of {plan.rounds}, {workload.name} {system.name}"
                tell(f"{head} ({time.monotonic() - begun:.1f} s): {_short(workload, outcome)}")
    return results


def _fits(workload: Workload, system: System) -> bool:
    """The limits of the machine are measured by a system of their own."""
    return (workload.name == "L") == (system.name == "limits")


def _rotated(systems: Sequence[System], number: int) -> list[System]:
    start = number % max(1, len(systems))
    return [*systems[start:], *systems[:start]]


def _short(workload: Workload, outcome: Outcome) -> str:
    shown = [m for m in workload.metrics if m.key in outcome.figures]
    return outcome.reason or ", ".join(f"{m.title}: {outcome.figures[m.key]:,.4g} {m.unit}".strip() for m in shown)


def _interpreter_or_reason(system: System) -> str | Absent:
    if system.environment is None:
        return interpreter("", ())
    try:
        return interpreter(*system.environment)
    except Absent as reason:
        return reason


def _once(workload: Workload, system: System, python: str | Absent, full: bool) -> Outcome:
    if isinstance(python, Absent):
        return Outcome(reason=f"absent: {python}")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        request = {"workload": workload.name, "parameters": workload.parameters(system.name, full=full)}
        answer = _ask(system.command(python), {**request, "folder": folder})
    kind, value = next(iter(answer.items()))
    return Outcome(figures=value) if kind == "figures" else Outcome(reason=f"{kind}: {value}")


def _ask(command: list[str], request: dict[str, object]) -> dict[str, dict[str, float]]:
    pipe = subprocess.PIPE
    driver = subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=_environment(),
        cwd=str(Path(str(request["folder"]))), start_new_session=True,
    )  # fmt: skip
    try:
        output, errors = driver.communicate(json.dumps(request) + "\n", timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return {"failed": f"no answer within {SECONDS:g} s"}  # type: ignore[dict-item]
    finally:
        _end(driver)
    if not output:
        last = (errors.strip().splitlines() or ["no output"])[-1]
        return {"failed": f"the driver ended without an answer: {last}"}  # type: ignore[dict-item]
    answer: dict[str, dict[str, float]] = json.loads(output)
    return answer


def _environment() -> dict[str, str]:
    """That of this process, with compiled files for all: installed packages have them, ours may have none."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    paths = {"PYTHONPATH": str(ROOT / "benchmarks"), "PYTHONPYCACHEPREFIX": str(FOLDER / "pycache")}
    return {**inherited, **paths, "GRPC_VERBOSITY": "NONE"}


def _end(driver: subprocess.Popen[str]) -> None:
    """End whatever is left of the driver and of the processes that it started."""
    try:
        os.killpg(driver.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    driver.wait()
