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
    Delivery,
    Outbox,
    Refusal,
    RetryDelays,
    Told,
)
from durabletask.transport.frames import MAXIMUM_UNSETTLED, AnswerFrames
from durabletask_proto import additions
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
    return Delivery(
        "CompleteActivityTask", pb.ActivityResponse(), lambda _, refusal: settled(refusal), attempts_left=tries
    )


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


class Riding:
    """An outbox whose answers leave by a stream; nothing iterates over its frames but the test."""

    def __init__(self, clock: AlarmClock) -> None:
        self.wire = Wire()
        self.settled: queue.SimpleQueue[tuple[int, Refusal | None]] = queue.SimpleQueue()
        self.outbox = Outbox(self.wire.call, clock, LOGGER, QUICK)
        self.frames = self.board()

    def board(self) -> AnswerFrames[Delivery]:
        frames: AnswerFrames[Delivery] = AnswerFrames(pb.GetWorkItemsRequest(), "orders")
        self.outbox.ride(frames)
        opening = next(frames)
        assert opening.HasField("open") and opening.taskHub == "orders" and not opening.answers
        return frames

    def send(self, number: int, message: Any = None, method: str = "CompleteActivityTask", tries: int = 10) -> None:
        message = pb.ActivityResponse(taskId=number) if message is None else message
        self.outbox.send(
            Delivery(method, message, lambda _, refusal: self.settled.put((number, refusal)), attempts_left=tries)
        )

    def outcomes(self, count: int) -> dict[int, Refusal | None]:
        return dict(self.settled.get(timeout=PATIENCE) for _ in range(count))


def numbers_of(frame: additions_pb.WorkerFrame) -> list[int]:
    return [answer.number for answer in frame.answers]


def tasks_of(frame: additions_pb.WorkerFrame) -> list[int]:
    return [answer.activity.taskId for answer in frame.answers]


