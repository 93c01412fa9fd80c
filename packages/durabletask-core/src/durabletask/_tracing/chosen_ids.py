"""Spans with ids that were settled before, which only the SDK of OpenTelemetry can make, not its API."""

from __future__ import annotations

from copy import copy
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext, SpanKind, get_tracer_provider

from durabletask._tracing import spans


class _ChosenIds:
    """Stands in for the SDK's generator of ids, and gives the ones that were chosen."""

    def __init__(self) -> None:
        self.trace_id = 0
        self.span_id = 0

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        return self.span_id

    def is_trace_id_random(self) -> bool:
        return False


class SpanMaker:
    """Makes spans with given ids; for one thread at a time.

    Args:
        tracer: A tracer of the SDK that belongs to nobody else.
    """

    def __init__(self, tracer: Any) -> None:
        self._tracer = tracer
        self._random = tracer.id_generator
        self._ids = tracer.id_generator = _ChosenIds()

    def new_span_id(self) -> int:
        """A random id."""
        span_id: int = self._random.generate_span_id()
        return span_id

    def is_sampled(self, trace_id: int, name: str, kind: SpanKind) -> bool:
        """Whether a trace that begins with such a span is recorded."""
        sampled: bool = self._tracer.sampler.should_sample(Context(), trace_id, name, kind).decision.is_sampled()
        return sampled

    def start(
        self,
        name: str,
        context: SpanContext,
        *,
        parent: Context,
        kind: SpanKind,
        attributes: dict[str, str],
        start_time: int,
    ) -> Span:
        """Start a span with the ids of ``context``; the trace id counts only without a parent.

        Args:
            start_time: In nanoseconds since 1970.
        """
        self._ids.trace_id, self._ids.span_id = context.trace_id, context.span_id
        span: Span = self._tracer.start_span(
            name, context=parent, kind=kind, attributes=attributes, start_time=start_time
        )
        return span


def present_maker() -> SpanMaker | None:
    """A maker of spans for the tracer provider that is set up now; None if there is none, or it is not the SDK's."""
    try:
        from opentelemetry.sdk.trace import Tracer
    except ModuleNotFoundError:
        return None
    tracer = get_tracer_provider().get_tracer(spans.TRACER)
    # A copy, because the provider may hand the same tracer to others.
    return SpanMaker(copy(tracer)) if isinstance(tracer, Tracer) else None
