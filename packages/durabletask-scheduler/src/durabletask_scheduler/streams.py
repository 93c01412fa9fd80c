"""The workers' streams of work items: how they begin and end, and what keeps an idle one alive."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

from durabletask_proto import orchestrator_service_pb2 as pb
from google.protobuf.message import Message

from durabletask_scheduler.dispatch import Dispatcher, Kind, LeaseOf, Stream
from durabletask_scheduler.group import logger
from durabletask_scheduler.rpc import Sink

if TYPE_CHECKING:
    from durabletask_scheduler.engine import Engine


class Streams:
    """Belongs to the engine.

    Args:
        dispatcher: knows the streams that are open, for what is handed out.
        lose: called for every lease that a stream still has some time after it ended.
    """

    def __init__(self, engine: Engine, dispatcher: Dispatcher, lose: Callable[[LeaseOf[Any]], None]) -> None:
        self._engine = engine
        self._dispatcher = dispatcher
        self._lose = lose
        self._numbers = count(1)

    def open(self, task_hub: str, request: pb.GetWorkItemsRequest, sink: Sink) -> Stream:
        """A worker has come: from now on it is sent what it wants and has permits for."""
        stream = Stream(next(self._numbers), task_hub, request, sink, self._engine.now)
        self._dispatcher.add_stream(stream)
        self._expect_ping(stream)
        return stream

    def end(self, stream: Stream) -> None:
        """The worker went away. What it has may still be answered for a short while."""
        if not stream.open:
            return
        self._dispatcher.remove_stream(stream)
        self._engine.alarms.cancel(("ping", stream.number))
        if stream.leases:
            end = self._engine.now + self._engine.options.stream_grace
            self._engine.alarms.set(("grace", stream.number), end, partial(self._lose_all, stream))

    def close(self) -> None:
        """Nothing more will be handed out: end all of them in good order."""
        for stream in list(self._dispatcher.streams.values()):
            self._dispatcher.remove_stream(stream)
            stream.close()

    def send(self, stream: Stream, message: Message) -> None:
        """Send a work item; a stream that fails to take it has ended."""
        try:
            stream.send(message, self._engine.now)
        except Exception:
            logger.exception("A transport failed to take a work item; its stream is given up")
            self.end(stream)

    def in_flight(self) -> tuple[int, int]:
        """How many turns, and how many activities, workers have whose streams are open and whose answers count.

        Batches of entities count as turns.
        """
        held = [
            lease.work.route.kind
            for stream in self._dispatcher.streams.values()
            for lease in stream.leases
            if not lease.void
        ]
        activities = held.count(Kind.ACTIVITY)
        return len(held) - activities, activities

    def _expect_ping(self, stream: Stream) -> None:
        at = stream.last_sent + self._engine.options.ping_interval
        self._engine.alarms.set(("ping", stream.number), at, partial(self._ping, stream))

    def _ping(self, stream: Stream) -> None:
        if stream.last_sent + self._engine.options.ping_interval <= self._engine.now:
            self.send(stream, pb.WorkItem(healthPing=pb.HealthPing()))
        if stream.open:
            self._expect_ping(stream)

    def _lose_all(self, stream: Stream) -> None:
        for lease in list(stream.leases):
            # Each by itself: one that cannot be given up now must not keep the others.
            self._engine.do(partial(self._lose, lease))
