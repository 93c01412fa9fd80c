"""The store for more than one machine: a schema of a PostgreSQL database, which one scheduler owns at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from durabletask_scheduler.hub.entity_model import Entity
from durabletask_scheduler.hub.model import Commit, HistoryRow, Instance
from durabletask_scheduler.storage import (
    LiveInstance,
    LoadedInstance,
    StorageError,
    StorageUnusable,
    check_synchronous,
)
from durabletask_scheduler.storage.changes import Hubs
from durabletask_scheduler.storage.entities import WaitingEntity
from durabletask_scheduler.storage.entity_rows import entity_from
from durabletask_scheduler.storage.group import net_effect
from durabletask_scheduler.storage.pages import Pages, Query
from durabletask_scheduler.storage.postgres_changes import changes
from durabletask_scheduler.storage.queries import QueriedStorage
from durabletask_scheduler.storage.rows import Row, loaded_from
from durabletask_scheduler.storage.statements import statements

if TYPE_CHECKING:
    from durabletask_scheduler.storage.postgres_sessions import Sessions

# What of SQLite's settings comes to what of PostgreSQL's.
_SYNCHRONOUS_COMMIT = {"FULL": "on", "NORMAL": "off", "OFF": "off"}

_READ = statements("postgres", "read")
_ENTITIES = statements("postgres", "entities")

Parameters = dict[str, Any]


class PostgresStorage(QueriedStorage):
    """A store in a schema of a PostgreSQL database.

    One scheduler owns it at a time, and others may stand by. Who owns it holds a lock that ends with the connection on
    which everything is written: when a scheduler ends, or its machine vanishes (which the server notices within about
    15 seconds), a standby takes over, and the former owner can write nothing any more.

    The connection has to be one to the server itself: a pooler such as PgBouncer, which lends sessions to others,
    would give the lock away.

    Args:
        url: of the database, as libpq understands it: ``postgresql://user:password@host:port/database``.
        schema: where its tables are; created if it does not exist. A scheduler for each schema.
        synchronous: when a write counts as done. ``"FULL"`` (default): it survives a crash of the server, on its
            standby servers too if it waits for them (``synchronous_standby_names``). ``"NORMAL"``: it survives the end
            of the scheduler's process; a crash of the server may take the last writes, never a part of one, and ends
            the scheduler (:class:`StorageLost`). ``"OFF"``: the same.
        standby_seconds: how long to wait if another scheduler owns the store; None for as long as it takes.
        pause: how to wait: called with a number of seconds, it returns after them, or returns True for giving up, as
            ``threading.Event.wait`` does.

    Raises:
        StorageUnusable: psycopg is not installed, the database cannot be used, or another scheduler owns the store
            (still, after the wait); the message says why and what to do.
        ValueError: ``synchronous`` is something else.
    """

    pages = Pages(statements("postgres", "page"), dict, dict)
    entity_sql = _ENTITIES
    # Workers and callers of a scheduler that was taken the store from must not wait there for ever.
    confirm_seconds = 5

    def __init__(
        self,
        url: str,
        *,
        schema: str = "durabletask",
        synchronous: str = "FULL",
        standby_seconds: float | None = 0.0,
        pause: Callable[[float], bool] | None = None,
    ) -> None:
        check_synchronous(synchronous)
        settings = {"synchronous_commit": _SYNCHRONOUS_COMMIT[synchronous]}
        self._sessions = _open(url, schema, settings, standby_seconds, pause or _sleep)
        try:
            self._hubs = self._read_hubs()
        except StorageError as error:
            self._sessions.close()
            raise StorageUnusable(str(error)) from error

    def confirm(self) -> None:
        """Find out whether the store is still this scheduler's, which otherwise only a write does.

        Raises:
            StorageLost: another scheduler has taken over.
            StorageError: the server cannot be reached now.
        """
        self._sessions.confirm()

    def write(self, commits: Sequence[Commit]) -> None:
        self._sessions.write(changes(net_effect(commits), self._hubs))

    def add_task_hub(self, task_hub: str) -> None:
        if task_hub not in self._hubs:
            self._sessions.write([("add_task_hub", [(task_hub,)])])
            self._hubs = self._read_hubs()

    def last_key(self) -> int:
        return int(self._sessions.rows(_READ["last_key"])[0][0])

    def load(self, task_hub: str, instance_id: str) -> Instance | None:
        return self._load("of_id", {"hub": self._hubs.get(task_hub, 0), "id": instance_id})

    def load_key(self, key: int) -> Instance | None:
        return self._load("of_key", {"key": key})

    def load_many(self, task_hub: str, instance_ids: Sequence[str], *, short: int) -> list[LoadedInstance]:
        asked = {"hub": self._hubs.get(task_hub, 0), "ids": list(instance_ids), "short": short}
        queries = [*_queries_for("of_ids"), _READ["history_of_many"].replace("{which}", _READ["of_ids_and_short"])]
        rows, tasks, inbox, history = self._sessions.at_once(queries, asked)
        return loaded_from(rows, tasks, inbox, history, short)

    def live(self) -> Iterator[LiveInstance]:
        return (LiveInstance(*row) for row in self._sessions.rows(_READ["live"]))

    def existing(self, task_hub: str, instance_ids: Sequence[str]) -> set[str]:
        if not instance_ids:
            return set()
        asked = {"hub": self._hubs.get(task_hub, 0), "ids": list(instance_ids)}
        return {row[0] for row in self._sessions.rows(_READ["existing"], asked)}

    def history(self, key: int) -> list[HistoryRow]:
        return [HistoryRow(*row) for row in self._sessions.rows(_READ["history"], {"key": key})]

    def history_row(self, history_key: int) -> HistoryRow | None:
        rows = self._sessions.rows(_READ["history_row"], {"key": history_key})
        return HistoryRow(*rows[0]) if rows else None

    def children(self, task_hub: str, parent_instance_id: str) -> list[str]:
        asked = {"hub": self._hubs.get(task_hub, 0), "parent": parent_instance_id}
        return [row[0] for row in self._sessions.rows(_READ["children"], asked)]

    def load_entity(self, task_hub: str, instance_id: str) -> Entity | None:
        asked = {"hub": self._hubs.get(task_hub, 0), "id": instance_id}
        rows, inbox = self._sessions.at_once([_ENTITIES["entity"], _ENTITIES["entity_inbox"]], asked)
        return entity_from(rows[0], inbox) if rows else None

    def waiting_entities(self) -> Iterator[WaitingEntity]:
        return (WaitingEntity(*row) for row in self._sessions.rows(_ENTITIES["waiting_entities"]))

    def task_hubs(self) -> list[str]:
        return [row[0] for row in self._sessions.rows(_READ["task_hubs"])]

    def close(self) -> None:
        self._sessions.close()

    def _read_hubs(self) -> Hubs:
        return Hubs(self._sessions.rows(_READ["task_hubs"]))

    def _load(self, which: str, asked: Parameters) -> Instance | None:
        rows, tasks, inbox = self._sessions.at_once(_queries_for(which), asked)
        loaded = loaded_from(rows, tasks, inbox, (), 0)
        return loaded[0].instance if loaded else None

    def _answer(self, query: Query) -> list[Row]:
        return self._sessions.rows(*query)


def _queries_for(which: str) -> list[str]:
    """What is asked for loading the instances of a condition in ``read.sql``."""
    return [_READ[name].replace("{which}", _READ[which]) for name in ("instances", "open_tasks", "inbox")]


@contextmanager
def psycopg_needed() -> Iterator[None]:
    """Around imports of modules that import psycopg, which is an extra of this package.

    Raises:
        StorageUnusable: it is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise StorageUnusable(
            'a PostgreSQL database needs psycopg 3: pip install "durabletask-scheduler[postgres]"'
        ) from error


def _open(
    url: str, schema: str, settings: dict[str, str], standby_seconds: float | None, pause: Callable[[float], bool]
) -> Sessions:
    with psycopg_needed():
        from durabletask_scheduler.storage.postgres_lock import Patience
        from durabletask_scheduler.storage.postgres_opening import Target
        from durabletask_scheduler.storage.postgres_sessions import Sessions
    return Sessions(Target(url, schema), settings, Patience(standby_seconds, pause))


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return False
