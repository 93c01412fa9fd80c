"""The default store: one SQLite file that one scheduler owns."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from durabletask_scheduler.hub.entity_model import Entity
from durabletask_scheduler.hub.model import Commit, HistoryRow, Instance
from durabletask_scheduler.storage import (
    EVERY_INSTANCE,
    InstanceFilter,
    InstanceSummary,
    LiveInstance,
    Storage,
    StorageError,
    sqlite_entities,
)
from durabletask_scheduler.storage.entities import EntityFilter, EntitySummary, WaitingEntity
from durabletask_scheduler.storage.group import GroupEffect, net_effect
from durabletask_scheduler.storage.sqlite_connections import Connections, FileConnections, MemoryConnections
from durabletask_scheduler.storage.sqlite_pages import Query, completed_page, counted, created_page
from durabletask_scheduler.storage.sqlite_rows import (
    Row,
    changing_columns,
    fixed_columns,
    instance_from,
    summary_from,
    task_columns,
)
from durabletask_scheduler.storage.statements import statements

SYNCHRONOUS = ("FULL", "NORMAL", "OFF")

_READ = statements("sqlite", "read")
_WRITE = statements("sqlite", "write")
_ENTITIES = sqlite_entities.SQL

# A value that SQLite cannot hold is treated like a disk that cannot: the group is refused, the store stays usable.
_ERRORS = (sqlite3.Error, OverflowError, UnicodeError)


class SqliteStorage(Storage):
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

    def __init__(self, path: str | os.PathLike[str], *, synchronous: str = "FULL") -> None:
        if synchronous not in SYNCHRONOUS:
            raise ValueError(f"synchronous must be one of {', '.join(SYNCHRONOUS)}, not {synchronous!r}")
        in_memory = os.fspath(path) == ":memory:"
        self._connections: Connections = MemoryConnections() if in_memory else FileConnections(Path(path), synchronous)
        self._hubs: dict[str, int] = dict(self._rows("task_hubs"))

    def write(self, commits: Sequence[Commit]) -> None:
        effect = net_effect(commits)
        batches = [(_WRITE[statement], rows) for statement, rows in self._batches(effect) if rows]
        if effect.entities is not None:
            batches += [(text, rows) for text, rows in sqlite_entities.batches(effect.entities, self._hub_key) if rows]
        if batches:
            self._run(batches)

    def add_task_hub(self, task_hub: str) -> None:
        if task_hub not in self._hubs:
            self._run([(_WRITE["add_task_hub"], [(task_hub,)])])
            self._hubs = dict(self._rows("task_hubs"))

    def last_key(self) -> int:
        return int(self._rows("last_key")[0][0])

    def load(self, task_hub: str, instance_id: str) -> Instance | None:
        keys = self._rows("key_of", (task_hub, instance_id))
        return self.load_key(keys[0][0]) if keys else None

    def load_key(self, key: int) -> Instance | None:
        with self._snapshot() as connection:
            row = connection.execute(_READ["instance_by_key"], (key,)).fetchone()
            if row is None:
                return None
            tasks = connection.execute(_READ["open_tasks"], (key,)).fetchall()
            inbox = connection.execute(_READ["inbox"], (key,)).fetchall()
        return instance_from(row, tasks, inbox)

    def live(self) -> Iterator[LiveInstance]:
        return (LiveInstance(*row) for row in self._rows("live"))

    def existing(self, task_hub: str, instance_ids: Sequence[str]) -> set[str]:
        if not instance_ids:
            return set()
        return {row[0] for row in self._rows("existing", (task_hub, json.dumps(list(instance_ids))))}

    def history(self, key: int) -> list[HistoryRow]:
        return [HistoryRow(*row) for row in self._rows("history", (key,))]

    def history_row(self, history_key: int) -> HistoryRow | None:
        rows = self._rows("history_row", (history_key,))
        return HistoryRow(*rows[0]) if rows else None

    def children(self, task_hub: str, parent_instance_id: str) -> list[str]:
        return [row[0] for row in self._rows("children", (task_hub, parent_instance_id))]

    def query(
        self, task_hub: str, where: InstanceFilter, *, limit: int, after: tuple[int, int] | None, payloads: bool
    ) -> list[InstanceSummary]:
        hub = self._hubs.get(task_hub, 0)
        return self._page(created_page(hub, where, limit=limit, after=after, payloads=payloads))

    def query_completed(
        self, task_hub: str, where: InstanceFilter, *, limit: int, after: tuple[int, int] | None
    ) -> list[InstanceSummary]:
        return self._page(completed_page(self._hubs.get(task_hub, 0), where, limit=limit, after=after))

    def counts(
        self, task_hub: str, where: InstanceFilter = EVERY_INSTANCE, *, by_name: bool = False, by_version: bool = False
    ) -> dict[tuple[int, str, str], int]:
        hub = self._hubs.get(task_hub, 0)
        query = counted(hub, where, by_name=by_name, by_version=by_version)
        if query is None:
            return {}
        with self._snapshot() as connection:
            rows = connection.execute(*query).fetchall()
        return {(status, name, version): count for status, name, version, count in rows}

    def load_entity(self, task_hub: str, instance_id: str) -> Entity | None:
        with self._snapshot() as connection:
            row = connection.execute(_ENTITIES["entity_by_id"], (task_hub, instance_id)).fetchone()
            if row is None:
                return None
            inbox = connection.execute(_ENTITIES["entity_inbox"], (row[0],)).fetchall()
        return sqlite_entities.entity_from(row, inbox)

    def waiting_entities(self) -> Iterator[WaitingEntity]:
        with self._snapshot() as connection:
            rows = connection.execute(_ENTITIES["waiting_entities"]).fetchall()
        return (WaitingEntity(*row) for row in rows)

    def query_entities(
        self, task_hub: str, where: EntityFilter, *, limit: int, after: str, states: bool
    ) -> list[EntitySummary]:
        query = sqlite_entities.page(self._hubs.get(task_hub, 0), where, limit=limit, after=after, states=states)
        with self._snapshot() as connection:
            rows = connection.execute(*query).fetchall()
        return [sqlite_entities.summary_from(row) for row in rows]

    def task_hubs(self) -> list[str]:
        return [row[0] for row in self._rows("task_hubs")]

    def close(self) -> None:
        self._connections.close()

    def _batches(self, effect: GroupEffect) -> Iterator[tuple[str, list[Row]]]:
        """The statements of a group in order, each with its rows. Most groups are one small commit: see what it has."""
        if effect.deleted or effect.history_dropped:
            yield from _removals(effect)
        if effect.created:
            yield from self._creations(effect)
        if effect.updated:
            yield "update_instance", [(*changing_columns(instance), key) for key, instance in effect.updated.items()]
        if effect.restarted:
            restarted = effect.restarted & effect.updated.keys()
            yield "put_started", [(key, effect.updated[key].started) for key in restarted]
        history = [row for rows in effect.history.values() for row in rows]
        yield "insert_history", [(row.key, row.instance_key, row.count, row.events) for row in history]
        yield "close_task", [(key,) for key in effect.closed]
        yield "open_task", [task_columns(*entry) for entry in effect.opened.values()]
        yield "remove_inbox", [(key,) for key in effect.inbox_removed]
        yield "add_inbox", [(row.key, row.instance_key, row.event) for row in effect.inbox_added.values()]

    def _creations(self, effect: GroupEffect) -> Iterator[tuple[str, list[Row]]]:
        created = effect.created.values()
        yield (
            "insert_instance",
            [
                changing_columns(instance) + fixed_columns(instance, self._hub_key(instance.task_hub))
                for instance in created
            ],
        )
        yield "put_started", [(instance.key, instance.started) for instance in created]

    def _hub_key(self, task_hub: str) -> int:
        hub = self._hubs.get(task_hub)
        if hub is None:
            raise StorageError(f"there is no task hub {task_hub!r} in the store; add it first")
        return hub

    def _run(self, batches: list[tuple[str, list[Row]]]) -> None:
        """Statements, each over its rows, in one transaction."""
        with self._connections.writing() as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
                for text, rows in batches:
                    connection.executemany(text, rows)
                self._connections.verify()
                connection.execute("COMMIT")
            except BaseException as error:
                _roll_back(connection)
                if isinstance(error, _ERRORS):
                    raise StorageError(f"nothing was written: {error}") from error
                raise

    @contextmanager
    def _snapshot(self) -> Iterator[sqlite3.Connection]:
        """One reader, for which nothing changes between its statements."""
        with self._connections.reading() as connection:
            try:
                connection.execute("BEGIN")
                yield connection
            except _ERRORS as error:
                raise _unreadable(error) from error
            finally:
                _roll_back(connection)

    def _rows(self, statement: str, parameters: Row = ()) -> list[Any]:
        # One statement sees one state of the file; it needs no transaction.
        with self._connections.reading() as connection:
            try:
                return connection.execute(_READ[statement], parameters).fetchall()
            except _ERRORS as error:
                raise _unreadable(error) from error

    def _page(self, query: Query | None) -> list[InstanceSummary]:
        if query is None:
            return []
        with self._snapshot() as connection:
            rows = connection.execute(*query).fetchall()
        return [summary_from(row) for row in rows]


def _removals(effect: GroupEffect) -> Iterator[tuple[str, list[Row]]]:
    deleted: list[Row] = [(key,) for key in effect.deleted]
    yield "delete_open_tasks", deleted
    yield "delete_inbox", deleted
    yield "delete_history", [*deleted, *((key,) for key in effect.history_dropped)]
    yield "delete_started", deleted
    yield "delete_instance", deleted


def _unreadable(error: Exception) -> StorageError:
    return StorageError(f"the store could not be read: {error}")


def _roll_back(connection: sqlite3.Connection) -> None:
    # After some failures (a full disk, an I/O error) SQLite has rolled back by itself.
    if connection.in_transaction:
        connection.execute("ROLLBACK")
