"""Pages by the beginnings of ids: the same whichever way they are found, and no dearer for what else is stored."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from durabletask_scheduler.hub.entity_model import Entity, EntityChanges
from durabletask_scheduler.hub.model import COMPLETED, FAILED, PENDING, RUNNING, TERMINAL, Commit, Instance
from durabletask_scheduler.storage import InstanceFilter, InstanceSummary, Storage, queries
from durabletask_scheduler.storage.entities import EntityFilter, EntitySelection
from durabletask_scheduler.storage.entity_rows import entity_page
from durabletask_scheduler.storage.pages import Pages, Query
from durabletask_scheduler.storage.sqlite import SqliteStorage
from durabletask_scheduler.storage.statements import statements

HUB = "default"
T0 = 1_700_000_000_000_000_000
STATUSES = [PENDING, RUNNING, COMPLETED, FAILED, COMPLETED]


def make(key: int, instance_id: str) -> Instance:
    """Three by three created and completed at the same time, later keys completed earlier."""
    status = STATUSES[key % len(STATUSES)]
    ended = status in TERMINAL
    return Instance(
        key,
        HUB,
        instance_id,
        f"execution-{key}",
        "order" if key % 4 else "other",
        "2.0" if key % 3 else None,
        status,
        T0 + key // 3,
        T0 + key,
        b"started",
        completed_at=T0 + 1_000 - key // 3 if ended else 0,
        completed=b"done" if ended else b"",
        tags={"even": str(key % 2 == 0)},
    )


# Ids in an order that is not that of creation, and texts beside those that begin alike.
BEGINNINGS = ["a-", "a", "a.", "b-", "é", "\U0010ffff", "a-\ud7ff", "%", "a-_", "a\0", "a\1"]
STORED = [make(key, f"{BEGINNINGS[key % len(BEGINNINGS)]}{key * 37 % 101:03}") for key in range(1, 100)]
PREFIXES = ["a-", "a", "a-0", "é", "\U0010ffff", "a-\ud7ff", "%", "_", "a\0", "a\1", "nothing", STORED[50].instance_id]
FILTERS = [
    {},
    {"statuses": frozenset({RUNNING, COMPLETED})},
    {"statuses": frozenset({RUNNING})},
    {"created_from": T0 + 5, "created_to": T0 + 25},
    {"completed_from": T0 + 975, "completed_to": T0 + 995},
    {"name": "order", "version": "2.0", "tags": (("even", "True"),)},
    {"version": ""},
]


def selects(where: InstanceFilter, row: Instance) -> bool:
    ends = where.completed_from or where.completed_to
    return (
        row.instance_id.startswith(where.id_prefix)
        and row.status in (where.statuses or STATUSES)
        and where.created_from <= row.created_at < (where.created_to or T0 * 2)
        and (not ends or bool(row.completed_at))
        and where.completed_from <= row.completed_at < (where.completed_to or T0 * 2)
        and where.name in (None, row.name)
        and where.version in (None, row.version or "")
        and set(where.tags) <= set(row.tags.items())
    )


def pages(ask: Callable[[Any], list[InstanceSummary]], at: str, limit: int) -> list[int]:
    """Keys of all pages, each of which must be full but for the last."""
    keys: list[int] = []
    sizes: list[int] = []
    after = None
    while page := ask(after):
        keys += [row.key for row in page]
        sizes.append(len(page))
        after = (getattr(page[-1], at), page[-1].key)
    assert all(size == limit for size in sizes[:-1])
    return keys


@pytest.fixture
def filled(store: Storage) -> Storage:
    store.add_task_hub("elsewhere")
    elsewhere = make(1_000, "a-5")
    elsewhere.task_hub = "elsewhere"
    store.write([Commit(created=[*STORED, elsewhere])])
    return store


@pytest.mark.parametrize("few", [0, 10_000], ids=["in the order of the page", "by id"])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_pages_and_counts_by_prefix_are_the_same_either_way(
    filled: Storage, prefix: str, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "FEW", few)
    for conditions in FILTERS:
        where = InstanceFilter(id_prefix=prefix, **conditions)  # type: ignore[arg-type]
        wanted = [row for row in STORED if selects(where, row)]
        created = pages(
            lambda after, where=where: filled.query(HUB, where, limit=4, after=after, payloads=True), "created_at", 4
        )
        assert created == [row.key for row in sorted(wanted, key=lambda row: (row.created_at, row.key))]
        completed = pages(
            lambda after, where=where: filled.query_completed(HUB, where, limit=4, after=after), "completed_at", 4
        )
        ended = [row for row in wanted if row.completed_at]
        assert completed == [row.key for row in sorted(ended, key=lambda row: (row.completed_at, row.key))]
        assert sum(filled.counts(HUB, where, by_name=True).values()) == len(wanted)


def test_a_prefix_selects_nothing_in_a_task_hub_that_is_not_there(filled: Storage) -> None:
    where = InstanceFilter(id_prefix="a-")
    assert filled.query("nowhere", where, limit=9, after=None, payloads=False) == []
    assert filled.query_completed("nowhere", where, limit=9, after=None) == []
    assert filled.counts("nowhere", where) == {}


@pytest.mark.parametrize(("more", "by_id"), [(-1, False), (0, True), (1, True)])
def test_ids_are_looked_at_one_by_one_up_to_a_bound(
    filled: Storage, more: int, by_id: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound is of ids with the prefix, whatever else a filter wants, and in this task hub."""
    matching = sum(row.instance_id.startswith("a-") for row in STORED)
    monkeypatch.setattr(queries, "FEW", matching + more)
    ways = []
    for name in ("created", "completed", "counted"):
        build = getattr(Pages, name)

        def spy(self: Pages, *args: Any, build: Any = build, **options: Any) -> Any:
            ways.append(options["by_id"])
            return build(self, *args, **options)

        monkeypatch.setattr(Pages, name, spy)
    for where in (InstanceFilter(id_prefix="a-"), InstanceFilter(id_prefix="a-", name="none")):
        filled.query(HUB, where, limit=9, after=None, payloads=False)
        filled.query_completed(HUB, where, limit=9, after=None)
        filled.counts(HUB, where)
    assert ways == [by_id] * 6
    filled.query(HUB, InstanceFilter(name="order"), limit=9, after=None, payloads=False)
    assert ways[-1] is False


