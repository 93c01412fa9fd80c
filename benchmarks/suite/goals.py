"""The goals: each a number made of one round's figures, and the limit that its median must keep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from suite.rounds import Results, Spread

Figure = Callable[[str, str, str], float]
"""The figure of a workload, system and metric in one round; KeyError if there is none."""


@dataclass(frozen=True)
class Goal:
    """One goal.

    Attributes:
        workload: the workload whose rounds are looked at.
        text: what is compared.
        value: the number, from the figures of one round.
        limit: what the median over the rounds is held against.
        at_least: whether more is better.
        unit: of the number.
    """

    workload: str
    text: str
    value: Callable[[Figure], float]
    limit: float
    at_least: bool = True
    unit: str = "x"


@dataclass(frozen=True)
class Verdict:
    goal: Goal
    spread: Spread | None

    @property
    def met(self) -> bool | None:
        """None if it was not measured."""
        if self.spread is None:
            return None
        median = self.spread.median
        return median >= self.goal.limit if self.goal.at_least else median <= self.goal.limit


FULL, NORMAL, GRPC, POSTGRES = "ours-inproc-full", "ours-inproc-normal", "ours-grpc-full", "ours-inproc-pg"
DT, DT_OURS, DBOS, DBOS_POSTGRES = "dt", "dt-on-ours", "dbos", "dbos-pg"


def faster(workload: str, metric: str, ours: str, theirs: str, limit: float, *, time: bool = False) -> Goal:
    """How many times the rate of another system, or a fraction of its time."""

    def value(figure: Figure) -> float:
        mine, other = figure(workload, ours, metric), figure(workload, theirs, metric)
        return other / mine if time else mine / other

    return Goal(workload, f"{metric}: {ours} to {theirs}", value, limit)


def within(workload: str, metric: str, system: str, limit: float, unit: str, *, at_least: bool = False) -> Goal:
    return Goal(workload, f"{metric}: {system}", lambda figure: figure(workload, system, metric), limit, at_least, unit)


def growth(workload: str, system: str, early: str, late: str, limit: float) -> Goal:
    """A figure of the same system at a larger size, as a multiple of that at a smaller one."""
    return Goal(
        workload,
        f"{late} / {early}: {system}",
        lambda figure: figure(workload, system, late) / figure(workload, system, early),
        limit,
        at_least=False,
    )


def not_slower(workload: str, system: str, metric: str, other: str) -> Goal:
    """A rate of the same system under other circumstances, as a multiple of the usual one."""
    return Goal(
        workload,
        f"{metric} to {other}: {system}",
        lambda figure: figure(workload, system, metric) / figure(workload, system, other),
        1,
    )


def above_three_fsyncs(system: str) -> Goal:
    return Goal(
        "W4",
        f"p50 above three fsyncs: {system}",
        lambda figure: figure("W4", system, "p50_ms") - 3 * figure("L", "limits", "fsync_us") / 1e3,
        0.7,
        at_least=False,
        unit="ms",
    )


GOALS: tuple[Goal, ...] = (
    faster("W1", "per_s", NORMAL, DT, 15),
    faster("W1", "per_s", FULL, DT, 6),
    faster("W1", "per_s", GRPC, DT, 3),
    faster("W1", "per_s", DT_OURS, DT, 1.3),
    faster("W1a", "per_s", FULL, DT, 60),
    faster("W1a", "per_s", FULL, NORMAL, 0.8),
    faster("W1a", "per_s", FULL, DBOS, 20),
    faster("W1a", "per_s", POSTGRES, DBOS_POSTGRES, 15),
    faster("W1b", "per_s", FULL, DT, 100),
    Goal(
        "W1b",
        "SQL-only limit to per_s: ours-inproc-full",
        lambda figure: figure("L", "limits", "sql_w1_per_s") / figure("W1b", FULL, "per_s"),
        6,
        at_least=False,
    ),
    growth("W2", FULL, "cpu_us@100", "cpu_us@1000", 1.1),
    growth("W2", FULL, "cpu_us@100", "cpu_us@30000", 1.1),
    growth("W2", FULL, "us@100", "us@30000", 1.2),
    faster("W2", "us@10", NORMAL, DT, 8, time=True),
    faster("W2", "us@1000", NORMAL, DT, 60, time=True),
    faster("W2", "us@3000", NORMAL, DT, 150, time=True),
    faster("W2", "us@100", FULL, DBOS, 2.5, time=True),
    faster("W2", "us@1000", FULL, DBOS, 2.5, time=True),
    faster("W2", "us@1000", GRPC, DT, 8, time=True),
    faster("W2", "us@3000", GRPC, DT, 25, time=True),
    within("W2", "us@100", POSTGRES, 1_200, "us"),
    within("W2", "us@1000", POSTGRES, 1_200, "us"),
    faster("W3", "per_s@1000", FULL, DT, 40),
    Goal(
        "W3",
        "per_s@5000 to per_s@1000: ours-inproc-full",
        lambda figure: figure("W3", FULL, "per_s@5000") / figure("W3", FULL, "per_s@1000"),
        0.8,
    ),
    within("W3", "two_ms", NORMAL, 3, "ms"),
    faster("W3", "per_s@1000", DT_OURS, DT, 1.5),
    within("W4", "p50_ms", NORMAL, 1, "ms"),
    within("W4", "p99_ms", NORMAL, 3, "ms"),
    above_three_fsyncs(FULL),
    faster("W5", "per_s@1", NORMAL, DT, 8),
    faster("W5", "per_s@serial", FULL, DT, 3),
    not_slower("W5", FULL, "per_s@serial-100", "per_s@serial"),
    not_slower("W5", NORMAL, "per_s@serial-100", "per_s@serial"),
    not_slower("W5", NORMAL, "per_s@100", "per_s@1"),
    within("W6", "above_s", FULL, 0.4, "s"),
    within("W6", "threads", FULL, 10, ""),
    within("W7", "kib", FULL, 4, "KiB"),
    within("W7m", "kib", FULL, 1, "KiB"),
    within("W7", "idle_cpu", FULL, 0.5, "%"),
    faster("W7", "per_s", FULL, DT, 10),
    within("W8", "one_ms", NORMAL, 25, "ms"),
    faster("W8", "one_ms", NORMAL, DT, 4, time=True),
    within("W8", "ten_done", FULL, 1, "", at_least=True),
    within("W9", "import_ms@durabletask", FULL, 60, "ms"),
    within("W9", "start_ms", FULL, 10, "ms"),
    within("W10", "accepts_s", FULL, 0.3, "s"),
    within("W10", "back_s", FULL, 2, "s"),
    within("W10", "all_s", FULL, 2, "s"),
    within("W10m", "first_s", FULL, 1, "s"),
    within("W13", "lost", FULL, 0, ""),
    within("W13", "lost", GRPC, 0, ""),
)


def judge(results: Results, rounds: int) -> list[Verdict]:
    """Every goal whose workload was run, with the spread of its number over the rounds."""
    ran = {workload for workload, _ in results.outcomes}
    return [Verdict(goal, Spread.of(_values(goal, results, rounds))) for goal in GOALS if goal.workload in ran]


def _values(goal: Goal, results: Results, rounds: int) -> list[float]:
    values = []
    for number in range(rounds):

        def figure(workload: str, system: str, metric: str, number: int = number) -> float:
            outcomes = dict(enumerate(results.rounds(workload, system)))
            return outcomes[number].figures[metric]

        try:
            values.append(goal.value(figure))
        except KeyError:
            continue
    return values
