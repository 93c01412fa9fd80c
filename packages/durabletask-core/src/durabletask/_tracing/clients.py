"""Spans of what a client sends: starts of orchestrations and external events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from durabletask_proto import orchestrator_service_pb2 as pb
from google.protobuf.message import Message
from opentelemetry import trace
from opentelemetry.trace import SpanKind

from durabletask._tracing import spans


class ClientTracing:
    """Traces the requests of a client.

    Args:
        emit: Whether spans are made; else requests carry the trace context of the caller.
    """

    def __init__(self, emit: bool) -> None:
        self._emit = emit
        self._tracer = trace.get_tracer(spans.TRACER)

    def begin(self, request: Message) -> AbstractContextManager[Any] | None:
        """Note the trace context in a request that is about to be sent.

        Returns:
            The span of the call, to be entered around it; None if there is no span.
        """
        describe = _DESCRIPTIONS.get(type(request)) if self._emit and spans.is_active() else None
        if describe is None:
            _carry(request)
            return None
        name, attributes = describe(request)
        span = self._tracer.start_span(name, kind=SpanKind.PRODUCER, attributes=attributes)
        _carry(request, span)
        return trace.use_span(span, end_on_exit=True)


def _carry(request: Any, span: trace.Span | None = None) -> None:
    """Note a span, the caller's current one by default, in a request that can carry it."""
    if not isinstance(request, _CARRIERS):
        return
    context = (trace.get_current_span() if span is None else span).get_span_context()
    if context.is_valid:
        spans.write(request.parentTraceContext, context)


def _start(request: pb.CreateInstanceRequest) -> tuple[str, dict[str, str]]:
    name, version = request.name, request.version.value
    return (
        spans.versioned("create_orchestration", name, version),
        spans.attributes(spans.ORCHESTRATION, name, version, instance_id=request.instanceId),
    )


def _event(request: pb.RaiseEventRequest) -> tuple[str, dict[str, str]]:
    attributes = spans.attributes("event", request.name)
    attributes[spans.TARGET_INSTANCE_ID] = request.instanceId
    return f"orchestration_event:{request.name}", attributes


_CARRIERS = (pb.CreateInstanceRequest, pb.SignalEntityRequest)
_DESCRIPTIONS: Mapping[type[Message], Callable[[Any], tuple[str, dict[str, str]]]] = {
    pb.CreateInstanceRequest: _start,
    pb.RaiseEventRequest: _event,
}
