"""What was measured, as a file: to look at later, and to be reported together with what later runs measure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite.goals import judge
from suite.report import conditions
from suite.rounds import Outcome, Plan, Results


@dataclass(frozen=True)
class Kept:
    """One run that was kept.

    Attributes:
        full: whether it was one at full size.
    """

    full: bool
    results: Results


class Unreadable(Exception):
    """The file is not one that a run wrote; the message says so."""


def content(plan: Plan, results: Results) -> dict[str, Any]:
    """Everything that was measured."""
    return {
        "conditions": conditions(plan),
        "full": plan.full,
        "results": [
            {"workload": workload, "system": system, "rounds": [_round(one) for one in outcomes]}
            for (workload, system), outcomes in results.outcomes.items()
        ],
        "goals": [
            {"workload": v.goal.workload, "goal": v.goal.text, "limit": v.goal.limit, "met": v.met,
             "median": v.spread and v.spread.median}
            for v in judge(results, plan.rounds)
        ],
    }  # fmt: skip


def _round(outcome: Outcome) -> dict[str, Any]:
    return {"figures": dict(outcome.figures), "reason": outcome.reason}


def read(path: Path) -> Kept:
    """The run that :func:`content` was made of.

    Raises:
        Unreadable: the file cannot be read, or holds something else.
    """
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        results = Results()
        for cell in kept["results"]:
            for one in cell["rounds"]:
                results.add(cell["workload"], cell["system"], Outcome(one["figures"], one["reason"]))
        return Kept(kept["full"], results)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unreadable(f"{path}: expected what a run has written with --json, found: {error!r}") from error


def one_after_the_other(runs: Sequence[Results]) -> Results:
    """The rounds of all runs; what one left out has empty rounds there, so that the others of that run stay aligned."""
    joined = Results()
    for workload, system in sorted({cell for run in runs for cell in run.outcomes}):
        for run in runs:
            for outcome in _filled(run, workload, system):
                joined.add(workload, system, outcome)
    return joined


def _filled(run: Results, workload: str, system: str) -> list[Outcome]:
    """The rounds of one system, as many as those of the workload's other ones."""
    rounds = run.rounds(workload, system)
    most = max((len(outcomes) for (name, _), outcomes in run.outcomes.items() if name == workload), default=0)
    return [*rounds, *(Outcome() for _ in range(most - len(rounds)))]
