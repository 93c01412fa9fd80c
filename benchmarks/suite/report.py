"""The report: one Markdown table of figures, one of ratios, one of goals, and what is missing with its reason."""

from __future__ import annotations

import os
import platform
import sqlite3
from collections.abc import Iterable, Sequence

from suite.goals import Verdict, judge
from suite.rounds import Plan, Results, Spread
from suite.systems import ABSENT, System
from suite.workloads import Metric, Workload

BASE = "dt"
"""Ratios are to this system."""

MET = {True: "yes", False: "no", None: "not measured"}


def markdown(plan: Plan, results: Results) -> str:
    sections = [
        conditions(plan),
        _figures(plan, results),
        _ratios(plan, results),
        _goals(judge(results, plan.rounds)),
        _missing(plan, results),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def conditions(plan: Plan) -> str:
    load = f", load average before the run {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    mode = "full" if plan.full else "quick"
    return (
        f"{os.cpu_count()} cores, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}{load}; "
        f"{mode} mode, {plan.rounds} interleaved rounds{_of_runs(plan.runs)}: median [least - most]."
    )


def _of_runs(runs: int) -> str:
    return f", of {runs} runs" if runs > 1 else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _figures(plan: Plan, results: Results) -> str:
    rows = []
    for workload in plan.workloads:
        for metric in _measured(workload, results, plan.systems):
            cells = [_cell(Spread.of(results.values(workload.name, one.name, metric.key))) for one in plan.systems]
            rows.append([workload.name, f"{metric.title} {metric.unit}".strip(), *cells])
    legend = "\n".join(f"* {workload.name}: {workload.title}" for workload in plan.workloads)
    systems = "\n".join(f"* {one.title}: {one.note}" for one in plan.systems)
    figures = table(["", "", *(system.title for system in plan.systems)], rows)
    return f"## Figures\n\n{figures}\n\n{legend}\n\n{systems}"


def _ratios(plan: Plan, results: Results) -> str:
    base = next((one for one in plan.systems if one.name == BASE), None)
    if base is None:
        return ""
    others = [one for one in plan.systems if one is not base and one.name != "limits"]
    rows = []
    for workload in plan.workloads:
        for metric in _measured(workload, results, [base]):
            spreads = [_ratio(workload, metric, one, results) for one in others]
            if metric.has_ratio and any(spreads):
                rows.append([workload.name, metric.title, *map(_cell, spreads)])
    if not rows:
        return ""
    head = ["", "", *(system.title for system in others)]
    return f"## Times better than {base.title}, round by round\n\n{table(head, rows)}"


def _ratio(workload: Workload, metric: Metric, system: System, results: Results) -> Spread | None:
    values = []
    for mine, other in zip(results.rounds(workload.name, system.name), results.rounds(workload.name, BASE)):
        if mine.figures.get(metric.key) and other.figures.get(metric.key):
            ratio = mine.figures[metric.key] / other.figures[metric.key]
            values.append(ratio if metric.higher_is_better else 1 / ratio)
    return Spread.of(values)


def _goals(verdicts: Sequence[Verdict]) -> str:
    if not verdicts:
        return ""
    rows = [
        [
            verdict.goal.workload,
            verdict.goal.text,
            f"{'>=' if verdict.goal.at_least else '<='} {verdict.goal.limit:g} {verdict.goal.unit}".strip(),
            _cell(verdict.spread),
            MET[verdict.met],
        ]
        for verdict in verdicts
    ]
    return "## Goals\n\n" + table(["", "", "goal", "measured", "met"], rows)


def _missing(plan: Plan, results: Results) -> str:
    lines = [
        f"* {workload.name}, {system.title}: {reason}"
        for workload in plan.workloads
        for system in plan.systems
        for reason in results.reasons(workload.name, system.name)
    ]
    lines += [f"* {name}: {reason}" for name, reason in ABSENT.items()]
    return "## Not measured\n\n" + "\n".join(lines)


def _measured(workload: Workload, results: Results, systems: Sequence[System]) -> list[Metric]:
    return [m for m in workload.metrics if any(results.values(workload.name, one.name, m.key) for one in systems)]


def _cell(spread: Spread | None) -> str:
    if spread is None:
        return "-"
    if spread.least == spread.most:
        return number(spread.median)
    return f"{number(spread.median)} [{number(spread.least)} - {number(spread.most)}]"


def number(value: float) -> str:
    """Three significant digits, thousands with commas."""
    if value == 0:
        return "0"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 0.1 else 4
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
