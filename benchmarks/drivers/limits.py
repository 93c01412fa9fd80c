"""What the machine allows: an fsync, the rows of W1 written by SQLite without any engine, and messages alone.

The workload ``L`` is this system's only one.
"""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

from drivers import floor, meter
from drivers.protocol import Figures, Request, serve

FSYNCS = 200
GROUP = 500
EVENT = b"e" * 480
"""The events of one turn as one row."""


def limits(request: Request) -> Figures:
    return {
        "fsync_us": _fsync_seconds(request.folder) * 1e6,
        "sql_w1_per_s": _life_cycles(request.folder / "limit.db", request.parameters["count"]),
        **floor.microseconds(request.parameters["messages"]),
    }


def _fsync_seconds(folder: Path) -> float:
    taken = []
    with open(folder / "limit", "wb", buffering=0) as file:
        for _ in range(FSYNCS):
            file.write(b"x" * 4096)
            begun = time.perf_counter()
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - begun)
    return meter.percentile(taken, 50)


def _life_cycles(path: Path, count: int) -> float:
    """Orchestrations a second: three transactions for each (start, first turn, last turn), 500 grouped, FULL."""
    database = sqlite3.connect(path, isolation_level=None)
    database.executescript(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
        "CREATE TABLE instances (id INTEGER PRIMARY KEY, name TEXT UNIQUE, status INTEGER);"
        "CREATE TABLE turns (id INTEGER PRIMARY KEY, instance INTEGER, events BLOB);"
    )
    begun = time.perf_counter()
    for first in range(0, count, GROUP):
        group = range(first, min(first + GROUP, count))
        _commit(database, "INSERT INTO instances VALUES (?, ?, 0)", [(n, f"instance-{n:032d}") for n in group])
        for status in (1, 2):
            database.execute("BEGIN")
            database.executemany("INSERT INTO turns (instance, events) VALUES (?, ?)", [(n, EVENT) for n in group])
            database.executemany("UPDATE instances SET status = ? WHERE id = ?", [(status, n) for n in group])
            database.execute("COMMIT")
    seconds = time.perf_counter() - begun
    database.close()
    return count / seconds


def _commit(database: sqlite3.Connection, statement: str, rows: list[tuple[int, str]]) -> None:
    database.execute("BEGIN")
    database.executemany(statement, rows)
    database.execute("COMMIT")


if __name__ == "__main__":
    serve({"L": limits})
