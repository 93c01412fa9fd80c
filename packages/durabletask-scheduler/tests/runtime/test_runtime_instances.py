"""The instances in memory."""

from __future__ import annotations

import pytest
from durabletask_scheduler.hub.model import COMPLETED, HistoryRow, Instance
from durabletask_scheduler.instances import Instances


class Stored:
    """A store that has every instance, under one key, with one history row."""

    def __init__(self):
        self.loads = 0

    def load(self, task_hub, instance_id):
        self.loads += 1
        return instance(self.loads, instance_id)

    def history(self, key):
        return [HistoryRow(1_000 + key, key, b"x" * 10, 1)]


def instance(key, instance_id):
    return Instance(key, "default", instance_id, "e", "order", None, 0, 1, 1, b"")


@pytest.fixture
def instances():
    return Instances(Stored(), max_idle=2, max_history_bytes=25)


def settled(instances, *entries):
    for entry in entries:
        instances.settle(entry)
    instances.shrink()
    return [not entry.gone for entry in entries]


def test_the_least_recently_used_idle_ones_leave(instances):
    entries = [instances.load(("default", name)) for name in "abc"]
    assert settled(instances, *entries) == [False, True, True]
    assert settled(instances, entries[1], instances.load(("default", "d")))[0]
    assert entries[2].gone


def test_busy_ones_stay(instances):
    busy = instances.load(("default", "busy"))
    busy.dirty = True
    assert settled(instances, busy, *(instances.load(("default", name)) for name in "abc"))[0]
    instances.entry_written(busy)
    settled(instances, busy, *(instances.load(("default", name)) for name in "de"))
    assert busy.gone


def test_what_the_group_deletes_is_not_found_in_the_store_again(instances):
    entry = instances.load(("default", "a"))
    instances.delete(entry)
    assert instances.load(("default", "a")) is None
    new = instances.create(instance(99, "a"))
    assert instances.cached(("default", "a")) is new
    instances.group_ended()
    instances.drop(new)
    assert instances.load(("default", "a")) is not None


def test_an_instance_is_in_memory_only_once(instances):
    entry = instances.load(("default", "a"))
    with pytest.raises(RuntimeError, match=r"instance 'a' of task hub 'default' .* in memory already"):
        instances.create(instance(99, "a"))
    assert instances.cached(("default", "a")) is entry
    assert instances.by_key(99) is None


def test_histories_leave_memory_before_their_instances_do(instances):
    entries = [instances.load(("default", name)) for name in "ab"]
    third = instances.load(("default", "c"))
    third.dirty = True
    for entry in (*entries, third):
        assert len(instances.history(entry)) == 1
    settled(instances, *entries, third)
    assert [entry.past is None for entry in (*entries, third)] == [True, False, False]
    assert not any(entry.gone for entry in entries)


def test_rows_of_the_group_follow_those_of_the_store(instances):
    entry = instances.load(("default", "a"))
    instances.append_history(entry, HistoryRow(5_000, 1, b"y", 1))
    instances.append_history(entry, HistoryRow(5_001, 1, b"z", 1))
    assert [(row.key, row.events) for row in instances.history(entry)] == [(5_001, b"x" * 10 + b"yz")]
    instances.append_history(entry, HistoryRow(5_002, 1, b".", 1))
    assert [(row.key, row.events) for row in instances.history(entry)] == [(5_002, b"x" * 10 + b"yz.")]
    instances.restart_history(entry)
    assert instances.history(entry) == []


def test_an_instance_that_has_ended_leaves_its_history_once_it_is_written(instances):
    entry = instances.create(instance(7, "a"))
    instances.append_history(entry, HistoryRow(5_000, 7, b"first", 1))
    entry.instance.status = COMPLETED
    entry.instance.completed = b"completed"
    instances.append_history(entry, HistoryRow(5_001, 7, b"last", 1))
    assert [(row.key, row.events) for row in instances.history(entry)] == [(5_001, b"firstlast")]
    instances.entry_written(entry)
    assert entry.past is None
    assert [row.key for row in instances.history(entry)] == [1_007]


@pytest.mark.parametrize("size", [60_000, 70_000])
def test_an_instance_that_has_ended_leaves_memory_at_once_if_it_is_large(instances, size):
    entry = instances.create(instance(7, "a"))
    entry.instance.started = b"x" * size
    assert settled(instances, entry) == [True]
    entry.instance.status, entry.instance.completed = COMPLETED, b"completed"
    entry.dirty = True
    assert settled(instances, entry) == [True]
    instances.entry_written(entry)
    assert settled(instances, entry) == [size == 60_000]
