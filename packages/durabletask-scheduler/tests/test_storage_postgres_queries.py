"""The PostgreSQL store: texts that PostgreSQL does not know, groups of any size, and the shape of its queries."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_scheduler.hub.model import (
    COMPLETED,
    FAILED,
    PENDING,
    RUNNING,
    Commit,
    HistoryRow,
    InboxRow,
    Instance,
    OpenTask,
    TaskKind,
)
from durabletask_scheduler.storage import InstanceFilter
from durabletask_scheduler.storage.entities import EntityFilter, EntitySelection
from durabletask_scheduler.storage.entity_rows import entity_page
from durabletask_scheduler.storage.postgres import PostgresStorage
from durabletask_scheduler.storage.postgres_values import escape, unescape
from durabletask_scheduler.storage.statements import statements
from postgres_server import PostgresServer

pytest.importorskip("psycopg", reason='needs psycopg: pip install "psycopg[binary]"')

from durabletask_scheduler.storage.postgres_opening import Target, connect
from durabletask_scheduler.storage.postgres_pipeline import MANY, over_rows

HUB = "default"


def make(key: int, instance_id: str = "", status: int = PENDING, **values: object) -> Instance:
    plain = Instance(key, HUB, instance_id or f"i{key}", "e", "order", None, status, key, key, b"started")
    return replace(plain, **values)  # type: ignore[arg-type]


@pytest.fixture
def store(postgres_database: Any) -> Iterator[PostgresStorage]:
    with contextlib.closing(PostgresStorage(postgres_database.url, schema=postgres_database.schema)) as store:
        store.add_task_hub(HUB)
        yield store


# ---- Values ----

_STRANGE = [
    "",
    "\0",
    "\1",
    "\0\0",
    "\0\1",
    "\1\0",
    "\1\1",
    "\2",
    "a",
    "a\0",
    "a\1",
    "a\2",
    "\ue000",
    "\uffff",
    "\U00010000",
]


@pytest.mark.parametrize("text", [a + b for a, b in itertools.product(_STRANGE, repeat=2)])
def test_every_text_comes_back(text: str) -> None:
    assert "\0" not in escape(text)
    assert unescape(escape(text)) == text


def test_escaped_texts_keep_their_order_and_what_they_begin_with() -> None:
    texts = sorted({a + b for a, b in itertools.product(_STRANGE, repeat=2)})
    assert [escape(text) for text in texts] == sorted(map(escape, texts))
    for first, second in itertools.product(texts, repeat=2):
        assert escape(first).startswith(escape(second)) == first.startswith(second)


def test_texts_with_nul_are_stored_found_and_paged(store: PostgresStorage) -> None:
    instances = [
        make(key, f"id{text}", name=f"n{text}", tags={f"t{text}": text}, custom_status=text, version=text)
        for key, text in enumerate(_STRANGE, start=1)
    ]
    store.write([Commit(created=instances)])
    for instance in instances:
        assert store.load(HUB, instance.instance_id) == instance
        [(name, value)] = instance.tags.items()
        where = InstanceFilter(tags=((name, value),), name=instance.name)
        found = store.query(HUB, where, limit=9, after=None, payloads=False)
        assert [row.instance_id for row in found] == [instance.instance_id]
        assert found[0].tags == instance.tags
    prefix = InstanceFilter(id_prefix="id\0")
    found = store.query(HUB, prefix, limit=99, after=None, payloads=False)
    assert {row.instance_id for row in found} == {"id\0", "id\0\0", "id\0\1"}
    ids = [instance.instance_id for instance in instances]
    assert store.existing(HUB, [*ids, "id\0\2"]) == set(ids)


@pytest.mark.parametrize("count", [1, MANY - 1, MANY, MANY + 1, 2 * MANY, 2 * MANY + 3])
def test_rows_are_written_and_changed_and_removed_many_at_a_time(store: PostgresStorage, count: int) -> None:
    instances = [make(key, name=f"n{key}") for key in range(1, count + 1)]
    history = [HistoryRow(key + 100, key, b"h%d" % key, 1) for key in range(1, count + 1)]
    tasks = [(key, OpenTask(key + 200, TaskKind.TIMER, 0, key + 100)) for key in range(1, count + 1)]
    inbox = [InboxRow(key + 300, key, pb.HistoryEvent(eventId=key).SerializeToString()) for key in range(1, count + 1)]
    store.write([Commit(created=instances, history=history, opened=tasks, inbox_added=inbox)])
    for key in range(1, count + 1):
        found = store.load_key(key)
        assert found is not None and found.name == f"n{key}" and list(found.open_tasks) == [key + 200]
        assert [inbound.event.eventId for inbound in found.inbox] == [key]
        assert store.history(key) == [history[key - 1]]
    changed = {each.key: replace(each, status=RUNNING, name=f"m{each.key}") for each in instances}
    gone = [key + 200 for key in range(1, count + 1)]
    store.write([Commit(updated=changed, closed=gone, inbox_removed=[row.key for row in inbox])])
    for key in range(1, count + 1):
        found = store.load_key(key)
        assert found is not None and found.name == f"m{key}" and found.status == RUNNING
        assert not found.open_tasks and not found.inbox
    store.write([Commit(deleted=[each.key for each in instances])])
    assert [store.load_key(key) for key in range(1, count + 1)] == [None] * count
    assert [store.history(key) for key in range(1, count + 1)] == [[]] * count


def test_a_group_of_any_size_is_written_at_once(store: PostgresStorage) -> None:
    """Its answers alone are more than the network holds back."""
    rows = [HistoryRow(key, 1, b"x", 1) for key in range(2, 60_000)]
    store.write([Commit(created=[make(1)], history=rows)])
    assert len(store.history(1)) == len(rows)
    store.write([Commit(history_dropped=[1])])
    assert store.history(1) == []


# ---- The shape of queries ----


@pytest.fixture(scope="module")
def filled(postgres_server: PostgresServer) -> Iterator[Any]:
    """A connection such as the store's own, to one with enough of everything that an index pays."""
    with opened(postgres_server.url, "filled", filled=True, analyzed=True) as connection:
        yield connection


