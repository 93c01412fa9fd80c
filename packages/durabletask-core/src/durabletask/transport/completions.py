"""Delivery of what a worker answers: bounded in flight, retried, never waited for.

gRPC sheds calls when thousands are in flight at once, so at most :data:`MAXIMUM_IN_FLIGHT` are; the
rest wait here. A server that takes many completions in one call gets fewer calls, and in each what
gathered meanwhile. Completions are idempotent per completion token (protocol), so one whose fate is
unknown may be sent again.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType

import grpc
from google.protobuf.message import Message

from durabletask.transport import packing
from durabletask.transport.alarm import AlarmClock
from durabletask.transport.backoff import full_jitter
from durabletask.transport.connection import FutureCall

MAXIMUM_IN_FLIGHT = 128
MAXIMUM_PACKED_CALLS = 4
"""Calls in flight where completions travel together: enough that the server always has one to work on."""

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


HandOver = Callable[[str, Message, "Callable[[tuple[grpc.StatusCode, str] | None], None]"], None]
"""Takes method, message, and whom to tell once, on any thread, how it went: None for OK, else status and details."""

_NONE: Mapping[int, tuple[grpc.StatusCode, str]] = MappingProxyType({})


@dataclass(frozen=True)
class Refusal:
    """Why a delivery ended without the server's OK."""

    code: grpc.StatusCode
    details: str

    def __str__(self) -> str:
        return f"{self.code.name}: {self.details}" if self.details else self.code.name


@dataclass(slots=True, eq=False)
class Delivery:
    """One unary call to make.

    Args:
        method: Name of the RPC.
        message: Its request.
        settled: Called exactly once, on any thread: with None when the server said OK, else with
            the last error. Must not block.
        attempts_left: Tries in all.
        alone: It must not share a call with others.
    """

    method: str
    message: Message
    settled: Callable[[Refusal | None], None]
    attempts_left: int = 10
    alone: bool = False
    failures: int = field(default=0, init=False)


@dataclass(slots=True, eq=False)
class _Pack:
    """Several deliveries that travel in one call."""

    deliveries: list[Delivery]

    @property
    def method(self) -> str:
        return packing.METHOD

    @property
    def message(self) -> Message:
        return packing.request(self.deliveries)


