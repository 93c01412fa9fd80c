"""Who gets which work item: streams, their filters and permits, and the queues before them.

Work waits in one line per route (kind, task hub, name, version), because all work of a route can go
to the same streams. Which streams those are is computed once per route and forgotten when a stream
comes or goes.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto import warm
from google.protobuf.message import Message

from durabletask_scheduler.hub.model import OpenTask
from durabletask_scheduler.instances import Entry
from durabletask_scheduler.limits import DEFAULT_PERMITS
from durabletask_scheduler.lines import Line
from durabletask_scheduler.rpc import Sink


class Kind(enum.IntEnum):
    TURN = 0
    ACTIVITY = 1
    BATCH = 2


class Route(NamedTuple):
    """What filters look at. An absent version and an empty one are the same: unversioned. Entities have none."""

    kind: Kind
    task_hub: str
    name: str
    version: str


class Holder(Protocol):
    """What work belongs to: an instance or an entity in memory."""

    @property
    def warm_stream(self) -> Stream | None: ...


AnyHolder = TypeVar("AnyHolder", bound=Holder)


@dataclass(eq=False, slots=True)
class WorkOf(Generic[AnyHolder]):
    """A turn, an activity or a batch of entity operations that is to be handed to a worker.

    Attributes:
        entry: the instance or entity that it belongs to.
        task: activities: the open task; None for others.
        avoid: stream that abandoned it or lost it last; another one is preferred.
        abandoned: activities: how often in a row it was abandoned.
        losses: activities: how often in a row it was lost together with its stream, although large.
        begins: turns: the first one of a generation, unless another instance has called for it; others come before it.
        wanted: False once nobody needs its result; it is then skipped.
        lease: the lease under which a worker has it now.
    """

    route: Route
    entry: AnyHolder
    task: OpenTask | None = None
    avoid: Stream | None = None
    abandoned: int = 0
    losses: int = 0
    begins: bool = False
    wanted: bool = True
    lease: LeaseOf[AnyHolder] | None = None


@dataclass(eq=False, slots=True)
class LeaseOf(Generic[AnyHolder]):
    """A work item in the hands of a worker. It occupies a permit of its stream until it ends.

    Attributes:
        token: completion token, and the fence: an answer under any other token has no effect.
        deadline: when it ends by itself; 0 for never.
        void: the result is no longer wanted; only the permit is still held.
        chunks: what has arrived of an answer in several parts.
        warm: turns: the worker was sent no history; batches: no state.
        kept_since: warm turns: the time of the turn that the worker's run is to stand behind.
        history_key: turns: key of the last history row that belongs to their past; 0 for none.
    """

    token: str
    work: WorkOf[AnyHolder]
    stream: Stream
    deadline: int = 0
    void: bool = False
    chunks: tuple[pb.OrchestratorResponse, ...] = ()
    warm: bool = False
    kept_since: int = 0
    history_key: int = 0


# To make one, call WorkOf or LeaseOf: an alias with parameters takes several times as long.
Work = WorkOf[Entry]
Lease = LeaseOf[Entry]


class _NamedFilter(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def versions(self) -> Iterable[str]: ...


class Filters:
    """Which work a stream wants: by name, exact or ignoring case, and version."""

    def __init__(self, filters: pb.WorkItemFilters | None) -> None:
        self._exact: dict[tuple[Kind, str], set[str]] = {}
        self._folded: dict[tuple[Kind, str], set[str]] = {}
        self._everything = filters is None
        if filters is not None:
            self._add(Kind.TURN, filters.orchestrations)
            self._add(Kind.ACTIVITY, filters.activities)
            for entity in filters.entities:
                self._admit(Kind.BATCH, entity.name.lower(), {_ANY_VERSION})

    def _add(self, kind: Kind, filters: Iterable[_NamedFilter]) -> None:
        for wanted in filters:
            # No versions listed means any; the mark is no version, as versions have no control characters.
            self._admit(kind, wanted.name, set(wanted.versions) or {_ANY_VERSION})

    def _admit(self, kind: Kind, name: str, versions: set[str]) -> None:
        self._exact.setdefault((kind, name), set()).update(versions)
        self._folded.setdefault((kind, name.casefold()), set()).update(versions)

    def match(self, route: Route) -> bool:
        return self._everything or _admits(self._exact.get((route.kind, route.name)), route.version)

    def match_ignoring_case(self, route: Route) -> bool:
        return self._everything or _admits(self._folded.get((route.kind, route.name.casefold())), route.version)


_ANY_VERSION = "\0any"

_MOST_ROUTES = 10_000


def _admits(versions: set[str] | None, version: str) -> bool:
    return versions is not None and (_ANY_VERSION in versions or version in versions)


class Stream:
    """A worker's open call of GetWorkItems or Work.

    Attributes:
        leases: what it has been given and has not answered.
        open: False once it ended.
        last_sent: time of the last message.
        takes_warm: the worker keeps runs between turns.
        forgotten_until: the latest time of a turn whose run it turned out not to have kept. As workers let those
            go that they have not used for longest, they hardly have any run of an earlier turn.
        takes_warm_entities: the worker keeps the states of entities between batches.
        takes_history_stream: the worker can fetch a long history by itself.
    """

    def __init__(self, number: int, task_hub: str, request: pb.GetWorkItemsRequest, sink: Sink, now: int) -> None:
        self.number = number
        self.task_hub = task_hub
        self.filters = Filters(request.workItemFilters if request.HasField("workItemFilters") else None)
        self.takes_warm = warm.CAPABILITY in request.capabilities
        self.takes_warm_entities = warm.ENTITY_CAPABILITY in request.capabilities
        self.takes_history_stream = pb.WORKER_CAPABILITY_HISTORY_STREAMING in request.capabilities
        # By kind.
        self.free = [
            _permits(request.maxConcurrentOrchestrationWorkItems),
            _permits(request.maxConcurrentActivityWorkItems),
            _permits(request.maxConcurrentEntityWorkItems),
        ]
        self.leases: set[LeaseOf[Any]] = set()
        self.open = True
        self.forgotten_until = 0
        self.last_sent = now
        self._sink = sink

    @property
    def lends(self) -> bool:
        """Whether the worker lends its threads to the engine; see ``Shifts.help``."""
        return self._sink.lends

    def send(self, message: Message, now: int) -> None:
        self.last_sent = now
        self._sink.send(message)

    def close(self) -> None:
        """End the call in good order; the worker connects again if it wants to."""
        self.open = False
        self._sink.close()


def _permits(limit: int) -> int:
    return limit if limit > 0 else DEFAULT_PERMITS


class Dispatcher:
    """Queues of work and the streams they lead to. Belongs to the engine."""

    def __init__(self) -> None:
        self._streams: dict[int, Stream] = {}
        self._lines: list[dict[Route, Line]] = [{} for _ in Kind]
        self._candidates: dict[Route, tuple[Stream, ...]] = {}
        self._routes: dict[Route, Route] = {}

    def known(self, route: Route) -> Route:
        """The same route, as one object for all who keep it."""
        if len(self._routes) >= _MOST_ROUTES:
            self._routes.clear()
        return self._routes.setdefault(route, route)

    @property
    def streams(self) -> Mapping[int, Stream]:
        return self._streams

    def add_stream(self, stream: Stream) -> None:
        self._streams[stream.number] = stream
        self._candidates.clear()

    def remove_stream(self, stream: Stream) -> None:
        stream.open = False
        self._streams.pop(stream.number, None)
        self._candidates.clear()

    def queue(self, work: WorkOf[Any]) -> None:
        lines = self._lines[work.route.kind]
        line = lines.get(work.route)
        if line is None:
            line = lines[work.route] = Line()
        line.add(work)

    def pump(self, kind: Kind, hand_over: Callable[[WorkOf[Any], Stream], None]) -> None:
        """Hand queued work over as long as a stream has a permit for it; routes take turns."""
        lines = self._lines[kind]
        routes = list(lines)
        while routes:
            routes = [route for route in routes if self._hand_over_one(lines, route, hand_over)]

    @property
    def has_turns(self) -> bool:
        """Whether turns or batches wait for a stream."""
        return bool(self._lines[Kind.TURN] or self._lines[Kind.BATCH])

    def has_queued(self, kind: Kind) -> bool:
        return bool(self._lines[kind])

    def _hand_over_one(
        self, lines: dict[Route, Line], route: Route, hand_over: Callable[[WorkOf[Any], Stream], None]
    ) -> bool:
        """Whether there may be more to hand over on this route."""
        line = lines[route]
        work = line.head()
        stream = None if work is None else self._choose(work)
        if work is not None and stream is not None:
            line.take(work)
            # Behind the other routes, so that a long line does not starve them.
            if line and len(lines) > 1:
                lines[route] = lines.pop(route)
            hand_over(work, stream)
        if not line:
            del lines[route]
            return False
        return stream is not None

    def _choose(self, work: WorkOf[Any]) -> Stream | None:
        kind = work.route.kind
        warm_stream: Stream | None = None if kind is Kind.ACTIVITY else work.entry.warm_stream
        if warm_stream is not None and warm_stream.open and warm_stream.free[kind] > 0:
            return warm_stream
        streams = self._candidates.get(work.route) or self._streams_for(work.route)
        if len(streams) == 1:
            return streams[0] if streams[0].free[kind] > 0 else None
        free = [stream for stream in streams if stream.free[kind] > 0]
        if work.avoid is not None:
            return _next_after(work.avoid, free)
        return max(free, key=lambda stream: stream.free[kind], default=None)

    def _streams_for(self, route: Route) -> tuple[Stream, ...]:
        """Streams that match exactly; if none does, those that match when case is ignored (backend semantics)."""
        found = self._candidates.get(route)
        if found is None:
            if len(self._candidates) >= _MOST_ROUTES:
                self._candidates.clear()
            hub = [stream for stream in self._streams.values() if stream.task_hub == route.task_hub]
            found = tuple(stream for stream in hub if stream.filters.match(route)) or tuple(
                stream for stream in hub if stream.filters.match_ignoring_case(route)
            )
            self._candidates[route] = found
        return found


def _next_after(avoided: Stream, streams: list[Stream]) -> Stream | None:
    """In turn, so that work which some workers give back comes to all of them, and last to the one it comes from."""
    return min(streams, key=lambda stream: (stream.number <= avoided.number, stream.number), default=None)
