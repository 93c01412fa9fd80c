"""A PostgreSQL server for the tests of this run that want one; without one on this machine they are skipped."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from postgres_server import NotInstalled, PostgresServer

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Database:
    """Where a store can be made: of no other test."""

    url: str
    schema: str


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One server for all tests; what it does not write to disk is lost with it anyway."""
    pytest.importorskip("psycopg", reason='needs psycopg: pip install "psycopg[binary]"')
    try:
        with PostgresServer(fsync=False) as server:
            yield server
    except NotInstalled as missing:
        pytest.skip(str(missing))


@pytest.fixture
def postgres_database(postgres_server: PostgresServer) -> Database:
    return Database(postgres_server.url, f"test_{next(_numbers)}")
