"""The stores, each of which has to pass what is asked of all.

A store joins by adding a factory to ``FACTORIES``: it takes the test's request and returns an object whose ``open()``
gives the same store again after the last one was closed (``durable``), or a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from durabletask_scheduler.storage import Storage
from durabletask_scheduler.storage.postgres import PostgresStorage
from durabletask_scheduler.storage.sqlite import SqliteStorage

HUB = "default"


@dataclass(frozen=True)
class Factory:
    open: Callable[[], Storage]
    durable: bool


def sqlite_file(request: pytest.FixtureRequest) -> Factory:
    path = request.getfixturevalue("tmp_path") / "store.db"
    return Factory(lambda: SqliteStorage(path, synchronous="OFF"), durable=True)


def sqlite_memory(request: pytest.FixtureRequest) -> Factory:
    return Factory(lambda: SqliteStorage(":memory:"), durable=False)


def postgres(request: pytest.FixtureRequest) -> Factory:
    database = request.getfixturevalue("postgres_database")
    return Factory(lambda: PostgresStorage(database.url, schema=database.schema), durable=True)


FACTORIES = [sqlite_file, sqlite_memory, postgres]


@pytest.fixture(params=FACTORIES)
def factory(request: pytest.FixtureRequest) -> Factory:
    made: Factory = request.param(request)
    return made


@pytest.fixture
def store(factory: Factory) -> Iterator[Storage]:
    """An open store with one task hub."""
    store = factory.open()
    store.add_task_hub(HUB)
    yield store
    store.close()
