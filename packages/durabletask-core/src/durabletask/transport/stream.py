"""The stream of work items: opened, watched and opened again until it is closed."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
from durabletask_proto import additions, warm
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto import scheduler_additions_pb2 as additions_pb
from google.protobuf import empty_pb2

from durabletask.grpc_options import GrpcWorkerResiliencyOptions
from durabletask.transport.additions import announces
from durabletask.transport.alarm import AlarmClock
from durabletask.transport.backoff import full_jitter
from durabletask.transport.completions import Delivery
from durabletask.transport.connection import Connection, FutureCall, StreamCall
from durabletask.transport.frames import AnswerFrames
from durabletask.transport.lane import Lane
from durabletask.transport.outages import OutageLog

# An interceptor that knows only the kinds of calls of the protocol leaves out what the others carry.
_NOT_FOR_THIS_WORKER = frozenset(
    {
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)


@dataclass(frozen=True)
class Abilities:
    """What a server announces beyond the protocol.

    Args:
        warm_runs: It sends only new events to a worker that keeps its runs.
        works_by_stream: It takes the answers on the stream that brings the work items.
        task_hub: What it says to be told when that stream is opened.
    """

    warm_runs: bool = False
    works_by_stream: bool = False
    task_hub: str = ""


class StreamListener(Protocol):
    """What the stream tells its owner, all on the thread that runs it."""

    def request(self, abilities: Abilities) -> pb.GetWorkItemsRequest:
        """The request to open a stream with, given what the server can do."""

    def opening(self, frames: AnswerFrames[Delivery]) -> None:
        """Answers can leave by this stream until it ends."""

    def settled(self, frame: additions_pb.SchedulerFrame) -> None:
        """The scheduler says how it took some of the answers on the stream."""

    def received(self, work_item: pb.WorkItem) -> None:
        """A work item came; the next one is read when this returns."""

    def received_late(self, work_item: pb.WorkItem) -> None:
        """The same after the stream was closed: it had been sent before the server knew of that."""

    def disconnected(self) -> None:
        """The stream ended; what the server kept for it is void."""


@dataclass(frozen=True)
class StreamOptions:
    """How the stream notices trouble.

    Args:
        resiliency: Deadlines, back-off and thresholds.
        always_expect_pings: Whether silence counts as a dead stream from the start. Otherwise only
            after a first health ping, because some servers never send one.
    """

    resiliency: GrpcWorkerResiliencyOptions
    always_expect_pings: bool = False


class WorkItemStream:
    """Reads work items for ever: Hello, then Work or GetWorkItems, then again after a random delay.

    Args:
        connection: The channel in use; renewed after repeated failures and after a graceful end.
        listener: Gets the work items.
        options: Deadlines and thresholds.
        clock: Watches for silence.
        outages: Reports lost and regained connections.
        lane: Takes the work items where the scheduler borrows threads.
    """

    def __init__(
        self,
        connection: Connection,
        listener: StreamListener,
        options: StreamOptions,
        clock: AlarmClock,
        outages: OutageLog,
        lane: Lane | None = None,
    ) -> None:
        self._connection = connection
        self._listener = listener
        self._options = options
        self._clock = clock
        self._outages = outages
        self._lane = lane or Lane()
        self._closing = threading.Event()
        self._closed = False
        self._lock = threading.Lock()
        self._call: FutureCall | StreamCall | None = None
        self._finish: Callable[[], object] | None = None
        self._silence = _Silence(clock, options.resiliency.silent_disconnect_timeout_seconds, self._cancel)
        self._pings_expected = options.always_expect_pings
        self._failures = 0
        self._messages = 0

    def run(self) -> None:
        """Serve until :meth:`close`; every error is reported and survived."""
        resiliency = self._options.resiliency
        while not self._closed:
            self._messages = 0
            graceful = self._serve_reporting()
            self._failures = 0 if self._messages else self._failures + 1
            if self._closed:
                return
            threshold = resiliency.channel_recreate_failure_threshold
            if graceful or (threshold and self._failures and self._failures % threshold == 0):
                self._connection.renew()
            self._closing.wait(
                full_jitter(
                    resiliency.reconnect_backoff_base_seconds,
                    resiliency.reconnect_backoff_cap_seconds,
                    max(0, self._failures - 1),
                )
            )

    def close(self) -> None:
        """End the stream and :meth:`run`, from any thread, without waiting for either.

        Our own scheduler first sends what it has handed out for this stream, so that all of it can be given back.
        """
        self._closed = True
        self._closing.set()
        with self._lock:
            finish = self._finish
        if finish is None:
            self._cancel()
        else:
            finish()

    def cut(self) -> None:
        """Do not wait for the rest of a stream that was closed."""
        self._cancel()

    def _serve_reporting(self) -> bool:
        """Serve one stream; True if the server ended it in good order."""
        try:
            self._serve()
        except grpc.RpcError as error:
            if not self._closed:
                self._outages.lost(error, silent=self._silence.detected)
            return False
        except Exception as error:
            if not self._closed:
                self._outages.broken(error)
            return False
        finally:
            self._silence.end()
            self._listener.disconnected()
        if not self._closed:
            self._outages.ended()
        return True

    def _serve(self) -> None:
        abilities = self._hello()
        request = self._listener.request(abilities)
        if not abilities.works_by_stream or not self._work(request, abilities.task_hub):
            self._get_work_items(request)

    def _work(self, request: pb.GetWorkItemsRequest, task_hub: str) -> bool:
        """Exchange frames until the stream ends; False if this worker cannot open one there."""
        frames: AnswerFrames[Delivery] = AnswerFrames(request, task_hub)
        self._listener.opening(frames)
        is_open = False
        try:
            for frame in self._begin(self._connection.stub.Work(frames), frames.finish):
                is_open = True
                self._listener.settled(frame)
                for work_item in frame.items:
                    self._take_or_keep(work_item)
        except grpc.RpcError as error:
            if is_open or self._closed or not isinstance(error, grpc.Call) or error.code() not in _NOT_FOR_THIS_WORKER:
                raise
            self._listener.disconnected()
            return False
        return True

    def _get_work_items(self, request: pb.GetWorkItemsRequest) -> None:
        stream = self._connection.stub.GetWorkItems(request)
        lending = self._connection.lending
        if lending is not None:
            self._lane.serve(lending, self._begin(stream, stream.finish), self._take_or_keep)
            return
        self._begin(stream)
        for work_item in stream:
            self._take(work_item)
            if self._closed:
                return

    def _begin(self, stream: Any, finish: Callable[[], object] | None = None) -> Any:
        """Begin to read a stream.

        Args:
            finish: Asks the server to end it in good order, where that is possible.
        """
        self._hold(stream, finish)
        self._silence.begin(armed=self._pings_expected)
        return stream

    def _take_or_keep(self, work_item: pb.WorkItem) -> None:
        if not self._closed:
            self._take(work_item)
        elif not work_item.HasField("healthPing"):
            self._listener.received_late(work_item)

    def _take(self, work_item: pb.WorkItem) -> None:
        if not self._messages:
            self._outages.over()
        self._messages += 1
        if work_item.HasField("healthPing"):
            self._pings_expected = True
            self._silence.arm()
        else:
            # Nobody listens until the work item is handled, so silence proves nothing.
            self._silence.last_heard = None
            self._listener.received(work_item)
        self._silence.last_heard = time.monotonic()

    def _hello(self) -> Abilities:
        """Probe the server and learn what it can do."""
        timeout = self._options.resiliency.hello_timeout_seconds
        call: FutureCall = self._connection.stub.Hello.future(empty_pb2.Empty(), timeout=timeout)
        self._hold(call)
        try:
            call.result()
        except grpc.RpcError:
            if call.code() is not grpc.StatusCode.UNIMPLEMENTED:
                raise
            return Abilities()
        except grpc.FutureCancelledError as error:
            raise ConnectionAbortedError("Hello was cancelled") from error
        metadata = call.initial_metadata()
        return Abilities(
            warm_runs=(warm.HEADER, warm.VERSION) in [(key, value) for key, value in metadata or ()],
            works_by_stream=self._connection.stub.Work is not None and announces(metadata, additions.STREAM_HEADER),
            task_hub=dict(metadata or ()).get(additions.TASK_HUB_HEADER, ""),
        )

    def _hold(self, call: FutureCall | StreamCall, finish: Callable[[], object] | None = None) -> None:
        """Remember the call under way, so that closing can end it."""
        with self._lock:
            self._call, self._finish = call, finish
        if self._closed:
            call.cancel()

    def _cancel(self) -> None:
        with self._lock:
            call = self._call
        if call is not None:
            call.cancel()


class _Silence:
    """Cancels a stream on which nothing was heard for too long; wakes once per timeout at most.

    Attributes:
        detected: It has cancelled this stream.
        last_heard: When something came last (monotonic); None while nobody listens.
    """

    def __init__(self, clock: AlarmClock, timeout: float, cancel: Callable[[], None]) -> None:
        self._clock = clock
        self._timeout = timeout
        self._cancel = cancel
        self._generation = 0
        self._armed = False
        self.last_heard: float | None = 0.0
        self.detected = False

    def begin(self, *, armed: bool) -> None:
        self.detected = False
        self._armed = False
        self._generation += 1
        self.last_heard = time.monotonic()
        if armed:
            self.arm()

    def arm(self) -> None:
        if self._armed or not self._timeout:
            return
        self._armed = True
        self._watch(self._generation)

    def end(self) -> None:
        self._generation += 1

    def _remaining(self) -> float:
        heard = self.last_heard
        return self._timeout if heard is None else heard + self._timeout - time.monotonic()

    def _watch(self, generation: int) -> None:
        self._clock.call_later(self._remaining(), lambda: self._check(generation))

    def _check(self, generation: int) -> None:
        if generation != self._generation:
            return
        if self._remaining() > 0:
            self._watch(generation)
            return
        self.detected = True
        self._cancel()
