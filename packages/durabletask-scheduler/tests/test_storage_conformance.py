"""What every store must do, whatever it is made of; how a store joins is in conftest.py."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import pytest
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_scheduler.hub.model import (
    CANCELED,
    COMPLETED,
    FAILED,
    PENDING,
    RUNNING,
    SUSPENDED,
    TERMINATED,
    Commit,
    HistoryRow,
    Inbound,
    InboxRow,
    Instance,
    OpenTask,
    TaskKind,
)
from durabletask_scheduler.storage import InstanceFilter, InstanceSummary, LiveInstance, Storage, StorageError
from google.protobuf.wrappers_pb2 import StringValue

HUB = "default"
T0 = 1_700_000_000_000_000_000


def make(key: int, instance_id: str | None = None, **values: object) -> Instance:
    defaults: dict[str, object] = {
        "task_hub": HUB,
        "instance_id": instance_id or f"instance-{key}",
        "execution_id": f"execution-{key}",
        "name": "order",
        "version": None,
        "status": PENDING,
        "created_at": T0 + key,
        "updated_at": T0 + key,
        "started": b"started-%d" % key,
    }
    return Instance(key, **(defaults | values))  # type: ignore[arg-type]


def event(name: str) -> pb.HistoryEvent:
    return pb.HistoryEvent(eventId=-1, eventRaised=pb.EventRaisedEvent(name=name, input=StringValue(value="1")))


def inbox_row(key: int, instance_key: int, name: str = "e") -> InboxRow:
    return InboxRow(key, instance_key, event(name).SerializeToString())


def create(store: Storage, *instances: Instance) -> None:
    store.write([Commit(created=list(instances))])


def names(inbox: list[Inbound]) -> list[tuple[int, str]]:
    return [(entry.key, entry.event.eventRaised.name) for entry in inbox]


class TestInstances:
    def test_a_created_instance_is_loaded_as_it_was(self, store: Storage) -> None:
        whole = make(
            7,
            "käse/\U0001f9c0",
            version="1.2",
            scheduled_at=T0 + 5,
            custom_status='"half"',
            tags={"team": "é", 'odd "key"': "\\"},
            parent_instance_id="parent",
            parent_execution_id="px",
            parent_task_id=3,
            event_count=9,
            clock=T0 + 8,
            trace_context=b"trace\x00",
            started=b"\x00\xff" * 1000,
        )
        create(store, whole)
        assert store.load(HUB, whole.instance_id) == whole
        assert store.load_key(7) == whole

    @pytest.mark.parametrize("version", [None, "", "1.0"])
    @pytest.mark.parametrize("custom_status", [None, "", "null"])
    def test_absent_and_empty_are_kept_apart(
        self, store: Storage, version: str | None, custom_status: str | None
    ) -> None:
        create(store, make(1, version=version, custom_status=custom_status))
        loaded = store.load_key(1)
        assert loaded is not None
        assert (loaded.version, loaded.custom_status) == (version, custom_status)

    def test_an_unknown_instance_is_none(self, store: Storage) -> None:
        create(store, make(1, "a"))
        assert store.load(HUB, "A") is None
        assert store.load("other", "a") is None
        assert store.load_key(2) is None

    def test_an_update_writes_every_field_that_may_change(self, store: Storage) -> None:
        instance = make(1, "a", parent_instance_id="p")
        create(store, instance)
        changed = replace(
            instance,
            execution_id="second",
            name="order2",
            version="2",
            status=FAILED,
            created_at=T0 + 100,
            updated_at=T0 + 101,
            scheduled_at=T0 + 102,
            completed_at=T0 + 103,
            completed=b"completed",
            custom_status="s",
            tags={"x": "y"},
            parent_execution_id="pe2",
            parent_task_id=8,
            event_count=12,
            clock=T0 + 104,
            trace_context=b"t",
        )
        store.write([Commit(updated={1: changed})])
        assert store.load_key(1) == changed

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            pytest.param({"status": RUNNING}, {"status": RUNNING}, id="goes on"),
            pytest.param({"status": PENDING}, {"status": RUNNING}, id="begins"),
            pytest.param({"status": RUNNING}, {"status": RUNNING, "created_at": T0 + 90}, id="is dated anew"),
            pytest.param(
                {"status": FAILED, "completed": b"failed", "completed_at": T0 + 50},
                {"status": RUNNING},
                id="is rewound",
            ),
            pytest.param(
                {"status": RUNNING}, {"status": FAILED, "completed": b"failed", "completed_at": T0 + 50}, id="ends"
            ),
        ],
    )
    def test_an_update_finds_its_row_wherever_the_indexes_have_it(
        self, store: Storage, before: dict[str, object], after: dict[str, object]
    ) -> None:
        """A turn seldom changes what an index holds; those that do share their group with others that do not."""
        create(store, make(1, status=RUNNING), make(2, **before), make(3, status=RUNNING), make(4, status=PENDING))
        changed = [
            make(1, status=RUNNING, clock=T0 + 99, custom_status="one"),
            make(2, clock=T0 + 99, version="2", tags={"x": "y"}, event_count=7, **after),
            make(3, status=COMPLETED, completed=b"done", completed_at=T0 + 99),
        ]
        store.write([Commit(updated={instance.key: instance}) for instance in changed])
        assert [store.load_key(key) for key in (1, 2, 3, 4)] == [*changed, make(4, status=PENDING)]
        found = store.query(HUB, InstanceFilter(), limit=9, after=None, payloads=False)
        assert {row.key: (row.status, row.created_at) for row in found} == {
            instance.key: (instance.status, instance.created_at) for instance in (*changed, make(4, status=PENDING))
        }
        ended = store.query_completed(HUB, InstanceFilter(), limit=9, after=None)
        assert sorted(row.key for row in ended) == [instance.key for instance in changed if instance.completed_at]

    def test_the_started_event_changes_only_when_restarted(self, store: Storage) -> None:
        instance = make(1, started=b"first")
        create(store, instance)
        instance.started = b"second"
        store.write([Commit(updated={1: instance})])
        assert store.load_key(1) == replace(instance, started=b"first")
        store.write([Commit(updated={1: instance}, restarted=[1])])
        assert store.load_key(1) == instance

    def test_a_row_is_written_as_the_object_is_at_the_time_of_writing(self, store: Storage) -> None:
        instance = make(1)
        group = [Commit(created=[instance]), Commit(updated={1: instance})]
        instance.status = RUNNING
        store.write(group)
        loaded = store.load_key(1)
        assert loaded is not None
        assert loaded.status == RUNNING

    def test_delete_takes_every_row_and_nothing_else(self, store: Storage) -> None:
        for key in (1, 2):
            base = key * 100
            store.write(
                [
                    Commit(
                        created=[make(key)],
                        history=[HistoryRow(base, key, b"h", 1)],
                        opened=[(key, OpenTask(base + 1, TaskKind.ACTIVITY, 0, base))],
                        inbox_added=[inbox_row(base + 2, key)],
                    )
                ]
            )
        kept = store.load_key(2)
        store.write([Commit(deleted=[1])])
        assert store.load_key(1) is None
        assert store.history(1) == []
        assert store.history_row(100) is None
        assert store.load_key(2) == kept
        assert [row.key for row in store.history(2)] == [200]
        # Rows of the deleted one would come back with its key.
        create(store, make(1, started=b"new"))
        assert store.load_key(1) == make(1, started=b"new")

    def test_an_instance_id_can_be_replaced_in_one_commit(self, store: Storage) -> None:
        create(store, make(1, "a"))
        store.write([Commit(deleted=[1], created=[make(2, "a")])])
        loaded = store.load(HUB, "a")
        assert loaded is not None
        assert loaded.key == 2

    def test_the_same_id_lives_in_two_task_hubs(self, store: Storage) -> None:
        store.add_task_hub("second")
        create(store, make(1, "a"), make(2, "a", task_hub="second"))
        first, second = store.load(HUB, "a"), store.load("second", "a")
        assert first is not None and first.key == 1
        assert second is not None and (second.key, second.task_hub) == (2, "second")


class TestRows:
    def test_history_is_in_the_order_of_keys(self, store: Storage) -> None:
        rows = [HistoryRow(key, 1, b"row-%d" % key, key) for key in (10, 12, 15)]
        create(store, make(1), make(2))
        store.write([Commit(history=[rows[0], HistoryRow(11, 2, b"other", 1), rows[1]]), Commit(history=[rows[2]])])
        assert store.history(1) == rows
        assert store.history_row(12) == rows[1]

    def test_dropped_history_goes_before_new_rows_are_appended(self, store: Storage) -> None:
        create(store, make(1))
        store.write([Commit(history=[HistoryRow(10, 1, b"old", 1)])])
        new = HistoryRow(11, 1, b"new", 1)
        store.write([Commit(history_dropped=[1], history=[new])])
        assert store.history(1) == [new]

    def test_open_tasks_come_back_in_the_order_of_keys_without_payload(self, store: Storage) -> None:
        tasks = [
            OpenTask(20, TaskKind.TIMER, 2, 10, due_at=T0 + 5),
            OpenTask(21, TaskKind.CHILD, 1, 10, target="child"),
            OpenTask(22, TaskKind.ACTIVITY, 0, 10),
        ]
        create(store, make(1))
        with_payload = [replace(task, event=event("x")) for task in tasks]
        store.write([Commit(opened=[(1, task) for task in reversed(with_payload)])])
        loaded = store.load_key(1)
        assert loaded is not None
        assert list(loaded.open_tasks.items()) == [(task.key, task) for task in tasks]
        store.write([Commit(closed=[20, 22])])
        loaded = store.load_key(1)
        assert loaded is not None
        assert list(loaded.open_tasks) == [21]

    def test_the_inbox_is_first_in_first_out(self, store: Storage) -> None:
        create(store, make(1))
        store.write([Commit(inbox_added=[inbox_row(5, 1, "a"), inbox_row(6, 1, "b")])])
        store.write([Commit(inbox_removed=[5], inbox_added=[inbox_row(7, 1, "c")])])
        loaded = store.load_key(1)
        assert loaded is not None
        assert names(loaded.inbox) == [(6, "b"), (7, "c")]

    def test_a_loaded_instance_has_no_turn_and_no_back_off(self, store: Storage) -> None:
        create(store, make(1, abandoned=3, not_before=T0))
        loaded = store.load_key(1)
        assert loaded is not None
        assert (loaded.turn, loaded.abandoned, loaded.not_before) == (None, 0, 0)

    def test_last_key_looks_at_every_table(self, store: Storage) -> None:
        assert store.last_key() == 0
        create(store, make(3))
        assert store.last_key() == 3
        store.write([Commit(history=[HistoryRow(4, 3, b"h", 1)])])
        assert store.last_key() == 4
        store.write([Commit(opened=[(3, OpenTask(5, TaskKind.TIMER, 0, 4))])])
        assert store.last_key() == 5
        store.write([Commit(inbox_added=[inbox_row(6, 3)])])
        assert store.last_key() == 6


def _life(keys: Iterator[int]) -> tuple[Instance, list[Commit]]:
    """The commits of a short life, each seeing the instance as it is in the end."""
    instance = make(next(keys))
    key = instance.key
    task = OpenTask(next(keys), TaskKind.ACTIVITY, 0, next(keys))
    timer = OpenTask(next(keys), TaskKind.TIMER, 1, task.history_key, due_at=T0)
    first, second, third = (inbox_row(next(keys), key, name) for name in "abc")
    commits = [
        Commit(created=[instance], inbox_added=[first]),
        Commit(
            updated={key: instance},
            inbox_removed=[first.key],
            history=[HistoryRow(task.history_key, key, b"turn 1", 3)],
            opened=[(key, task), (key, timer)],
        ),
        Commit(updated={key: instance}, closed=[task.key], inbox_added=[second, third]),
        Commit(
            updated={key: instance},
            restarted=[key],
            history_dropped=[key],
            history=[HistoryRow(next(keys), key, b"turn 2", 2)],
            closed=[timer.key],
            inbox_removed=[second.key],
        ),
    ]
    return instance, commits


class TestLoadMany:
    @pytest.fixture
    def filled(self, store: Storage) -> Storage:
        store.add_task_hub("other")
        create(store, make(1, "a", event_count=3), make(2, "b", event_count=4, tags={"x": "y"}), make(3, "c"))
        create(store, make(4, "a", task_hub="other"), make(5, 'of "a" \\ \N{SNOWMAN}\n'))
        rows = [HistoryRow(10, 1, b"one", 1), HistoryRow(11, 2, b"two", 4), HistoryRow(12, 1, b"three", 1)]
        opened = [(1, OpenTask(21, TaskKind.CHILD, 1, 10, target="kid")), (1, OpenTask(20, TaskKind.TIMER, 2, 10, 7))]
        waiting = [inbox_row(31, 2, "y"), inbox_row(30, 2, "x"), inbox_row(32, 4, "z")]
        store.write([Commit(history=rows, opened=opened, inbox_added=waiting)])
        return store

    def test_each_is_as_if_loaded_alone(self, filled: Storage) -> None:
        ids = ["a", "b", "c", 'of "a" \\ \N{SNOWMAN}\n']
        loaded = filled.load_many(HUB, [*ids, "missing"], short=0)
        assert {one.instance.instance_id: one.instance for one in loaded} == {one: filled.load(HUB, one) for one in ids}
        first = next(one.instance for one in loaded if one.instance.key == 1)
        assert list(first.open_tasks) == [20, 21]
        second = next(one.instance for one in loaded if one.instance.key == 2)
        assert names(second.inbox) == [(30, "x"), (31, "y")]

    @pytest.mark.parametrize("other", ["a\0", "a\0b", "\0a", "a\0b\0c", "\0"])
    def test_an_id_with_nul_is_not_the_one_that_it_begins_with(self, filled: Storage, other: str) -> None:
        assert filled.load(HUB, other) is None
        assert filled.load_many(HUB, [other], short=9) == []
        assert [one.instance.key for one in filled.load_many(HUB, [other, "b"], short=9)] == [2]
        assert filled.existing(HUB, [other]) == set()
        assert filled.existing(HUB, [other, "b"]) == {"b"}

    def test_short_ones_come_with_their_history(self, filled: Storage) -> None:
        loaded = {one.instance.key: one.history for one in filled.load_many(HUB, ["a", "b", "c"], short=3)}
        assert loaded == {1: filled.history(1), 2: None, 3: []}

    def test_a_store_that_does_not_know_better_loads_them_one_by_one(self, filled: Storage) -> None:
        ids = ["c", "missing", "a", "b"]
        one_by_one = Storage.load_many(filled, HUB, ids, short=3)
        assert [one.instance.instance_id for one in one_by_one] == ["c", "a", "b"]
        together = filled.load_many(HUB, ids, short=3)
        assert sorted(together, key=lambda one: one.instance.key) == sorted(
            one_by_one, key=lambda one: one.instance.key
        )

    def test_none_are_none(self, filled: Storage) -> None:
        assert filled.load_many(HUB, [], short=9) == []
        assert filled.load_many(HUB, ["missing"], short=9) == []
        assert filled.load_many("no such hub", ["a"], short=9) == []


class TestGroups:
    @pytest.mark.parametrize("cuts", list(itertools.product([False, True], repeat=3)))
    def test_a_group_comes_to_the_same_as_its_commits_one_by_one(self, store: Storage, cuts: tuple[bool, ...]) -> None:
        """Lesson 58: the parts of a life agree however it is cut into transactions."""
        instance, commits = _life(itertools.count(1))
        group = [commits[0]]
        for cut, commit in zip(cuts, commits[1:]):
            if cut:
                store.write(group)
                group = []
            group.append(commit)
        store.write(group)
        loaded = store.load_key(instance.key)
        assert loaded is not None
        assert names(loaded.inbox) == [(7, "c")]
        assert replace(loaded, inbox=[]) == instance
        assert [row.events for row in store.history(instance.key)] == [b"turn 2"]

    def test_what_is_created_and_deleted_in_one_group_leaves_nothing(self, store: Storage) -> None:
        instance, commits = _life(itertools.count(1))
        store.write([*commits, Commit(deleted=[instance.key])])
        assert store.last_key() == 0
        assert store.counts(HUB) == {}

    def test_a_group_may_replace_an_id_twice(self, store: Storage) -> None:
        create(store, make(1, "a"))
        store.write([Commit(deleted=[1], created=[make(2, "a")]), Commit(deleted=[2], created=[make(3, "a")])])
        loaded = store.load(HUB, "a")
        assert loaded is not None
        assert loaded.key == 3
        assert store.counts(HUB) == {(PENDING, "", ""): 1}

    def test_an_empty_group_is_nothing(self, store: Storage) -> None:
        store.write([])
        store.write([Commit()])
        assert store.last_key() == 0

    def test_a_group_that_cannot_be_written_leaves_nothing_behind(self, store: Storage) -> None:
        """Lesson 58."""
        create(store, make(1, "a"))
        before = store.load_key(1)
        good = Commit(updated={1: make(1, "a", status=RUNNING)}, history=[HistoryRow(5, 1, b"h", 1)])
        with pytest.raises(StorageError):
            store.write([good, Commit(created=[make(2, "a")])])
        assert store.load_key(1) == before
        assert store.history(1) == []
        store.write([good])
        assert [row.key for row in store.history(1)] == [5]

    @pytest.mark.parametrize(
        "bad",
        [make(2, created_at=1 << 70), make(2, name="\ud800"), make(2, task_hub="nowhere")],
        ids=["number too large", "text that is not Unicode", "unknown task hub"],
    )
    def test_a_value_that_cannot_be_stored_is_refused(self, store: Storage, bad: Instance) -> None:
        with pytest.raises(StorageError):
            create(store, make(1), bad)
        assert store.counts(HUB) == {}
        create(store, make(1))
        assert store.counts(HUB) == {(PENDING, "", ""): 1}


class TestLive:
    def test_wake_at_says_when_there_is_work(self, store: Storage) -> None:
        create(
            store,
            make(1),
            make(2, scheduled_at=T0 + 60),
            make(3, scheduled_at=T0 + 60),
            make(4, status=RUNNING, event_count=3),
            make(5, status=RUNNING, event_count=3),
            make(6, status=SUSPENDED, event_count=3),
            make(7, status=RUNNING, event_count=3),
            make(8, status=COMPLETED, event_count=5),
            make(9, status=RUNNING, event_count=3),
        )
        store.write(
            [
                Commit(
                    opened=[
                        (4, OpenTask(100, TaskKind.ACTIVITY, 0, 50)),
                        (4, OpenTask(101, TaskKind.TIMER, 1, 50, due_at=T0 + 9)),
                        (5, OpenTask(102, TaskKind.TIMER, 0, 51, due_at=T0 + 9)),
                        (5, OpenTask(103, TaskKind.TIMER, 1, 51, due_at=T0 + 7)),
                        (6, OpenTask(104, TaskKind.CHILD, 0, 52, target="c")),
                        (9, OpenTask(105, TaskKind.TIMER, 1, 51, due_at=T0 + 7)),
                    ],
                    inbox_added=[inbox_row(110, 3), inbox_row(111, 9)],
                )
            ]
        )
        wake_at = {live.key: live.wake_at for live in store.live()}
        assert wake_at == {1: 0, 2: T0 + 60, 3: 0, 4: 0, 5: T0 + 7, 6: -1, 7: -1, 9: 0}

    def test_live_covers_all_task_hubs_by_key(self, store: Storage) -> None:
        store.add_task_hub("a second one")
        create(store, make(1, task_hub="a second one"), make(2), make(3, task_hub="a second one"))
        assert list(store.live()) == [
            LiveInstance(1, "a second one", "instance-1", 0),
            LiveInstance(2, HUB, "instance-2", 0),
            LiveInstance(3, "a second one", "instance-3", 0),
        ]

    def test_the_store_can_be_written_while_live_is_read(self, store: Storage) -> None:
        create(store, make(1), make(2))
        seen = []
        for live in store.live():
            seen.append(live.key)
            store.write([Commit(updated={live.key: make(live.key, status=COMPLETED)})])
        assert seen == [1, 2]
        assert list(store.live()) == []


def _pages(store: Storage, where: InstanceFilter, limit: int) -> list[list[int]]:
    pages: list[list[int]] = []
    after: tuple[int, int] | None = None
    while page := store.query(HUB, where, limit=limit, after=after, payloads=False):
        pages.append([row.key for row in page])
        after = (page[-1].created_at, page[-1].key)
    return pages


@pytest.fixture
def queried(store: Storage) -> Storage:
    """Ten instances, two by two created at the same time; three of them finished, in another order."""
    statuses = [PENDING, RUNNING, COMPLETED, RUNNING, FAILED, SUSPENDED, TERMINATED, RUNNING, PENDING, CANCELED]
    ends = {3: T0 + 90, 5: T0 + 70, 7: T0 + 70, 10: T0 + 80}
    for key, status in enumerate(statuses, start=1):
        create(
            store,
            make(
                key,
                f"{'odd' if key % 2 else 'even'}-{key}",
                status=status,
                created_at=T0 + key // 2,
                completed_at=ends.get(key, 0),
                completed=b"done-%d" % key if key in ends else b"",
                name="order" if key < 6 else "other",
                version={1: None, 2: "", 3: "1.0"}.get(key, "2.0"),
                tags={"n": str(key), "all": "yes"},
            ),
        )
    store.add_task_hub("elsewhere")
    create(store, make(99, task_hub="elsewhere"))
    return store


class TestQueries:
    @pytest.mark.parametrize("limit", [1, 2, 3, 10, 100])
    def test_pages_hold_every_instance_once_in_order(self, queried: Storage, limit: int) -> None:
        pages = _pages(queried, InstanceFilter(), limit)
        assert [key for page in pages for key in page] == list(range(1, 11))
        assert all(len(page) == limit for page in pages[:-1])

    @pytest.mark.parametrize(
        ("where", "keys"),
        [
            (InstanceFilter(statuses=frozenset({RUNNING})), [2, 4, 8]),
            (InstanceFilter(statuses=frozenset({FAILED, PENDING})), [1, 5, 9]),
            (InstanceFilter(created_from=T0 + 2, created_to=T0 + 4), [4, 5, 6, 7]),
            (InstanceFilter(completed_from=T0 + 70, completed_to=T0 + 90), [5, 7, 10]),
            (InstanceFilter(completed_to=T0 + 80), [5, 7]),
            (InstanceFilter(completed_to=T0 + 80, statuses=frozenset({RUNNING})), []),
            (InstanceFilter(statuses=frozenset({-1})), []),
            (InstanceFilter(statuses=frozenset({-1, 99, CANCELED, FAILED}), id_prefix="odd-"), [5]),
            (InstanceFilter(statuses=frozenset(range(-300, 300)), name="other"), [6, 7, 8, 9, 10]),
            (InstanceFilter(id_prefix="odd-"), [1, 3, 5, 7, 9]),
            (InstanceFilter(id_prefix="odd-1"), [1]),
            (InstanceFilter(id_prefix="ODD"), []),
            (InstanceFilter(id_prefix="%"), []),
            (InstanceFilter(name="other"), [6, 7, 8, 9, 10]),
            (InstanceFilter(name=""), []),
            (InstanceFilter(version=""), [1, 2]),
            (InstanceFilter(version="1.0"), [3]),
            (InstanceFilter(tags=(("n", "4"),)), [4]),
            (InstanceFilter(tags=(("n", "4"), ("all", "yes"))), [4]),
            (InstanceFilter(tags=(("n", "4"), ("all", "no"))), []),
            (InstanceFilter(name="order", version="2.0", statuses=frozenset({RUNNING, FAILED})), [4, 5]),
        ],
    )
    def test_every_condition_must_hold(self, queried: Storage, where: InstanceFilter, keys: list[int]) -> None:
        assert [key for page in _pages(queried, where, 2) for key in page] == keys

    @pytest.mark.parametrize("prefix", ["\ud7ff", "a\U0010ffff", "\U0010ffff", "é"])
    def test_a_prefix_may_end_in_any_character(self, store: Storage, prefix: str) -> None:
        create(store, make(1, prefix + "x"), make(2, prefix), make(3, "b"), make(4, ""))
        page = store.query(HUB, InstanceFilter(id_prefix=prefix), limit=9, after=None, payloads=False)
        assert [row.key for row in page] == [1, 2]

    def test_a_row_carries_the_columns_and_payloads_only_if_asked(self, queried: Storage) -> None:
        where = InstanceFilter(statuses=frozenset({COMPLETED}))
        (plain,) = queried.query(HUB, where, limit=5, after=None, payloads=False)
        (full,) = queried.query(HUB, where, limit=5, after=None, payloads=True)
        instance = queried.load_key(3)
        assert instance is not None
        columns = {field.name for field in fields(InstanceSummary)} - {"started", "completed"}
        for column in columns:
            assert getattr(plain, column) == getattr(full, column) == getattr(instance, column)
        assert (plain.started, plain.completed) == (b"", b"")
        assert (full.started, full.completed) == (b"started-3", b"done-3")

    def test_completed_instances_are_paged_by_completion(self, queried: Storage) -> None:
        keys: list[int] = []
        after: tuple[int, int] | None = None
        while page := queried.query_completed(HUB, InstanceFilter(), limit=1, after=after):
            keys += [row.key for row in page]
            after = (page[-1].completed_at, page[-1].key)
        assert keys == [5, 7, 10, 3]

    @pytest.mark.parametrize(
        ("where", "keys"),
        [
            (InstanceFilter(statuses=frozenset({FAILED, COMPLETED, RUNNING})), [5, 3]),
            (InstanceFilter(statuses=frozenset({RUNNING})), []),
            (InstanceFilter(completed_from=T0 + 80), [10, 3]),
            (InstanceFilter(completed_to=T0 + 80), [5, 7]),
            (InstanceFilter(created_from=T0 + 3, created_to=T0 + 5, name="other"), [7]),
            (InstanceFilter(id_prefix="even", tags=(("all", "yes"),)), [10]),
        ],
    )
    def test_conditions_hold_for_completed_instances_too(
        self, queried: Storage, where: InstanceFilter, keys: list[int]
    ) -> None:
        assert [row.key for row in queried.query_completed(HUB, where, limit=9, after=None)] == keys

    def test_a_task_hub_that_is_not_there_is_empty(self, queried: Storage) -> None:
        assert queried.query("nowhere", InstanceFilter(), limit=9, after=None, payloads=True) == []
        assert queried.query_completed("nowhere", InstanceFilter(), limit=9, after=None) == []
        assert queried.counts("nowhere") == {}
        assert queried.children("nowhere", "p") == []

    def test_counts_are_by_status_and_task_hub(self, queried: Storage) -> None:
        by_status = {
            PENDING: 2, RUNNING: 3, COMPLETED: 1, FAILED: 1, SUSPENDED: 1, TERMINATED: 1, CANCELED: 1
        }  # fmt: skip
        assert queried.counts(HUB) == {(status, "", ""): count for status, count in by_status.items()}
        assert queried.counts("elsewhere") == {(PENDING, "", ""): 1}

    def test_counts_are_by_name_and_version_where_asked(self, queried: Storage) -> None:
        where = InstanceFilter(statuses=frozenset({PENDING, RUNNING}))
        assert queried.counts(HUB, where, by_name=True) == {
            (PENDING, "order", ""): 1,
            (PENDING, "other", ""): 1,
            (RUNNING, "order", ""): 2,
            (RUNNING, "other", ""): 1,
        }
        assert queried.counts(HUB, where, by_version=True) == {
            (PENDING, "", ""): 1,
            (PENDING, "", "2.0"): 1,
            (RUNNING, "", ""): 1,
            (RUNNING, "", "2.0"): 2,
        }

    @pytest.mark.parametrize(
        "where",
        [
            InstanceFilter(created_from=T0 + 2, created_to=T0 + 4),
            InstanceFilter(completed_from=T0 + 70, completed_to=T0 + 90),
            InstanceFilter(completed_to=T0 + 80, statuses=frozenset({RUNNING})),
            InstanceFilter(statuses=frozenset({-(2**31), 99})),
            InstanceFilter(statuses=frozenset(range(-300, 300))),
            InstanceFilter(id_prefix="odd-", version="2.0"),
            InstanceFilter(name="order", tags=(("all", "yes"),)),
            InstanceFilter(version=""),
        ],
    )
    def test_a_count_agrees_with_the_query_of_the_same_filter(self, queried: Storage, where: InstanceFilter) -> None:
        rows = queried.query(HUB, where, limit=99, after=None, payloads=False)
        counted = Counter((row.status, row.name, row.version or "") for row in rows)
        assert queried.counts(HUB, where, by_name=True, by_version=True) == counted

    def test_existing_names_the_ids_in_use_in_the_task_hub(self, queried: Storage) -> None:
        many = [f"nobody-{number}" for number in range(5_000)]
        strange = ["", "\0", "odd-1\0", "'\"[]", "\U0010ffff"]
        assert queried.existing(HUB, [*many, "odd-1", *strange, "even-2"]) == {"odd-1", "even-2"}
        assert queried.existing("elsewhere", ["odd-1"]) == queried.existing("nowhere", ["odd-1"]) == set()
        assert queried.existing(HUB, []) == set()

    def test_children_are_by_key_and_task_hub(self, store: Storage) -> None:
        store.add_task_hub("second")
        create(
            store,
            make(3, "c", parent_instance_id="p"),
            make(2, "b", parent_instance_id="p"),
            make(1, "a", parent_instance_id="P"),
            make(4, "d", parent_instance_id="p", task_hub="second"),
            make(5, "p"),
        )
        assert store.children(HUB, "p") == ["b", "c"]
        assert store.children("second", "p") == ["d"]
        assert store.children(HUB, "") == []


class TestTaskHubs:
    def test_they_are_sorted_and_added_once(self, store: Storage) -> None:
        for name in ("zebra", "alpha", "zebra", HUB):
            store.add_task_hub(name)
        assert store.task_hubs() == ["alpha", HUB, "zebra"]


class TestReopening:
    def test_everything_is_there_again(self, factory: Any) -> None:
        if not factory.durable:
            pytest.skip("this store keeps nothing")
        store = factory.open()
        store.add_task_hub(HUB)
        instance, commits = _life(itertools.count(1))
        store.write(commits)
        loaded, last = store.load_key(instance.key), store.last_key()
        store.close()
        again = factory.open()
        try:
            assert again.task_hubs() == [HUB]
            assert again.load_key(instance.key) == loaded
            assert again.last_key() == last
        finally:
            again.close()

    def test_close_is_idempotent_and_final(self, factory: Any) -> None:
        store = factory.open()
        store.add_task_hub(HUB)
        store.close()
        store.close()
        with pytest.raises(StorageError, match="closed"):
            store.load_key(1)
        with pytest.raises(StorageError, match="closed"):
            store.write([Commit(created=[make(1)])])


class TestThreads:
    def test_readers_never_see_half_a_group(self, store: Storage) -> None:
        """Every group moves two instances to the same count, so a reader must never find them apart."""
        pair = [make(1), make(2)]
        create(store, *pair)
        done = threading.Event()
        torn: list[object] = []
        reads = [0, 0, 0]

        def read(reader: int) -> None:
            while not done.is_set():
                rows = store.query(HUB, InstanceFilter(), limit=9, after=None, payloads=False)
                live = store.load_key(1)
                reads[reader] += 1
                if live is None or len({row.custom_status for row in rows}) != 1:
                    torn.append(rows)
                elif len(live.inbox) != int(live.custom_status or 0):
                    torn.append(live)

        threads = [threading.Thread(target=read, args=(reader,)) for reader in range(3)]
        for thread in threads:
            thread.start()
        try:
            for count in range(1, 101):
                for instance in pair:
                    instance.custom_status = str(count)
                store.write(
                    [
                        Commit(updated={1: pair[0]}, inbox_added=[inbox_row(10 + count, 1)]),
                        Commit(updated={2: pair[1]}),
                    ]
                )
        finally:
            done.set()
            for thread in threads:
                thread.join()
        assert torn == []
        assert all(reads)