_Parcel = Delivery | _Pack


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
        self._in_flight: dict[_Parcel, FutureCall | None] = {}
        self._closed = False
        self._packs = False
        self._most = MAXIMUM_IN_FLIGHT
        self._direct: HandOver | None = None

    def pack(self, packs: bool) -> None:
        """Whether the server takes many completions in one call; it may be another one after a reconnect."""
        self._packs = packs
        self._most = MAXIMUM_PACKED_CALLS if packs else MAXIMUM_IN_FLIGHT

    def hand_over(self, direct: HandOver | None) -> None:
        """How to reach a server in this process, which takes any number of deliveries; None for a server elsewhere."""
        self._direct = direct

    def send(self, delivery: Delivery) -> None:
        """Send now if fewer than the maximum are in flight, else as soon as a place is free."""
        direct = self._direct
        if direct is not None and not self._closed:
            direct(delivery.method, delivery.message, partial(self._handed_over, delivery))
            return
        with self._lock:
            if self._closed:
                return
            if len(self._in_flight) >= self._most:
                self._waiting.append(delivery)
                return
            self._in_flight[delivery] = None
        self._start(delivery)

    def _handed_over(self, delivery: Delivery, problem: tuple[grpc.StatusCode, str] | None) -> None:
        """On the server's thread: it is kept only for what is sure not to block, the usual case."""
        if self._closed:
            return
        if problem is None:
            delivery.settled(None)
        else:
            self._clock.call_later(0, partial(self._refused, delivery, Refusal(*problem)))

    def close(self) -> None:
        """Cancel what is in flight and forget what waits; ``settled`` is not called any more."""
        with self._lock:
            self._closed = True
            calls = [call for call in self._in_flight.values() if call is not None]
            self._in_flight.clear()
            self._waiting.clear()
        for call in calls:
            call.cancel()

    def _start(self, parcel: _Parcel) -> None:
        try:
            call = self._call(parcel.method, parcel.message)
        except Exception as error:
            # A closed channel and an interceptor may raise anything; both pass like a lost connection.
            self._finish(parcel, Refusal(grpc.StatusCode.UNAVAILABLE, f"{type(error).__name__}: {error}"))
            return
        with self._lock:
            if parcel in self._in_flight:
                self._in_flight[parcel] = call
        # Calls inside this process offer to skip their callback thread.
        prompt = getattr(call, "add_prompt_callback", None)
        if prompt is None:
            call.add_done_callback(lambda done: self._answered(parcel, done))
        else:
            prompt(partial(self._answered_promptly, parcel))

    def _answered_promptly(self, parcel: _Parcel, call: FutureCall) -> None:
        """On the server's thread: it is kept only for what is sure not to block, the usual case."""
        if isinstance(parcel, _Pack) or call.code() is not grpc.StatusCode.OK:
            self._clock.call_later(0, partial(self._answered, parcel, call))
        elif self._release(parcel):
            parcel.settled(None)

    def _answered(self, parcel: _Parcel, call: FutureCall) -> None:
        refusal = _refusal(call)
        if not isinstance(parcel, _Pack):
            self._finish(parcel, refusal)
        elif refusal is None:
            self._finish(parcel, None, packing.refusals(call.result()))
        elif _is_passing(refusal):
            self._finish(parcel, refusal)
        else:
            self._unpack(parcel, refusal)

    def _unpack(self, parcel: _Pack, refusal: Refusal) -> None:
        """The pack is refused for good, which says nothing about what is in it: each goes by itself."""
        self._logger.debug("%s was refused (%s); sending the answers one by one", parcel.method, refusal)
        if refusal.code is grpc.StatusCode.UNIMPLEMENTED:
            # Another server has taken over.
            self.pack(False)
        with self._lock:
            self._in_flight.pop(parcel, None)
        for delivery in parcel.deliveries:
            delivery.alone = True
            self.send(delivery)

    def _finish(
        self, parcel: _Parcel, refusal: Refusal | None, refusals: Mapping[int, tuple[grpc.StatusCode, str]] = _NONE
    ) -> None:
        """The call ended; ``refusals`` are those of single deliveries in a pack that arrived."""
        if not self._release(parcel):
            return
        deliveries = parcel.deliveries if isinstance(parcel, _Pack) else [parcel]
        for index, delivery in enumerate(deliveries):
            found = Refusal(*refusals[index]) if index in refusals else refusal
            if found is None:
                delivery.settled(None)
            else:
                self._refused(delivery, found)

    def _release(self, parcel: _Parcel) -> bool:
        """Give up the place of a call that has ended; False once closed, when nobody wants to know of it."""
        with self._lock:
            self._in_flight.pop(parcel, None)
            if self._waiting and not self._closed:
                # Not sent from here: this may be gRPC's own thread, which an interceptor must not block.
                self._clock.call_later(0, self._send_waiting)
            return not self._closed

    def _refused(self, delivery: Delivery, refusal: Refusal) -> None:
        delivery.attempts_left -= 1
        if delivery.attempts_left <= 0 or not _is_passing(refusal):
            delivery.settled(refusal)
            return
        delay = full_jitter(self._delays.base, self._delays.cap, delivery.failures)
        delivery.failures += 1
        self._logger.debug("%s failed (%s); trying again in %.1f s", delivery.method, refusal, delay)
        self._clock.call_later(delay, lambda: self.send(delivery))

    def _send_waiting(self) -> None:
        while True:
            with self._lock:
                if self._closed or not self._waiting or len(self._in_flight) >= self._most:
                    return
                deliveries = packing.take_pack(self._waiting) if self._packs else [self._waiting.popleft()]
                parcel = _Pack(deliveries) if len(deliveries) > 1 else deliveries[0]
                self._in_flight[parcel] = None
            self._start(parcel)


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
