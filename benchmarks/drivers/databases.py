"""PostgreSQL servers of the suite's own: one for each run of a workload, begun empty, with fsync on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from postgres_server import NotInstalled, PostgresServer

from drivers.protocol import Absent

POSTGRES = "postgresql"
"""Names a server of the suite's own where a database is asked for."""


@contextmanager
def postgres() -> Iterator[PostgresServer]:
    """A running server.

    Raises:
        Absent: PostgreSQL is not installed.
    """
    try:
        server = PostgresServer(fsync=True)
        with server:
            yield server
    except NotInstalled as reason:
        raise Absent(str(reason)) from None
