"""The span of an activity; what the activity's own code makes spans of, it makes inside this one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from durabletask_proto import orchestrator_service_pb2 as pb
from opentelemetry import context, trace
from opentelemetry.trace import Span, SpanKind

from durabletask._tracing import spans

Run = Callable[[pb.ActivityRequest], pb.ActivityResponse]
RunAsync = Callable[[pb.ActivityRequest], Awaitable[pb.ActivityResponse]]


class ActivityTracing:
    """Runs activities inside of their trace contexts.

    Args:
        emit: Whether each gets a span; else the context of the orchestration that called it.
    """

    def __init__(self, emit: bool) -> None:
        self._emit = emit
        self._tracer = trace.get_tracer(spans.TRACER)

    def run(self, run: Run, request: pb.ActivityRequest) -> pb.ActivityResponse:
        """Run one on this thread."""
        with self._inside(request) as span:
            response = run(request)
            _end(span, response)
        return response

    async def run_async(self, run: RunAsync, request: pb.ActivityRequest) -> pb.ActivityResponse:
        """Run one on this event loop."""
        with self._inside(request) as span:
            response = await run(request)
            _end(span, response)
        return response

    def concerns(self, request: pb.ActivityRequest) -> bool:
        """Whether there is a span or a trace context for this one; else it runs as it is."""
        return self._emit or request.HasField("parentTraceContext")

    @contextmanager
    def _inside(self, request: pb.ActivityRequest) -> Iterator[Span | None]:
        parent = spans.read(request.parentTraceContext) or context.Context()
        if self._emit:
            with self._tracer.start_as_current_span(
                f"{spans.ACTIVITY}:{request.name}",
                context=parent,
                kind=SpanKind.SERVER,
                attributes=spans.attributes(
                    spans.ACTIVITY,
                    request.name,
                    request.version.value,
                    instance_id=request.orchestrationInstance.instanceId,
                    task_id=str(request.taskId),
                ),
            ) as span:
                yield span
            return
        token = context.attach(parent)
        try:
            yield None
        finally:
            context.detach(token)


def _end(span: Span | None, response: pb.ActivityResponse) -> None:
    if span is not None:
        failed = response.HasField("failureDetails")
        spans.set_outcome(span, response.failureDetails.errorMessage if failed else None)
