"""Delivery of what a worker answers: bounded in flight, retried, never waited for.

Where the server has it they travel on the stream that brings the work items, else one call each. gRPC sheds
calls when thousands are in flight at once, so at most :data:`MAXIMUM_IN_FLIGHT` are; the rest wait here.
Completions are idempotent per completion token (protocol), so one whose fate is unknown may be sent again.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import grpc
from durabletask_proto import scheduler_additions_pb2 as additions_pb
from google.protobuf.message import Message

from durabletask.transport.alarm import AlarmClock
from durabletask.transport.backoff import full_jitter
from durabletask.transport.connection import FutureCall
from durabletask.transport.frames import AnswerFrames

MAXIMUM_IN_FLIGHT = 128

# CANCELLED is not an answer of the server's: gRPC sheds calls with it, and a dying channel ends them with it.
# UNAUTHENTICATED passes too: an interceptor fetches a fresh token for the next try.
RETRYABLE = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNAUTHENTICATED,
    }
)


Told = Callable[["Delivery", "tuple[grpc.StatusCode, str] | None"], None]
"""Told how a delivery went: None for OK, else status and details."""

HandOver = Callable[[str, Message, Told, "Delivery"], None]
"""Takes method, message, whom to tell, once and on any thread, how it went, and what to tell it of."""


@dataclass(frozen=True)
class Refusal:
    """Why a delivery ended without the server's OK."""

    code: grpc.StatusCode
    details: str

    @classmethod
    def of(cls, error: grpc.RpcError) -> "Refusal":
        """What a call was ended with; UNKNOWN if the error is not a call's, but an interceptor's own."""
        if not isinstance(error, grpc.Call):
            return cls(grpc.StatusCode.UNKNOWN, str(error))
        return cls(error.code() or grpc.StatusCode.UNKNOWN, error.details() or "")

    def __str__(self) -> str:
        return f"{self.code.name}: {self.details}" if self.details else self.code.name


@dataclass(slots=True, eq=False)
class Delivery:
    """One completion or abandonment.

    Args:
        method: Name of the RPC.
        message: Its request.
        settled: Called exactly once, on any thread, with the delivery and None when the server said OK, else
            the last error. Must not block.
        about: What it answers, for ``settled``.
        attempts_left: Tries in all.
    """

    method: str
    message: Message
    settled: "Callable[[Delivery, Refusal | None], None]"
    about: Any = None
    attempts_left: int = 10
    failures: int = field(default=0, init=False)


@dataclass(frozen=True)
class RetryDelays:
    """Bounds of the random delays between two tries, in seconds."""

    base: float = 0.2
    cap: float = 15.0


