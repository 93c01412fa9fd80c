"""Delivery of completions: bounded, retried, reported once."""

import logging
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from durabletask.transport.alarm import AlarmClock
from durabletask.transport.completions import (
    MAXIMUM_IN_FLIGHT,
    MAXIMUM_PACKED_CALLS,
    Delivery,
    Outbox,
    Refusal,
    RetryDelays,
)
from durabletask.transport.packing import MOST_BYTES
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto import scheduler_additions_pb2 as additions_pb
from google.protobuf.wrappers_pb2 import StringValue

PATIENCE = 10.0
QUICK = RetryDelays(base=0.001, cap=0.002)
LOGGER = logging.getLogger("test")


class ScriptedCall:
    """A unary call whose end the test decides."""

    def __init__(self, method: str = "", message: Any = None) -> None:
        self.method = method
        self.message = message
        self.response: Any = None
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
        return self.response

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
        call = self._kind(method, message)
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


class Packing:
    """An outbox to a server that takes packs, all of whose calls are taken by one delivery each."""

    def __init__(self, clock: AlarmClock, kind: type[ScriptedCall] = ScriptedCall) -> None:
        self.wire = Wire(kind)
        self.settled: queue.SimpleQueue[tuple[int, Refusal | None]] = queue.SimpleQueue()
        self.outbox = Outbox(self.wire.call, clock, LOGGER, QUICK)
        self.outbox.pack(True)
        for number in range(MAXIMUM_PACKED_CALLS):
            self.send(-1 - number)
        self.under_way = [self.wire.next() for _ in range(MAXIMUM_PACKED_CALLS)]

    def send(self, number: int, message: Any = None, method: str = "CompleteActivityTask") -> None:
        message = pb.ActivityResponse(taskId=number) if message is None else message
        self.outbox.send(Delivery(method, message, lambda refusal: self.settled.put((number, refusal))))

    def gathered(self) -> ScriptedCall:
        """The call that starts when one of those under way ends."""
        self.under_way.pop().end(grpc.StatusCode.OK)
        assert self.settled.get(timeout=PATIENCE)[0] < 0
        return self.wire.next()

    def outcomes(self, count: int) -> dict[int, Refusal | None]:
        return dict(self.settled.get(timeout=PATIENCE) for _ in range(count))


@pytest.mark.parametrize("kind", [ScriptedCall, PromptCall])
def test_what_gathers_while_calls_are_under_way_shares_the_next_one(
    clock: AlarmClock, kind: type[ScriptedCall]
) -> None:
    packing = Packing(clock, kind)
    packing.send(1)
    packing.send(2, pb.OrchestratorResponse(instanceId="a"), "CompleteOrchestratorTask")
    packing.send(3, pb.EntityBatchResult(completionToken="t"), "CompleteEntityTask")
    call = packing.gathered()
    assert call.method == "CompleteWorkItems"
    assert [answer.WhichOneof("answer") for answer in call.message.answers] == ["activity", "turn", "batch"]
    assert call.message.answers[1].turn.instanceId == "a"

    not_found = grpc.StatusCode.NOT_FOUND
    refused = additions_pb.Refusal(index=1, code=not_found.value[0], message="no hub")
    call.response = additions_pb.CompleteWorkItemsResponse(refusals=[refused])
    call.end(grpc.StatusCode.OK)

    assert packing.outcomes(3) == {1: None, 2: Refusal(not_found, "no hub"), 3: None}


def test_a_pack_that_is_lost_is_sent_again(clock: AlarmClock) -> None:
    packing = Packing(clock)
    packing.send(1)
    packing.send(2)
    packing.gathered().end(grpc.StatusCode.UNAVAILABLE, "gone")

    tasks: list[int] = []
    while len(tasks) < 2:
        call = packing.wire.next()
        is_pack = call.method == "CompleteWorkItems"
        tasks += [answer.activity.taskId for answer in call.message.answers] if is_pack else [call.message.taskId]
        call.response = additions_pb.CompleteWorkItemsResponse()
        call.end(grpc.StatusCode.OK)

    assert sorted(tasks) == [1, 2]
    assert packing.outcomes(2) == {1: None, 2: None}


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INVALID_ARGUMENT]
)
def test_a_pack_refused_as_a_whole_is_sent_one_by_one(clock: AlarmClock, code: grpc.StatusCode) -> None:
    """Else the size of the pack, or a server that does not know it, would fail what is in it."""
    packing = Packing(clock)
    packing.send(1)
    packing.send(2)
    packing.gathered().end(code, "Received message larger than max (2 vs. 1)")
    for call in packing.under_way:
        call.end(grpc.StatusCode.OK)

    alone = [packing.wire.next() for _ in range(2)]
    for call in alone:
        call.end(grpc.StatusCode.OK)

    assert [call.method for call in alone] == ["CompleteActivityTask"] * 2
    assert {number: refusal for number, refusal in packing.outcomes(5).items() if number > 0} == {1: None, 2: None}


