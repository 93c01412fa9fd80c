"""Sets OpenTelemetry up for both programs of the tracing sample: every span becomes a line on the terminal."""

from __future__ import annotations

import sys

from opentelemetry import trace
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor


def set_up(service: str) -> None:
    """Print the spans of this program. To send them to a collector, give the provider another exporter."""
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: service}))
    provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=sys.stdout, formatter=line)))
    trace.set_tracer_provider(provider)


def line(span: ReadableSpan) -> str:
    """``span NAME, KIND, trace ID``"""
    return f"span {span.name}, {span.kind.name.lower()}, trace {trace.format_trace_id(span.context.trace_id)}\n"
