"""Opening SQLite files: which ones are ours, and how to connect to them."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from durabletask_scheduler.storage import StorageUnusable
from durabletask_scheduler.storage.statements import migrations

APPLICATION_ID = 0x44545331
"""Marks a SQLite file as a scheduler's ("DTS1"); it stands in the file's header."""

_NOT_SQLITE = "file is not a database"  # SQLite's words; Python 3.10 does not pass on its codes
_BUSY_SECONDS = 10.0
# A log that grows costs each fsync half as much again as one that is written over: at FULL it starts over
# sooner. Without an fsync per commit, large payloads fare better if it starts over later.
CHECKPOINT_PAGES = {"FULL": 1000, "NORMAL": 4000, "OFF": 4000}
_WAL_LIMIT_BYTES = 64 * 1024 * 1024


def prepare_file(path: Path) -> None:
    """Make sure that ``path`` is a file that can be written, creating an empty private one.

    An existing file is not opened here: closing it would drop the locks that SQLite may hold on it
    elsewhere in this process (POSIX record locks belong to the process, not to the descriptor).

    Raises:
        StorageUnusable: it cannot; the message says why and what to do.
    """
    if path.is_dir():
        raise StorageUnusable(f"{path} is a directory; give the path of a file in it")
    if not path.absolute().parent.is_dir():
        raise StorageUnusable(f"the directory {path.absolute().parent} does not exist; create it or give another path")
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        if not os.access(path, os.R_OK | os.W_OK):
            raise _not_writable(path, "permission denied") from None
    except OSError as error:
        raise _not_writable(path, error.strerror) from error


def _not_writable(path: Path, why: str | None) -> StorageUnusable:
    return StorageUnusable(
        f"{path} cannot be opened for writing ({why}); make it writable for this user or give another path"
    )


def unusable(path: Path, error: Exception) -> StorageUnusable:
    """What to tell when SQLite cannot open a file."""
    if _NOT_SQLITE in str(error):
        return StorageUnusable(f"{path} is not a SQLite file; give another path or move that file away")
    return StorageUnusable(f"{path} cannot be opened ({error}); restore a backup or give another path")


def connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    """A connection to an existing file, usable from any thread (by one at a time)."""
    mode = "ro" if read_only else "rw"
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )


def configure_writer(connection: sqlite3.Connection, synchronous: str) -> None:
    """Set the options of the connection that writes; the file must be known to be ours."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES[synchronous]}")
    connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT_BYTES}")
    connection.execute("PRAGMA temp_store = MEMORY")


def schema_version(connection: sqlite3.Connection, path: str) -> int:
    """The number of the last migration applied; 0 for an empty file. Changes nothing.

    Raises:
        StorageUnusable: the file belongs to another application, or to a newer scheduler.
    """
    application = int(connection.execute("PRAGMA application_id").fetchone()[0])
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    tables = int(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
    if application != APPLICATION_ID and (application or version or tables):
        raise StorageUnusable(
            f"{path} is a SQLite file of another application "
            f"(application id {application:#010x} instead of {APPLICATION_ID:#010x}); give another path"
        )
    newest = migrations("sqlite")[-1][0]
    if version > newest:
        raise StorageUnusable(
            f"{path} was written by a newer scheduler (schema {version}, this one knows up to {newest}); "
            "upgrade durabletask-scheduler or restore a backup made before the upgrade"
        )
    return version


def migrate(connection: sqlite3.Connection, path: str) -> None:
    """Bring the schema up to date, each migration in its own transaction.

    Raises:
        StorageUnusable: the file is not ours, is too new, or a migration failed.
    """
    version = schema_version(connection, path)
    for number, script in migrations("sqlite"):
        if number <= version:
            continue
        header = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {number};"
        try:
            connection.executescript(f"BEGIN IMMEDIATE;\n{script}\n{header}\nCOMMIT;")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise StorageUnusable(
                f"{path} could not be brought to schema {number} ({error}); nothing was changed: "
                "free disk space if it is full, else restore a backup"
            ) from error