# ---- What a page costs in SQLite: steps of its virtual machine ----


def steps(path: Path, query: Query | None) -> int:
    assert query is not None
    taken = 0

    def step() -> None:
        nonlocal taken
        taken += 1

    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.set_progress_handler(step, 1)
        connection.execute(*query).fetchall()
    return taken


RARE = InstanceFilter(id_prefix="m-")
EVERY = InstanceFilter()
AFTER = (T0 + 5_000, 5_000)
OF_PREFIX: dict[str, Callable[[Pages], Query | None]] = {
    "named": lambda pages: pages.named(1, RARE, limit=11),
    "first": lambda pages: pages.created(1, RARE, limit=5, after=None, payloads=True, by_id=True),
    "last": lambda pages: pages.created(1, RARE, limit=5, after=AFTER, payloads=True, by_id=True),
    "completed": lambda pages: pages.completed(1, RARE, limit=5, after=None, by_id=True),
    "counted": lambda pages: pages.counted(1, RARE, by_name=True, by_version=True, by_id=True),
    "without a prefix": lambda pages: pages.created(1, EVERY, limit=5, after=AFTER, payloads=True),
    "without a prefix, completed": lambda pages: pages.completed(1, EVERY, limit=5, after=AFTER),
    "without a prefix, completed before": lambda pages: pages.completed(
        1, InstanceFilter(completed_to=T0 + 9_000), limit=5, after=AFTER
    ),
}


def ended(key: int, instance_id: str) -> Instance:
    return Instance(
        key, HUB, instance_id, "e", "order", None, COMPLETED, T0 + key, T0 + key, b"", completed_at=T0 + key
    )


@pytest.mark.parametrize("name", OF_PREFIX)
def test_a_page_costs_the_same_whatever_else_is_stored(tmp_path: Path, name: str) -> None:
    """What is stored besides stands before and behind the page, in the order of creation and of ids."""
    cost = []
    for others in (100, 2_000):
        path = tmp_path / f"{others}.db"
        with contextlib.closing(SqliteStorage(path, synchronous="OFF")) as store:
            store.add_task_hub(HUB)
            before = [ended(key, f"{'az'[key % 2]}-{key}") for key in range(1, others)]
            behind = [ended(key, f"{'az'[key % 2]}-{key}") for key in range(6_000, 6_000 + others)]
            rare = [ended(key, f"m-{key}") for key in range(5_000, 5_010)]
            store.write([Commit(created=[*before, *rare, *behind])])
        cost.append(steps(path, OF_PREFIX[name](SqliteStorage.pages)))
    assert cost[1] < 1.5 * cost[0]


@pytest.mark.parametrize("after", ["", "@a@9", "@m@", "@m@5004"])
@pytest.mark.parametrize("selection", [EntitySelection.ALL, EntitySelection.WITH_STATE])
def test_a_page_of_entities_costs_the_same_whatever_else_is_stored(
    tmp_path: Path, after: str, selection: EntitySelection
) -> None:
    cost = []
    for others in (100, 2_000):
        path = tmp_path / f"{others}.db"
        names = [f"@{'az'[key % 2]}@{key}" for key in range(others)] + [f"@m@{key}" for key in range(5_000, 5_010)]
        entities = [Entity(key, HUB, name, "e", modified_at=T0, state="1") for key, name in enumerate(names, start=1)]
        with contextlib.closing(SqliteStorage(path, synchronous="OFF")) as store:
            store.add_task_hub(HUB)
            store.write([Commit(entities=EntityChanges(created=entities))])
            where = EntityFilter(selection, id_prefix="@m@")
            page = store.query_entities(HUB, where, limit=5, after=after, states=True)
            first = 5_005 if after == "@m@5004" else 5_000
            assert [row.instance_id for row in page] == [f"@m@{key}" for key in range(first, first + 5)]
        sql = statements("sqlite", "entities")
        cost.append(steps(path, entity_page(sql, 1, where, limit=5, after=after, states=True)))
    assert cost[1] < 1.5 * cost[0]