class Outbox:
    """Sends deliveries through ``call``.

    Args:
        call: Starts a unary call and returns its future; reached anew for every try, so that a
            retry goes through the channel that is in use then.
        clock: Runs retries, and what waited for a free place.
        logger: Where failed tries are reported.
        delays: Back-off between tries.
    """

    def __init__(
        self,
        call: Callable[[str, Message], FutureCall],
        clock: AlarmClock,
        logger: logging.Logger,
        delays: RetryDelays | None = None,
    ) -> None:
        self._call = call
        self._clock = clock
        self._logger = logger
        self._delays = delays or RetryDelays()
        self._lock = threading.Lock()
        self._waiting: deque[Delivery] = deque()
        # gRPC cancels a call whose future is collected, so every future is held until it is done.
        self._in_flight: dict[Delivery, FutureCall | None] = {}
        self._closed = False
        self._frames: AnswerFrames[Delivery] | None = None
        self._direct: HandOver | None = None
        # Made once: it goes with every delivery.
        self._tell: Told = self._handed_over

    def ride(self, frames: AnswerFrames[Delivery] | None) -> None:
        """Send by this stream from now on; None for by calls.

        What the stream before has not settled goes by calls at once: that it ended says nothing about the answers.
        """
        with self._lock:
            before, self._frames = self._frames, frames
        for delivery in before.end() if before is not None else ():
            self._send_alone(delivery)

    def settle(self, frame: additions_pb.SchedulerFrame) -> None:
        """Take what the scheduler says of the answers on the stream."""
        frames = self._frames
        for delivery, problem in frames.settle(frame) if frames is not None else ():
            self._settle(delivery, None if problem is None else Refusal(*problem))

    def hand_over(self, direct: HandOver | None) -> None:
        """How to reach a server in this process, which takes any number of deliveries; None for a server elsewhere."""
        self._direct = direct

    def send(self, delivery: Delivery) -> None:
        """Send it the cheapest way there is."""
        direct, frames = self._direct, self._frames
        if direct is not None and not self._closed:
            direct(delivery.method, delivery.message, self._tell, delivery)
        elif frames is None or not frames.take(delivery):
            self._send_alone(delivery)

    def _send_alone(self, delivery: Delivery) -> None:
        """Send now if fewer than the maximum are in flight, else as soon as a place is free."""
        with self._lock:
            if self._closed:
                return
            if len(self._in_flight) >= MAXIMUM_IN_FLIGHT:
                self._waiting.append(delivery)
                return
            self._in_flight[delivery] = None
        self._start(delivery)

    def _handed_over(self, delivery: Delivery, problem: tuple[grpc.StatusCode, str] | None) -> None:
        """On the server's thread: it is kept only for what is sure not to block, the usual case."""
        if self._closed:
            return
        if problem is None:
            delivery.settled(delivery, None)
        else:
            self._clock.call_later(0, partial(self._refused, delivery, Refusal(*problem)))

    def close(self) -> None:
        """Cancel what is in flight and forget what waits; ``settled`` is not called any more."""
        with self._lock:
            self._closed = True
            frames, self._frames = self._frames, None
            calls = [call for call in self._in_flight.values() if call is not None]
            self._in_flight.clear()
            self._waiting.clear()
        if frames is not None:
            frames.end()
        for call in calls:
            call.cancel()

    def _start(self, delivery: Delivery) -> None:
        try:
            call = self._call(delivery.method, delivery.message)
        except Exception as error:
            # A closed channel and an interceptor may raise anything; both pass like a lost connection.
            self._finish(delivery, Refusal(grpc.StatusCode.UNAVAILABLE, f"{type(error).__name__}: {error}"))
            return
        with self._lock:
            if delivery in self._in_flight:
                self._in_flight[delivery] = call
        # Calls inside this process offer to skip their callback thread.
        prompt = getattr(call, "add_prompt_callback", None)
        if prompt is None:
            call.add_done_callback(lambda done: self._finish(delivery, _refusal(done)))
        else:
            prompt(partial(self._answered_promptly, delivery))

    def _answered_promptly(self, delivery: Delivery, call: FutureCall) -> None:
        """On the server's thread: it is kept only for what is sure not to block, the usual case."""
        if call.code() is not grpc.StatusCode.OK:
            self._clock.call_later(0, lambda: self._finish(delivery, _refusal(call)))
        else:
            self._finish(delivery, None)

    def _finish(self, delivery: Delivery, refusal: Refusal | None) -> None:
        """The call ended: its place is free, and whoever sent it is told unless nobody wants to know any more."""
        with self._lock:
            self._in_flight.pop(delivery, None)
            if self._waiting and not self._closed:
                # Not sent from here: this may be gRPC's own thread, which an interceptor must not block.
                self._clock.call_later(0, self._send_waiting)
        self._settle(delivery, refusal)

    def _settle(self, delivery: Delivery, refusal: Refusal | None) -> None:
        if self._closed:
            return
        if refusal is None:
            delivery.settled(delivery, None)
        else:
            self._refused(delivery, refusal)

    def _refused(self, delivery: Delivery, refusal: Refusal) -> None:
        delivery.attempts_left -= 1
        if delivery.attempts_left <= 0 or not _is_passing(refusal):
            delivery.settled(delivery, refusal)
            return
        delay = full_jitter(self._delays.base, self._delays.cap, delivery.failures)
        delivery.failures += 1
        self._logger.debug("%s failed (%s); trying again in %.1f s", delivery.method, refusal, delay)
        self._clock.call_later(delay, lambda: self.send(delivery))

    def _send_waiting(self) -> None:
        while True:
            with self._lock:
                if self._closed or not self._waiting or len(self._in_flight) >= MAXIMUM_IN_FLIGHT:
                    return
                delivery = self._waiting.popleft()
                self._in_flight[delivery] = None
            self._start(delivery)


def is_too_large(refusal: Refusal) -> bool:
    """Whether a message was refused for its size: implementations of gRPC agree on the code, not on the text."""
    text = refusal.details.lower()
    about_size = "message" in text and ("larger than" in text or "exceed" in text)
    return refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED and about_size


def _is_passing(refusal: Refusal) -> bool:
    throttled = refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED and not is_too_large(refusal)
    return throttled or refusal.code in RETRYABLE


def _refusal(call: FutureCall) -> Refusal | None:
    code = call.code()
    if code is grpc.StatusCode.OK:
        return None
    return Refusal(code or grpc.StatusCode.UNKNOWN, call.details() or "")
