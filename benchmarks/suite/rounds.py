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

STOPPED = "stopped after"


@dataclass(frozen=True)
class Outcome:
    """What one system answered in one round: figures, or why there are none, or not all."""

    figures: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""

    @property
    def stopped(self) -> bool:
        """It took longer than it may, and has no figures."""
        return not self.figures and self.reason.startswith(STOPPED)

    def with_extra(self, extra: Outcome) -> Outcome:
        """Together with what ran besides; where both have a figure, this one's counts."""
        return Outcome({**extra.figures, **self.figures}, "; ".join(filter(None, (self.reason, extra.reason))))


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
    """What to run, and how often; or what is reported, and of how many runs."""

    workloads: Sequence[Workload]
    systems: Sequence[System]
    rounds: int
    full: bool
    runs: int = 1


def run(plan: Plan, tell: Callable[[str], object]) -> Results:
    """Run all rounds; ``tell`` gets a line of progress for each.

    What took a system longer than it may is not tried again: the later rounds have the same reason.
    """
    results = Results()
    pythons = {system.name: _interpreter_or_reason(system) for system in plan.systems}
    for workload in plan.workloads:
        for number in range(plan.rounds):
            for system in _rotated([one for one in plan.systems if _fits(workload, one)], number):
                begun = time.monotonic()
                earlier = next((one for one in results.rounds(workload.name, system.name) if one.stopped), None)
                outcome = earlier or _cell(plan, workload, system, pythons[system.name], number)
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
    figures = [f"{m.title}: {outcome.figures[m.key]:,.4g} {m.unit}".strip() for m in shown]
    return ", ".join(filter(None, (*figures, outcome.reason)))


def _interpreter_or_reason(system: System) -> str | Absent:
    try:
        return interpreter(system.environment)
    except Absent as reason:
        return reason


def _cell(plan: Plan, workload: Workload, system: System, python: str | Absent, number: int) -> Outcome:
    """One system's run of a workload in one round."""
    if isinstance(python, Absent):
        return Outcome(reason=f"absent: {python}")
    command = system.command(python)
    parameters = workload.parameters(system.name, full=plan.full)
    outcome = _once(command, workload.name, parameters, workload.seconds)
    extra = workload.extra.get(system.name)
    if plan.full and number == 0 and extra:
        more = _once(command, workload.name, {**parameters, **extra.parameters}, extra.seconds)
        outcome = outcome.with_extra(more)
    return outcome


def _once(command: list[str], workload: str, parameters: Mapping[str, object], seconds: float) -> Outcome:
    # What others wrote is on the disk before this one begins, so that nobody waits for it but they themselves.
    os.sync()
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        # Database servers that refuse to be root run as somebody else, below this folder.
        os.chmod(folder, 0o711)
        return _ask(command, {"workload": workload, "parameters": parameters, "folder": folder}, Path(folder), seconds)


def _ask(command: list[str], request: dict[str, object], folder: Path, seconds: float) -> Outcome:
    pipe = subprocess.PIPE
    driver = subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=_environment(folder),
        cwd=folder, start_new_session=True,
    )  # fmt: skip
    try:
        output, errors = driver.communicate(json.dumps(request) + "\n", timeout=seconds)
    except subprocess.TimeoutExpired:
        return Outcome(reason=f"{STOPPED} {seconds:g} s")
    finally:
        _end(driver)
    if not output:
        last = (errors.strip().splitlines() or ["no output"])[-1]
        return Outcome(reason=f"failed: the driver ended without an answer: {last}")
    kind, value = next(iter(json.loads(output).items()))
    return Outcome(figures=value) if kind == "figures" else Outcome(reason=f"{kind}: {value}")


def _environment(folder: Path) -> dict[str, str]:
    """That of this process, with compiled files for all: installed packages have them, ours may have none."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    modules = os.pathsep.join((str(ROOT / "benchmarks"), str(ROOT / "scripts")))
    paths = {"PYTHONPATH": modules, "PYTHONPYCACHEPREFIX": str(FOLDER / "pycache"), "TMPDIR": str(folder)}
    return {**inherited, **paths, "GRPC_VERBOSITY": "NONE"}


def _end(driver: subprocess.Popen[str]) -> None:
    """End whatever is left of the driver and of the processes that it started."""
    try:
        os.killpg(driver.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    driver.wait()
