"""What every store must do with entities; how a store joins is in conftest.py."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_scheduler.hub.entity_model import CLIENT, Entity, EntityChanges, EntityInboxRow, Lock, Queued, Sender
from durabletask_scheduler.hub.model import Commit
from durabletask_scheduler.storage import Storage
from durabletask_scheduler.storage.entities import EntityFilter, EntitySelection, WaitingEntity
from durabletask_scheduler.storage.maintenance import check
from durabletask_scheduler.storage.sqlite import SqliteStorage

HUB = "default"
T0 = 1_700_000_000_000_000_000
OWNER = Sender("order-1", "exec")


def make(key: int, instance_id: str = "", **values: object) -> Entity:
    fields: dict[str, object] = {"execution_id": "e", "modified_at": T0 + key, "state": "1"}
    return Entity(key, HUB, instance_id or f"@counter@{key}", **(fields | values))  # type: ignore[arg-type]


def event(name: str) -> pb.HistoryEvent:
    return pb.HistoryEvent(eventId=-1, entityOperationSignaled=pb.EntityOperationSignaledEvent(operation=name))


def row(key: int, entity_key: int, due_at: int = 0, sender: Sender = CLIENT) -> EntityInboxRow:
    return EntityInboxRow(key, entity_key, sender, due_at, event(str(key)).SerializeToString())


def changes(**values: object) -> Commit:
    return Commit(entities=EntityChanges(**values))  # type: ignore[arg-type]


def create(store: Storage, *entities: Entity) -> None:
    store.write([changes(created=list(entities))])


@pytest.mark.parametrize("state", [None, "", "null", "käse\x00" * 1000])
@pytest.mark.parametrize("lock", [None, Lock(OWNER, "section", T0)])
def test_an_entity_is_loaded_as_it_was(store: Storage, state: str | None, lock: Lock | None) -> None:
    whole = make(5, "@c@Käse@2", state=state, lock=lock)
    create(store, whole)
    assert store.load_entity(HUB, "@c@Käse@2") == whole
    assert store.load_entity(HUB, "@c@käse@2") is None
    assert store.load_entity("other", "@c@Käse@2") is None


def test_an_update_writes_everything_that_may_change(store: Storage) -> None:
    entity = make(5)
    create(store, entity)
    changed = replace(entity, state=None, modified_at=T0 + 9, lock=Lock(OWNER, "s", T0 + 8))
    store.write([changes(updated={5: changed})])
    assert store.load_entity(HUB, "@counter@5") == changed


def test_what_waits_comes_back_in_order_and_scheduled_operations_by_time(store: Storage) -> None:
    create(store, make(1), make(2))
    rows = [row(13, 1), row(11, 1, sender=OWNER), row(14, 1, due_at=T0 + 5), row(15, 1, due_at=T0 + 2), row(12, 2)]
    store.write([changes(inbox_added=rows)])
    loaded = store.load_entity(HUB, "@counter@1")
    assert loaded is not None
    waiting = Queued(11, event("11"), event("11").SerializeToString(), OWNER)
    assert list(loaded.inbox) == [11, 13] and loaded.inbox[11] == waiting
    assert [(entry.key, entry.due_at) for entry in loaded.scheduled] == [(15, T0 + 2), (14, T0 + 5)]


def test_delete_takes_everything_of_that_entity(store: Storage) -> None:
    create(store, make(1), make(2))
    store.write([changes(inbox_added=[row(11, 1), row(12, 2)])])
    store.write([changes(deleted=[1])])
    assert store.load_entity(HUB, "@counter@1") is None
    create(store, make(1))
    again = store.load_entity(HUB, "@counter@1")
    assert again is not None and not again.inbox
    other = store.load_entity(HUB, "@counter@2")
    assert other is not None and list(other.inbox) == [12]


@pytest.mark.parametrize("together", [True, False])
def test_a_group_comes_to_the_same_as_its_commits_one_by_one(store: Storage, together: bool) -> None:
    group = [
        changes(created=[make(1, "@c@a")], inbox_added=[row(11, 1), row(12, 1)]),
        changes(updated={1: make(1, "@c@a", state="2")}, inbox_removed=[11]),
        changes(deleted=[1], inbox_removed=[12]),
        changes(created=[make(2, "@c@a", state="3")], inbox_added=[row(13, 2)]),
        changes(created=[make(3, "@c@b")]),
        changes(deleted=[3]),
    ]
    for commits in [group] if together else [[commit] for commit in group]:
        store.write(commits)
    loaded = store.load_entity(HUB, "@c@a")
    assert loaded is not None
    assert (loaded.key, loaded.state, list(loaded.inbox)) == (2, "3", [13])
    assert store.load_entity(HUB, "@c@b") is None
    assert store.last_key() == 13


def test_a_restart_learns_where_something_waits_and_since_when(store: Storage) -> None:
    create(store, *(make(key) for key in (1, 2, 3)))
    store.write([changes(inbox_added=[row(11, 3, T0 + 9), row(12, 3, T0 + 5), row(13, 2, T0), row(14, 2)])])
    assert list(store.waiting_entities()) == [
        WaitingEntity(HUB, "@counter@2", 0),
        WaitingEntity(HUB, "@counter@3", T0 + 5),
    ]


@pytest.fixture
def queried(store: Storage) -> Storage:
    store.add_task_hub("second")
    create(
        store,
        make(1, "@counter@b"),
        make(2, "@counter@a", state=None, lock=Lock(OWNER, "s", T0)),
        make(3, "@counters@a", lock=Lock(OWNER, "s", T0)),
        make(4, "@bag@\U0010ffff", state=""),
    )
    store.write([changes(created=[replace(make(5, "@counter@a"), task_hub="second")], inbox_added=[row(11, 2)])])
    return store


@pytest.mark.parametrize(
    ("where", "found"),
    [
        (EntityFilter(), ["@bag@\U0010ffff", "@counter@a", "@counter@b", "@counters@a"]),
        (EntityFilter(EntitySelection.WITH_STATE), ["@bag@\U0010ffff", "@counter@b", "@counters@a"]),
        (EntityFilter(EntitySelection.LOCKED), ["@counter@a", "@counters@a"]),
        (EntityFilter(EntitySelection.STATELESS), ["@counter@a"]),
        (EntityFilter(id_prefix="@counter@"), ["@counter@a", "@counter@b"]),
        (EntityFilter(id_prefix="@bag@\U0010ffff"), ["@bag@\U0010ffff"]),
        (EntityFilter(modified_from=T0 + 2, modified_to=T0 + 3), ["@counter@a", "@counters@a"]),
        (EntityFilter(EntitySelection.LOCKED, id_prefix="@counters"), ["@counters@a"]),
    ],
)
@pytest.mark.parametrize("limit", [1, 10])
def test_pages_are_in_the_order_of_ids(queried: Storage, where: EntityFilter, found: list[str], limit: int) -> None:
    ids: list[str] = []
    while page := queried.query_entities(HUB, where, limit=limit, after=ids[-1] if ids else "", states=False):
        ids.extend(row.instance_id for row in page)
    assert ids == found


def test_a_row_says_what_waits_who_holds_it_and_the_state_if_asked(queried: Storage) -> None:
    shown = {s.instance_id: s for s in queried.query_entities(HUB, EntityFilter(), limit=9, after="", states=True)}
    assert (shown["@counter@a"].backlog, shown["@counter@a"].has_state, shown["@counter@a"].lock) == (
        1,
        False,
        Lock(OWNER, "s", T0),
    )
    assert (shown["@counter@b"].state, shown["@bag@\U0010ffff"].state) == ("1", "")
    without = queried.query_entities(HUB, EntityFilter(), limit=9, after="", states=False)
    assert {row.state for row in without} == {None}
    assert queried.query_entities("nowhere", EntityFilter(), limit=9, after="", states=True) == []


def test_entities_are_not_among_the_instances(queried: Storage) -> None:
    """Section 5.7."""
    assert queried.load(HUB, "@counter@a") is None
    assert list(queried.live()) == [] and queried.counts(HUB) == {}


def test_a_file_of_the_first_schema_is_brought_forward(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with_entities = SqliteStorage(path, synchronous="OFF")
    with_entities.add_task_hub(HUB)
    with_entities.close()
    connection = sqlite3.connect(path)
    connection.executescript("DROP TABLE entities; DROP TABLE entity_inbox; PRAGMA user_version = 1;")
    connection.close()
    store = SqliteStorage(path, synchronous="OFF")
    create(store, make(1))
    assert store.load_entity(HUB, "@counter@1") == make(1)
    store.close()


def test_check_finds_what_must_not_be(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = SqliteStorage(path, synchronous="OFF")
    store.add_task_hub(HUB)
    create(store, make(1), make(2, lock=Lock(OWNER, "s", T0)), make(3, lock=Lock(OWNER, "s", T0)))
    store.write([changes(inbox_added=[row(11, 3, sender=OWNER), row(12, 99)])])
    store.close()
    findings = check(path)
    assert len(findings) == 2
    assert any("'@counter@2'" in line and "locked by an execution that is over" in line for line in findings)
    assert any("entity inbox row 12" in line for line in findings)
