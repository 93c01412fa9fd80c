"""Which store an address means: a SQLite file, memory, or a schema of a PostgreSQL database."""

from __future__ import annotations

import os
from collections.abc import Callable
from urllib.parse import unquote

from durabletask_scheduler.storage import Storage

MEMORY = ":memory:"
DEFAULT_SCHEMA = "durabletask"

_POSTGRES = ("postgresql://", "postgres://")
_SCHEMA = "schema="


def is_postgres(database: str | os.PathLike[str]) -> bool:
    """Whether it is the address of a PostgreSQL database, not a file."""
    return os.fspath(database).startswith(_POSTGRES)


def open_store(
    database: str | os.PathLike[str],
    synchronous: str,
    *,
    standby_seconds: float | None = 0.0,
    pause: Callable[[float], bool] | None = None,
) -> Storage:
    """Open a store.

    Args:
        database: a file, ``":memory:"``, or ``postgresql://USER:PASSWORD@HOST:PORT/DATABASE``, there with
            ``?schema=NAME`` for another schema than ``durabletask``.
        synchronous: ``"FULL"``, ``"NORMAL"`` or ``"OFF"``.
        standby_seconds: how long to wait for a database that another scheduler owns; None for as long as it takes.
            Files are not waited for.
        pause: how: called with a number of seconds, it returns after them, or returns True for giving up.

    Raises:
        StorageUnusable: it cannot be opened, or another scheduler owns it; the message says what to do.
    """
    # Each only when it is asked for: one needs a package that may not be there, the other need not be loaded.
    if is_postgres(database):
        from durabletask_scheduler.storage.postgres import PostgresStorage

        url, schema = split(os.fspath(database))
        return PostgresStorage(
            url, schema=schema, synchronous=synchronous, standby_seconds=standby_seconds, pause=pause
        )
    from durabletask_scheduler.storage.sqlite import SqliteStorage

    return SqliteStorage(database, synchronous=synchronous)


def check(database: str | os.PathLike[str]) -> list[str]:
    """What is wrong with a store, one line each; empty if it is sound. Works while a scheduler uses it.

    Raises:
        StorageUnusable: it is not a scheduler's, or cannot be read.
    """
    if is_postgres(database):
        from durabletask_scheduler.storage.postgres import psycopg_needed

        with psycopg_needed():
            from durabletask_scheduler.storage import postgres_maintenance
        url, schema = split(os.fspath(database))
        return postgres_maintenance.check(url, schema=schema)
    from durabletask_scheduler.storage import maintenance

    return maintenance.check(database)


def describe(database: str | os.PathLike[str]) -> str:
    """Where the data are, without a password, for people."""
    if is_postgres(database):
        from durabletask_scheduler.storage.postgres_opening import Target

        return str(Target(*split(os.fspath(database))))
    return "memory" if os.fspath(database) == MEMORY else os.path.abspath(database)


def split(url: str) -> tuple[str, str]:
    """The address as libpq understands it, and the schema, which is ours."""
    address, _, query = url.partition("?")
    options = query.split("&") if query else []
    ours = [option for option in options if option.startswith(_SCHEMA)]
    others = "&".join(option for option in options if option not in ours)
    schema = unquote(ours[-1].removeprefix(_SCHEMA)) if ours else DEFAULT_SCHEMA
    return f"{address}?{others}" if others else address, schema
