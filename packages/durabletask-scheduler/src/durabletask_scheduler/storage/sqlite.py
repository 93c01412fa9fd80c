"""The default store: one SQLite file that one scheduler owns."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from durabletask_scheduler.hub.entity_model import Entity
from durabletask_scheduler.hub.model import Commit, HistoryRow, Instance
from durabletask_scheduler.storage import (
    LiveInstance,
    LoadedInstance,
    StorageError,
    check_synchronous,
    sqlite_changes,
)
from durabletask_scheduler.storage.changes import Hubs
from durabletask_scheduler.storage.entities import WaitingEntity
from durabletask_scheduler.storage.entity_rows import entity_from
from durabletask_scheduler.storage.group import net_effect
from durabletask_scheduler.storage.pages import Pages, Query
from durabletask_scheduler.storage.queries import QueriedStorage
from durabletask_scheduler.storage.rows import EVENT_COUNT, KEY, Row, instance_from, loaded_from
from durabletask_scheduler.storage.sqlite_connections import Connections, FileConnections, MemoryConnections
from durabletask_scheduler.storage.sqlite_rows import tags_from, tags_text, with_tags
from durabletask_scheduler.storage.statements import statements

_READ = statements("sqlite", "read")
_ENTITIES = statements("sqlite", "entities")

# A value that SQLite cannot hold is treated like a disk that cannot: the group is refused, the store stays usable.
_ERRORS = (sqlite3.Error, OverflowError, UnicodeError)

Change = TypeVar("Change")


class SqliteStorage(QueriedStorage):
    """A store in one SQLite file, or in memory.

    Args:
        path: the file, created (private to its owner) if it does not exist; its directory must.
            ``":memory:"`` keeps everything in this process and forgets it on ``close``.
        synchronous: when a write counts as done. ``"FULL"`` (default): it survives a power loss.
            ``"NORMAL"``: it survives the end of the process; a power loss may take the last writes,
            never a part of one. ``"OFF"``: a power loss may damage the file.

    Raises:
        StorageUnusable: the file cannot be used, or another scheduler has it; the message says why
            and what to do.
        ValueError: ``synchronous`` is something else.
    """

    pages = Pages(statements("sqlite", "page"), tags_text, tags_from)
    entity_sql = _ENTITIES

    def __init__(self, path: str | os.PathLike[str], *, synchronous: str = "FULL") -> None:
        check_synchronous(synchronous)
        in_memory = os.fspath(path) == ":memory:"
        self.waits_for_disk = synchronous == "FULL" and not in_memory
        self._connections: Connections = MemoryConnections() if in_memory else FileConnections(Path(path), synchronous)
        self._hubs = Hubs(self._rows("task_hubs"))

    def confirm(self) -> None:
        """The lock on the file lasts as long as this process."""

    def write(self, commits: Sequence[Commit]) -> None:
        effect = net_effect(commits)
        self._commit(sqlite_changes.apply, effect)
        self._connections.committed(effect.payload_bytes())

    def add_task_hub(self, task_hub: str) -> None:
        if task_hub not in self._hubs:
            self._commit(sqlite_changes.add_task_hub, task_hub)
            self._hubs = Hubs(self._rows("task_hubs"))

    def last_key(self) -> int:
        return int(self._rows("last_key")[0][0])

    def load(self, task_hub: str, instance_id: str) -> Instance | None:
        keys = self._rows("key_of", (task_hub, instance_id), brief=True)
        return self.load_key(keys[0][0]) if keys else None

    def load_key(self, key: int) -> Instance | None:
        with self._snapshot() as connection:
            row = connection.execute(_READ["instance_by_key"], (key,)).fetchone()
            if row is None:
                return None
            tasks = connection.execute(_READ["open_tasks"], (key,)).fetchall()
            inbox = connection.execute(_READ["inbox"], (key,)).fetchall()
        return instance_from(with_tags(row), tasks, inbox)

    def load_many(self, task_hub: str, instance_ids: Sequence[str], *, short: int) -> list[LoadedInstance]:
        with self._snapshot() as connection:
            rows = connection.execute(_READ["instances_by_id"], (_possible(instance_ids), task_hub)).fetchall()
            if not rows:
                return []
            keys = json.dumps([row[KEY] for row in rows])
            tasks = connection.execute(_READ["open_tasks_of_many"], (keys,)).fetchall()
            inbox = connection.execute(_READ["inbox_of_many"], (keys,)).fetchall()
            brief = json.dumps([row[KEY] for row in rows if row[EVENT_COUNT] <= short])
            history = connection.execute(_READ["history_of_many"], (brief,)).fetchall()
        return loaded_from([with_tags(row) for row in rows], tasks, inbox, history, short)

    def live(self) -> Iterator[LiveInstance]:
        return (LiveInstance(*row) for row in self._rows("live"))

    def existing(self, task_hub: str, instance_ids: Sequence[str]) -> set[str]:
        if not instance_ids:
            return set()
        return {row[0] for row in self._rows("existing", (_possible(instance_ids), task_hub))}

    def history(self, key: int) -> list[HistoryRow]:
        return [HistoryRow(*row) for row in self._rows("history", (key,))]

    def history_row(self, history_key: int) -> HistoryRow | None:
        rows = self._rows("history_row", (history_key,))
        return HistoryRow(*rows[0]) if rows else None

    def children(self, task_hub: str, parent_instance_id: str) -> list[str]:
        return [row[0] for row in self._rows("children", (task_hub, parent_instance_id))]

    def load_entity(self, task_hub: str, instance_id: str) -> Entity | None:
        with self._snapshot() as connection:
            row = connection.execute(_ENTITIES["entity_by_id"], (task_hub, instance_id)).fetchone()
            if row is None:
                return None
            inbox = connection.execute(_ENTITIES["entity_inbox"], (row[0],)).fetchall()
        return entity_from(row, inbox)

    def waiting_entities(self) -> Iterator[WaitingEntity]:
        with self._snapshot() as connection:
            rows = connection.execute(_ENTITIES["waiting_entities"]).fetchall()
        return (WaitingEntity(*row) for row in rows)

    def task_hubs(self) -> list[str]:
        return [row[0] for row in self._rows("task_hubs")]

    def close(self) -> None:
        self._connections.close()

    def _commit(self, apply: Callable[[Change, sqlite3.Connection, Mapping[str, int]], None], change: Change) -> None:
        """Apply a change in one transaction."""
        connection = self._connections.writer()
        try:
            connection.execute("BEGIN IMMEDIATE")
            apply(change, connection, self._hubs)
            self._connections.verify()
            connection.execute("COMMIT")
        except BaseException as error:
            _roll_back(connection)
            if isinstance(error, _ERRORS):
                raise StorageError(f"nothing was written: {error}") from error
            raise
        finally:
            self._connections.give_back(connection)

    @contextmanager
    def _snapshot(self) -> Iterator[sqlite3.Connection]:
        """One reader, for which nothing changes between its statements."""
        connection = self._connections.reader()
        try:
            connection.execute("BEGIN")
            yield connection
            connection.execute("ROLLBACK")
        except BaseException as error:
            _roll_back(connection)
            if isinstance(error, _ERRORS):
                raise _unreadable(error) from error
            raise
        finally:
            self._connections.give_back(connection)

    def _rows(self, statement: str, parameters: Row = (), *, brief: bool = False) -> list[Any]:
        # One statement sees one state of the file; it needs no transaction.
        connection = self._connections.reader(brief=brief)
        try:
            return connection.execute(_READ[statement], parameters).fetchall()
        except _ERRORS as error:
            raise _unreadable(error) from error
        finally:
            self._connections.give_back(connection)

    def _answer(self, query: Query) -> list[Row]:
        with self._snapshot() as connection:
            rows: list[Row] = connection.execute(*query).fetchall()
        return rows


def _possible(instance_ids: Sequence[str]) -> str:
    """Those of the ids that an instance can have, for ``json_each``.

    SQLite ends a text from JSON at a NUL: such an id, which no instance has, would find the one that it begins with.
    """
    return json.dumps([one for one in instance_ids if "\0" not in one])


def _unreadable(error: Exception) -> StorageError:
    return StorageError(f"the store could not be read: {error}")


def _roll_back(connection: sqlite3.Connection) -> None:
    # After some failures (a full disk, an I/O error) SQLite has rolled back by itself.
    if connection.in_transaction:
        connection.execute("ROLLBACK")
