"""The spans of entity operations, made when their batch has run, from the times in its result."""

from __future__ import annotations

from collections.abc import Iterator

from durabletask_proto import orchestrator_service_pb2 as pb
from opentelemetry import trace
from opentelemetry.trace import SpanKind

from durabletask._tracing import spans
from durabletask.replay.times import nanoseconds


class EntityTracing:
    """Makes a span of every operation of a batch."""

    def __init__(self) -> None:
        self._tracer = trace.get_tracer(spans.TRACER)

    def ran(self, work_item: pb.WorkItem, result: pb.EntityBatchResult) -> None:
        """Make the spans of a batch that has run."""
        entity_id, operations = _batch(work_item)
        entity = entity_id.split("@")[1] if entity_id.startswith("@") else entity_id
        for (operation, parent), outcome in zip(operations, result.results):
            failed = outcome.HasField("failure")
            timed = outcome.failure if failed else outcome.success
            attributes = spans.attributes("entity", entity, instance_id=entity_id)
            span = self._tracer.start_span(
                f"entity:{entity}:{operation}",
                context=spans.read(parent) or trace.set_span_in_context(trace.INVALID_SPAN),
                kind=SpanKind.SERVER,
                attributes={**attributes, spans.OPERATION: operation},
                start_time=nanoseconds(timed.startTimeUtc),
            )
            spans.set_outcome(span, outcome.failure.failureDetails.errorMessage if failed else None)
            span.end(nanoseconds(timed.endTimeUtc))


def _batch(work_item: pb.WorkItem) -> tuple[str, Iterator[tuple[str, pb.TraceContext]]]:
    """The entity's id, and the operations with their trace contexts, which only the first form has."""
    if work_item.HasField("entityRequestV2"):
        second = work_item.entityRequestV2
        return second.instanceId, ((_operation(event), pb.TraceContext()) for event in second.operationRequests)
    first = work_item.entityRequest
    return first.instanceId, ((each.operation, each.traceContext) for each in first.operations)


def _operation(event: pb.HistoryEvent) -> str:
    if event.HasField("entityOperationCalled"):
        return event.entityOperationCalled.operation
    return event.entityOperationSignaled.operation
