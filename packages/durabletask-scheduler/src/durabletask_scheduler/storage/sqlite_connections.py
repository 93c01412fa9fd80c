"""The connections of one store: one that writes, and some that read beside it."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from contextlib import ExitStack, closing
from pathlib import Path
from queue import SimpleQueue
from typing import Protocol

from durabletask_scheduler.storage import StorageError
from durabletask_scheduler.storage.ownership import Ownership
from durabletask_scheduler.storage.sqlite_checkpoints import Checkpoints
from durabletask_scheduler.storage.sqlite_file import (
    CHECKPOINT_PAGES,
    configure_writer,
    connect,
    migrate,
    prepare_file,
    schema_version,
    unusable,
)
from durabletask_scheduler.storage.sqlite_rows import tags_include

_READERS = 4
_LOG_SECONDS = 1.0


class Connections(Protocol):
    """What the store needs of its connections: each is lent to one thread at a time, which has to give it back."""

    def writer(self) -> sqlite3.Connection:
        """The connection that writes; raises StorageError once closed."""

    def reader(self, *, brief: bool = False) -> sqlite3.Connection:
        """A connection that sees what was last committed; raises StorageError once closed.

        Args:
            brief: a few rows are read at most, so that it may be the one that writes, if that is idle: what it has
                written is at hand there.
        """

    def give_back(self, connection: sqlite3.Connection) -> None:
        """Done with it, and no transaction is left open."""

    def verify(self) -> None:
        """Raise StorageError if what is written now would be lost."""

    def committed(self, size: int) -> None:
        """The connection that writes has committed so many bytes of payload and is given back."""

    def close(self) -> None:
        """Close them all; idempotent."""


class MemoryConnections:
    """One connection to a private database in memory, used in turn."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._closed = False
        self._connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        migrate(self._connection, ":memory:")
        _add_functions(self._connection)

    def writer(self) -> sqlite3.Connection:
        self._turn.acquire()
        if self._closed:
            self._turn.release()
            raise _closed(":memory:")
        return self._connection

    def reader(self, *, brief: bool = False) -> sqlite3.Connection:
        return self.writer()

    def give_back(self, connection: sqlite3.Connection) -> None:
        self._turn.release()

    def verify(self) -> None:
        """Memory does not go away."""

    def committed(self, size: int) -> None:
        """Memory has no log."""

    def close(self) -> None:
        with self._turn:
            self._closed = True
            self._connection.close()


class FileConnections:
    """Connections to a file that this object owns: a writer, and readers that never wait for it."""

    def __init__(self, path: Path, synchronous: str) -> None:
        self._path = path
        self._turn = threading.Lock()
        self._closed = False
        self._readers: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        prepare_file(path)
        with ExitStack() as undo:
            try:
                self._open(synchronous, undo)
            except (sqlite3.Error, OSError) as error:
                raise unusable(path, error) from error
            undo.pop_all()

    def _open(self, synchronous: str, undo: ExitStack) -> None:
        self._writer = undo.enter_context(closing(connect(self._path, read_only=False)))
        # A file that is not ours is left without a trace, even of a lock.
        schema_version(self._writer, str(self._path))
        self._ownership = undo.enter_context(closing(Ownership(self._path)))
        migrate(self._writer, str(self._path))
        configure_writer(self._writer, synchronous)
        _add_functions(self._writer)
        for _ in range(_READERS):
            reader = undo.enter_context(closing(connect(self._path, read_only=True)))
            # The first read makes the reader open the log, so that it exists below.
            reader.execute("SELECT count(*) FROM task_hubs").fetchone()
            _add_functions(reader)
            self._readers.put(reader)
        beside = undo.enter_context(closing(connect(self._path, read_only=False)))
        configure_writer(beside, synchronous)
        self._checkpoints = Checkpoints(beside, CHECKPOINT_PAGES[synchronous])
        # SQLite keeps the log beside what a link points to.
        self._name = os.path.realpath(self._path)
        self._log_name = f"{self._name}-wal"
        self._file, self._log = os.stat(self._name), os.stat(self._log_name)
        self._folder = os.path.dirname(self._name)
        self._folder_state: tuple[int, int, int] | None = None
        self._verify_log_at = 0.0

    def writer(self) -> sqlite3.Connection:
        self._turn.acquire()
        return self._lend(self._writer)

    def reader(self, *, brief: bool = False) -> sqlite3.Connection:
        if brief and self._turn.acquire(blocking=False):
            return self._lend(self._writer)
        return self._lend(self._readers.get())

    def _lend(self, connection: sqlite3.Connection) -> sqlite3.Connection:
        if self._closed:
            self.give_back(connection)
            raise _closed(str(self._path))
        return connection

    def give_back(self, connection: sqlite3.Connection) -> None:
        if connection is self._writer:
            self._turn.release()
        else:
            self._readers.put(connection)

    def verify(self) -> None:
        """Refuse to write to a file that is no longer the one at the path: the data would be lost with it.

        The log is looked at when something has happened in its directory, and once a second: Linux (since 6.13) takes
        down more exactly when a file is changed once somebody has asked for that, and asking before each write made
        each fsync of the log a third longer.
        """
        _verify_same(self._name, self._file)
        now = time.monotonic()
        folder = os.stat(self._folder)
        state = (folder.st_dev, folder.st_ino, folder.st_mtime_ns)
        if state != self._folder_state or now >= self._verify_log_at:
            _verify_same(self._log_name, self._log)
            self._folder_state, self._verify_log_at = state, now + _LOG_SECONDS

    def committed(self, size: int) -> None:
        self._checkpoints.committed(size)

    def close(self) -> None:
        with self._turn:
            if self._closed:
                return
            self._closed = True
            self._checkpoints.close()
            readers = [self._readers.get() for _ in range(_READERS)]
            for connection in (*readers, self._writer):
                connection.close()
            # Whoever waits for a reader finds the store closed.
            for reader in readers:
                self._readers.put(reader)
            self._ownership.close()


def _closed(path: str) -> StorageError:
    return StorageError(f"the store {path} is closed; open it again")


def _add_functions(connection: sqlite3.Connection) -> None:
    connection.create_function("tags_include", 2, tags_include, deterministic=True)


def _verify_same(name: str, opened: os.stat_result) -> None:
    try:
        found = os.stat(name)
    except OSError as error:
        raise StorageError(
            f"{name} is gone ({error.strerror}); put it back, or restart the scheduler without it"
        ) from error
    if found.st_ino != opened.st_ino or found.st_dev != opened.st_dev:
        raise StorageError(f"{name} was replaced by another file; put the original back, or restart the scheduler")
