"""One scheduler for one schema: a lock that the server frees when the session that holds it ends.

It is a session-level advisory lock, ``pg_advisory_lock(1146377041, crc32(schema))``. Every group is written by the very
session that holds it, so that a scheduler that has lost the lock cannot write: its session is no more.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone

import psycopg

from durabletask_scheduler.storage import StorageUnusable
from durabletask_scheduler.storage.postgres_opening import Target, check_server, connect

LOCK_CLASS = 0x44545331
"""Marks the lock as a scheduler's ("DTS1"); the first of the lock's two numbers."""

LOCK_SETTINGS = {
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "5",
    "tcp_user_timeout": "15000",
}
"""Of the session that holds the lock: that of a machine that has vanished ends, and frees it, after 15 seconds."""

_TRY_SECONDS = 0.25
# A scheduler that has just been killed lets go within a moment.
_GRACE_SECONDS = 1.0

_FIND_HOLDER = """
SELECT l.pid, a.application_name, host(a.client_addr), a.backend_start
FROM pg_locks AS l LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE
    l.locktype = 'advisory' AND l.classid::bigint = %s AND l.objid::bigint = %s AND l.objsubid = 2 AND l.granted
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@dataclass(frozen=True)
class Holder:
    """The session that has the lock; of another user's session only the number may be visible."""

    pid: int
    application: str | None
    address: str | None
    since: datetime | None

    def __str__(self) -> str:
        parts = [self.application or "", f"at {self.address}" if self.address else "", f"session {self.pid}"]
        if self.since is not None:
            parts.append(f"connected since {self.since.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S} UTC")
        return ", ".join(filter(None, parts))


@dataclass(frozen=True)
class Patience:
    """How a lock is waited for that another scheduler has.

    Attributes:
        seconds: how long; None for as long as it takes.
        pause: waits that many seconds, or returns True for giving up.
    """

    seconds: float | None
    pause: Callable[[float], bool]


def object_number(schema: str) -> int:
    """The second of the lock's two numbers, unsigned."""
    return zlib.crc32(schema.encode())


def try_lock(connection: psycopg.Connection, target: Target) -> bool:
    """Take the lock for this session if it is free."""
    number = object_number(target.schema)
    # The function takes signed numbers.
    signed = number - (1 << 32) if number >= 1 << 31 else number
    row = connection.execute("SELECT pg_try_advisory_lock(%s::int, %s::int)", [LOCK_CLASS, signed]).fetchone()
    return row is not None and bool(row[0])


def find_holder(connection: psycopg.Connection, target: Target) -> Holder | None:
    """Who has the lock; None if nobody has any more."""
    row = connection.execute(_FIND_HOLDER, [LOCK_CLASS, object_number(target.schema)]).fetchone()
    return Holder(*row) if row else None


def let_go(connection: psycopg.Connection) -> None:
    """End a session and free the lock at once; otherwise the server does so a moment later."""
    with suppress(psycopg.Error):
        if not connection.closed:
            connection.execute("SELECT pg_advisory_unlock_all()")
    connection.close()


def wait_for_lock(target: Target, settings: dict[str, str], patience: Patience) -> psycopg.Connection:
    """A session that holds the lock.

    Raises:
        StorageUnusable: another scheduler still has it, or the wait was given up.
        psycopg.Error: the server cannot be reached. (If it could be before, it is tried again for as long.)
    """
    seconds = patience.seconds
    deadline = None if seconds is None else time.monotonic() + max(seconds, _GRACE_SECONDS)
    connection = _connect(target, settings)
    while True:
        try:
            if connection.closed:
                connection = _connect(target, settings)
            if try_lock(connection, target):
                return connection
            found = find_holder(connection, target)
            refused: Exception = _in_use(target, found)
        except psycopg.OperationalError as error:
            connection.close()
            refused = error
        except BaseException:
            connection.close()
            raise
        _pause_or_give_up(connection, refused, deadline, patience.pause)


def _connect(target: Target, settings: dict[str, str]) -> psycopg.Connection:
    connection = connect(target, settings)
    try:
        # Before the lock is asked for: a pooler would keep it.
        check_server(connection, target)
    except BaseException:
        connection.close()
        raise
    return connection


def _pause_or_give_up(
    connection: psycopg.Connection, refused: Exception, deadline: float | None, pause: Callable[[float], bool]
) -> None:
    try:
        if deadline is not None and time.monotonic() >= deadline:
            raise refused
        if pause(_TRY_SECONDS):
            raise StorageUnusable(f"the wait was ended: {refused}")
    except BaseException:
        connection.close()
        raise


def _in_use(target: Target, found: Holder | None) -> StorageUnusable:
    return StorageUnusable(
        f"{target} is in use by another scheduler ({found or 'which has just gone'}); stop that one first, "
        "let this one wait for it as a standby, or give each scheduler its own schema"
    )