@contextlib.contextmanager
def opened(url: str, schema: str, *, filled: bool, analyzed: bool) -> Iterator[Any]:
    """A connection such as the store's own, to a new one with four thousand instances or none."""
    database = Target(url, schema)
    with contextlib.closing(PostgresStorage(database.url, schema=database.schema)) as store:
        store.add_task_hub(HUB)
        if filled:
            fill(store)
        with connect(database, {}) as connection:
            if analyzed:
                connection.execute("ANALYZE")
            yield connection


def fill(store: PostgresStorage) -> None:
    statuses = itertools.cycle([COMPLETED] * 5 + [FAILED] * 3 + [RUNNING, PENDING])
    instances = []
    for key, status in zip(range(1, 4001), statuses):
        end = {"completed_at": key, "completed": b"c"} if status in (COMPLETED, FAILED) else {}
        parent = f"i{key // 10}" if key % 3 else ""
        instances.append(make(key, status=status, parent_instance_id=parent, **end))
    tasks = [(i.key, OpenTask(i.key + 20_000, TaskKind.TIMER, 0, i.key + 10_000)) for i in instances]
    history = [HistoryRow(i.key + 10_000, i.key, b"h" * 100, 1) for i in instances]
    store.write([Commit(created=instances, opened=tasks, history=history)])


@pytest.fixture(
    scope="module",
    params=[(False, False), (False, True), (True, False), (True, True)],
    ids=["empty", "empty and analyzed", "filled", "filled and analyzed"],
)
def known(request: pytest.FixtureRequest, postgres_server: PostgresServer) -> Iterator[Any]:
    """A connection to a store of which the server knows this much; a plan that it makes now it keeps."""
    filled, analyzed = request.param
    schema = f"known_{'filled' * filled}_{'analyzed' * analyzed}"
    with opened(postgres_server.url, schema, filled=filled, analyzed=analyzed) as connection:
        yield connection


def plan_of(connection: Any, sql: str) -> dict[str, Any]:
    """The plan for any parameters, as the store uses it."""
    names = sorted(set(re.findall(r"%\((\w+)\)s", sql)))
    for number, name in enumerate(names, start=1):
        sql = sql.replace(f"%({name})s", f"${number}")
    connection.execute(f"PREPARE looked_at AS {sql}")
    arguments = f"({', '.join(['NULL'] * len(names))})" if names else ""
    (plan,) = connection.execute(f"EXPLAIN (FORMAT JSON) EXECUTE looked_at {arguments}").fetchone()
    connection.execute("DEALLOCATE looked_at")
    found: dict[str, Any] = plan[0]["Plan"]
    return found


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


# Tables of which little is ever there, or which are empty here.
_MAY_SCAN = {"task_hubs", "entities", "entity_inbox", "inbox"}


