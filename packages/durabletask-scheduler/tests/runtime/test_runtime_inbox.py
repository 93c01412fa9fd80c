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
    assert [inbox.get(), inbox.get(0), inbox.get(0), inbox.get(1), inbox.get()] == [0, 1, 2, 3, 4]
    assert inbox.empty()


@pytest.mark.parametrize("take", [lambda inbox: inbox.get(0), lambda inbox: inbox.get(-1)])
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


class TestQuietly:
    """What is put without a call for the taker, and the calls by themselves."""

    @pytest.fixture
    def inbox(self):
        return Inbox()

    def test_what_was_put_quietly_is_there_in_order_with_the_rest(self, inbox):
        inbox.put_quietly(1)
        inbox.put(2)
        inbox.put_quietly(3)
        assert not inbox.empty()
        assert [inbox.get(0), inbox.get(), inbox.get(0)] == [1, 2, 3]

    def test_a_wait_without_a_call_lasts_as_long_as_it_may_and_says_so(self, inbox):
        begun = time.monotonic()
        inbox.put_quietly(1)
        assert inbox.wait(0.05) is False
        assert 0.05 <= time.monotonic() - begun < WAIT
        assert not inbox.empty()

    @pytest.mark.parametrize("call", [lambda inbox: inbox.ring(), lambda inbox: inbox.put(1)], ids=["ring", "put"])
    def test_a_call_from_before_ends_the_next_wait_at_once_and_only_that(self, inbox, call):
        call(inbox)
        call(inbox)
        begun = time.monotonic()
        assert inbox.wait(WAIT) is True
        assert time.monotonic() - begun < WAIT / 2
        assert inbox.wait(0) is False

    @pytest.mark.parametrize("seconds", [0, -1, 0.001])
    def test_a_short_wait_ends(self, inbox, seconds):
        assert inbox.wait(seconds) is False

    def test_a_ring_ends_a_wait(self, inbox):
        called = []
        taker = threading.Thread(target=lambda: called.append(inbox.wait(WAIT)))
        taker.start()
        timer = threading.Timer(0.05, inbox.ring)
        timer.start()
        taker.join(WAIT / 2)
        assert called == [True]
        timer.join()

    def test_a_quiet_put_leaves_a_taker_asleep_until_somebody_rings(self, inbox):
        woken = threading.Event()

        def take():
            inbox.wait(WAIT)
            woken.set()

        taker = threading.Thread(target=take)
        taker.start()
        inbox.put_quietly(1)
        assert not woken.wait(0.1)
        inbox.ring()
        assert woken.wait(WAIT / 2)
        taker.join()

    def test_no_ring_is_lost_between_waits(self, inbox):
        """Each is answered before the next comes, so that one that is lost shows as a wait that does not end."""
        answered = threading.Semaphore(0)

        def take():
            for _ in range(3_000):
                while not inbox.wait(WAIT):
                    return
                answered.release()

        taker = threading.Thread(target=take, daemon=True)
        taker.start()
        for _ in range(3_000):
            inbox.ring()
            assert answered.acquire(timeout=WAIT / 2)
        taker.join(WAIT)
        assert not taker.is_alive()
