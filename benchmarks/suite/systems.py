"""The systems that are compared: how each is set up, and in which environment."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from typing import Any

from suite.environments import Environment

OFFICIAL_SDK = Environment("official", ("durabletask==1.12.0",))
DBOS = Environment("dbos", ("dbos==3.4.0",))
RESTATE = Environment(
    "restate",
    ("restate-sdk==1.3.0", "hypercorn==0.18.0", "aiohttp==3.14.5"),
    ("@restatedev/restate-server@1.7.12",),
)
OFFICIAL_CALLS = {"in_flight": 32, "blocking": 4}
"""What the official backend bears: ten waiting calls take all its server threads, and then nothing ends any more."""


@dataclass(frozen=True)
class System:
    """One column of the table.

    Attributes:
        name: for the command line.
        title: the head of its column.
        driver: module that runs the workloads.
        options: the driver's argument, as JSON.
        environment: what it needs; none for that of this process.
        note: what a reader must know of it.
        only_full: not part of the quick mode unless asked for.
    """

    name: str
    title: str
    driver: str
    options: dict[str, Any] = field(default_factory=dict)
    environment: Environment | None = None
    note: str = ""
    only_full: bool = False

    def command(self, python: str) -> list[str]:
        return [python, "-m", self.driver, json.dumps(self.options)]


def _ours(name: str, title: str, note: str, *, only_full: bool = False, **options: Any) -> System:
    return System(name, title, "drivers.family", options, None, note, only_full)


def _official(name: str, title: str, note: str, *, only_full: bool = False, **options: Any) -> System:
    return System(name, title, "drivers.family", options, OFFICIAL_SDK, note, only_full)


SYSTEMS: tuple[System, ...] = (
    _ours("ours-inproc-full", "in process FULL", "scheduler, worker and client in one process", scheduler="embedded"),
    _ours(
        "ours-inproc-normal",
        "in process NORMAL",
        "the same at synchronous=NORMAL",
        scheduler="embedded",
        synchronous="NORMAL",
    ),
    _ours(
        "ours-memory",
        "in process memory",
        "the same without a file",
        scheduler="embedded",
        database=":memory:",
        only_full=True,
    ),
    _ours(
        "ours-grpc-full",
        "gRPC FULL",
        "worker and client in one process, the scheduler in a second one",
        scheduler="process",
        python=sys.executable,
    ),
    _ours(
        "ours-inproc-pg",
        "in process PostgreSQL",
        "scheduler, worker and client in one process, a PostgreSQL server of the suite's own, fsync on",
        scheduler="embedded",
        database="postgresql",
        only_full=True,
    ),
    _ours(
        "ours-grpc-pg",
        "gRPC PostgreSQL",
        "the same with the scheduler in a process of its own",
        scheduler="process",
        python=sys.executable,
        database="postgresql",
        only_full=True,
    ),
    _official(
        "dt",
        "dt",
        "the official SDK 1.12.0 on its own in-memory backend, all in one process over gRPC",
        scheduler="official",
        **OFFICIAL_CALLS,
    ),
    _official(
        "dt-onecore",
        "dt on one core",
        "the official SDK 1.12.0 on its own backend, its process bound to one core",
        only_full=True,
        scheduler="official",
        one_core=True,
        **OFFICIAL_CALLS,
    ),
    _official(
        "dt-on-ours",
        "dt on our scheduler",
        "the official SDK 1.12.0, our scheduler (FULL) in a second process",
        scheduler="process",
        python=sys.executable,
    ),
    System("dbos", "DBOS WAL", "drivers.dbos_driver", {}, DBOS, "DBOS 3.4 on SQLite, WAL, synchronous=FULL"),
    System(
        "dbos-pg",
        "DBOS PostgreSQL",
        "drivers.dbos_driver",
        {"database": "postgresql"},
        DBOS,
        "DBOS 3.4 on a PostgreSQL server of the suite's own, fsync on",
        only_full=True,
    ),
    System(
        "restate",
        "Restate",
        "drivers.restate_driver",
        {},
        RESTATE,
        "Restate 1.7, its Python SDK 1.3 and hypercorn: services and client in one process, the server in a second one",
        only_full=True,
    ),
    System(
        "limits",
        "limits",
        "drivers.limits",
        {},
        None,
        "an fsync; W1's rows, and messages, without an engine",
    ),
)

ABSENT = {
    "duroxide": "slower than all others here through its polling; left out to keep a round short",
}
"""Systems without a column, and why."""