def scans(plan: dict[str, Any]) -> list[str]:
    found = [node["Relation Name"] for node in nodes(plan) if node["Node Type"] == "Seq Scan"]
    return [table for table in found if table not in _MAY_SCAN]


@pytest.mark.parametrize("name", ["last_key", "task_hubs", "live"])
def test_what_is_read_at_the_start_uses_an_index(filled: Any, name: str) -> None:
    assert scans(plan_of(filled, statements("postgres", "read")[name])) == []


def looked_up(plan: dict[str, Any]) -> set[str]:
    """The indexes in which something is looked up; every other way through a table but that of the task hubs fails."""
    tables = [node for node in nodes(plan) if "Relation Name" in node and node["Node Type"] != "ModifyTable"]
    ways = [node for node in tables if node["Relation Name"] != "task_hubs"]
    assert [node["Relation Name"] for node in ways if "Index Cond" not in node] == []
    return {node["Index Name"] for node in ways}


_LOADED_BY = {
    "instances": {"instances_pkey", "started_events_pkey"},
    "open_tasks": {"open_tasks_by_instance"},
    "inbox": {"inbox_by_instance"},
    "history_of_many": {"history_by_instance"},
}
_READ_BY = {
    "existing": {"instances_by_id"},
    "history": {"history_by_instance"},
    "history_row": {"history_pkey"},
    "children": {"instances_by_parent"},
}


@pytest.mark.parametrize("name", list(_LOADED_BY))
@pytest.mark.parametrize("which", ["of_key", "of_id", "of_ids", "of_ids_and_short"])
def test_loading_looks_up_what_it_needs_whatever_the_server_knows(known: Any, name: str, which: str) -> None:
    sql = statements("postgres", "read")
    found = looked_up(plan_of(known, sql[name].replace("{which}", sql[which])))
    assert found == _LOADED_BY[name] | ({"instances_by_id"} if which != "of_key" else set())


@pytest.mark.parametrize("name", list(_READ_BY))
def test_reading_looks_up_what_it_needs_whatever_the_server_knows(known: Any, name: str) -> None:
    assert looked_up(plan_of(known, statements("postgres", "read")[name])) == _READ_BY[name]


@pytest.mark.parametrize(
    ("name", "indexes"),
    [("entity", {"entities_by_id"}), ("entity_inbox", {"entity_inbox_by_entity", "entities_by_id"})],
)
def test_loading_an_entity_looks_up_what_it_needs_whatever_the_server_knows(
    known: Any, name: str, indexes: set[str]
) -> None:
    assert looked_up(plan_of(known, statements("postgres", "entities")[name])) == indexes


def test_no_statement_that_reads_is_left_out() -> None:
    named = {*_LOADED_BY, *_READ_BY, "last_key", "task_hubs", "live"}
    assert {name for name in statements("postgres", "read") if not name.startswith("of_")} == named


_CHANGES = {
    name: (found["table"], found["column"])
    for name, sql in statements("postgres", "write").items()
    if (found := re.search(r"^(DELETE FROM|UPDATE) (?P<table>\w+)\b.*\b(?P<column>\w+) = ANY \(", sql, re.DOTALL))
}
_INDEXES = {("history", "instance_key"): "by_instance", ("open_tasks", "instance_key"): "by_instance"}
_INDEXES |= {("inbox", "instance_key"): "by_instance", ("entity_inbox", "entity_key"): "by_entity"}


@pytest.mark.parametrize("name", list(_CHANGES))
@pytest.mark.parametrize("rows", [1, MANY])
def test_changes_look_up_their_rows_whatever_the_server_knows(known: Any, name: str, rows: int) -> None:
    sql = over_rows(statements("postgres", "write")[name], rows)
    table, column = _CHANGES[name]
    found = looked_up(plan_of(known, re.sub(r"\$(\d+)", r"%(p\1)s", sql)))
    assert found == {f"{table}_{_INDEXES.get((table, column), 'pkey')}"}


def test_no_statement_that_changes_or_removes_is_left_out() -> None:
    kinds = ("delete", "update", "close", "remove")
    assert list(_CHANGES) == [name for name in statements("postgres", "write") if name.startswith(kinds)]


_FILTERS = [
    InstanceFilter(),
    InstanceFilter(statuses=frozenset({RUNNING})),
    InstanceFilter(statuses=frozenset({COMPLETED, FAILED}), name="order", version="1", tags=(("a", "b"),)),
    InstanceFilter(created_from=1, created_to=4000, completed_from=3, completed_to=4000, id_prefix="i"),
]


