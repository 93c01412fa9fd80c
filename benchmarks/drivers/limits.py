"""What the machine allows: an fsync, waking a thread, a gRPC call with nothing behind it, the rows of W1 written by
SQLite without any engine, messages alone, and this project's parts without an engine between them.

The workload ``L`` is this system's only one.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from drivers import echo, floor, meter, parts
from drivers.protocol import Figures, Request, serve

FSYNCS = 200
WAKE_UPS = 4_000
GROUP = 500
EVENT = b"e" * 480
"""The events of one turn as one row."""


def limits(request: Request) -> Figures:
    return {
        "fsync_us": _fsync_seconds(request.folder) * 1e6,
        "wake_us": _wake_seconds() * 1e6,
        "sql_w1_per_s": _life_cycles(request.folder / "limit.db", request.parameters["count"]),
        **echo.microseconds(request.parameters["messages"]),
        **floor.microseconds(request.parameters["messages"]),
        **parts.microseconds(request.parameters["messages"]),
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


def _wake_seconds() -> float:
    """From one thread to another that waits for it: half of a round trip over two locks, on two cores if there are."""
    ping, pong = threading.Lock(), threading.Lock()
    ping.acquire()
    pong.acquire()

    def answer() -> None:
        _stay_on_core(-1)
        for _ in range(WAKE_UPS // 2):
            ping.acquire()
            pong.release()

    def ask() -> float:
        _stay_on_core(0)
        begun = time.perf_counter()
        for _ in range(WAKE_UPS // 2):
            ping.release()
            pong.acquire()
        return time.perf_counter() - begun

    with ThreadPoolExecutor(2) as pool:
        pool.submit(answer)
        return pool.submit(ask).result() / WAKE_UPS


def _stay_on_core(index: int) -> None:
    """Only the calling thread; where that can be asked for."""
    if sys.platform == "linux":
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[index]})


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
