"""The session that holds the lock and writes; it is taken again when it was lost, unless somebody else came first."""

from __future__ import annotations

import struct
import time
import uuid
from collections.abc import Iterable

import psycopg

from durabletask_scheduler.storage import StorageError, StorageLost
from durabletask_scheduler.storage.changes import Step
from durabletask_scheduler.storage.postgres_lock import (
    LOCK_SETTINGS,
    Patience,
    find_holder,
    let_go,
    try_lock,
    wait_for_lock,
)
from durabletask_scheduler.storage.postgres_opening import Target, connect, migrate
from durabletask_scheduler.storage.postgres_pipeline import Pipeline
from durabletask_scheduler.storage.statements import statements

# A value that PostgreSQL cannot hold is treated like a disk that cannot: the group is refused, the store stays usable.
ERRORS = (psycopg.Error, struct.error, UnicodeError)

# Which life of the database this is: another one begins when a server takes the place of the one that was written to.
# Nothing if a crash may take what was acknowledged.
_LIFE = """
SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)
WHERE current_setting('fsync') = 'on' AND current_setting('synchronous_commit') = 'on'
"""
_NOT_TOLD = (
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.FeatureNotSupported,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.ObjectNotInPrerequisiteState,
)

# How long an own session that has been told to end may take for it.
_END_SECONDS = 2.0
_LOOK_SECONDS = 0.02


class Writer:
    """Holds the lock of a store until :meth:`close`; used by one thread at a time.

    Args:
        settings: of the session, further ones.
        patience: how to wait for the lock.

    Raises:
        StorageUnusable: another scheduler has it, or the schema cannot be used.
        psycopg.Error: the server cannot be reached.
    """

    def __init__(self, target: Target, settings: dict[str, str], patience: Patience) -> None:
        self._target = target
        self._settings = {**LOCK_SETTINGS, **settings}
        self._lost = ""
        self._sessions = 0
        self._name = uuid.uuid4().hex
        connection = wait_for_lock(target, self._settings, patience)
        try:
            migrate(connection, target)
            self._use(connection)
            self._take_over()
        except BaseException:
            let_go(connection)
            raise

    @property
    def is_connected(self) -> bool:
        """Whether the session is there, as far as is known: then what was written before is certain."""
        return not self._connection.closed

    @property
    def era(self) -> int:
        """Counts the sessions: what else was connected before may be connected to a server no longer in charge."""
        return self._sessions

    def run(self, steps: Iterable[Step]) -> None:
        """Write in one transaction.

        Raises:
            StorageLost, StorageError: as :meth:`ensure`; or nothing was written; or the connection was lost.
        """
        self.ensure()
        try:
            self._pipeline.run(steps)
        except ERRORS as error:
            if self._connection.closed:
                raise StorageError(f"{self._gone(error)}; it is not known whether the last writes are in it") from error
            raise StorageError(f"nothing was written: {self._target.without_secrets(error)}") from error

    def confirm(self) -> None:
        """Find out whether the session is still there, and take the lock again if it is not.

        Raises:
            StorageLost, StorageError: as :meth:`ensure`.
        """
        self.ensure()
        try:
            self._connection.execute("SELECT 1")
        except psycopg.Error:
            self._connection.close()
            self.ensure()

    def ensure(self) -> None:
        """Connect and take the lock again if the session was lost. What was written before is certain from then on.

        Raises:
            StorageLost: another scheduler has had the lock meanwhile, or the server may have lost writes.
            StorageError: the server cannot be reached now.
        """
        if self._lost:
            raise StorageLost(self._lost)
        if self.is_connected:
            return
        try:
            connection = connect(self._target, self._settings)
        except psycopg.Error as error:
            raise StorageError(self._gone(error)) from error
        try:
            self._take_again(connection)
        except BaseException as error:
            let_go(connection)
            if isinstance(error, psycopg.Error):
                raise StorageError(self._gone(error)) from error
            raise

    def close(self) -> None:
        """End the session and free the lock; idempotent."""
        let_go(self._connection)

    def _take_over(self) -> None:
        """Leave this writer's name, so that a former owner, or this one later, knows who has had the lock last."""
        with self._connection.transaction():
            # A crash must not take it back and leave two that believe to be the last.
            self._connection.execute("SET LOCAL synchronous_commit TO on")
            self._connection.execute("UPDATE store SET owner = %s", [self._name])
            self._connection.execute("DELETE FROM uninterrupted")
            self._connection.execute("INSERT INTO uninterrupted (owner) VALUES (%s)", [self._name])

    def _take_again(self, connection: psycopg.Connection) -> None:
        if not self._try_again(connection):
            found = find_holder(connection, self._target)
            raise self._lose(f"another scheduler has taken over {self._target} ({found or 'which has just gone'})")
        if connection.execute("SELECT owner FROM store").fetchall() != [(self._name,)]:
            raise self._lose(f"another scheduler has had {self._target} meanwhile")
        if not self._is_whole(connection):
            raise self._lose(f"the server of {self._target} has crashed or was replaced, and may have lost writes")
        self._use(connection)
        self._take_over()

    def _is_whole(self, connection: psycopg.Connection) -> bool:
        """Whether all that was acknowledged is certainly there."""
        if connection.execute("SELECT owner FROM uninterrupted").fetchall() == [(self._name,)]:
            return True
        return self._life is not None and self._life == _life_of(connection)

    def _use(self, connection: psycopg.Connection) -> None:
        """Write with this session, which has the lock, from now on."""
        self._pipeline = Pipeline(connection, statements("postgres", "write"))
        self._session = connection.execute(
            "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
        ).fetchone()
        self._life = _life_of(connection)
        self._sessions += 1
        self._connection = connection

    def _try_again(self, connection: psycopg.Connection) -> bool:
        """Try to take the lock, from the own session that was lost if need be: the server may not know yet."""
        deadline = time.monotonic() + _END_SECONDS
        while not try_lock(connection, self._target):
            ended = connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s AND backend_start = %s",
                self._session,
            ).fetchone()
            if ended is None or time.monotonic() > deadline:
                return try_lock(connection, self._target)
            time.sleep(_LOOK_SECONDS)
        return True

    def _lose(self, why: str) -> StorageLost:
        self._lost = f"{why}; this scheduler has to be started anew"
        return StorageLost(self._lost)

    def _gone(self, error: Exception) -> str:
        return f"the connection to {self._target} is lost ({self._target.without_secrets(error)})"


def _life_of(connection: psycopg.Connection) -> str | None:
    try:
        row = connection.execute(_LIFE).fetchone()
    except _NOT_TOLD:
        # Not every provider's server tells.
        return None
    return str(row[0]) if row else None
