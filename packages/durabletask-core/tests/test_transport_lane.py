"""Threads of one worker that take messages of an in-process stream, and the scheduler's work, from each other."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from durabletask._worker.threads import ThreadPool
from durabletask.transport.lane import Lane

WAIT = 10


class Core:
    """The core that threads share: who keeps to it now."""

    def __init__(self) -> None:
        self.inside: set[str] = set()

    def enter(self) -> None:
        self.inside.add(threading.current_thread().name)

    def leave(self) -> None:
        self.inside.discard(threading.current_thread().name)


class Scheduler:
    """What lends threads their work: none of its own, only what is handed out meanwhile."""

    def __init__(self) -> None:
        self.core = Core()
        self.calls: list[str] = []
        self.standing: list[Callable[[], None]] = []
        self.stands = threading.Event()

    def quietly(self, call: Callable[[], Any]) -> Any:
        self.calls.append("quietly")
        return call()

    def help(self, between: Callable[[], bool]) -> None:
        self.calls.append("help")
        while between():
            continue

    def leave(self) -> None:
        self.calls.append("leave")

    def stand_by(self, call: Callable[[], None], *, on: bool) -> None:
        self.standing = [call] if on else []
        if on:
            self.stands.set()


class Ended(grpc.RpcError):
    pass


class Messages:
    """A stream that is polled; like the real one it tells of what has arrived on the sender's thread."""

    def __init__(self, *messages: Any) -> None:
        self._messages = deque(messages)
        self._arrived: Callable[[], None] = lambda: None
        self._active = True
        self._error: Exception | None = None
        self.polling = 0

    def send(self, message: Any) -> None:
        self._messages.append(message)
        self._arrived()

    def end(self, error: Exception | None = None) -> None:
        self._active, self._error = False, error
        self._arrived()

    def notify(self, arrived: Callable[[], None]) -> None:
        self._arrived = arrived
        arrived()

    def has_arrived(self) -> bool:
        return bool(self._messages)

    def poll(self) -> Any:
        return self._messages.popleft() if self._messages else None

    def is_active(self) -> bool:
        return self._active

    def cancel(self) -> bool:
        was_active, self._active = self._active, False
        return was_active

    def __next__(self) -> Any:
        raise self._error or StopIteration


class Reader:
    """The thread that serves a stream, and how that ended."""

    def __init__(self, lane: Lane, stream: Messages, take: Callable[[Any], None]) -> None:
        self.scheduler = Scheduler()
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=[lane, stream, take], name="reader", daemon=True)
        self._thread.start()
        assert self.scheduler.stands.wait(WAIT)

    def _run(self, lane: Lane, stream: Messages, take: Callable[[Any], None]) -> None:
        try:
            lane.serve(self.scheduler, stream, take)
        except BaseException as error:
            self.error = error

    def ended(self) -> BaseException | None:
        self._thread.join(WAIT)
        assert not self._thread.is_alive()
        return self.error


class Taken:
    """What was taken, where; never by two threads at once."""

    def __init__(self, expected: int) -> None:
        self.messages: list[Any] = []
        self.threads: list[str] = []
        self.all = threading.Event()
        self.overlapped = False
        self._expected = expected
        self._alone = threading.Lock()

    def __call__(self, message: Any) -> None:
        if not self._alone.acquire(blocking=False):
            self.overlapped = True
            return
        self.messages.append(message)
        self.threads.append(threading.current_thread().name)
        if len(self.messages) == self._expected:
            self.all.set()
        self._alone.release()


