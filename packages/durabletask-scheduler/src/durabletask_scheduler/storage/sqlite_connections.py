"""The connections of one store: one that writes, and some that read beside it."""

from __future__ import annotations

import os
import queue
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path
from typing import Protocol

from durabletask_scheduler.storage import StorageError
from durabletask_scheduler.storage.ownership import Ownership
from durabletask_scheduler.storage.sqlite_file import (
    configure_writer,
    connect,
    migrate,
    prepare_file,
    schema_version,
    unusable,
)
from durabletask_scheduler.storage.sqlite_rows import tags_include

_READERS = 4


class Connections(Protocol):
    """What the store needs of its connections."""

    def writing(self) -> AbstractContextManager[sqlite3.Connection]:
        """The connection that writes, for one thread at a time; raises StorageError once closed."""

    def reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """A connection that sees what was last committed; raises StorageError once closed."""

    def verify(self) -> None:
        """Raise StorageError if what is written now would be lost."""

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

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        with self._turn:
            if self._closed:
                raise _closed(":memory:")
            yield self._connection

    def reading(self) -> AbstractContextManager[sqlite3.Connection]:
        return self.writing()

    def verify(self) -> None:
        """Memory does not go away."""

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
        self._readers: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()
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
        # SQLite keeps the log beside what a link points to.
        name = os.path.realpath(self._path)
        self._files = {file: _identity(file) for file in (name, f"{name}-wal")}

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        with self._turn:
            if self._closed:
                raise _closed(str(self._path))
            yield self._writer

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        reader = self._readers.get()
        try:
            if self._closed:
                raise _closed(str(self._path))
            yield reader
        finally:
            self._readers.put(reader)

    def verify(self) -> None:
        """Refuse to write to a file that is no longer the one at the path: the data would be lost with it."""
        for name, identity in self._files.items():
            try:
                found = _identity(name)
            except OSError as error:
                raise StorageError(
                    f"{name} is gone ({error.strerror}); put it back, or restart the scheduler without it"
                ) from error
            if found != identity:
                raise StorageError(
                    f"{name} was replaced by another file; put the original back, or restart the scheduler"
                )

    def close(self) -> None:
        with self._turn:
            if self._closed:
                return
            self._closed = True
            readers = [self._readers.get() for _ in range(_READERS)]
            for connection in (*readers, self._writer):
                connection.close()
            # Whoever waits for a reader finds the store closed.
            for reader in readers:
                self._readers.put(reader)
            self._ownership.close()


def _identity(name: str) -> tuple[int, int]:
    status = os.stat(name)
    return status.st_dev, status.st_ino


def _closed(path: str) -> StorageError:
    return StorageError(f"the store {path} is closed; open it again")


def _add_functions(connection: sqlite3.Connection) -> None:
    connection.create_function("tags_include", 2, tags_include, deterministic=True)
