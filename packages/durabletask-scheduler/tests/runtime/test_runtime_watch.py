"""How the engine's thread looks after what lent threads leave undone."""

from __future__ import annotations

import threading

import pytest
from durabletask_scheduler.watch import Watch

LOOKS = 1_000


def watching() -> Watch:
    watch = Watch()
    watch.leave()
    watch.begin()
    return watch


def looks_until_off(watch: Watch) -> int:
    for look in range(1, LOOKS):
        if not watch.is_well(look, at_rest=True):
            return look
    raise AssertionError("it never stops looking")


def test_nobody_looks_before_something_is_left():
    watch = Watch()
    watch.begin()
    assert not watch.on


def test_the_engines_thread_is_told_once_and_looks_from_then_on():
    watch = Watch()
    assert [watch.leave(), watch.leave()] == [True, True]
    watch.begin()
    assert watch.on
    assert [watch.leave(), watch.leave()] == [False, False]


# Each look: a number that changes with each step of the engine, whether nothing is left undone, and what is found.
@pytest.mark.parametrize(
    "looks",
    [
        pytest.param([(1, True, True), (1, True, True)], id="at rest"),
        pytest.param([(1, False, True), (2, False, True), (3, False, True)], id="work goes on"),
        pytest.param([(1, False, True), (1, False, False)], id="no step between two looks"),
        pytest.param([(1, False, True), (2, False, True), (2, False, False)], id="stuck after a step"),
        pytest.param([(1, True, True), (1, False, False)], id="left since the last look, in which nobody took a step"),
        pytest.param([(1, False, True), (1, False, False), (2, False, True)], id="goes on after it was stuck"),
    ],
)
def test_what_has_made_no_progress_between_two_looks_is_stuck(looks):
    watch = watching()
    assert [watch.is_well(progress, at_rest=at_rest) for progress, at_rest, _ in looks] == [well for *_, well in looks]
    assert watch.on


def test_looking_ends_some_time_after_the_last_lent_thread_was_seen():
    watch = watching()
    looks = looks_until_off(watch)
    assert looks > 1
    assert not watch.on
    assert watch.leave()


def test_looking_goes_on_while_threads_are_lent():
    watch = watching()
    needed = looks_until_off(watching())
    for look in range(3 * needed):
        watch.leave()
        assert watch.is_well(look, at_rest=True)


def test_whatever_is_left_begins_the_count_anew():
    watch = watching()
    needed = looks_until_off(watching())
    for look in range(needed - 1):
        assert watch.is_well(look, at_rest=True)
    watch.leave()
    watch.begin()
    assert looks_until_off(watch) == needed


def test_what_is_left_while_looking_ends_is_either_seen_or_told():
    """Whoever leaves something and is not told to call can rely on being looked after."""
    watch, told, stop = Watch(), threading.Event(), threading.Event()
    looked = threading.Condition()
    number = seen_on = 0

    def engine() -> None:
        nonlocal number, seen_on
        while not stop.is_set():
            if watch.on:
                watch.is_well(number, at_rest=True)
            elif told.wait(0.000_5):
                told.clear()
            watch.begin()
            with looked:
                number += 1
                seen_on += watch.on
                looked.notify_all()

    thread = threading.Thread(target=engine, daemon=True)
    thread.start()
    try:
        for _ in range(100):
            if watch.leave():
                told.set()
            with looked:
                before, begun = seen_on, number
                assert looked.wait_for(lambda before=before: seen_on > before or watch.on, 5)
                # Sometimes it looks on, sometimes it has stopped when the next comes.
                assert looked.wait_for(lambda begun=begun: number > begun + begun % 35, 5)
    finally:
        stop.set()
        thread.join(5)
