"""The spans of orchestrations, made of what a turn observed; the replay engine itself knows nothing of them.

An orchestration's span is made when it ends, and a call's when its result comes: both later than what belongs below
them, and often by another worker. So their ids are settled beforehand. That of an orchestration follows from its
execution and travels in ``orchestrationTraceContext``; that of a call travels in the trace context of its action, from
where history keeps it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from datetime import timezone
from typing import Any, NamedTuple, Protocol

from durabletask_proto import orchestrator_service_pb2 as pb
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import StringValue
from opentelemetry.context import Context
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)

from durabletask._tracing import spans
from durabletask._tracing.chosen_ids import SpanMaker
from durabletask.replay import Observation
from durabletask.replay.options import COMPLETED, FAILED, FIRED, RETRYING
from durabletask.replay.times import nanoseconds

_ENDED_WELL = ("COMPLETED", "CONTINUED_AS_NEW")


class Run(Protocol):
    """What is asked of a run of an orchestration."""

    @property
    def instance_id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str | None: ...
    @property
    def execution_id(self) -> str | None: ...
    @property
    def trace_context(self) -> pb.TraceContext | None: ...
    @property
    def is_complete(self) -> bool: ...
    @property
    def outcome(self) -> str: ...


class Result(Protocol):
    """What is asked of the result of a turn."""

    @property
    def actions(self) -> list[pb.OrchestratorAction]: ...
    @property
    def observations(self) -> list[Observation]: ...


class _Orchestration(NamedTuple):
    """The span of an orchestration, which may not be made for a long time yet."""

    run: Run
    maker: SpanMaker
    parent: Context
    context: SpanContext
    started: Timestamp

    @property
    def inside(self) -> Context:
        """The context of what belongs below it."""
        return set_span_in_context(NonRecordingSpan(self.context), Context())


class _Ended(NamedTuple):
    """A call or a timer that has come to its end, and when it was made and ended, in nanoseconds since 1970."""

    what: Observation
    event: pb.HistoryEvent
    action: pb.OrchestratorAction
    start: int
    end: int


class TurnTracing:
    """Makes the spans that a turn completes, and gives ids to those of the calls that it makes.

    Args:
        maker: Makes spans with given ids; nobody else uses it.
    """

    def __init__(self, maker: SpanMaker) -> None:
        self._maker = maker

    def turn(self, request: pb.OrchestratorRequest, run: Run, result: Result) -> pb.OrchestrationTraceContext | None:
        """Trace one turn that has just been run; the actions of its result get their trace contexts.

        Called on one thread at a time.

        Returns:
            What the answer to the turn must carry; None to leave it as it is, because the run has seen no start.
        """
        if not run.name:
            return None
        orchestration = _identified(self._maker, request, run)
        for observation in result.observations:
            emit = _EMITTED.get((observation.kind, observation.method))
            ended = _ended(observation)
            if emit is not None and ended is not None:
                emit(orchestration, ended)
        if run.is_complete:
            _emit_orchestration(orchestration, result)
        for action in result.actions:
            kind = action.WhichOneof("orchestratorActionType") or ""
            if kind in _CALLS:
                spans.write(getattr(action, kind).parentTraceContext, _new_id(orchestration))
        span_id = StringValue(value=f"{orchestration.context.span_id:016x}")
        return pb.OrchestrationTraceContext(spanID=span_id, spanStartTime=orchestration.started)


def _identified(maker: SpanMaker, request: pb.OrchestratorRequest, run: Run) -> _Orchestration:
    parent = None if run.trace_context is None else spans.read(run.trace_context)
    # Whoever repeats a turn, or knows the past only from history, comes to the same ids.
    digest = hashlib.sha256(f"{run.instance_id}\0{run.execution_id}".encode("utf-8", "surrogatepass")).digest()
    carried = request.orchestrationTraceContext
    span_id = _hexadecimal(carried.spanID.value) or int.from_bytes(digest[:8], "big")
    if parent is None:
        trace_id = int.from_bytes(digest[16:], "big")
        flags = TraceFlags(maker.is_sampled(trace_id, _name(run), SpanKind.SERVER))
        context = SpanContext(trace_id, span_id, is_remote=False, trace_flags=flags)
    else:
        above = get_current_span(parent).get_span_context()
        context = SpanContext(above.trace_id, span_id, False, above.trace_flags, above.trace_state)
    started = carried.spanStartTime if carried.HasField("spanStartTime") else _first_time(request)
    return _Orchestration(run, maker, parent or Context(), context, started)


def _ended(what: Observation) -> _Ended | None:
    if what.event is None or what.action is None or what.scheduled_at is None:
        return None
    start = what.scheduled_at
    # Not before the call, however the clocks of servers differ.
    return _Ended(what, what.event, what.action, start, max(start, nanoseconds(what.event.timestamp)))


def _hexadecimal(text: str) -> int:
    """The span id that a server gave back; 0, which is none, if it is no such id."""
    try:
        return int(text, 16) if len(text) == 16 else 0
    except ValueError:
        return 0


def _first_time(request: pb.OrchestratorRequest) -> Timestamp:
    events = request.pastEvents or request.newEvents
    return events[0].timestamp if events else Timestamp(seconds=int(time.time()))


def _name(run: Run) -> str:
    return f"{spans.ORCHESTRATION}:{run.name}"


def _emit_orchestration(orchestration: _Orchestration, result: Result) -> None:
    run, start = orchestration.run, nanoseconds(orchestration.started)
    span = orchestration.maker.start(
        _name(run),
        orchestration.context,
        parent=orchestration.parent,
        kind=SpanKind.SERVER,
        attributes=spans.attributes(spans.ORCHESTRATION, run.name, run.version or "", instance_id=run.instance_id),
        start_time=start,
    )
    failure = result.actions[-1].completeOrchestration.failureDetails.errorMessage
    spans.set_outcome(span, None if run.outcome in _ENDED_WELL else failure or run.outcome)
    span.end(max(start, time.time_ns()))


def _emit_call(orchestration: _Orchestration, ended: _Ended, kind: str, call: Any) -> None:
    name, version = ended.what.name, call.version.value
    span = orchestration.maker.start(
        spans.versioned(kind, name, version),
        _given_id(orchestration, call),
        parent=orchestration.inside,
        kind=SpanKind.CLIENT,
        attributes=spans.attributes(
            kind, name, version, instance_id=orchestration.run.instance_id, task_id=str(ended.what.task_id)
        ),
        start_time=ended.start,
    )
    spans.set_outcome(span, None if ended.what.kind == COMPLETED else _failure(ended.event))
    span.end(ended.end)


def _emit_activity(orchestration: _Orchestration, ended: _Ended) -> None:
    _emit_call(orchestration, ended, spans.ACTIVITY, ended.action.scheduleTask)


def _emit_child(orchestration: _Orchestration, ended: _Ended) -> None:
    _emit_call(orchestration, ended, spans.ORCHESTRATION, ended.action.createSubOrchestration)


def _emit_timer(orchestration: _Orchestration, ended: _Ended) -> None:
    run = orchestration.run
    fire_at = ended.event.timerFired.fireAt.ToDatetime(timezone.utc)
    attributes = spans.attributes("timer", run.name, instance_id=run.instance_id, task_id=str(ended.what.task_id))
    span = orchestration.maker.start(
        f"{_name(run)}:timer",
        _new_id(orchestration),
        parent=orchestration.inside,
        kind=SpanKind.INTERNAL,
        attributes={**attributes, spans.FIRE_AT: fire_at.isoformat()},
        start_time=ended.start,
    )
    span.end(ended.end)


def _failure(event: pb.HistoryEvent) -> str:
    failed: Any = getattr(event, event.WhichOneof("eventType") or "")
    message: str = failed.failureDetails.errorMessage
    return message


def _new_id(orchestration: _Orchestration) -> SpanContext:
    own = orchestration.context
    return SpanContext(own.trace_id, orchestration.maker.new_span_id(), False, own.trace_flags, own.trace_state)


def _given_id(orchestration: _Orchestration, call: Any) -> SpanContext:
    """The id that the call's span was given; a new one if it was made by a worker that makes no spans."""
    found = spans.read(call.parentTraceContext)
    given = None if found is None else get_current_span(found).get_span_context()
    above = get_current_span(orchestration.parent).get_span_context()
    if given is None or given.trace_id != orchestration.context.trace_id or given.span_id == above.span_id:
        return _new_id(orchestration)
    return given


_CALLS = frozenset({"scheduleTask", "createSubOrchestration"})
_EMITTED: Mapping[tuple[str, str], Callable[[_Orchestration, _Ended], None]] = {
    (FIRED, "create_timer"): _emit_timer,
    **{(kind, "call_activity"): _emit_activity for kind in (COMPLETED, FAILED, RETRYING)},
    **{(kind, "call_sub_orchestrator"): _emit_child for kind in (COMPLETED, FAILED, RETRYING)},
}
