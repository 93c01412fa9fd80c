"""The heap of what is due."""

from __future__ import annotations

from durabletask_scheduler.alarms import Alarms


def due(alarms, now):
    found = []
    while (action := alarms.pop_due(now)) is not None:
        found.append(action())
    return found


def test_actions_come_in_the_order_of_their_times():
    alarms = Alarms()
    for at in (30, 10, 20):
        alarms.set(at, at, lambda at=at: at)
    assert alarms.next_at() == 10
    assert due(alarms, 25) == [10, 20]
    assert alarms.next_at() == 30
    assert due(alarms, 25) == []


def test_setting_a_key_again_replaces_and_cancelling_forgets():
    alarms = Alarms()
    alarms.set("a", 10, lambda: "early")
    alarms.set("a", 50, lambda: "late")
    alarms.set("b", 5, lambda: "never")
    alarms.cancel("b")
    alarms.cancel("unknown")
    assert due(alarms, 20) == []
    assert due(alarms, 50) == ["late"]
    assert alarms.next_at() is None
    assert len(alarms) == 0


def test_what_survives_many_cancellations_still_comes():
    alarms = Alarms()
    for key in range(10_000):
        alarms.set(key, 1_000_000 + key, lambda key=key: key)
        if key % 1_000:
            alarms.cancel(key)
    assert len(alarms) == 10
    assert due(alarms, 2_000_000) == list(range(0, 10_000, 1_000))
