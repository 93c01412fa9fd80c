"""The systems that are compared: how each is set up, and in which environment."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from typing import Any

OFFICIAL_SDK = ("durabletask==1.12.0",)
DBOS = ("dbos==3.4.0",)
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
        environment: folder and requirements of its environment; none for that of this process.
        note: what a reader must know of it.
        only_full: not part of the quick mode unless asked for.
    """

    name: str
    title: str
    driver: str
    options: dict[str, Any] = field(default_factory=dict)
    environment: tuple[str, tuple[str, ...]] | None = None
    note: str = ""
    only_full: bool = False

    def command(self, python: str) -> list[str]:
        return [python, "-m", self.driver, json.dumps(self.options)]


def _ours(name: str, title: str, note: str, *, only_full: bool = False, **options: Any) -> System:
    return System(name, title, "drivers.family", options, None, note, only_full)


def _official(name: str, title: str, note: str, **options: Any) -> System:
    return System(name, title, "drivers.family", options, ("official", OFFICIAL_SDK), note)


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
    _official(
        "dt",
        "dt",
        "the official SDK 1.12.0 on its own in-memory backend, all in one process over gRPC",
        scheduler="official",
        **OFFICIAL_CALLS,
    ),
    _official(
        "dt-on-ours",
        "dt on our scheduler",
        "the official SDK 1.12.0, our scheduler (FULL) in a second process",
        scheduler="process",
        python=sys.executable,
    ),
    System("dbos", "DBOS WAL", "drivers.dbos_driver", {}, ("dbos", DBOS), "DBOS 3.4 on SQLite, WAL, synchronous=FULL"),
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
    "PostgreSQL (one and two schedulers)": "the scheduler has no PostgreSQL storage yet",
    "DBOS on PostgreSQL": "nothing of ours to compare it with yet",
    "Restate": "needs a server of 225 MB from another registry",
    "duroxide": "slower than all others here through its polling; left out to keep a round short",
}
"""Systems without a column, and why."""
