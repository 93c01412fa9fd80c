"""The SQLite store: files, owners, faults, crashes, and the shape of its queries."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from durabletask_scheduler.hub.model import (
    COMPLETED,
    FAILED,
    PENDING,
    RUNNING,
    Commit,
    HistoryRow,
    InboxRow,
    Instance,
    OpenTask,
    TaskKind,
)
from durabletask_scheduler.storage import InstanceFilter, StorageError, StorageUnusable
from durabletask_scheduler.storage.maintenance import backup, check, vacuum
from durabletask_scheduler.storage.sqlite import SqliteStorage
from durabletask_scheduler.storage.statements import migrations, statements

HUB = "default"


def make(key: int, status: int = PENDING, **values: object) -> Instance:
    defaults: dict[str, object] = {"created_at": key, "updated_at": key, "started": b"started"}
    return Instance(key, HUB, f"i{key}", "e", "order", None, status, **(defaults | values))  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hub.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStorage]:
    with contextlib.closing(SqliteStorage(path)) as store:
        store.add_task_hub(HUB)
        yield store


def change(path: Path, *statements: str) -> None:
    """Do something to a closed file behind the store's back."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def make_file(path: Path, *statements: str) -> None:
    with contextlib.closing(SqliteStorage(path)) as store:
        store.add_task_hub(HUB)
        store.write([Commit(created=[make(1)])])
    change(path, *statements)


# ---- Opening ----


def _directory(path: Path) -> None:
    path.mkdir()


def _text(path: Path) -> None:
    path.write_text("once upon a time there was a file of text")


def _other_application(path: Path) -> None:
    change(path, "CREATE TABLE songs (title TEXT)")


def _other_application_id(path: Path) -> None:
    change(path, "PRAGMA application_id = 42")


def _newer(path: Path) -> None:
    make_file(path, "PRAGMA user_version = 9999")


