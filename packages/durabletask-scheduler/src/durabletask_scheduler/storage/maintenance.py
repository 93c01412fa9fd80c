"""What an operator does with a SQLite store: back it up, check it, make it smaller."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from durabletask_scheduler.storage import StorageError, StorageUnusable
from durabletask_scheduler.storage.ownership import Ownership
from durabletask_scheduler.storage.rules import MOST, broken_rules
from durabletask_scheduler.storage.sqlite_file import connect, schema_version, unusable
from durabletask_scheduler.storage.statements import statements


def backup(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Copy a store, also while a scheduler uses it; the copy is as of one moment between two writes.

    Args:
        source: the store's file.
        target: the new file, private to its owner; it appears when it is complete.

    Raises:
        StorageUnusable: ``source`` is not a scheduler's file.
        StorageError: ``target`` exists, the log of another file of that name lies there, or it cannot be written;
            nothing is left behind.
    """
    target_path = Path(target)
    partial = target_path.with_name(target_path.name + ".partial")
    with _open(Path(source), read_only=True) as connection:
        if target_path.exists():
            raise StorageError(f"{target_path} exists; remove it or give another name")
        for leftover in _beside(target_path):
            if leftover.exists():
                raise StorageError(
                    f"{leftover} exists, the log of another file, which would damage the copy; "
                    "remove it or give another name"
                )
        try:
            # SQLite removes what a backup that was killed left beside this file, as it is empty.
            os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
            with closing(connect(partial, read_only=False)) as copy:
                connection.backup(copy)
                # One file without a log beside it, readable from read-only media.
                copy.execute("PRAGMA journal_mode = DELETE")
            os.replace(partial, target_path)
        except (sqlite3.Error, OSError) as error:
            partial.unlink(missing_ok=True)
            raise StorageError(f"the backup {target_path} could not be written: {error}") from error


def _beside(path: Path) -> Iterator[Path]:
    """What SQLite takes for a log of this file, whatever left it there."""
    return (path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "-journal"))


def check(path: str | os.PathLike[str]) -> list[str]:
    """What is wrong with a store, one line each; empty if it is sound. Works while a scheduler uses it.

    At most 100 lines of a kind are given.

    Raises:
        StorageUnusable: ``path`` is not a scheduler's file.
    """
    with _open(Path(path), read_only=True) as connection:
        try:
            connection.execute("BEGIN")
            damage = [row[0] for row in connection.execute(f"PRAGMA integrity_check({MOST})") if row[0] != "ok"]
            return damage or list(broken_rules(connection.execute))
        except sqlite3.DatabaseError as error:
            return [f"the file is damaged ({error}); restore a backup"]


@dataclass(frozen=True, slots=True)
class HeldLock:
    """An entity that is locked.

    Attributes:
        owner: id of the orchestration instance in whose critical section it is.
        since: nanoseconds since 1970-01-01 UTC.
        waiting: how much waits at the entity.
    """

    task_hub: str
    entity: str
    owner: str
    since: int
    waiting: int


def locks(path: str | os.PathLike[str]) -> list[HeldLock]:
    """The entities that are locked, by task hub and id. Works while a scheduler uses the store.

    Raises:
        StorageUnusable: ``path`` is not a scheduler's file, or one that no newer scheduler has opened yet.
    """
    with _open(Path(path), read_only=True) as connection:
        try:
            return [HeldLock(*row) for row in connection.execute(statements("sqlite", "entities")["locks"])]
        except sqlite3.Error as error:
            raise unusable(Path(path), error) from error


def vacuum(path: str | os.PathLike[str]) -> int:
    """Rewrite a store without the room that purged instances left, and return how many bytes smaller it is.

    No scheduler may be using it; needs as much free disk space as the store is large.

    Raises:
        StorageUnusable: ``path`` is not a scheduler's file, or a scheduler is using it.
        StorageError: it could not be done (disk full); nothing is lost.
    """
    file = Path(path)
    with _open(file, read_only=False) as connection, closing(Ownership(file)):
        try:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            before = file.stat().st_size
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            raise StorageError(f"{file} was left as it was: {error}") from error
        return before - file.stat().st_size


@contextmanager
def _open(path: Path, *, read_only: bool) -> Iterator[sqlite3.Connection]:
    if not path.is_file():
        raise StorageUnusable(f"there is no file {path}; give the path of a scheduler's file")
    with ExitStack() as stack:
        try:
            connection = stack.enter_context(closing(connect(path, read_only=read_only)))
            version = schema_version(connection, str(path))
        except sqlite3.Error as error:
            raise unusable(path, error) from error
        if version == 0:
            raise StorageUnusable(f"{path} holds no scheduler's data; give the path of a scheduler's file")
        yield connection
