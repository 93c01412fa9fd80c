"""The connections of one store: one that writes, and some that read beside it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from queue import SimpleQueue
from typing import Any

import psycopg

from durabletask_scheduler.storage import StorageError
from durabletask_scheduler.storage.changes import Step
from durabletask_scheduler.storage.postgres_lock import Patience
from durabletask_scheduler.storage.postgres_opening import Target, connect, unusable
from durabletask_scheduler.storage.postgres_reading import Reading
from durabletask_scheduler.storage.postgres_writer import ERRORS, Writer
from durabletask_scheduler.storage.rows import Row

_READERS = 4
# All that one reader sends at once then sees one state of the store.
_READER_SETTINGS = {"default_transaction_isolation": "repeatable read", "default_transaction_read_only": "on"}

Parameters = dict[str, Any]


class Sessions:
    """Connections to a store that this object owns. Any thread may use it.

    Args:
        settings: of the session that writes.
        patience: how to wait for the store.

    Raises:
        StorageUnusable: it cannot be opened; the message says why and what to do.
    """

    def __init__(self, target: Target, settings: dict[str, str], patience: Patience) -> None:
        self._target = target
        self._turn = threading.Lock()
        self._closed = False
        self._idle: SimpleQueue[_Reader] = SimpleQueue()
        for _ in range(_READERS):
            self._idle.put(_Reader(target))
        try:
            self._writer = Writer(target, settings, patience)
        except psycopg.Error as error:
            raise unusable(target, error) from error

    def write(self, steps: Iterable[Step]) -> None:
        """Write in one transaction.

        Raises:
            StorageLost: another scheduler has taken over.
            StorageError: nothing was written; or the connection was lost, and only a later use can tell.
        """
        with self._turn:
            self._refuse_if_closed()
            self._writer.run(steps)

    def confirm(self) -> None:
        """Find out whether the store is still this scheduler's.

        Raises:
            StorageLost: another scheduler has taken over.
            StorageError: the server cannot be reached now.
        """
        with self._turn:
            self._refuse_if_closed()
            self._writer.confirm()

    def rows(self, query: str, parameters: Parameters | None = None) -> list[Row]:
        """The rows of a query.

        Raises:
            StorageLost, StorageError: it could not be read.
        """
        return self.at_once([query], parameters or {})[0]

    def at_once(self, queries: Sequence[str], parameters: Parameters) -> list[list[Row]]:
        """The rows of queries that see the same state of the store, in one round trip.

        Raises:
            StorageLost, StorageError: they could not be read.
        """
        if not self._writer.is_connected:
            # As long as nobody knows what became of the last group, nobody may read either.
            with self._turn:
                self._refuse_if_closed()
                self._writer.ensure()
        reader = self._idle.get()
        try:
            self._refuse_if_closed()
            return reader.rows(queries, parameters, self._writer.era)
        finally:
            self._idle.put(reader)

    def close(self) -> None:
        """Close them all; idempotent."""
        with self._turn:
            if self._closed:
                return
            self._closed = True
            readers = [self._idle.get() for _ in range(_READERS)]
            for reader in readers:
                reader.close()
            # Whoever waits for a reader finds the store closed.
            for reader in readers:
                self._idle.put(reader)
            self._writer.close()

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise StorageError(f"the store {self._target} is closed; open it again")


class _Reader:
    """A connection that is made when it is needed."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._connection: psycopg.Connection | None = None
        self._era = 0

    def rows(self, queries: Sequence[str], parameters: Parameters, era: int) -> list[list[Row]]:
        """The rows of queries, read with a connection of this era; again if it turns out to be dead."""
        if era != self._era:
            self.close()
        self._era = era
        was_open = self._connection is not None
        try:
            try:
                return self._open().rows(queries, parameters)
            except psycopg.OperationalError:
                self.close()
                if not was_open:
                    raise
                return self._open().rows(queries, parameters)
        except ERRORS as error:
            self.close()
            raise StorageError(f"the store could not be read: {self._target.without_secrets(error)}") from error

    def _open(self) -> Reading:
        if self._connection is None:
            self._connection = connect(self._target, _READER_SETTINGS)
            self._reading = Reading(self._connection)
        return self._reading

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
