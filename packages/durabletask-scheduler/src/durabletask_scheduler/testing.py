"""A scheduler for tests: in memory, emptied at will, and if wanted on a clock that the test moves.

``durabletask.testing`` finds :func:`open_backend` through the entry point group ``durabletask.test_backends``;
programs use that package, which also starts workers and clients.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone

from google.protobuf.message import Message

from durabletask_scheduler.aio_channel import InProcessAioChannel
from durabletask_scheduler.channel import InProcessChannel
from durabletask_scheduler.clock import Clock, SystemClock
from durabletask_scheduler.hub.model import HubError, Limits
from durabletask_scheduler.hub.times import SECOND
from durabletask_scheduler.rpc import Cancel, Exchange, Reply, Sink
from durabletask_scheduler.server import GrpcServer
from durabletask_scheduler.service import TASK_HUB_METADATA, SchedulerService, ServiceOptions
from durabletask_scheduler.storage.sqlite import SqliteStorage
from durabletask_scheduler.virtual_clock import VirtualClock

_TASK_HUB = "default"
_STOP_SECONDS = 10.0
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
# Pings and leases serve connections, whose time goes on while the clock stands, so they are not due by it.
_NEVER = 10**30


def open_backend(
    *,
    max_history_size: int = 10_000,
    virtual_time: bool = False,
    start: datetime | None = None,
    skip_time: bool = True,
) -> MemoryBackend:
    """Start a scheduler in memory.

    Args:
        max_history_size: events in one generation of an instance; a longer one fails.
        virtual_time: whether the time stands still until it is advanced.
        start: virtual time: where it begins, aware or in UTC; by default now.
        skip_time: virtual time: whether it moves to the next due moment by itself while a call waits for an
            instance and nothing else can happen.

    Raises:
        ValueError: ``max_history_size`` is less than 1.
    """
    if max_history_size < 1:
        raise ValueError(f"max_history_size must be 1 or more, found {max_history_size}")
    options = ServiceOptions(default_task_hub=_TASK_HUB, limits=Limits(history_events=max_history_size))
    if not virtual_time:
        return MemoryBackend(options, SystemClock())
    clock = VirtualClock(time.time_ns() if start is None else _nanoseconds(start), skips=skip_time)
    return MemoryBackend(replace(options, ping_interval=_NEVER, turn_max_age=_NEVER), clock)


class MemoryBackend:
    """A running scheduler that holds nothing but what tests put into it."""

    def __init__(self, options: ServiceOptions, clock: Clock) -> None:
        self._options = replace(options, clock=clock)
        self._clock = clock
        self._service = _ResettableService(self._options)
        self._servers: list[GrpcServer] = []
        self._stopped = False

    def channel(self) -> InProcessChannel:
        """A ``grpc.Channel`` to it; it outlives :meth:`reset`."""
        return InProcessChannel(self._service)

    def aio_channel(self) -> InProcessAioChannel:
        """A ``grpc.aio.Channel`` to it; it outlives :meth:`reset`."""
        return InProcessAioChannel(self._service)

    def serve(self, host: str, port: int) -> int:
        """Answer gRPC calls there until :meth:`stop`; returns the port.

        Raises:
            ServerError: the address cannot be listened on.
        """
        server = GrpcServer(self._service, host, port)
        bound = server.start()
        self._servers.append(server)
        return bound

    def reset(self) -> None:
        """Forget all instances. Workers stay connected; calls that wait for an instance end with UNAVAILABLE."""
        self._service.reset()

    def stop(self, grace: float | None = None) -> None:
        """Stop; running calls get ``grace`` seconds. Idempotent."""
        if self._stopped:
            return
        self._stopped = True
        self._service.stop()
        for server in self._servers:
            server.begin_stop(grace or 0.0)
        for server in self._servers:
            server.stop()

    def now(self) -> datetime:
        """The time of the scheduler, aware in UTC."""
        return _EPOCH + timedelta(microseconds=self._clock.now() // 1_000)

    def advance(self, duration: timedelta, *, while_activities_run: bool, timeout: float) -> None:
        """Move the virtual time; see ``VirtualClock.advance``.

        Raises:
            RuntimeError: this backend runs on the system's time, or is stopped.
        """
        if self._stopped or not isinstance(self._clock, VirtualClock):
            raise RuntimeError("the time of a test backend moves by hand only if it is running with virtual_time=True")
        nanoseconds = duration // timedelta(microseconds=1) * 1_000
        self._clock.advance(nanoseconds, while_activities_run=while_activities_run, timeout=timeout)

    @property
    def workers_connected(self) -> int:
        """How many streams of work items have been opened so far."""
        return self._service.opened

    def wait_for_worker(self, after: int, timeout: float) -> bool:
        """Wait until more than ``after`` streams of work items have been opened; False if that took too long."""
        return self._service.wait_for_stream(after, timeout)


class _ResettableService:
    """One service after another behind the same transports; open streams of work items go on with the next."""

    def __init__(self, options: ServiceOptions) -> None:
        self._options = options
        self._changed = threading.Condition()
        self._streams: dict[_Stream, None] = {}
        self._opened = 0
        self._storage, self._service = self._new()

    @property
    def opened(self) -> int:
        return self._opened

    def wait_for_stream(self, after: int, timeout: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._opened > after, timeout)

    def call(self, rpc: str, request: Message, metadata: Mapping[str, str], reply: Reply) -> Cancel:
        return self._service.call(rpc, request, _without_task_hub(metadata), reply)

    def open_stream(self, rpc: str, request: Message, metadata: Mapping[str, str], sink: Sink) -> Cancel:
        metadata = _without_task_hub(metadata)
        if rpc not in ("GetWorkItems", "Work"):
            return self._service.open_stream(rpc, request, metadata, sink)
        stream = _Stream(request, metadata, sink)
        with self._changed:
            self._streams[stream] = None
            stream.open_on(self._service)
            self._opened += 1
            self._changed.notify_all()

        def cancel() -> None:
            with self._changed:
                self._streams.pop(stream, None)
                stream.cancel()

        return cancel

    def open_exchange(self, rpc: str, request: Message, metadata: Mapping[str, str], sink: Sink) -> Exchange:
        def answer(answering: str, message: Message, reply: Reply) -> None:
            self.call(answering, message, metadata, reply)

        return Exchange(self.open_stream(rpc, request, metadata, sink), answer)

    def initial_metadata(self, rpc: str) -> tuple[tuple[str, str], ...]:
        return self._service.initial_metadata(rpc)

    def reset(self) -> None:
        with self._changed:
            for stream in self._streams:
                stream.hold()
            self._close()
            self._storage, self._service = self._new()
            self._streams = {stream: None for stream in self._streams if not stream.ended}
            for stream in self._streams:
                stream.open_on(self._service)

    def stop(self) -> None:
        with self._changed:
            self._close()

    def _new(self) -> tuple[SqliteStorage, SchedulerService]:
        storage = SqliteStorage(":memory:", synchronous="OFF")
        storage.add_task_hub(_TASK_HUB)
        service = SchedulerService(storage, self._options)
        service.start()
        return storage, service

    def _close(self) -> None:
        self._service.stop(_STOP_SECONDS)
        self._storage.close()


@dataclass(eq=False)
class _Stream:
    """A worker's open stream of work items; ``cancel`` is that of the service it is open on."""

    request: Message
    metadata: Mapping[str, str]
    sink: Sink
    _gate: _Gate | None = None
    _cancel: Cancel | None = None

    @property
    def ended(self) -> bool:
        """Whether a service has closed it, so that nobody listens any more."""
        return self._gate is not None and self._gate.closed

    def open_on(self, service: SchedulerService) -> None:
        self._gate = _Gate(self.sink)
        self._cancel = service.open_stream("GetWorkItems", self.request, self.metadata, self._gate)

    def hold(self) -> None:
        """What the present service still says to the worker is not passed on."""
        if self._gate is not None:
            self._gate.shut = True

    def cancel(self) -> None:
        if self._cancel is not None:
            self._cancel()


class _Gate:
    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.shut = False
        self.closed = False

    def send(self, message: Message) -> None:
        if not self.shut:
            self._sink.send(message)

    @property
    def lends(self) -> bool:
        return self._sink.lends

    def when_read(self, go_on: Callable[[], None]) -> None:
        if not self.shut:
            self._sink.when_read(go_on)

    def close(self, error: HubError | None = None) -> None:
        if not self.shut:
            self.closed = True
            self._sink.close(error)


def _without_task_hub(metadata: Mapping[str, str]) -> Mapping[str, str]:
    """Whatever hub a caller names, there is only one: code under test brings the name it has in production."""
    return {key: value for key, value in metadata.items() if key != TASK_HUB_METADATA}


def _nanoseconds(moment: datetime) -> int:
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)
    return (aware - _EPOCH) // timedelta(microseconds=1) * (SECOND // 1_000_000)
