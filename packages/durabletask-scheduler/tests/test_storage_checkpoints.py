"""Checkpoints that a thread makes beside the commits of large payloads."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, cast

import pytest
from durabletask_scheduler.hub.model import PENDING, Commit, Instance
from durabletask_scheduler.storage.maintenance import check
from durabletask_scheduler.storage.sqlite import SqliteStorage
from durabletask_scheduler.storage.sqlite_checkpoints import Checkpoints

HUB = "default"
BOUND = 1000
"""Pages of the log; an eighth of them, 512,000 bytes, is worth a checkpoint."""
ENOUGH = 512_000


def make(key: int, started: bytes = b"started") -> Instance:
    return Instance(key, HUB, f"i{key}", "e", "order", None, PENDING, key, key, started)


class Log:
    """What stands for the connection: each checkpoint waits for ``go_on`` and then has the next of the outcomes.

    Args:
        outcomes: how many pages it finds in the log, or what it raises.
    """

    def __init__(self, *outcomes: int | Exception) -> None:
        self.outcomes = list(outcomes)
        self.did: list[str] = []
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()

    def execute(self, _: str) -> Log:
        self.begun.set()
        assert self.go_on.wait(10)
        self.did.append("checkpoint")
        return self

    def fetchone(self) -> tuple[int, int, int]:
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return 0, outcome, outcome

    def close(self) -> None:
        self.did.append("close")


def checkpoints(log: Log) -> Checkpoints:
    return Checkpoints(cast(sqlite3.Connection, log), BOUND)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "durabletask-checkpoint"]


def until_done() -> None:
    for thread in threads():
        thread.join(10)


def test_large_commits_come_into_the_file_before_the_log_has_reached_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    # At NORMAL the bound is 16 MB.
    with contextlib.closing(SqliteStorage(path, synchronous="NORMAL")) as store:
        store.add_task_hub(HUB)
        store.write([Commit(created=[make(1, b"x" * 3_000_000)])])
        until_done()
        assert path.stat().st_size > 3_000_000
        assert store.load(HUB, "i1") == make(1, b"x" * 3_000_000)
    assert check(path) == []


def test_the_log_of_large_commits_stays_bounded(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    with contextlib.closing(SqliteStorage(path)) as store:
        store.add_task_hub(HUB)
        for key in range(1, 41):
            store.write([Commit(created=[make(key, b"x" * 1_000_000)])])
        until_done()
        assert (tmp_path / "hub.db-wal").stat().st_size < 30_000_000
        assert store.last_key() == 40
    assert not (tmp_path / "hub.db-wal").exists()
    assert check(path) == []


_WRITE_LARGE = """
import itertools, sys
from durabletask_scheduler.hub.model import Commit, Instance, PENDING
from durabletask_scheduler.storage.sqlite import SqliteStorage

store = SqliteStorage(sys.argv[1])
store.add_task_hub("default")
for key in itertools.count(1):
    created = Instance(key, "default", f"i{key}", "e", "order", None, PENDING, key, key, b"x" * 600_000)
    store.write([Commit(created=[created])])
    print(key, flush=True)
"""


@pytest.mark.parametrize("acknowledged", [1, 7, 20])
def test_nothing_acknowledged_is_lost_when_the_process_is_killed_beside_a_checkpoint(
    tmp_path: Path, acknowledged: int
) -> None:
    path = tmp_path / "hub.db"
    command = [sys.executable, "-c", _WRITE_LARGE, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(acknowledged)]
        writer.kill()
    assert lines[-1] == f"{acknowledged}\n"
    assert check(path) == []
    with contextlib.closing(SqliteStorage(path)) as store:
        for key in range(1, acknowledged + 1):
            assert store.load(HUB, f"i{key}") == make(key, b"x" * 600_000)


def test_small_commits_start_no_thread(tmp_path: Path) -> None:
    with contextlib.closing(SqliteStorage(tmp_path / "hub.db")) as store:
        store.add_task_hub(HUB)
        for key in range(1, 101):
            store.write([Commit(created=[make(key)])])
            assert not threads()


def test_small_commits_do_not_add_up_to_a_checkpoint() -> None:
    log = Log(10)
    beside = checkpoints(log)
    for _ in range(100):
        beside.committed(100_000)
    until_done()
    assert log.did == []


def test_memory_needs_no_checkpoints() -> None:
    with contextlib.closing(SqliteStorage(":memory:")) as store:
        store.add_task_hub(HUB)
        store.write([Commit(created=[make(1, b"x" * 3_000_000)])])
        assert not threads()


def test_one_checkpoint_at_a_time() -> None:
    log = Log(10, 10)
    log.go_on.clear()
    beside = checkpoints(log)
    beside.committed(ENOUGH)
    assert log.begun.wait(10)
    beside.committed(ENOUGH)
    assert len(threads()) == 1
    log.go_on.set()
    until_done()
    assert log.did == ["checkpoint"]
    beside.committed(ENOUGH)
    until_done()
    assert log.did == ["checkpoint"] * 2


def test_commits_wait_for_a_checkpoint_that_does_not_keep_up() -> None:
    log = Log(10, 10)
    log.go_on.clear()
    beside = checkpoints(log)
    beside.committed(ENOUGH)
    assert log.begun.wait(10)
    beside.committed(7 * ENOUGH)
    commit = threading.Thread(target=beside.committed, args=(ENOUGH,))
    commit.start()
    assert log.did == []
    log.go_on.set()
    commit.join(10)
    assert "checkpoint" in log.did
    until_done()
    assert log.did == ["checkpoint"] * 2


def test_a_log_over_its_bound_is_left_to_the_next_commit() -> None:
    """The log starts over only once nothing is left to copy, and beside a checkpoint a commit cannot make its own."""
    log = Log(BOUND, 10)
    beside = checkpoints(log)
    for expected in (1, 1, 2):
        beside.committed(ENOUGH)
        until_done()
        assert len(log.did) == expected


def test_what_fails_is_told_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(sqlite3.OperationalError("database or disk is full"), 10)
    beside = checkpoints(log)
    with caplog.at_level(logging.WARNING, "durabletask_scheduler"):
        beside.committed(ENOUGH)
        until_done()
    assert [record.getMessage() for record in caplog.records] == [
        "The log could not be copied into the file; the commits try it again: database or disk is full"
    ]
    beside.committed(ENOUGH)
    until_done()
    assert log.did == ["checkpoint"] * 2


def test_a_commit_succeeds_where_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> Any:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    log = Log(10)
    beside = checkpoints(log)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        beside.committed(ENOUGH)
    assert log.did == []
    beside.committed(ENOUGH)
    until_done()
    assert log.did == ["checkpoint"]


def test_closing_waits_for_the_checkpoint_under_way() -> None:
    log = Log(10)
    log.go_on.clear()
    beside = checkpoints(log)
    beside.committed(ENOUGH)
    assert log.begun.wait(10)
    closing = threading.Thread(target=beside.close)
    closing.start()
    assert log.did == []
    log.go_on.set()
    closing.join(10)
    assert log.did == ["checkpoint", "close"]