def test_a_pack_stays_below_its_size_and_abandonments_travel_by_themselves(clock: AlarmClock) -> None:
    packing = Packing(clock)
    large = StringValue(value="x" * (MOST_BYTES // 2))
    for number in (1, 2, 3):
        packing.send(number, pb.ActivityResponse(taskId=number, result=large))
    packing.send(4, pb.AbandonActivityTaskRequest(completionToken="t"), "AbandonTaskActivityWorkItem")
    packing.send(5)
    packing.send(6)

    calls = [packing.gathered() for _ in range(MAXIMUM_PACKED_CALLS)]

    assert [call.method for call in calls] == [
        "CompleteActivityTask",
        "CompleteActivityTask",
        "CompleteActivityTask",
        "AbandonTaskActivityWorkItem",
    ]


class Neighbour:
    """A server in this process: takes deliveries by themselves, and says when the test tells it."""

    def __init__(self, *problems: tuple[grpc.StatusCode, str] | None) -> None:
        self.taken: list[tuple[str, Any]] = []
        self.waiting: list[Callable[[tuple[grpc.StatusCode, str] | None], None]] = []
        self._problems = list(problems)

    def take(self, method: str, message: Any, settled: Callable[[tuple[grpc.StatusCode, str] | None], None]) -> None:
        self.taken.append((method, message))
        if self._problems:
            settled(self._problems.pop(0))
        else:
            self.waiting.append(settled)


class TestServerInThisProcess:
    @pytest.fixture
    def settled(self) -> "queue.SimpleQueue[Refusal | None]":
        return queue.SimpleQueue()

    def outbox(self, clock: AlarmClock, neighbour: Neighbour) -> tuple[Outbox, Wire]:
        wire = Wire()
        outbox = Outbox(wire.call, clock, LOGGER, QUICK)
        outbox.pack(True)
        outbox.hand_over(neighbour.take)
        return outbox, wire

    def test_it_takes_any_number_without_a_call(self, clock, settled):
        neighbour = Neighbour()
        outbox, wire = self.outbox(clock, neighbour)
        for _ in range(2 * MAXIMUM_IN_FLIGHT):
            outbox.send(delivery(settled.put))
        assert len(neighbour.taken) == 2 * MAXIMUM_IN_FLIGHT
        assert wire.started.empty()
        for tell in neighbour.waiting:
            tell(None)
        assert [settled.get(timeout=PATIENCE) for _ in neighbour.taken] == [None] * len(neighbour.taken)

    def test_what_passes_is_tried_again_and_what_does_not_is_reported(self, clock, settled):
        passing, lasting = (grpc.StatusCode.UNAVAILABLE, "full"), (grpc.StatusCode.INVALID_ARGUMENT, "no")
        neighbour = Neighbour(passing, lasting)
        outbox, _ = self.outbox(clock, neighbour)
        outbox.send(delivery(settled.put))
        assert settled.get(timeout=PATIENCE) == Refusal(*lasting)
        assert len(neighbour.taken) == 2

    def test_nobody_is_told_once_closed(self, clock, settled):
        neighbour = Neighbour()
        outbox, _ = self.outbox(clock, neighbour)
        outbox.send(delivery(settled.put))
        outbox.close()
        neighbour.waiting[0](None)
        outbox.send(delivery(settled.put))
        assert len(neighbour.taken) == 1
        assert settled.empty()

    def test_after_it_comes_a_server_elsewhere(self, clock, settled):
        neighbour = Neighbour()
        outbox, wire = self.outbox(clock, neighbour)
        outbox.hand_over(None)
        outbox.send(delivery(settled.put))
        wire.next().end(grpc.StatusCode.OK)
        assert settled.get(timeout=PATIENCE) is None
        assert not neighbour.taken
