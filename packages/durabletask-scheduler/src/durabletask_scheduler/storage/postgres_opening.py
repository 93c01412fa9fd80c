"""Reaching a PostgreSQL server, and bringing a schema of it up to date."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from durabletask_scheduler.storage import StorageUnusable
from durabletask_scheduler.storage.statements import migrations

OLDEST_SERVER = 13

# Of libpq: within how many seconds a server that is gone is noticed. What stands in the address wins.
_DEFAULTS = {
    "connect_timeout": 10,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 5,
    "tcp_user_timeout": 15_000,
    "target_session_attrs": "read-write",
}

# Every statement is written to walk an index in order, and to find further rows by key. What a table held when it was
# last looked at may say otherwise, and to plan a page anew takes longer than to read it.
_PLANNING = {
    **dict.fromkeys(("enable_seqscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin", "jit"), "off"),
    "plan_cache_mode": "force_generic_plan",
}
# A server may end sessions that are slow or idle; the one that holds the lock is mostly idle.
_PATIENCE = {"statement_timeout": "0", "idle_session_timeout": "0", "idle_in_transaction_session_timeout": "0"}

_ADVICE = {
    "password authentication failed": "check the user and the password",
    "no password supplied": "give a password in the address, in PGPASSWORD or in ~/.pgpass",
    "no pg_hba.conf entry": "let the server's pg_hba.conf admit this machine and user",
    'database "': "create the database or correct its name",
    'role "': "create the role or correct the user",
    "Connection refused": "start the server, or correct host and port",
    "resolve": "correct the name of the host",
    "timeout expired": "check the host, the port and what is between here and there",
    "too many": "raise max_connections of the server, or stop what holds connections",
    "session is read-only": "give the address of the primary server",
}


@dataclass(frozen=True)
class Target:
    """A schema of a database, and how to reach it.

    Args:
        url: as libpq understands it.
        schema: its name.

    Raises:
        StorageUnusable: the address or the name is not understood.
    """

    url: str = field(repr=False)
    schema: str
    parameters: dict[str, Any] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            given = conninfo_to_dict(self.url)
        except psycopg.Error:
            # libpq would repeat the address, and with it the password.
            raise StorageUnusable(
                "the address of the PostgreSQL database is not understood; "
                "expected postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with special characters percent-encoded"
            ) from None
        if not self.schema or "\0" in self.schema or len(self.schema.encode(errors="replace")) > 63:
            raise StorageUnusable(f"a schema has a name of 1 to 63 bytes, found {self.schema!r}; give another one")
        name = {"application_name": f"durabletask-scheduler {socket.gethostname()}:{os.getpid()}"}
        object.__setattr__(self, "parameters", {**_DEFAULTS, **name, **given})

    def __str__(self) -> str:
        """Where it is, without the password."""
        user, host, port, database = (self.parameters.get(name) for name in ("user", "host", "port", "dbname"))
        at = f"{user}@" if user else ""
        return f"postgresql://{at}{host or ''}{f':{port}' if port else ''}/{database or ''} (schema {self.schema})"

    def without_secrets(self, text: object) -> str:
        """One line, in which the password does not appear."""
        line = " ".join(str(text).split())
        password = self.parameters.get("password")
        return line.replace(password, "***") if password else line


def connect(target: Target, settings: dict[str, str]) -> psycopg.Connection:
    """A connection in which every statement is a transaction unless told otherwise.

    Args:
        settings: of the session.

    Raises:
        psycopg.Error: the server cannot be reached.
    """
    connection = psycopg.connect(**target.parameters, autocommit=True)
    try:
        path = sql.Identifier(target.schema).as_string(connection)
        wanted = {"search_path": path, "client_encoding": "UTF8", **_PLANNING, **_PATIENCE, **settings}
        # What the server does not know is left out.
        connection.execute(
            "SELECT set_config(w.name, w.value, false) FROM unnest(%s::text[], %s::text[]) AS w (name, value) "
            "WHERE current_setting(w.name, true) IS NOT NULL",
            [list(wanted), list(wanted.values())],
        )
    except BaseException:
        connection.close()
        raise
    return connection


def unusable(target: Target, error: Exception) -> StorageUnusable:
    """What to tell when the store cannot be opened."""
    line = target.without_secrets(error).removeprefix("connection failed: ")
    advice = next((text for sign, text in _ADVICE.items() if sign in line), "check the address and the server's log")
    return StorageUnusable(f"{target} cannot be opened ({line}); {advice}")


def check_server(connection: psycopg.Connection, target: Target) -> None:
    """Raise StorageUnusable if a store cannot live on this server."""
    if not psycopg.capabilities.has_pipeline():
        raise StorageUnusable(
            'the libpq of this machine is older than 14; pip install "psycopg[binary]" brings a newer one'
        )
    version = connection.info.server_version // 10_000
    if version < OLDEST_SERVER:
        raise StorageUnusable(f"{target} is PostgreSQL {version}; upgrade it to {OLDEST_SERVER} or newer")
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise StorageUnusable(f"the database of {target} has the encoding {encoding}; create one with ENCODING 'UTF8'")
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    if row is None or row[0] != connection.info.backend_pid:
        raise StorageUnusable(
            f"{target} is reached through a pooler, which would lend the session that holds the lock to others; "
            "give the address of the server itself"
        )


def migrate(connection: psycopg.Connection, target: Target) -> None:
    """Create the schema and bring it up to date, each migration in a transaction of its own. Needs the lock.

    Raises:
        StorageUnusable: the schema is not ours, is too new, or a migration failed.
    """
    version = _schema_version(connection, target)
    for number, script in migrations("postgres"):
        if number <= version:
            continue
        try:
            with connection.transaction():
                if number == 1:
                    _create_schema(connection, target)
                connection.execute(script.encode())
                connection.execute("UPDATE store SET schema_version = %s", [number])
        except psycopg.Error as error:
            raise StorageUnusable(
                f"{target} could not be brought to schema {number} ({target.without_secrets(error)}); "
                "nothing was changed: see that the user may create the schema and tables in it "
                "(GRANT CREATE ON DATABASE), and that the disk is not full"
            ) from error


def require_store(connection: psycopg.Connection, target: Target) -> None:
    """Raise StorageUnusable unless there is a store that this version knows."""
    if _schema_version(connection, target) == 0:
        raise StorageUnusable(f"{target} holds no scheduler's data; give the address and schema of a scheduler's store")


def _schema_version(connection: psycopg.Connection, target: Target) -> int:
    """The number of the last migration applied; 0 for an empty or missing schema."""
    rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", [target.schema]).fetchall()
    tables = {row[0] for row in rows}
    if not tables:
        return 0
    if not {"store", "task_hubs", "instances"} <= tables:
        raise StorageUnusable(f"{target} holds tables of another application; give another schema")
    row = connection.execute("SELECT schema_version FROM store").fetchone()
    version, newest = row[0] if row else 0, migrations("postgres")[-1][0]
    if version > newest:
        raise StorageUnusable(
            f"{target} was written by a newer scheduler (schema {version}, this one knows up to {newest}); "
            "upgrade durabletask-scheduler or restore a backup made before the upgrade"
        )
    return int(version)


def _create_schema(connection: psycopg.Connection, target: Target) -> None:
    # IF NOT EXISTS would want the right to create one even where it exists.
    found = connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", [target.schema]).fetchone()
    if found is None:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(target.schema)))
