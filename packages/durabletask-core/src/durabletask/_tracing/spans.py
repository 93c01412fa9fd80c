"""What all spans share: the tracer, names, attributes, and trace contexts in messages of the protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from durabletask_proto import orchestrator_service_pb2 as pb
from opentelemetry.context import Context
from opentelemetry.trace import (
    NoOpTracerProvider,
    ProxyTracerProvider,
    Span,
    SpanContext,
    StatusCode,
    get_tracer_provider,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

TRACER: Final = "durabletask"

TYPE: Final = "durabletask.type"
NAME: Final = "durabletask.task.name"
VERSION: Final = "durabletask.task.version"
INSTANCE_ID: Final = "durabletask.task.instance_id"
TASK_ID: Final = "durabletask.task.task_id"
STATUS: Final = "durabletask.task.status"
TARGET_INSTANCE_ID: Final = "durabletask.event.target_instance_id"
FIRE_AT: Final = "durabletask.fire_at"
OPERATION: Final = "durabletask.entity.operation"

ORCHESTRATION: Final = "orchestration"
ACTIVITY: Final = "activity"

_PROPAGATOR = TraceContextTextMapPropagator()
# With one of these, spans lead nowhere.
_INACTIVE = (ProxyTracerProvider, NoOpTracerProvider)


def is_active() -> bool:
    """Whether the program has set up a tracer provider."""
    return not isinstance(get_tracer_provider(), _INACTIVE)


def versioned(kind: str, name: str, version: str) -> str:
    """The name of a span: ``kind:name``, with a version ``kind:name@(version)``."""
    return f"{kind}:{name}@({version})" if version else f"{kind}:{name}"


def attributes(kind: str, name: str, version: str = "", **others: str) -> dict[str, str]:
    """The attributes that spans have in common; ``others`` by the last part of their names, such as ``task_id``."""
    found = {TYPE: kind, NAME: name}
    if version:
        found[VERSION] = version
    found.update({_OTHERS[key]: value for key, value in others.items()})
    return found


_OTHERS: Mapping[str, str] = {"instance_id": INSTANCE_ID, "task_id": TASK_ID}


def set_outcome(span: Span, failure: str | None) -> None:
    """Note how it ended; ``failure`` is the message of a failure, None for success."""
    span.set_attribute(STATUS, "Completed" if failure is None else "Failed")
    if failure is not None:
        span.set_status(StatusCode.ERROR, failure)


def read(message: pb.TraceContext) -> Context | None:
    """The context that a message carries, by itself; None if it is absent or no valid ``traceparent``."""
    if not message.traceParent:
        return None
    carrier = {"traceparent": message.traceParent, "tracestate": message.traceState.value}
    # An empty context, so that what this thread is doing otherwise has no part in it.
    empty = Context()
    found = _PROPAGATOR.extract(carrier, context=empty)
    return found if found != empty else None


def write(message: pb.TraceContext, span: SpanContext) -> None:
    """Make a message carry the context of a span."""
    message.traceParent = f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"
    # Deprecated, but older readers of histories look here.
    message.spanID = f"{span.span_id:016x}"
    state = span.trace_state.to_header()
    if state:
        message.traceState.value = state
    else:
        message.ClearField("traceState")