def sorts_of_instances(plan: dict[str, Any], *, sorted_above: bool = False) -> Iterator[str]:
    """Indexes that are walked for a sort without a limit between the two."""
    if sorted_above and plan.get("Index Name", "").startswith("instances_by"):
        yield plan["Index Name"]
    sorts = "Sort" in plan["Node Type"] or (sorted_above and plan["Node Type"] != "Limit")
    for child in plan.get("Plans", ()):
        yield from sorts_of_instances(child, sorted_above=sorts)


@pytest.mark.parametrize("where", _FILTERS)
@pytest.mark.parametrize("after", [None, (5, 6)])
@pytest.mark.parametrize("payloads", [False, True])
def test_pages_walk_an_index_in_order_whatever_the_server_knows(
    known: Any, where: InstanceFilter, after: tuple[int, int] | None, payloads: bool
) -> None:
    queries = [
        PostgresStorage.pages.created(1, where, limit=5, after=after, payloads=payloads),
        PostgresStorage.pages.completed(1, where, limit=5, after=after),
    ]
    for sql, _ in filter(None, queries):
        plan = plan_of(known, sql)
        assert scans(plan) == []
        assert list(sorts_of_instances(plan)) == []
        assert len(looked_up(plan) & {"instances_by_status", "instances_by_completion"}) == 1


@pytest.mark.parametrize("analyzed", [True, False])
@pytest.mark.parametrize("prefix", ["i1", "\U0010ffff"])
@pytest.mark.parametrize("conditions", [{}, {"created_from": 1, "created_to": 9, "completed_from": 3, "name": "order"}])
def test_what_is_found_by_id_walks_the_index_of_ids(
    filled: Any, postgres_database: Any, analyzed: bool, prefix: str, conditions: dict[str, Any]
) -> None:
    """Whatever the server knows of the table, which is nothing at first."""
    pages, where = PostgresStorage.pages, InstanceFilter(id_prefix=prefix, **conditions)
    queries = [
        pages.named(1, where, limit=5),
        pages.created(1, where, limit=5, after=None, payloads=True, by_id=True),
        pages.completed(1, where, limit=5, after=(5, 6), by_id=True),
        pages.counted(1, where, by_name=True, by_version=True, by_id=True),
    ]
    with contextlib.ExitStack() as stack:
        connection = filled
        if not analyzed:
            database = Target(postgres_database.url, postgres_database.schema)
            PostgresStorage(database.url, schema=database.schema).close()
            connection = stack.enter_context(connect(database, {}))
        for sql, _ in filter(None, queries):
            plan = plan_of(connection, sql)
            assert scans(plan) == []
            walked = [node for node in nodes(plan) if node.get("Index Name", "").startswith("instances_by")]
            assert [node["Index Name"] for node in walked] == ["instances_by_id"]
            assert "instance_id >=" in walked[0]["Index Cond"]


@pytest.mark.parametrize("selection", list(EntitySelection))
def test_pages_of_entities_walk_an_index_in_order_whatever_the_server_knows(
    known: Any, selection: EntitySelection
) -> None:
    where = EntityFilter(selection, id_prefix="@a")
    sql, _ = entity_page(statements("postgres", "entities"), 1, where, limit=5, after="", states=True)
    plan = plan_of(known, sql)
    assert [node for node in nodes(plan) if node["Node Type"] in ("Seq Scan", "Sort")] == []
    assert len(looked_up(plan)) == 2


def test_what_most_turns_update_is_in_no_index(store: PostgresStorage, postgres_database: Any) -> None:
    """Such an update leaves the indexes alone, as long as its page has room."""
    instance = make(1, status=RUNNING)
    store.write([Commit(created=[instance])])
    for clock in range(1, 11):
        instance.clock, instance.custom_status = clock, str(clock)
        store.write([Commit(updated={1: instance})])
    # The session tells what it has done when it ends.
    store.close()
    with connect(Target(postgres_database.url, postgres_database.schema), {}) as connection:
        for _ in range(200):
            row = connection.execute(
                "SELECT n_tup_upd, n_tup_hot_upd, pg_sleep(0.05) FROM pg_stat_user_tables "
                "WHERE relid = 'instances'::regclass"
            ).fetchone()
            if row is not None and row[0] >= 10:
                break
    assert row is not None and row[:2] == (10, 10)
