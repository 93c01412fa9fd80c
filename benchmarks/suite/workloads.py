"""The workloads: their parameters in both modes and the figures they give."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Metric:
    """One figure of a workload: its key in the answers, what it is, and which direction is good."""

    key: str
    title: str
    unit: str
    higher_is_better: bool = False


@dataclass(frozen=True)
class Workload:
    """One workload.

    Attributes:
        quick: parameters of the quick mode.
        full: parameters of the full mode.
        slow: changes to the parameters for systems that would take too long: by system, then mode.
        only_full: not part of the quick mode unless asked for.
    """

    name: str
    title: str
    metrics: tuple[Metric, ...]
    quick: Mapping[str, Any]
    full: Mapping[str, Any]
    slow: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    only_full: bool = False

    def parameters(self, system: str, *, full: bool) -> dict[str, Any]:
        mode = "full" if full else "quick"
        return {**(self.full if full else self.quick), **self.slow.get(system, {}).get(mode, {})}


def _rate(key: str = "per_s", what: str = "completed") -> Metric:
    return Metric(key, what, "/s", higher_is_better=True)


def _cpu(key: str = "cpu_us", what: str = "CPU of all processes") -> Metric:
    return Metric(key, what, "us")


P50, P99 = Metric("p50_ms", "p50", "ms"), Metric("p99_ms", "p99", "ms")
LENGTHS = (10, 100, 300, 1_000, 3_000, 10_000, 30_000)
WIDTHS = (100, 1_000, 5_000)
THREADS = (1, 4, 16, 64)
IMPORTS = ("durabletask", "durabletask.client", "durabletask.worker", "dbos")


def _for_each(sizes: Iterable[Any], *make: Callable[[Any], Metric]) -> tuple[Metric, ...]:
    return tuple(one(size) for size in sizes for one in make)


FEW = {system: {"quick": {"count": 100}} for system in ("dt", "dt-on-ours", "dbos")}
"""Fewer orchestrations in the quick mode for systems that take long."""

WORKLOADS: tuple[Workload, ...] = (
    Workload(
        name="W1",
        title="orchestrations of one activity, started one by one by a blocking client",
        metrics=(_rate(), _cpu()),
        quick={"count": 200},
        full={"count": 1_000},
    ),
    Workload(
        name="W1a",
        title="the same, concurrent asyncio client",
        metrics=(_rate(), _cpu()),
        quick={"count": 1_000},
        full={"count": 1_000},
        slow=FEW,
    ),
    Workload(
        name="W1t",
        title="the same, threads that each start one and await it",
        metrics=_for_each(
            THREADS,
            lambda n: _rate(f"per_s@{n}", f"{n} threads"),
            lambda n: Metric(f"p99_ms@{n}", f"{n} threads, p99", "ms"),
        ),
        quick={"threads": (1, 16), "seconds": 0.4},
        full={"threads": THREADS, "seconds": 3.0},
    ),
    Workload(
        name="W1b",
        title="the same, one bulk call (the SDK's concurrent client where it has none)",
        metrics=(_rate(), _rate("start_per_s", "started"), _cpu()),
        quick={"count": 1_000},
        full={"count": 1_000},
        slow=FEW,
    ),
    Workload(
        name="W2",
        title="one orchestration calls N activities in sequence: a step",
        metrics=_for_each(
            LENGTHS,
            lambda n: Metric(f"us@{n}", f"N = {n:,}", "us"),
            lambda n: _cpu(f"cpu_us@{n}", f"N = {n:,}, CPU"),
        ),
        quick={"lengths": (10, 100, 1_000)},
        full={"lengths": (10, 100, 1_000, 3_000, 10_000, 30_000)},
        slow={
            "ours-grpc-full": {"quick": {"lengths": (10, 100, 300)}, "full": {"lengths": (10, 100, 1_000, 3_000)}},
            "dt": {"quick": {"lengths": (10, 100, 300)}, "full": {"lengths": (10, 100, 1_000)}},
            "dt-on-ours": {"quick": {"lengths": (10, 100)}, "full": {"lengths": (10, 100, 1_000)}},
            "dbos": {"quick": {"lengths": (10, 100, 300)}, "full": {"lengths": (10, 100, 1_000, 3_000)}},
        },
    ),
    Workload(
        name="W3",
        title="fan-out and fan-in of N activities in one orchestration",
        metrics=(
            *_for_each(
                WIDTHS,
                lambda n: _rate(f"per_s@{n}", f"N = {n:,}"),
                lambda n: _cpu(f"cpu_us@{n}", f"N = {n:,}, CPU"),
            ),
            Metric("two_ms", "fan-out of 2 on an idle system, p50", "ms"),
        ),
        quick={"widths": (100, 1_000), "pairs": 10},
        full={"widths": WIDTHS, "pairs": 40},
        slow={
            "dbos": {"quick": {"widths": (100,)}, "full": {"widths": (100, 1_000)}},
            # At 5,000 it needs minutes.
            "dt": {"quick": {"pairs": 5}, "full": {"widths": (100, 1_000), "pairs": 20}},
            "dt-on-ours": {"full": {"widths": (100, 1_000)}},
        },
    ),
    Workload(
        name="W4",
        title="one orchestration of one activity on an idle system",
        metrics=(P50, P99, _cpu()),
        quick={"times": 60},
        full={"times": 300},
    ),
    Workload(
        name="W5",
        title="signals to entities",
        metrics=(
            _rate("per_s@serial", "one by one, one entity"),
            _rate("per_s@1", "concurrent, one entity"),
            _rate("per_s@100", "concurrent, 100 entities"),
        ),
        quick={"count": 200, "entities": 100},
        full={"count": 2_000, "entities": 100},
    ),
    Workload(
        name="W5h",
        title="signals to one entity with a state of 100 KiB",
        metrics=(
            _rate("per_s@serial", "one by one"),
            _cpu("cpu_us@serial", "one by one, CPU"),
            _rate("per_s@1", "concurrent"),
            _cpu("cpu_us@1", "concurrent, CPU"),
        ),
        quick={"count": 100, "kib": 100},
        full={"count": 1_000, "kib": 100},
    ),
    Workload(
        name="W6",
        title="orchestrations that wait for a timer of 1 s",
        metrics=(
            Metric("above_s", "all, above 1 s", "s"),
            Metric("p50_ms", "lateness p50", "ms"),
            Metric("p99_ms", "lateness p99", "ms"),
            Metric("threads", "threads added", ""),
        ),
        quick={"count": 300},
        full={"count": 1_000},
        only_full=True,
    ),
    Workload(
        name="W7",
        title="orchestrations that wait for an event, then all are raised",
        metrics=(
            Metric("kib", "memory each", "KiB"),
            Metric("idle_cpu", "CPU while idle", "%"),
            _rate("start_per_s", "started"),
            _rate(what="raised and completed"),
        ),
        quick={"count": 500, "idle_seconds": 1.0},
        full={"count": 5_000, "idle_seconds": 5.0},
        only_full=True,
    ),
    Workload(
        name="W8",
        title="1 MB in, through an activity and out",
        metrics=(
            Metric("one_ms", "one activity", "ms"),
            Metric("ten_ms", "ten activities", "ms"),
            Metric("ten_done", "ten activities complete (1 = yes)", "", higher_is_better=True),
            Metric("peak_mib", "memory added at the peak", "MiB"),
        ),
        quick={"bytes": 1_000_000, "times": 5, "seconds": 2},
        full={"bytes": 1_000_000, "times": 10, "seconds": 20},
    ),
    Workload(
        name="W9",
        title="imports and start",
        metrics=(
            *_for_each(IMPORTS, lambda module: Metric(f"import_ms@{module}", f"import {module}, CPU", "ms")),
            Metric("start_ms", "worker start", "ms"),
            Metric("first_ms", "first result", "ms"),
        ),
        quick={"times": 3},
        full={"times": 7},
        only_full=True,
    ),
    Workload(
        name="W10",
        title="restart after SIGKILL with N waiting orchestrations",
        metrics=(
            Metric("accepts_s", "first new one completed", "s"),
            Metric("first_s", "first old one raised and completed", "s"),
            Metric("all_s", "all back (ours: raised and completed; DBOS: waiting again)", "s"),
        ),
        quick={"count": 500},
        full={"count": 10_000},
        only_full=True,
    ),
    Workload(
        name="W11",
        title="mixture: 70 % one activity, 20 % chains of 10, 10 % fan-outs of 20; 16 clients",
        metrics=(_rate(), P50, P99, _cpu()),
        quick={"clients": 16, "seconds": 2.0},
        full={"clients": 16, "seconds": 60.0},
        only_full=True,
    ),
    Workload(
        name="W13",
        title="SIGKILL at a random time under load, restart",
        metrics=(
            Metric("acknowledged", "starts acknowledged", "", higher_is_better=True),
            Metric("lost", "of them lost", ""),
            Metric("twice", "activity runs repeated", ""),
        ),
        quick={"seconds": (0.2, 0.5)},
        full={"seconds": (0.2, 3.0)},
    ),
    Workload(
        name="L",
        title="limits of this machine",
        metrics=(
            Metric("fsync_us", "one fsync", "us"),
            _rate("sql_w1_per_s", "W1 as SQL only, 500 a transaction"),
            Metric("floor_w1a_us", "W1a as messages only, CPU", "us"),
            Metric("floor_w2_us", "a step of W2 as messages only, CPU", "us"),
            Metric("floor_w3_us", "an activity of W3 as messages only, CPU", "us"),
        ),
        quick={"count": 10_000, "messages": 500},
        full={"count": 30_000, "messages": 1_000},
    ),
)
