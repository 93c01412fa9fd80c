"""The engine's inbox: nothing is lost, and a wait ends when it should."""

from __future__ import annotations

import contextlib
import queue
import threading
import time

import pytest
from durabletask_scheduler.inbox import Inbox

WAIT = 20


def test_items_come_out_in_the_order_in_which_they_were_put():
    inbox = Inbox()
    for number in range(5):
        inbox.put(number)
    assert not inbox.empty()
    assert [inbox.get(), inbox.get_nowait(), inbox.get(0), inbox.get(1), inbox.get()] == [0, 1, 2, 3, 4]
    assert inbox.empty()


@pytest.mark.parametrize(
    "take", [lambda inbox: inbox.get_nowait(), lambda inbox: inbox.get(0), lambda inbox: inbox.get(-1)]
)
def test_an_empty_inbox_says_so_at_once(take):
    with pytest.raises(queue.Empty):
        take(Inbox())


def test_a_wait_lasts_as_long_as_it_may():
    begun = time.monotonic()
    with pytest.raises(queue.Empty):
        Inbox().get(0.05)
    assert 0.05 <= time.monotonic() - begun < WAIT


def test_a_put_ends_a_wait():
    inbox = Inbox()
    timer = threading.Timer(0.05, inbox.put, ["late"])
    timer.start()
    assert inbox.get() == "late"
    timer.join()


def test_short_waits_end_whatever_else_the_processor_does():
    """A queue of CPython up to 3.12 waits for ever when its taker did not run while a wait of it ended."""
    inbox = Inbox()
    asked = threading.Semaphore(0)
    ends = time.monotonic() + 2

    def answer():
        while time.monotonic() < ends:
            if asked.acquire(timeout=0.1):
                inbox.put(None)

    def take():
        while time.monotonic() < ends:
            # The first wait ends in vain, so that the put rings for nobody; the second finds that and nothing else.
            for _ in range(2):
                with contextlib.suppress(queue.Empty):
                    inbox.get(0.000_001)
            asked.release()
            inbox.get(WAIT)

    threads = [threading.Thread(target=run, daemon=True) for run in (answer, take)]
    for thread in threads:
        thread.start()
    for thread in reversed(threads):
        thread.join(WAIT)
        assert not thread.is_alive()


def test_nothing_is_lost_between_many_that_put():
    inbox = Inbox()
    threads = [
        threading.Thread(target=lambda first=first: [inbox.put(first + n) for n in range(2_000)])
        for first in range(0, 16_000, 2_000)
    ]
    for thread in threads:
        thread.start()
    assert sorted(inbox.get(WAIT) for _ in range(16_000)) == list(range(16_000))
    assert inbox.empty()
