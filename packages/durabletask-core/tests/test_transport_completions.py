"""Delivery of completions: bounded, retried, reported once."""

import logging
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from durabletask.transport.alarm import AlarmClock
from durabletask.transport.completions import MAXIMUM_IN_FLIGHT, Delivery, Outbox, Refusal, RetryDelays
from durabletask_proto import orchestrator_service_pb2 as pb

PATIENCE = 10.0
QUICK = RetryDelays(base=0.001, cap=0.002)
LOGGER = logging.getLogger("test")


class ScriptedCall:
    """A unary call whose end the test decides."""

    def __init__(self) -> None:
        self._code: grpc.StatusCode | None = None
        self._details = ""
        self._callbacks: list[Callable[[Any], None]] = []

    def end(self, code: grpc.StatusCode, details: str = "") -> None:
        self._code, self._details = code, details
        for callback in self._callbacks:
            callback(self)

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        if self._code is None:
            self._callbacks.append(callback)
        else:
            callback(self)

    def cancel(self) -> bool:
        self.end(grpc.StatusCode.CANCELLED)
        return True

    def result(self, timeout: float | None = None) -> Any:
        return None

    def initial_metadata(self) -> Any:
        return ()

    def code(self) -> grpc.StatusCode | None:
        return self._code

    def details(self) -> str:
        return self._details


class PromptCall(ScriptedCall):
    """A call inside this process, which has no thread of its own for callbacks."""

    def add_prompt_callback(self, callback: Callable[[Any], None]) -> None:
        self.add_done_callback(callback)


class Wire:
    """Records the calls that were started."""

    def __init__(self, kind: type[ScriptedCall] = ScriptedCall) -> None:
        self.started: queue.SimpleQueue[ScriptedCall] = queue.SimpleQueue()
        self._kind = kind

    def call(self, method: str, message: Any) -> ScriptedCall:
        call = self._kind()
        self.started.put(call)
        return call

    def next(self) -> ScriptedCall:
        return self.started.get(timeout=PATIENCE)


@pytest.fixture
def clock() -> Iterator[AlarmClock]:
    clock = AlarmClock(LOGGER)
    clock.start()
    yield clock
    clock.stop()


def delivery(settled: Callable[[Refusal | None], None], tries: int = 10) -> Delivery:
    return Delivery("CompleteActivityTask", pb.ActivityResponse(), settled, tries)


def test_no_more_than_the_maximum_are_in_flight_and_the_rest_follows(clock: AlarmClock) -> None:
    """Pinned 30"""
    wire = Wire()
    outbox = Outbox(wire.call, clock, LOGGER, QUICK)
    done = threading.Semaphore(0)
    for _ in range(MAXIMUM_IN_FLIGHT + 2):
        outbox.send(delivery(lambda refusal: done.release()))
    in_flight = [wire.next() for _ in range(MAXIMUM_IN_FLIGHT)]
    assert wire.started.empty()

    for call in in_flight:
        call.end(grpc.StatusCode.OK)
    for _ in range(2):
        wire.next().end(grpc.StatusCode.OK)

    assert all(done.acquire(timeout=PATIENCE) for _ in range(MAXIMUM_IN_FLIGHT + 2))


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    ],
)
def test_a_passing_error_is_tried_again(clock: AlarmClock, code: grpc.StatusCode) -> None:
    wire, settled = Wire(), queue.SimpleQueue[Refusal | None]()
    Outbox(wire.call, clock, LOGGER, QUICK).send(delivery(settled.put))

    wire.next().end(code, "quota of calls used up")
    wire.next().end(grpc.StatusCode.OK)

    assert settled.get(timeout=PATIENCE) is None


@pytest.mark.parametrize(
    ("code", "details"),
    [
        (grpc.StatusCode.NOT_FOUND, "no such token"),
        (grpc.StatusCode.PERMISSION_DENIED, "no"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "SERVER: Received message larger than max (5 vs. 4)"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message exceeds the maximum configured message size."),
    ],
)
def test_a_lasting_error_is_settled_at_once(clock: AlarmClock, code: grpc.StatusCode, details: str) -> None:
    wire, settled = Wire(), queue.SimpleQueue[Refusal | None]()
    Outbox(wire.call, clock, LOGGER, QUICK).send(delivery(settled.put))

    wire.next().end(code, details)

    assert settled.get(timeout=PATIENCE) == Refusal(code, details)
    assert wire.started.empty()


def test_tries_end(clock: AlarmClock) -> None:
    wire, settled = Wire(), queue.SimpleQueue[Refusal | None]()
    Outbox(wire.call, clock, LOGGER, QUICK).send(delivery(settled.put, tries=3))

    for _ in range(3):
        wire.next().end(grpc.StatusCode.UNAVAILABLE, "gone")

    assert settled.get(timeout=PATIENCE) == Refusal(grpc.StatusCode.UNAVAILABLE, "gone")
    assert wire.started.empty()


def test_a_call_that_cannot_be_started_is_tried_again(clock: AlarmClock) -> None:
    settled = queue.SimpleQueue[Refusal | None]()

    def closed(method: str, message: Any) -> ScriptedCall:
        raise ValueError("Cannot invoke RPC on closed channel!")

    Outbox(closed, clock, LOGGER, QUICK).send(delivery(settled.put, tries=2))

    refusal = settled.get(timeout=PATIENCE)
    assert refusal is not None and "closed channel" in refusal.details


def test_closing_cancels_what_is_in_flight_and_settles_nothing(clock: AlarmClock) -> None:
    wire, settled = Wire(), queue.SimpleQueue[Refusal | None]()
    outbox = Outbox(wire.call, clock, LOGGER, QUICK)
    outbox.send(delivery(settled.put))
    call = wire.next()

    outbox.close()
    outbox.send(delivery(settled.put))

    assert call.code() is grpc.StatusCode.CANCELLED
    assert settled.empty()
    assert wire.started.empty()


@pytest.mark.parametrize(("code", "on_server_thread"), [(grpc.StatusCode.OK, True), (grpc.StatusCode.NOT_FOUND, False)])
def test_the_server_s_own_thread_is_used_for_good_news_only(
    clock: AlarmClock, code: grpc.StatusCode, on_server_thread: bool
) -> None:
    """What follows a refusal may take long; a scheduler in this process must not wait for it."""
    wire = Wire(PromptCall)
    settled: queue.SimpleQueue[bool] = queue.SimpleQueue()
    server = threading.get_ident()
    Outbox(wire.call, clock, LOGGER, QUICK).send(
        delivery(lambda refusal: settled.put(threading.get_ident() == server), tries=1)
    )

    wire.next().end(code)

    assert settled.get(timeout=PATIENCE) is on_server_thread