class TestRidingOnAStream:
    def test_what_gathers_leaves_in_one_frame(self, clock: AlarmClock) -> None:
        riding = Riding(clock)
        riding.send(1)
        riding.send(2, pb.OrchestratorResponse(instanceId="a"), "CompleteOrchestratorTask")
        riding.send(3, pb.EntityBatchResult(completionToken="t"), "CompleteEntityTask")
        frame = next(riding.frames)
        assert [answer.WhichOneof("answer") for answer in frame.answers] == ["activity", "turn", "batch"]
        assert frame.answers[1].turn.instanceId == "a"
        assert len(set(numbers_of(frame))) == 3 and not frame.HasField("open")
        assert riding.wire.started.empty() and riding.settled.empty()

    def test_an_answer_is_delivered_when_the_scheduler_says_so_and_tried_again_if_its_refusal_passes(
        self, clock: AlarmClock
    ) -> None:
        riding = Riding(clock)
        for number in (1, 2, 3):
            riding.send(number)
        first, second, third = numbers_of(next(riding.frames))
        lasting, passing = (code.value[0] for code in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE))
        refusals = [
            additions_pb.Refusal(index=second, code=lasting, message="no hub"),
            additions_pb.Refusal(index=third, code=passing, message="full"),
        ]
        riding.outbox.settle(additions_pb.SchedulerFrame(taken=[first], refusals=refusals))
        assert riding.outcomes(2) == {1: None, 2: Refusal(grpc.StatusCode.NOT_FOUND, "no hub")}
        again = next(riding.frames)
        assert tasks_of(again) == [3] and numbers_of(again) != [third]
        riding.outbox.settle(additions_pb.SchedulerFrame(taken=numbers_of(again)))
        assert riding.outcomes(1) == {3: None}

    def test_what_a_stream_leaves_unsettled_goes_by_calls_at_once(self, clock: AlarmClock) -> None:
        riding = Riding(clock)
        riding.send(1)
        riding.send(2)
        sent = next(riding.frames)
        riding.send(3)
        riding.outbox.settle(additions_pb.SchedulerFrame(taken=numbers_of(sent)[:1]))
        riding.outbox.ride(None)
        riding.outbox.settle(additions_pb.SchedulerFrame(taken=numbers_of(sent)))
        calls = [riding.wire.next(), riding.wire.next()]
        assert [call.message.taskId for call in calls] == [2, 3]
        assert riding.outcomes(1) == {1: None} and riding.settled.empty()
        for call in calls:
            call.end(grpc.StatusCode.OK)
        assert riding.outcomes(2) == {2: None, 3: None}
        assert list(riding.frames) == []

    def test_a_call_that_failed_is_tried_again_by_the_next_stream(self, clock: AlarmClock) -> None:
        riding = Riding(clock)
        riding.send(1)
        riding.outbox.ride(None)
        call = riding.wire.next()
        frames = riding.board()
        call.end(grpc.StatusCode.UNAVAILABLE, "gone")
        frame = next(frames)
        riding.outbox.settle(additions_pb.SchedulerFrame(taken=numbers_of(frame)))
        assert riding.outcomes(1) == {1: None}

    def test_what_fits_no_frame_goes_by_a_call(self, clock: AlarmClock) -> None:
        riding = Riding(clock)
        large = StringValue(value="x" * additions.MOST_FRAME_BYTES)
        riding.send(1, pb.ActivityResponse(taskId=1, result=large))
        riding.send(2, pb.AbandonActivityTaskRequest(completionToken="t"), "AbandonTaskActivityWorkItem")
        assert [riding.wire.next().method for _ in range(2)] == ["CompleteActivityTask", "AbandonTaskActivityWorkItem"]

    def test_a_frame_stays_below_its_size(self, clock: AlarmClock) -> None:
        riding = Riding(clock)
        third = StringValue(value="x" * (additions.MOST_FRAME_BYTES // 3))
        for number in range(1, 6):
            riding.send(number, pb.ActivityResponse(taskId=number, result=third))
        frames = [next(riding.frames) for _ in range(3)]
        assert [tasks_of(frame) for frame in frames] == [[1, 2], [3, 4], [5]]
        assert all(frame.ByteSize() <= additions.MOST_FRAME_BYTES for frame in frames)

    def test_what_is_unsettled_is_bounded_and_the_rest_follows(self, clock: AlarmClock) -> None:
        riding = Riding(clock)
        for number in range(MAXIMUM_UNSETTLED + 2):
            riding.send(number)
        sent = next(riding.frames)
        assert len(sent.answers) == MAXIMUM_UNSETTLED
        next_frame: queue.SimpleQueue[additions_pb.WorkerFrame] = queue.SimpleQueue()
        threading.Thread(target=lambda: next_frame.put(next(riding.frames)), daemon=True).start()
        riding.outbox.settle(additions_pb.SchedulerFrame(taken=numbers_of(sent)[:1]))
        assert tasks_of(next_frame.get(timeout=PATIENCE)) == [MAXIMUM_UNSETTLED]

    def test_closing_ends_the_frames_and_settles_nothing(self, clock: AlarmClock) -> None:
        riding = Riding(clock)
        riding.send(1)
        ended: queue.SimpleQueue[list[Any]] = queue.SimpleQueue()
        next(riding.frames)
        threading.Thread(target=lambda: ended.put(list(riding.frames)), daemon=True).start()
        riding.outbox.close()
        assert ended.get(timeout=PATIENCE) == []
        assert riding.settled.empty() and riding.wire.started.empty()


class Neighbour:
    """A server in this process: takes deliveries by themselves, and says when the test tells it."""

    def __init__(self, *problems: tuple[grpc.StatusCode, str] | None) -> None:
        self.taken: list[tuple[str, Any]] = []
        self.waiting: list[Callable[[tuple[grpc.StatusCode, str] | None], None]] = []
        self._problems = list(problems)

    def take(self, method: str, message: Any, tell: Told, about: Delivery) -> None:
        self.taken.append((method, message))
        if self._problems:
            tell(about, self._problems.pop(0))
        else:
            self.waiting.append(lambda problem: tell(about, problem))


class TestServerInThisProcess:
    @pytest.fixture
    def settled(self) -> "queue.SimpleQueue[Refusal | None]":
        return queue.SimpleQueue()

    def outbox(self, clock: AlarmClock, neighbour: Neighbour) -> tuple[Outbox, Wire]:
        wire = Wire()
        outbox = Outbox(wire.call, clock, LOGGER, QUICK)
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
