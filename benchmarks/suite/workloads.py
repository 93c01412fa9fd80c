"""The workloads: their parameters in both modes and the figures they give."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Metric:
    """One figure of a workload: its key in the answers, what it is, and which direction is good.

    A difference, which may be zero or negative, has no ratio to that of another system.
    """

    key: str
    title: str
    unit: str
    higher_is_better: bool = False
    has_ratio: bool = True


Modes = Mapping[str, Mapping[str, Any]]
"""Changes to the parameters: by mode, ``quick`` or ``full``."""

SECONDS = 300.0
"""How long a system may take for a workload, unless that says otherwise."""


@dataclass(frozen=True)
class Extra:
    """Sizes that take a system minutes: run in the first round of the full mode only, by a process of their own.

    Attributes:
        parameters: changes to those of the full mode.
        seconds: how long it may take.
    """

    parameters: Mapping[str, Any]
    seconds: float


@dataclass(frozen=True)
class Workload:
    """One workload.

    Attributes:
        quick: parameters of the quick mode.
        full: parameters of the full mode.
        slow: changes to the parameters for systems that would take too long: by system, then mode.
        extra: what a system runs once, besides that.
        only_full: not part of the quick mode unless asked for.
        seconds: how long a system may take for it in one round; then it is stopped.
    """

    name: str
    title: str
    metrics: tuple[Metric, ...]
    quick: Mapping[str, Any]
    full: Mapping[str, Any]
    slow: Mapping[str, Modes] = field(default_factory=dict)
    extra: Mapping[str, Extra] = field(default_factory=dict)
    only_full: bool = False
    seconds: float = SECONDS

    def parameters(self, system: str, *, full: bool) -> dict[str, Any]:
        mode = "full" if full else "quick"
        return {**(self.full if full else self.quick), **self.slow.get(system, {}).get(mode, {})}


def _rate(key: str = "per_s", what: str = "completed") -> Metric:
    return Metric(key, what, "/s", higher_is_better=True)


def _cpu(key: str = "cpu_us", what: str = "CPU of all processes") -> Metric:
    return Metric(key, what, "us")


GROWN = Metric("grown_mib", "memory at the end above that at half time", "MiB", has_ratio=False)
P50, P99 = Metric("p50_ms", "p50", "ms"), Metric("p99_ms", "p99", "ms")
LENGTHS = (10, 100, 300, 1_000, 3_000, 10_000, 30_000)
WIDTHS = (100, 1_000, 5_000)
THREADS = (1, 4, 16, 64)
IMPORTS = ("durabletask", "durabletask.client", "durabletask.worker", "dbos", "restate")
STORED = (1_000, 100_000, 1_000_000)


def _for_each(sizes: Iterable[Any], *make: Callable[[Any], Metric]) -> tuple[Metric, ...]:
    return tuple(one(size) for size in sizes for one in make)


WHERE = {"warm": "all in memory", "evicted": "a twentieth in memory"}
"""How many of its live orchestrations a system keeps in memory."""

HUNDRED: Modes = {"quick": {"count": 100}}
FEW = dict.fromkeys(("dt", "dt-on-ours", "dbos", "dbos-pg", "restate"), HUNDRED)
"""Fewer orchestrations in the quick mode for systems that take long."""

TO_3_000: Modes = {"quick": {"lengths": (10, 100, 300)}, "full": {"lengths": (10, 100, 1_000, 3_000)}}
"""Chains for systems whose steps take milliseconds."""

ONE_SIZE: Modes = {"full": {"stored": (100_000,)}}
"""A store to fill for systems that differ little in this, to keep a round short."""

TO_1_000: Modes = {"quick": {"widths": (100,)}, "full": {"widths": (100, 1_000)}}
"""Fan-outs for systems that take milliseconds for each activity, or more the wider they are."""

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
            "ours-grpc-full": TO_3_000,
            "dt": {"quick": {"lengths": (10, 100, 300)}, "full": {"lengths": (10, 100, 1_000)}},
            "dt-on-ours": {"quick": {"lengths": (10, 100)}, "full": {"lengths": (10, 100, 1_000)}},
            **dict.fromkeys(("ours-inproc-pg", "ours-grpc-pg", "dbos", "dbos-pg", "restate"), TO_3_000),
        },
        # Its steps grow with the history: the last thousand of three takes about two minutes.
        extra={"dt": Extra({"lengths": (3_000,)}, seconds=600.0)},
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
            **dict.fromkeys(("dbos", "dbos-pg", "restate"), TO_1_000),
            "dt": {"quick": {"pairs": 5}, "full": {"pairs": 20}},
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
            _rate("per_s@serial-100", "one by one, 100 entities"),
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
        name="W7m",
        title="so many that wait that most of them leave memory",
        metrics=(
            Metric("kib", "memory each", "KiB"),
            Metric("wake_ms", "the one that was started first raised and completed", "ms"),
        ),
        quick={"count": 15_000},
        full={"count": 100_000},
        only_full=True,
        seconds=600.0,
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
            Metric("back_s", "all back: each has taken its event for good", "s"),
            Metric("all_s", "all raised and completed (DBOS: waiting again)", "s"),
        ),
        quick={"count": 500},
        full={"count": 10_000},
        only_full=True,
        seconds=600.0,
    ),
    Workload(
        name="W10m",
        title="the same with ten times as many; only the first go on",
        metrics=(
            Metric("accepts_s", "first new one completed", "s"),
            Metric("first_s", "first old one raised and completed", "s"),
        ),
        quick={"count": 5_000},
        full={"count": 100_000},
        only_full=True,
        seconds=600.0,
    ),
    Workload(
        name="W10s",
        title="SIGKILL of the active one of two schedulers on one database",
        metrics=(
            Metric("accepts_s", "until a new one is acknowledged, median", "s"),
            Metric("takeover_s", "until it has completed, median", "s"),
            Metric("takeover_most_s", "until it has completed, most", "s"),
        ),
        quick={"times": 1},
        full={"times": 5},
        only_full=True,
    ),
    Workload(
        name="W11",
        title="mixture: 70 % one activity, 20 % chains of 10, 10 % fan-outs of 20; 16 clients at once",
        metrics=(_rate(), P50, P99, _cpu(), GROWN),
        quick={"clients": 16, "seconds": 2.0},
        full={"clients": 16, "seconds": 60.0},
        only_full=True,
    ),
    Workload(
        name="W12",
        title="chains that wait for an event before each activity, advanced in turn: an event and an activity",
        metrics=_for_each(
            ("warm", "evicted"),
            lambda bound: Metric(f"us@{bound}", WHERE[bound], "us"),
            lambda bound: _cpu(f"cpu_us@{bound}", f"{WHERE[bound]}, CPU"),
        ),
        quick={"count": 200, "steps": 2, "bound": 10},
        full={"count": 2_000, "steps": 3, "bound": 100},
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
        name="W14",
        title="20 pages of queries a second beside N finished orchestrations, while W1 runs",
        metrics=_for_each(
            STORED,
            lambda n: Metric(f"p50_ms@{n}", f"N = {n:,}, a page p50", "ms"),
            lambda n: Metric(f"p99_ms@{n}", f"N = {n:,}, a page p99", "ms"),
            lambda n: Metric(f"prefix_ms@{n}", f"N = {n:,}, a page by prefix of ids p50", "ms"),
            lambda n: _rate(f"alone_per_s@{n}", f"N = {n:,}, W1 without queries"),
            lambda n: _rate(f"per_s@{n}", f"N = {n:,}, W1 with them"),
        ),
        quick={"stored": (1_000,), "seconds": 2.0, "pages_per_s": 20},
        full={"stored": STORED, "seconds": 10.0, "pages_per_s": 20},
        only_full=True,
        slow=dict.fromkeys(("ours-inproc-normal", "ours-inproc-pg", "ours-grpc-pg"), ONE_SIZE),
        seconds=600.0,
    ),
    Workload(
        name="L",
        title="limits of this machine",
        metrics=(
            Metric("fsync_us", "one fsync", "us"),
            Metric("wake_us", "a thread woken by one on another core", "us"),
            Metric("grpc_call_us", "a gRPC call with nothing behind it", "us"),
            Metric("grpc_call_cpu_us", "a gRPC call with nothing behind it, CPU", "us"),
            _rate("sql_w1_per_s", "W1 as SQL only, 500 a transaction"),
            Metric("floor_w1a_us", "W1a as messages only, CPU", "us"),
            Metric("floor_w2_us", "a step of W2 as messages only, CPU", "us"),
            Metric("floor_w3_us", "an activity of W3 as messages only, CPU", "us"),
            Metric("client_w1a_us", "the client alone in W1a, CPU", "us"),
            *(
                Metric(f"{part}_{workload}_us", f"{title} alone in {of}, CPU", "us")
                for workload, of in (("w1a", "W1a"), ("w2", "a step of W2"), ("w3", "an activity of W3"))
                for part, title in (("hub", "the hub's rules"), ("worker", "replay and user code"))
            ),
        ),
        quick={"count": 10_000, "messages": 500},
        full={"count": 30_000, "messages": 1_000},
    ),
)