def on_a_thread(name: str, run: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread


def test_the_reader_takes_what_nobody_else_does_in_order_until_the_stream_ends() -> None:
    lane, stream, taken = Lane(), Messages(1, 2), Taken(4)
    reader = Reader(lane, stream, taken)
    stream.send(3)
    stream.send(4)
    assert taken.all.wait(WAIT)
    stream.end()
    assert reader.ended() is None
    assert taken.messages == [1, 2, 3, 4]
    assert set(taken.threads) == {"reader"}


def test_what_had_arrived_before_the_end_is_still_taken_and_then_the_error_raised() -> None:
    taken = Taken(2)
    stream = Messages(1, 2)
    stream.end(Ended())
    assert isinstance(Reader(Lane(), stream, taken).ended(), Ended)
    assert taken.messages == [1, 2]


@pytest.mark.parametrize("waiting", [0, 1, 5], ids="{} wait behind it".format)
def test_a_message_that_cannot_be_taken_ends_the_stream_with_that_error(waiting: int) -> None:
    broken = ValueError("no such work")
    seen: list[Any] = []

    def take(message: Any) -> None:
        seen.append(message)
        raise broken

    stream = Messages(*range(1 + waiting))
    reader = Reader(Lane(), stream, take)
    assert reader.ended() is broken
    assert seen == [0]
    assert not stream.is_active(), "the sender must not go on"


def test_an_error_on_a_member_reaches_the_reader_and_lets_the_member_go_on() -> None:
    broken = ValueError("no such work")
    members: list[threading.Thread] = []

    def take(_: Any) -> None:
        raise broken

    def call(work: Callable[[], None]) -> bool:
        members.append(on_a_thread("member", work))
        return True

    lane = Lane()
    lane.call_first(call)
    reader = Reader(lane, Messages(1, 2), take)
    assert reader.ended() is broken
    members[0].join(WAIT)
    assert not members[0].is_alive()


def test_a_lane_serves_again_after_a_stream_that_ended_with_an_error() -> None:
    lane = Lane()

    def take(_: Any) -> None:
        raise ValueError

    assert isinstance(Reader(lane, Messages(1, 2), take).ended(), ValueError)
    taken = Taken(2)
    again = Messages(3, 4)
    reader = Reader(lane, again, taken)
    assert taken.all.wait(WAIT)
    again.end()
    assert reader.ended() is None and taken.messages == [3, 4]


def test_a_member_that_is_free_is_called_before_the_reader() -> None:
    lane, stream, taken = Lane(), Messages(), Taken(1)

    def call(work: Callable[[], None]) -> bool:
        on_a_thread("member", work)
        return True

    lane.call_first(call)
    reader = Reader(lane, stream, taken)
    stream.send(1)
    assert taken.all.wait(WAIT)
    stream.end()
    assert reader.ended() is None
    assert taken.threads == ["member"]


def test_the_reader_looks_when_the_call_for_a_member_was_interrupted() -> None:
    """Who calls may be a client, whose thread a signal may end anywhere."""
    lane, taken = Lane(), Taken(1)
    interrupted = threading.Event()

    def call(_: Callable[[], None]) -> bool:
        if interrupted.is_set():
            return False
        interrupted.set()
        raise KeyboardInterrupt

    stream = Messages()
    reader = Reader(lane, stream, taken)
    lane.call_first(call)
    with pytest.raises(KeyboardInterrupt):
        stream.send(1)
    assert taken.all.wait(WAIT)
    stream.end()
    assert reader.ended() is None


def test_nothing_is_lost_or_overlaps_while_members_and_the_reader_race() -> None:
    lane, stream, taken = Lane(), Messages(), Taken(4_000)
    reader = Reader(lane, stream, taken)
    stop = threading.Event()

    def member() -> None:
        lane.join()
        while not stop.is_set():
            lane.send(lambda: None)
            lane.answered(busy=False)

    def sender(first: int) -> None:
        for number in range(first, first + 2_000):
            stream.send(number)

    members = [on_a_thread(f"member {number}", member) for number in range(3)]
    senders = [on_a_thread("sender", lambda first=first: sender(first)) for first in (0, 2_000)]
    assert taken.all.wait(3 * WAIT)
    stop.set()
    for thread in [*members, *senders]:
        thread.join(WAIT)
    stream.end()
    assert reader.ended() is None
    assert not taken.overlapped
    assert sorted(taken.messages) == list(range(4_000))
    for first in (0, 2_000):
        one = [number for number in taken.messages if first <= number < first + 2_000]
        assert one == sorted(one)


def test_what_arrives_while_another_thread_is_in_a_turn_is_taken_by_that_one() -> None:
    lane, stream = Lane(), Messages()
    entered, go_on, done = threading.Event(), threading.Event(), threading.Event()
    seen: list[tuple[str, str]] = []

    def take(message: str) -> None:
        seen.append((message, threading.current_thread().name))
        if message == "slow":
            entered.set()
            assert go_on.wait(WAIT)
        else:
            done.set()

    reader = Reader(lane, stream, take)
    stream.send("slow")
    assert entered.wait(WAIT)

    def member() -> None:
        lane.join()
        stream.send("next")
        lane.send(lambda: None)
        lane.answered(busy=False)

    on_a_thread("member", member).join(WAIT)
    assert [message for message, _ in seen] == ["slow"]
    go_on.set()
    assert done.wait(WAIT)
    stream.end()
    assert reader.ended() is None
    assert seen == [("slow", "reader"), ("next", "reader")]


def test_a_thread_steps_aside_before_each_message_it_takes() -> None:
    lane, stream = Lane(), Messages()
    log: list[str] = []
    # The reader is held up, so that all is taken by the member.
    reader = Reader(lane, stream, log.append)
    lane.call_first(lambda _: True)

    def member() -> None:
        lane.join(lambda: log.append("aside"))
        stream.send("one")
        stream.send("two")
        lane.send(lambda: None)
        lane.answered(busy=False)

    on_a_thread("member", member).join(WAIT)
    stream.end()
    assert reader.ended() is None
    assert log == ["aside", "one", "aside", "two"]


class TestBriefWork:
    """What a thread does as soon as it has taken the message that brought it."""

    def serve(self, lane: Lane, stream: Messages, take: Callable[[Any], None]) -> Reader:
        """A reader that is held up, so that all is taken by members."""
        reader = Reader(lane, stream, take)
        lane.call_first(lambda _: True)
        return reader

    def help_as_member(self, lane: Lane) -> threading.Thread:
        def run() -> None:
            lane.join()
            lane.send(lambda: None)
            lane.answered(busy=False)

        return on_a_thread("helper", run)

    def test_it_is_done_before_the_scheduler_finishes_what_it_came_of(self) -> None:
        lane, stream, log = Lane(), Messages(), list[str]()

        def take(message: str) -> None:
            log.append(message)
            assert lane.do_soon(lambda: log.append(f"work of {message}"))

        reader = self.serve(lane, stream, take)

        def help_once(between: Callable[[], bool]) -> None:
            between()
            log.append("finish")

        reader.scheduler.help = help_once  # type: ignore[method-assign]
        stream.send("one")
        stream.send("two")
        self.help_as_member(lane).join(WAIT)
        assert log == ["one", "work of one", "two", "work of two", "finish"]
        stream.end()
        assert reader.ended() is None

    def test_a_thread_that_takes_no_message_refuses_it(self) -> None:
        lane, stream, refused = Lane(), Messages(), list[bool]()
        reader = self.serve(lane, stream, lambda _: None)

        def run() -> None:
            lane.join()
            refused.append(lane.do_soon(lambda: None))

        on_a_thread("member", run).join(WAIT)
        stream.end()
        reader.ended()
        assert refused == [False]

    def test_a_thread_takes_one_piece_for_each_message(self) -> None:
        lane, stream, taken = Lane(), Messages(), list[bool]()

        def take(_: Any) -> None:
            taken.extend([lane.do_soon(lambda: None), lane.do_soon(lambda: None)])

        reader = self.serve(lane, stream, take)
        stream.send("one")
        self.help_as_member(lane).join(WAIT)
        stream.end()
        reader.ended()
        assert taken == [True, False]

    def test_while_it_blocks_others_are_called_for_the_messages_behind_it(self) -> None:
        lane, stream = Lane(), Messages()
        go_on, second = threading.Event(), threading.Event()

        def block() -> None:
            assert go_on.wait(WAIT)

        def take(message: str) -> None:
            if message == "blocks":
                assert lane.do_soon(block)
            else:
                second.set()

        def call(work: Callable[[], None]) -> bool:
            on_a_thread("another", work)
            return True

        reader = Reader(lane, stream, take)
        lane.call_first(call)

        def hand_out(between: Callable[[], bool]) -> None:
            # As the scheduler does on a lent thread: nobody is called for what that thread will find itself.
            if threading.current_thread().name == "helper":
                stream.send("blocks")
                stream.send("next")
                between()

        reader.scheduler.help = hand_out  # type: ignore[method-assign]
        helper = self.help_as_member(lane)
        taken = second.wait(WAIT)
        go_on.set()
        helper.join(WAIT)
        stream.end()
        assert reader.ended() is None
        assert taken

    def test_the_scheduler_gets_its_turn_after_a_while(self) -> None:
        lane, stream, done = Lane(), Messages(), list[int]()

        def take(number: int) -> None:
            lane.do_soon(lambda: done.append(number) or threading.Event().wait(0.001) or None)

        reader = self.serve(lane, stream, take)
        rounds: list[int] = []

        def help_all(between: Callable[[], bool]) -> None:
            while between():
                rounds.append(len(done))

        reader.scheduler.help = help_all  # type: ignore[method-assign]
        for number in range(20):
            stream.send(number)
        self.help_as_member(lane).join(WAIT)
        stream.end()
        reader.ended()
        assert done == list(range(20))
        assert len(rounds) > 3 and rounds[0] < 10


class TestAnswers:
    """How a thread makes its calls, and what it owes the scheduler for that."""

    def run_member(self, lane: Lane, *steps: Callable[[], Any]) -> None:
        def run() -> None:
            lane.join()
            for step in steps:
                step()

        on_a_thread("member", run).join(WAIT)

    @pytest.mark.parametrize(
        ("busy", "expected"), [(False, ["quietly", "help"]), (True, ["quietly", "leave"])], ids=["free", "busy"]
    )
    def test_a_member_calls_quietly_and_then_helps_unless_it_has_more_to_do(
        self, busy: bool, expected: list[str]
    ) -> None:
        lane, stream = Lane(), Messages()
        reader = Reader(lane, stream, print)
        lane.call_first(lambda _: True)
        reader.scheduler.calls.clear()
        results: list[int] = []
        self.run_member(lane, lambda: results.append(lane.send(lambda: 7)), lambda: lane.answered(busy=busy))
        assert (results, reader.scheduler.calls) == ([7], expected)
        stream.end()
        reader.ended()

    def test_who_has_answered_nothing_does_not_help(self) -> None:
        lane, stream = Lane(), Messages()
        reader = Reader(lane, stream, print)
        lane.call_first(lambda _: True)
        reader.scheduler.calls.clear()
        self.run_member(lane, lambda: lane.answered(busy=False))
        assert reader.scheduler.calls == []
        stream.end()
        reader.ended()

    def test_a_thread_that_is_none_of_the_workers_calls_as_everybody_does(self) -> None:
        lane, stream = Lane(), Messages()
        reader = Reader(lane, stream, print)
        lane.call_first(lambda _: True)
        reader.scheduler.calls.clear()
        assert lane.send(lambda: 7) == 7
        lane.answered(busy=False)
        assert reader.scheduler.calls == []
        stream.end()
        reader.ended()

    def test_before_and_after_a_stream_members_call_as_everybody_does(self) -> None:
        lane, stream = Lane(), Messages()
        results: list[int] = []
        self.run_member(lane, lambda: results.append(lane.send(lambda: 1)), lambda: lane.answered(busy=False))
        stream.end()
        reader = Reader(lane, stream, print)
        reader.ended()
        reader.scheduler.calls.clear()
        self.run_member(lane, lambda: results.append(lane.send(lambda: 2)), lambda: lane.answered(busy=False))
        assert (results, reader.scheduler.calls, reader.scheduler.standing) == ([1, 2], [], [])

    def test_a_message_without_an_answer_asks_for_no_more_help(self) -> None:
        """Others' commands are not this thread's business then: what it was handed comes first."""
        lane, stream, taken = Lane(), Messages(), Taken(1)
        reader = Reader(lane, stream, taken)
        lane.call_first(lambda _: True)
        reader.scheduler.calls.clear()
        handed_out = ["activity"]

        def help_once(between: Callable[[], bool]) -> None:
            reader.scheduler.calls.append("help")
            if handed_out:
                stream.send(handed_out.pop())

        reader.scheduler.help = help_once  # type: ignore[method-assign]
        self.run_member(lane, lambda: lane.send(lambda: None), lambda: lane.answered(busy=False))
        assert taken.messages == ["activity"]
        assert reader.scheduler.calls == ["quietly", "help"]
        stream.end()
        reader.ended()


class TestCore:
    """Threads that wait or wake others keep to the core they share, user code has all."""

    def test_messages_are_taken_outside_and_waited_for_inside(self) -> None:
        lane, stream = Lane(), Messages()
        seen: list[bool] = []
        taken = Taken(2)

        def take(message: Any) -> None:
            seen.append("reader" in reader.scheduler.core.inside)
            taken(message)

        reader = Reader(lane, stream, take)
        core = reader.scheduler.core
        wait_until(lambda: "reader" in core.inside)
        stream.send(1)
        stream.send(2)
        assert taken.all.wait(WAIT)
        wait_until(lambda: "reader" in core.inside)
        stream.end()
        assert reader.ended() is None
        assert seen == [False, False]
        assert core.inside == set(), "who has served is outside again"

    def test_the_write_is_made_inside(self) -> None:
        lane, stream, log = Lane(), Messages(), list[tuple[str, bool]]()
        reader = Reader(lane, stream, lambda message: log.append((message, "member" in core.inside)))
        core = reader.scheduler.core
        # The reader is held up, so that all is taken by the member.
        lane.call_first(lambda _: True)

        def help_once(between: Callable[[], bool]) -> None:
            between()
            log.append(("write", "member" in core.inside))

        def member() -> None:
            lane.join()
            stream.send("turn")
            lane.send(lambda: None)
            lane.answered(busy=False)

        reader.scheduler.help = help_once  # type: ignore[method-assign]
        on_a_thread("member", member).join(WAIT)
        assert log == [("turn", False), ("write", True)]
        stream.end()
        assert reader.ended() is None

    def test_the_threads_of_a_pool_wait_inside_and_run_user_code_outside(self) -> None:
        lane, stream, outside, done = Lane(), Messages(), list[bool](), threading.Semaphore(0)
        reader = Reader(lane, stream, lambda _: None)
        core = reader.scheduler.core
        pool = ThreadPool(1, "pooled", logging.getLogger("pool"), lane)

        def work() -> None:
            outside.append("pooled_0" not in core.inside)
            done.release()

        for _ in range(3):
            pool.submit(work)
            assert done.acquire(timeout=WAIT)
            wait_until(lambda: "pooled_0" in core.inside)
        pool.close()
        stream.end()
        assert reader.ended() is None
        assert outside == [True, True, True]

    def test_a_thread_of_a_pool_that_is_called_to_help_stays_inside(self) -> None:
        lane, stream, inside, done = Lane(), Messages(), list[bool](), threading.Event()
        reader = Reader(lane, stream, lambda _: None)
        core = reader.scheduler.core
        pool = ThreadPool(1, "pooled", logging.getLogger("pool"), lane)
        started = threading.Event()
        pool.submit(started.set)
        assert started.wait(WAIT)
        wait_until(lambda: "pooled_0" in core.inside)

        def help_once(between: Callable[[], bool]) -> None:
            if threading.current_thread().name == "pooled_0":
                inside.append("pooled_0" in core.inside)
                done.set()

        reader.scheduler.help = help_once  # type: ignore[method-assign]
        reader.scheduler.standing[0]()
        assert done.wait(WAIT)
        assert inside == [True]
        pool.close()
        stream.end()
        assert reader.ended() is None

    def test_a_thread_is_started_from_outside_so_that_it_does_not_inherit_the_core(self) -> None:
        lane, stream, started_inside = Lane(), Messages(), list[bool]()
        reader = Reader(lane, stream, lambda _: None)
        core = reader.scheduler.core
        pool = ThreadPool(1, "pooled", logging.getLogger("pool"), lane)
        done = threading.Event()

        def starter() -> None:
            core.enter()
            pool.submit(lambda: (started_inside.append("starter" in core.inside), done.set()))

        on_a_thread("starter", starter).join(WAIT)
        assert done.wait(WAIT)
        assert started_inside == [False]
        pool.close()
        stream.end()
        assert reader.ended() is None


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.001)