def _damaged(path: Path) -> None:
    make_file(path)
    content = bytearray(path.read_bytes())
    content[100:4096] = b"\xff" * (4096 - 100)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "says", "advice"),
    [
        (_directory, "is a directory", "give the path of a file in it"),
        (_text, "is not a SQLite file", "give another path"),
        (_other_application, "a SQLite file of another application", "give another path"),
        (_other_application_id, "a SQLite file of another application", "give another path"),
        (_newer, "written by a newer scheduler (schema 9999", "upgrade durabletask-scheduler"),
        (_damaged, "cannot be opened", "restore a backup"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_and_left_alone(
    path: Path, spoil: Callable[[Path], None], says: str, advice: str
) -> None:
    spoil(path)
    siblings = sorted(path.parent.iterdir())
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(StorageUnusable) as caught:
        SqliteStorage(path)
    message = str(caught.value)
    assert str(path) in message
    assert says in message
    assert advice in message
    assert "\n" not in message
    assert (path.read_bytes() if path.is_file() else b"") == before
    assert sorted(path.parent.iterdir()) == siblings


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageUnusable, match=r"nowhere does not exist; create it"):
        SqliteStorage(tmp_path / "nowhere" / "hub.db")


def test_an_unknown_durability_is_refused(path: Path) -> None:
    with pytest.raises(ValueError, match="FULL, NORMAL, OFF, found 'full'"):
        SqliteStorage(path, synchronous="full")
    assert not path.exists()


def test_an_open_that_failed_can_be_tried_again(path: Path) -> None:
    make_file(path, "PRAGMA user_version = 9999")
    with pytest.raises(StorageUnusable):
        SqliteStorage(path)
    change(path, f"PRAGMA user_version = {migrations('sqlite')[-1][0]}")
    with contextlib.closing(SqliteStorage(path)) as store:
        assert store.load(HUB, "i1") == make(1)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_files_are_private(store: SqliteStorage, path: Path) -> None:
    store.write([Commit(created=[make(1)])])
    modes = {name.name: stat.S_IMODE(name.stat().st_mode) for name in path.parent.iterdir()}
    assert modes == dict.fromkeys(("hub.db", "hub.db-wal", "hub.db-shm", "hub.db.lock"), 384)


@pytest.mark.parametrize("name", ["per%20cent.db", "what?.db", "a#b.db", "käse.db"])
def test_a_path_is_taken_literally(tmp_path: Path, name: str) -> None:
    with contextlib.closing(SqliteStorage(tmp_path / name)):
        assert (tmp_path / name).is_file()


def test_migrations_are_numbered_without_gaps() -> None:
    numbers = [number for number, _ in migrations("sqlite")]
    assert numbers == list(range(1, len(numbers) + 1))


# ---- One owner ----

_HOLD = """
import sys
import tempfile
from durabletask_scheduler.storage.sqlite import SqliteStorage
store = SqliteStorage(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""


def child(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_file_has_one_owner_and_is_free_when_it_is_killed(path: Path) -> None:
    holder = child(_HOLD, path)
    with holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "open\n"
            with pytest.raises(StorageUnusable) as caught:
                SqliteStorage(path)
            assert check(path) == []
            with pytest.raises(StorageUnusable, match="in use by another scheduler"):
                vacuum(path)
        finally:
            holder.kill()
    message = str(caught.value)
    assert str(path) in message
    assert f"process {holder.pid}" in message
    assert "stop that one first" in message
    SqliteStorage(path).close()


def test_a_file_has_one_owner_within_a_process(store: SqliteStorage, path: Path, tmp_path: Path) -> None:
    alias = tmp_path / "alias.db"
    alias.symlink_to(path)
    for name in (path, alias):
        with pytest.raises(StorageUnusable, match="in use by another scheduler"):
            SqliteStorage(name)
    store.close()
    SqliteStorage(alias).close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_does_not_keep_the_file(path: Path) -> None:
    """A pool of worker processes may outlive the scheduler that lived beside it."""
    forking = "import os\nif os.fork() == 0:\n    sys.stdin.read()\n    os._exit(0)\n"
    holder = child(_HOLD.replace("sys.stdin.read()", forking + "os.kill(os.getpid(), 9)"), path)
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        holder.wait()
        SqliteStorage(path).close()


# ---- Faults ----


@contextlib.contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """Let this process fail to write beyond a size, as it would on a full disk."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_refuses_the_group_and_no_more(store: SqliteStorage, path: Path) -> None:
    """Lesson 60."""
    store.write([Commit(created=[make(1)])])
    large = [Commit(created=[make(2)]), Commit(created=[make(3, started=b"x" * 1_000_000)])]
    with no_file_larger_than(500_000):
        with pytest.raises(StorageError, match="nothing was written"):
            store.write(large)
        assert store.last_key() == 1
        store.write([Commit(created=[make(4)])])
    store.write(large)
    assert store.counts(HUB) == {(PENDING, "", ""): 4}
    store.close()
    assert check(path) == []


def test_a_disk_that_has_become_read_only_refuses_the_group_and_no_more(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lesson 60: as when the system mounts a disk anew after errors; reads go on."""
    opened: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def remember(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        opened.append(connect(*args, **kwargs))
        return opened[-1]

    monkeypatch.setattr(sqlite3, "connect", remember)
    with contextlib.closing(SqliteStorage(path)) as store:
        store.add_task_hub(HUB)
        store.write([Commit(created=[make(1)])])
        for connection in opened:
            connection.execute("PRAGMA query_only = ON")
        with pytest.raises(StorageError, match="nothing was written: attempt to write a readonly database"):
            store.write([Commit(created=[make(2)]), Commit(created=[make(3)])])
        assert store.counts(HUB) == {(PENDING, "", ""): 1}
        for connection in opened:
            connection.execute("PRAGMA query_only = OFF")
        store.write([Commit(created=[make(4)])])
    assert check(path) == []


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="other systems keep rights elsewhere")
@pytest.mark.parametrize("what", ["the file", "its folder"])
def test_a_file_that_may_not_be_written_is_refused(what: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "hub.db"
        if what == "the file":
            path.touch(mode=0o444)
        folder.chmod(0o555 if what == "its folder" else 0o777)
        done = subprocess.run([sys.executable, "-c", _REFUSED, str(path)], capture_output=True, text=True, check=False)
        folder.chmod(0o777)
    assert done.stdout.startswith(f"{path} cannot be opened for writing"), done.stderr
    assert "make it writable for this user or give another path" in done.stdout


_REFUSED = """
import os
import sys
from durabletask_scheduler.storage import StorageUnusable
from durabletask_scheduler.storage.sqlite import SqliteStorage
if os.geteuid() == 0:
    os.setuid(65534)
try:
    SqliteStorage(sys.argv[1])
except StorageUnusable as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be moved there")
@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_nothing_is_acknowledged_when_the_file_is_gone(store: SqliteStorage, path: Path, suffix: str) -> None:
    """Lesson 60: what is written to a file that was moved away would be lost with it."""
    file = Path(f"{path}{suffix}")
    store.write([Commit(created=[make(1)])])
    file.rename(path.parent / "away")
    with pytest.raises(StorageError, match="is gone"):
        store.write([Commit(created=[make(2)])])
    shutil.copy(path.parent / "away", file)
    with pytest.raises(StorageError, match="was replaced"):
        store.write([Commit(created=[make(2)])])
    file.unlink()
    (path.parent / "away").rename(file)
    assert store.last_key() == 1
    store.write([Commit(created=[make(2)])])
    assert store.counts(HUB) == {(PENDING, "", ""): 2}


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be replaced there")
@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_nothing_is_acknowledged_when_another_file_takes_the_place_of_the_file(
    store: SqliteStorage, path: Path, suffix: str
) -> None:
    file = Path(f"{path}{suffix}")
    store.write([Commit(created=[make(1)])])
    shutil.copy(file, path.parent / "other")
    store.write([Commit(created=[make(2)])])
    (path.parent / "other").rename(file)
    with pytest.raises(StorageError, match="was replaced"):
        store.write([Commit(created=[make(3)])])


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be replaced there")
def test_another_log_is_noticed_within_a_second_even_if_its_directory_looks_the_same(
    store: SqliteStorage, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems keep times to whole seconds only."""
    store.write([Commit(created=[make(1)])])
    shutil.copy(f"{path}-wal", path.parent / "other")
    store.write([Commit(created=[make(2)])])
    before = path.parent.stat()
    (path.parent / "other").rename(f"{path}-wal")
    os.utime(path.parent, ns=(before.st_atime_ns, before.st_mtime_ns))
    later = time.monotonic() + 1.0
    monkeypatch.setattr(time, "monotonic", lambda: later)
    with pytest.raises(StorageError, match="was replaced"):
        store.write([Commit(created=[make(3)])])


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux is known to make such a difference")
def test_the_log_is_not_asked_about_before_each_write(
    store: SqliteStorage, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Since Linux 6.13 that makes each fsync of it longer."""
    store.write([Commit(created=[make(1)])])
    asked: list[str] = []
    stat = os.stat

    def noted(name: Any, *more: Any, **options: Any) -> os.stat_result:
        asked.append(os.fspath(name))
        return stat(name, *more, **options)

    monkeypatch.setattr(os, "stat", noted)
    for key in range(2, 12):
        store.write([Commit(created=[make(key)])])
    assert sum(name.endswith("-wal") for name in asked) <= 2
    assert sum(name.endswith(path.name) for name in asked) == 10


def test_a_stranger_who_locks_the_file_delays_a_write_only(store: SqliteStorage, path: Path) -> None:
    """Lesson 60: another program may read the file while the scheduler writes."""
    with contextlib.closing(sqlite3.connect(path)) as stranger:
        stranger.execute("BEGIN")
        stranger.execute("SELECT count(*) FROM instances").fetchall()
        store.write([Commit(created=[make(1)])])
        assert stranger.execute("SELECT count(*) FROM instances").fetchone() == (0,)
    assert store.last_key() == 1


def test_reads_do_not_wait_for_a_write(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is slow to make a group durable delays nobody who reads, and shows nobody the group."""
    writing, go_on = threading.Event(), threading.Event()

    class SlowDisk(sqlite3.Connection):
        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            if sql == "COMMIT" and armed:
                writing.set()
                assert go_on.wait(10)
            return super().execute(sql, *parameters)

    armed = False
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **kwargs: connect(*args, **kwargs, factory=SlowDisk))
    with contextlib.closing(SqliteStorage(path)) as store:
        store.add_task_hub(HUB)
        store.write([Commit(created=[make(1)])])
        armed = True
        writer = threading.Thread(target=store.write, args=([Commit(created=[make(2)])],))
        writer.start()
        try:
            assert writing.wait(10)
            assert store.load(HUB, "i1") == make(1)
            assert store.load(HUB, "i2") is None
        finally:
            go_on.set()
            writer.join()
        assert store.load(HUB, "i2") == make(2)


def test_looking_at_a_file_in_use_does_not_unlock_it(store: SqliteStorage, path: Path, tmp_path: Path) -> None:
    """Lesson 60: a stranger who comes and goes must not take the log for left over and remove it."""
    store.write([Commit(created=[make(1)])])
    with pytest.raises(StorageUnusable):
        SqliteStorage(path)
    assert check(path) == []
    backup(path, tmp_path / "copy.db")
    stranger = (
        "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT key FROM instances').fetchall())"
    )
    with child(stranger, path) as visitor:
        assert visitor.communicate()[0] == "[(1,)]\n"
    store.write([Commit(created=[make(2)])])
    assert store.counts(HUB) == {(PENDING, "", ""): 2}


# ---- Crashes ----

_WRITE_GROUPS = """
import itertools, sys
from durabletask_scheduler.hub.model import Commit, HistoryRow, Instance, OpenTask, TaskKind, RUNNING
from durabletask_scheduler.storage.sqlite import SqliteStorage

store = SqliteStorage(sys.argv[1])
store.add_task_hub("default")
base = store.last_key()
print("ready", flush=True)
for group in itertools.count(base // 1000 + 1):
    keys = itertools.count(group * 1000)
    commits = []
    for _ in range(group % 7 + 1):
        key, row, task = next(keys), next(keys), next(keys)
        instance = Instance(key, "default", f"{group}-{key}", "e", "n", None, RUNNING, group, 1, b"s" * 3000)
        instance.event_count = 3
        commits.append(Commit(created=[instance]))
        commits.append(Commit(
            updated={key: instance}, history=[HistoryRow(row, key, b"h" * 2000, 2)],
            opened=[(key, OpenTask(task, TaskKind.ACTIVITY, 0, row))],
        ))
    store.write(commits)
    print(group, flush=True)
"""


def test_a_killed_scheduler_leaves_whole_groups_and_all_it_acknowledged(path: Path) -> None:
    """Lessons 58 and 60."""
    pick = random.Random(20)
    acknowledged: set[int] = set()
    for _ in range(20):
        writer = child(_WRITE_GROUPS, path)
        with writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            wanted = pick.randrange(1, 30)
            for _ in range(wanted):
                acknowledged.add(int(writer.stdout.readline()))
            writer.kill()
            acknowledged.update(int(line) for line in writer.stdout if line.endswith("\n"))
        _check_groups(path, acknowledged)


def _check_groups(path: Path, acknowledged: set[int]) -> None:
    with contextlib.closing(SqliteStorage(path)) as store:
        found: dict[int, int] = {}
        for row in store.query(HUB, InstanceFilter(), limit=100_000, after=None, payloads=False):
            found[row.created_at] = found.get(row.created_at, 0) + 1
        assert acknowledged <= set(found)
        assert {group: count for group, count in found.items() if count != group % 7 + 1} == {}
    assert check(path) == []


# ---- The shape of queries ----


def _plan(path: Path, sql: str, parameters: object) -> list[str]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.create_function("tags_include", 2, lambda tags, wanted: True)
        rows = connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)  # type: ignore[arg-type]
        return [row[3] for row in rows]


# A page held in memory, and the task hubs, of which there are few.
_MAY_SCAN = ("SCAN p", "SCAN h", "SCAN wanted", "SCAN task_hubs", "SCAN CONSTANT ROW")


@pytest.mark.parametrize("name", list(statements("sqlite", "read")))
def test_reads_use_an_index(store: SqliteStorage, path: Path, name: str) -> None:
    sql = statements("sqlite", "read")[name]
    plan = _plan(path, sql, ("x",) * sql.count("?"))
    assert [line for line in plan if line.startswith("SCAN") and not line.startswith(_MAY_SCAN)] == []


@pytest.mark.parametrize("name", [name for name in statements("sqlite", "write") if not name.startswith(("in", "o"))])
def test_changes_use_an_index(store: SqliteStorage, path: Path, name: str) -> None:
    sql = statements("sqlite", "write")[name]
    assert [line for line in _plan(path, sql, (1,) * sql.count("?")) if line.startswith("SCAN")] == []


def test_what_most_turns_update_is_in_no_index(store: SqliteStorage, path: Path) -> None:
    """Each index that an update may change costs a page of the log, although the row stays where it is."""
    sql = statements("sqlite", "write")["update_in_place"]
    with contextlib.closing(sqlite3.connect(path)) as connection:
        program = connection.execute(f"EXPLAIN {sql}", (1,) * sql.count("?")).fetchall()
    assert [operation for _, operation, *_ in program].count("OpenWrite") == 1


_FILTERS = [
    InstanceFilter(),
    InstanceFilter(statuses=frozenset({RUNNING})),
    InstanceFilter(statuses=frozenset({COMPLETED, FAILED}), name="n", version="1", tags=(("a", "b"),)),
    InstanceFilter(created_from=1, created_to=2, completed_from=3, completed_to=4, id_prefix="a"),
]


@pytest.mark.parametrize("where", _FILTERS)
@pytest.mark.parametrize("after", [None, (5, 6)])
@pytest.mark.parametrize("payloads", [False, True])
def test_pages_walk_an_index_in_order(
    store: SqliteStorage, path: Path, where: InstanceFilter, after: tuple[int, int] | None, payloads: bool
) -> None:
    queries = [
        SqliteStorage.pages.created(1, where, limit=5, after=after, payloads=payloads),
        SqliteStorage.pages.completed(1, where, limit=5, after=after),
    ]
    for sql, parameters in filter(None, queries):
        plan = _plan(path, sql, parameters)
        assert [line for line in plan if line.startswith("SCAN") and not line.startswith(_MAY_SCAN)] == []
        # The rows of one page may be sorted again, the instances it is taken from may not.
        assert plan.count("USE TEMP B-TREE FOR ORDER BY") <= 1
        assert not any(line.startswith("USE TEMP B-TREE") for line in plan[: plan.index("SCAN p")])


# ---- Maintenance ----


def _fill(store: SqliteStorage) -> None:
    running = make(1, RUNNING, event_count=3)
    finished = make(2, COMPLETED, event_count=4, completed=b"c", completed_at=9)
    store.write(
        [
            Commit(
                created=[running, finished, make(3)],
                history=[HistoryRow(10, 1, b"h", 2), HistoryRow(11, 2, b"h", 2)],
                opened=[(1, OpenTask(12, TaskKind.ACTIVITY, 0, 10))],
                inbox_added=[InboxRow(13, 1, b"")],
            )
        ]
    )


def test_a_sound_store_has_nothing_to_report(store: SqliteStorage, path: Path) -> None:
    _fill(store)
    assert check(path) == []


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("DELETE FROM instances WHERE key = 1", "instance row 1, which does not exist"),
        ("DELETE FROM task_hubs", "task hub 1, which does not exist"),
        ("DELETE FROM started_events WHERE instance_key = 3", "'i3' (row 3) is not finished and has no started"),
        ("UPDATE instances SET completed = x'' WHERE key = 2", "'i2' (row 2) is finished and lacks its completed"),
        ("UPDATE instances SET completed = x'00' WHERE key = 3", "'i3' (row 3) is not finished and has a completed"),
        ("UPDATE open_tasks SET instance_key = 2", "'i2' is finished and has an open task (row 12)"),
        ("UPDATE inbox SET instance_key = 2", "'i2' is finished and has an event waiting (inbox row 13)"),
        ("UPDATE open_tasks SET history_key = 11", "open task 12 of instance 'i1' has no history row"),
        ("DELETE FROM history WHERE key = 11", "i2: 4 instead of 1"),
        ("UPDATE history SET count = 5 WHERE key = 10", "i1: 3 instead of 6"),
        ("UPDATE instances SET event_count = 1 WHERE key = 3", "i3: 1 instead of 0"),
    ],
)
def test_check_finds_what_must_not_be(store: SqliteStorage, path: Path, damage: str, found: str) -> None:
    _fill(store)
    store.close()
    change(path, damage)
    assert found in "\n".join(check(path))


def test_check_reports_a_damaged_file(store: SqliteStorage, path: Path) -> None:
    store.write([Commit(created=[make(key, started=b"x" * 5000) for key in range(1, 50)])])
    store.close()
    content = bytearray(path.read_bytes())
    content[8192:] = b"\xff" * (len(content) - 8192)
    path.write_bytes(content)
    assert check(path)


def test_a_backup_is_a_store_as_of_one_moment(store: SqliteStorage, path: Path, tmp_path: Path) -> None:
    _fill(store)
    target = tmp_path / "copy.db"
    backup(path, target)
    store.write([Commit(created=[make(20)])])
    assert stat.S_IMODE(target.stat().st_mode) == 0o600 or sys.platform == "win32"
    assert check(target) == []
    with contextlib.closing(SqliteStorage(target)) as copy:
        assert copy.last_key() == 13
        assert copy.load_key(1) == store.load_key(1)
        assert copy.load_key(20) is None


def test_a_backup_replaces_nothing(store: SqliteStorage, path: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    target.write_text("precious")
    with pytest.raises(StorageError, match="exists; remove it or give another name"):
        backup(path, target)
    assert target.read_text() == "precious"


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_a_backup_does_not_take_over_what_is_left_of_another_file(
    store: SqliteStorage, path: Path, tmp_path: Path, suffix: str
) -> None:
    _fill(store)
    target = tmp_path / "copy.db"
    leftover = tmp_path / f"copy.db{suffix}"
    leftover.write_bytes(b"of another file")
    with pytest.raises(StorageError, match=rf"copy\.db{suffix} .*; remove it or give another name"):
        backup(path, target)
    assert leftover.read_bytes() == b"of another file"
    assert sorted(entry.name for entry in tmp_path.glob("copy.db*")) == [leftover.name]
    leftover.unlink()
    backup(path, target)
    assert check(target) == []


def test_a_backup_takes_the_place_of_one_that_was_killed(store: SqliteStorage, path: Path, tmp_path: Path) -> None:
    _fill(store)
    target = tmp_path / "copy.db"
    with contextlib.closing(sqlite3.connect(tmp_path / "killed.db")) as killed:
        killed.execute("PRAGMA journal_mode = WAL")
        killed.execute("CREATE TABLE killed (x)")
        for suffix in ("", "-wal", "-shm"):
            shutil.copy(tmp_path / f"killed.db{suffix}", tmp_path / f"copy.db.partial{suffix}")
    (tmp_path / "copy.db.partial-journal").write_bytes(b"of the one that was killed")
    backup(path, target)
    assert [entry.name for entry in tmp_path.glob("copy.db*")] == ["copy.db"]
    assert check(target) == []


def test_a_backup_that_cannot_be_written_leaves_nothing(store: SqliteStorage, path: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="could not be written"):
        backup(path, tmp_path / "nowhere" / "copy.db")
    assert not (tmp_path / "nowhere").exists()


def test_vacuum_gives_room_back(store: SqliteStorage, path: Path) -> None:
    store.write([Commit(created=[make(key, started=b"x" * 5000) for key in range(1, 200)])])
    store.write([Commit(deleted=list(range(2, 200)))])
    store.close()
    before = path.stat().st_size
    assert vacuum(path) == before - path.stat().st_size > 500_000
    with contextlib.closing(SqliteStorage(path)) as again:
        assert again.load_key(1) == make(1, started=b"x" * 5000)


@pytest.mark.parametrize("operation", [check, vacuum, lambda path: backup(path, f"{path}.copy")])
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: None, "there is no file"),
        (_text, "is not a SQLite file"),
        (_other_application, "another application"),
        (lambda path: path.touch(), "holds no scheduler's data"),
    ],
)
def test_maintenance_refuses_what_is_not_a_store(
    path: Path, operation: Callable[[Path], object], spoil: Callable[[Path], None], says: str
) -> None:
    spoil(path)
    with pytest.raises(StorageUnusable, match=says):
        operation(path)
