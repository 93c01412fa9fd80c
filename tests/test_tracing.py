"""Spans of clients and workers: their names, kinds, attributes and parents, in every way a turn can be run."""

from __future__ import annotations

import asyncio
import importlib
import logging
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import opentelemetry.trace
import pytest
from durabletask.client import AsyncTaskHubGrpcClient, BulkStartError, NewOrchestration, TaskHubGrpcClient
from durabletask.entities import EntityInstanceId
from durabletask.task import RetryPolicy
from durabletask.worker import ConcurrencyOptions, TaskHubGrpcWorker
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto import orchestrator_service_pb2_grpc as pb_grpc
from durabletask_scheduler import Scheduler
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

PREFIX = "durabletask."


class Spans:
    """The spans that have ended, and how they hang together."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    def all(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> ReadableSpan:
        (found,) = [span for span in self.all() if span.name == name]
        return found

    def names(self) -> list[str]:
        return sorted(span.name for span in self.all())

    def tree(self) -> list[str]:
        """``NAME KIND STATUS < NAME OF THE PARENT``, sorted; a parent that is not here is ``?``, none is ``-``."""
        by_id = {context_of(span).span_id: span for span in self.all()}

        def parent(span: ReadableSpan) -> str:
            if span.parent is None:
                return "-"
            found = by_id.get(span.parent.span_id)
            return "?" if found is None else f"{found.name} {found.kind.name}"

        return sorted(f"{span.name} {span.kind.name} {outcome(span)} < {parent(span)}" for span in self.all())

    def trace_ids(self) -> set[int]:
        return {context_of(span).trace_id for span in self.all()}


def context_of(span: ReadableSpan) -> Any:
    assert span.context is not None
    return span.context


def outcome(span: ReadableSpan) -> str:
    return str((span.attributes or {}).get("durabletask.task.status", "-"))


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return {key.removeprefix(PREFIX): value for key, value in (span.attributes or {}).items()}


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> TracerProvider:
    """The program's tracer provider, for the time of a test; OpenTelemetry lets it be set only once otherwise."""
    provider = TracerProvider()
    monkeypatch.setattr(opentelemetry.trace, "_TRACER_PROVIDER", provider)
    return provider


@pytest.fixture
def spans(provider: TracerProvider) -> Spans:
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Spans(exporter)


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    with Scheduler(":memory:") as scheduler:
        yield scheduler


@pytest.fixture
def client(scheduler: Scheduler) -> Iterator[TaskHubGrpcClient]:
    with TaskHubGrpcClient(channel=scheduler.channel()) as client:
        yield client


def request_span() -> Any:
    return opentelemetry.trace.get_tracer("app").start_as_current_span("request")


def own_span(ctx: Any, value: Any) -> Any:
    with opentelemetry.trace.get_tracer("app").start_as_current_span("own"):
        return value


async def own_span_async(ctx: Any, value: Any) -> Any:
    await asyncio.sleep(0)
    return own_span(ctx, value)


def broken(ctx: Any, value: Any) -> Any:
    raise LookupError("out of stock")


def fails_once(ctx: Any, value: list[int]) -> Any:
    if not ATTEMPTS:
        ATTEMPTS.append(ctx.task_id)
        raise LookupError("out of stock")
    return value


ATTEMPTS: list[int] = []
IMPATIENT = RetryPolicy(first_retry_interval=timedelta(milliseconds=1), max_number_of_attempts=2)


def child(ctx: Any, value: Any) -> Any:
    return (yield ctx.call_activity(own_span, input=value))


def parent(ctx: Any, value: Any) -> Any:
    yield ctx.create_timer(timedelta(milliseconds=1))
    yield ctx.call_activity(fails_once, input=value, retry_policy=IMPATIENT)
    yield ctx.call_activity(own_span_async, input=value)
    ctx.set_custom_status("waiting")
    yield ctx.wait_for_external_event("go")
    return (yield ctx.call_sub_orchestrator(child, input=value, instance_id="c", version="2.0"))


def failing(ctx: Any, value: Any) -> Any:
    yield ctx.call_activity(broken)


def again(ctx: Any, left: int) -> Any:
    yield ctx.call_activity(own_span, input=left)
    if left:
        ctx.continue_as_new(left - 1)


def a_worker(scheduler: Scheduler, **options: Any) -> TaskHubGrpcWorker:
    worker = TaskHubGrpcWorker(channel=scheduler.channel(), **options)
    for orchestrator in (parent, failing, again):
        worker.add_orchestrator(orchestrator)
    worker.add_orchestrator(child, version="2.0")
    for activity in (own_span, own_span_async, fails_once, broken):
        worker.add_activity(activity)
    worker.start()
    return worker


PARENT = "orchestration:parent SERVER"
TREE = [
    "activity:fails_once CLIENT Completed < orchestration:parent SERVER",
    "activity:fails_once CLIENT Failed < orchestration:parent SERVER",
    "activity:fails_once SERVER Completed < activity:fails_once CLIENT",
    "activity:fails_once SERVER Failed < activity:fails_once CLIENT",
    "activity:own_span CLIENT Completed < orchestration:child SERVER",
    "activity:own_span SERVER Completed < activity:own_span CLIENT",
    "activity:own_span_async CLIENT Completed < orchestration:parent SERVER",
    "activity:own_span_async SERVER Completed < activity:own_span_async CLIENT",
    "create_orchestration:parent PRODUCER - < request INTERNAL",
    "orchestration:child SERVER Completed < orchestration:child@(2.0) CLIENT",
    "orchestration:child@(2.0) CLIENT Completed < orchestration:parent SERVER",
    "orchestration:parent SERVER Completed < create_orchestration:parent PRODUCER",
    "orchestration:parent:timer INTERNAL - < orchestration:parent SERVER",
    "orchestration:parent:timer INTERNAL - < orchestration:parent SERVER",
    "orchestration_event:go PRODUCER - < request INTERNAL",
    "own INTERNAL - < activity:own_span SERVER",
    "own INTERNAL - < activity:own_span_async SERVER",
    "request INTERNAL - < -",
]


@pytest.mark.parametrize("kept", [100, 0], ids=["warm", "replayed"])
def test_an_orchestration_is_one_trace_however_its_turns_are_run(
    kept: int, scheduler: Scheduler, client: TaskHubGrpcClient, spans: Spans
) -> None:
    """With warm runs, and with every turn replayed from its history: nothing is emitted during replay."""
    ATTEMPTS.clear()
    options = ConcurrencyOptions(maximum_cached_orchestrations=kept)
    with a_worker(scheduler, concurrency_options=options):
        with request_span():
            client.schedule_new_orchestration(parent, input=[7], instance_id="p")
            client.raise_orchestration_event("p", "go")
        state = client.wait_for_orchestration_completion("p", timeout=30)
    assert state is not None and state.get_output() == [7], state
    assert spans.tree() == TREE
    assert len(spans.trace_ids()) == 1
    assert_times_nest(spans)


def assert_times_nest(spans: Spans) -> None:
    for span in spans.all():
        assert span.start_time is not None and span.end_time is not None
        assert span.start_time <= span.end_time, span.name
    whole, call = spans.named("orchestration:parent"), spans.named("orchestration:child@(2.0)")
    assert whole.start_time <= call.start_time  # type: ignore[operator]
    assert call.end_time <= whole.end_time  # type: ignore[operator]


def test_spans_say_what_they_are_about(scheduler: Scheduler, client: TaskHubGrpcClient, spans: Spans) -> None:
    ATTEMPTS.append(0)
    with a_worker(scheduler):
        client.schedule_new_orchestration(parent, input=[7], instance_id="p", version="1.5")
        client.raise_orchestration_event("p", "go")
        client.wait_for_orchestration_completion("p", timeout=30)
    whole = {"type": "orchestration", "task.name": "parent", "task.instance_id": "p", "task.version": "1.5"}
    assert attributes(spans.named("create_orchestration:parent@(1.5)")) == whole
    assert attributes(spans.named("orchestration:parent")) == {**whole, "task.status": "Completed"}
    assert attributes(spans.named("orchestration_event:go")) == {
        "type": "event",
        "task.name": "go",
        "event.target_instance_id": "p",
    }
    assert attributes(spans.named("orchestration:child@(2.0)")) == {
        "type": "orchestration",
        "task.name": "child",
        "task.version": "2.0",
        "task.instance_id": "p",
        "task.task_id": "4",
        "task.status": "Completed",
    }
    timer = attributes(spans.named("orchestration:parent:timer"))
    fire_at = datetime.fromisoformat(timer.pop("fire_at"))
    assert fire_at.utcoffset() == timedelta(0)
    assert timer == {"type": "timer", "task.name": "parent", "task.instance_id": "p", "task.task_id": "1"}
    for span in spans.all():
        if span.name == "activity:own_span":
            assert attributes(span) == {
                "type": "activity",
                "task.name": "own_span",
                "task.instance_id": "c",
                "task.task_id": "1",
                "task.status": "Completed",
            }


def test_an_orchestration_that_moves_to_another_worker_is_traced_once(
    scheduler: Scheduler, client: TaskHubGrpcClient, spans: Spans
) -> None:
    ATTEMPTS.clear()
    with a_worker(scheduler):
        with request_span():
            client.schedule_new_orchestration(parent, input=[7], instance_id="p")
        wait_until_waiting(client)
    with a_worker(scheduler):
        with opentelemetry.trace.use_span(opentelemetry.trace.INVALID_SPAN):
            client.raise_orchestration_event("p", "go")
        client.wait_for_orchestration_completion("p", timeout=30)
    expected = [line for line in TREE if not line.startswith("orchestration_event")]
    assert [line for line in spans.tree() if not line.startswith("orchestration_event")] == expected


def wait_until_waiting(client: TaskHubGrpcClient) -> None:
    """Until the parent has said so; nothing tells that a custom status has changed."""
    deadline = time.monotonic() + 30
    while (state := client.get_orchestration_state("p")) is None or state.get_custom_status() != "waiting":
        assert time.monotonic() < deadline


def test_what_fails_is_an_error(scheduler: Scheduler, client: TaskHubGrpcClient, spans: Spans) -> None:
    with a_worker(scheduler):
        client.schedule_new_orchestration(failing, instance_id="p")
        client.wait_for_orchestration_completion("p", timeout=30)
    failed = [span for span in spans.all() if outcome(span) == "Failed"]
    assert sorted(f"{span.name} {span.kind.name}" for span in failed) == [
        "activity:broken CLIENT",
        "activity:broken SERVER",
        "orchestration:failing SERVER",
    ]
    for span in failed:
        assert span.status.status_code is opentelemetry.trace.StatusCode.ERROR
        assert (span.status.description or "").endswith("out of stock")


def power(ctx: Any, value: int) -> int:
    return value**2


def test_an_activity_in_a_process_has_its_span_too(
    scheduler: Scheduler, client: TaskHubGrpcClient, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    imported = importlib.import_module("test_tracing")
    worker = TaskHubGrpcWorker(channel=scheduler.channel())
    worker.add_orchestrator(powered)
    worker.add_activity(imported.power, process=True)
    with worker:
        worker.start()
        client.schedule_new_orchestration(powered, input=3, instance_id="p")
        state = client.wait_for_orchestration_completion("p", timeout=60)
    assert state is not None and state.get_output() == 9, state
    assert "activity:power SERVER Completed < activity:power CLIENT" in spans.tree()


def powered(ctx: Any, value: int) -> Any:
    return (yield ctx.call_activity("power", input=value))


def test_every_generation_has_a_span_of_its_own(scheduler: Scheduler, client: TaskHubGrpcClient, spans: Spans) -> None:
    with a_worker(scheduler):
        client.schedule_new_orchestration(again, input=2, instance_id="p")
        client.wait_for_orchestration_completion("p", timeout=30)
    generations = [span for span in spans.all() if span.name == "orchestration:again"]
    assert len({context_of(span).span_id for span in generations}) == 3
    (created,) = [span for span in spans.all() if span.name.startswith("create_")]
    assert {span.parent.span_id for span in generations if span.parent} == {context_of(created).span_id}


def test_without_a_parent_an_orchestration_begins_a_trace(
    scheduler: Scheduler, client: TaskHubGrpcClient, spans: Spans
) -> None:
    options = ConcurrencyOptions(maximum_cached_orchestrations=0)
    with (
        a_worker(scheduler, concurrency_options=options),
        TaskHubGrpcClient(channel=scheduler.channel(), emit_trace_spans=False) as silent,
    ):
        silent.schedule_new_orchestration(again, input=0, instance_id="p")
        client.wait_for_orchestration_completion("p", timeout=30)
    assert spans.tree() == [
        "activity:own_span CLIENT Completed < orchestration:again SERVER",
        "activity:own_span SERVER Completed < activity:own_span CLIENT",
        "orchestration:again SERVER Completed < -",
        "own INTERNAL - < activity:own_span SERVER",
    ]
    assert len(spans.trace_ids()) == 1


def test_what_a_sampler_leaves_out_is_left_out_as_a_whole(
    scheduler: Scheduler, client: TaskHubGrpcClient, spans: Spans, provider: TracerProvider
) -> None:
    provider.sampler = ParentBased(TraceIdRatioBased(0.5))
    with (
        a_worker(scheduler),
        TaskHubGrpcClient(channel=scheduler.channel(), emit_trace_spans=False) as silent,
        client,
    ):
        ids = [silent.schedule_new_orchestration(again, input=0) for _ in range(40)]
        for instance_id in ids:
            client.wait_for_orchestration_completion(instance_id, timeout=30)
    traces = [context_of(span).trace_id for span in spans.all()]
    assert 0 < len(set(traces)) < 40
    assert {traces.count(each) for each in traces} == {4}


def test_without_spans_of_its_own_a_worker_passes_the_context_on(
    scheduler: Scheduler, client: TaskHubGrpcClient, spans: Spans
) -> None:
    with (
        a_worker(scheduler, emit_trace_spans=False) as worker,
        TaskHubGrpcClient(channel=scheduler.channel(), emit_trace_spans=False) as silent,
    ):
        assert (worker.emit_trace_spans, silent.emit_trace_spans) == (False, False)
        with request_span():
            silent.schedule_new_orchestration(again, input=0, instance_id="p")
        client.wait_for_orchestration_completion("p", timeout=30)
    assert spans.tree() == ["own INTERNAL - < request INTERNAL", "request INTERNAL - < -"]


def test_state_of_the_trace_travels_too(scheduler: Scheduler, client: TaskHubGrpcClient, spans: Spans) -> None:
    remote = opentelemetry.trace.SpanContext(
        1, 2, True, opentelemetry.trace.TraceFlags(1), opentelemetry.trace.TraceState([("vendor", "x")])
    )
    with a_worker(scheduler), opentelemetry.trace.use_span(opentelemetry.trace.NonRecordingSpan(remote)):
        client.schedule_new_orchestration(again, input=0, instance_id="p")
        client.wait_for_orchestration_completion("p", timeout=30)
    assert {context_of(span).trace_state.to_header() for span in spans.all()} == {"vendor=x"}
    assert spans.trace_ids() == {1}


def test_a_context_that_is_none_is_ignored(scheduler: Scheduler, client: TaskHubGrpcClient, spans: Spans) -> None:
    """Other clients may send what they like."""
    stub = pb_grpc.TaskHubSidecarServiceStub(scheduler.channel())
    with a_worker(scheduler):
        stub.StartInstance(
            pb.CreateInstanceRequest(
                name="again", instanceId="p", parentTraceContext=pb.TraceContext(traceParent="00-nonsense-01")
            )
        )
        state = client.wait_for_orchestration_completion("p", timeout=30)
    assert state is not None and state.runtime_status.name == "COMPLETED"
    assert "orchestration:again SERVER Completed < -" in spans.tree()


def test_a_call_that_is_refused_is_an_error_of_its_span(
    scheduler: Scheduler, client: TaskHubGrpcClient, spans: Spans
) -> None:
    client.schedule_new_orchestration("a", instance_id="p")
    with pytest.raises(grpc.RpcError):
        client.schedule_new_orchestration("b", instance_id="p")
    with pytest.raises(BulkStartError):
        client.schedule_new_orchestrations([NewOrchestration("c", instance_id="p"), NewOrchestration("d")])
    codes = {span.name.removeprefix("create_orchestration:"): span.status.status_code.name for span in spans.all()}
    assert codes == {"a": "UNSET", "b": "ERROR", "c": "ERROR", "d": "UNSET"}


async def test_an_asynchronous_client_makes_the_same_spans(spans: Spans) -> None:
    with Scheduler(":memory:") as scheduler:
        address = f"127.0.0.1:{scheduler.serve('127.0.0.1', 0)}"
        async with AsyncTaskHubGrpcClient(host_address=address) as client:
            with request_span():
                await client.schedule_new_orchestration("a", instance_id="p")
                await client.schedule_new_orchestrations([NewOrchestration("b"), NewOrchestration("c")])
                await client.raise_orchestration_event("p", "go")
            with pytest.raises(grpc.RpcError):
                await client.schedule_new_orchestration("d", instance_id="p")
    codes = {span.name: span.status.status_code.name for span in spans.all()}
    assert codes == {
        "create_orchestration:a": "UNSET",
        "create_orchestration:b": "UNSET",
        "create_orchestration:c": "UNSET",
        "create_orchestration:d": "ERROR",
        "orchestration_event:go": "UNSET",
        "request": "UNSET",
    }
    inside = {span.parent.span_id for span in spans.all() if span.parent is not None}
    assert inside == {context_of(spans.named("request")).span_id}


def counter(ctx: Any, amount: Any) -> Any:
    if ctx.operation == "fail":
        raise LookupError("no such number")
    ctx.set_state(ctx.get_state(int, 0) + 1)


def counts(ctx: Any, _: Any) -> Any:
    entity = EntityInstanceId("counter", "k")
    yield ctx.call_entity(entity, "add", input=1)
    yield ctx.call_entity(entity, "fail")


def test_operations_of_entities_have_spans(scheduler: Scheduler, client: TaskHubGrpcClient, spans: Spans) -> None:
    worker = TaskHubGrpcWorker(channel=scheduler.channel())
    worker.add_entity(counter)
    worker.add_orchestrator(counts)
    with worker:
        worker.start()
        client.schedule_new_orchestration(counts, instance_id="p")
        client.wait_for_orchestration_completion("p", timeout=30)
    add, fail = spans.named("entity:counter:add"), spans.named("entity:counter:fail")
    about = {"type": "entity", "task.name": "counter", "task.instance_id": "@counter@k"}
    assert attributes(add) == {**about, "entity.operation": "add", "task.status": "Completed"}
    assert attributes(fail) == {**about, "entity.operation": "fail", "task.status": "Failed"}
    assert {add.kind, fail.kind} == {opentelemetry.trace.SpanKind.SERVER}
    assert "no such number" in (fail.status.description or "")
    assert add.start_time <= add.end_time <= fail.start_time  # type: ignore[operator]


def test_a_signal_carries_the_context_of_its_sender(
    scheduler: Scheduler, client: TaskHubGrpcClient, spans: Spans
) -> None:
    """The first form of entity work items has it; such an operation is part of the sender's trace."""
    from durabletask._tracing.entities import EntityTracing

    sent = pb.TraceContext(traceParent=f"00-{7:032x}-{9:016x}-01")
    batch = pb.EntityBatchRequest(
        instanceId="@counter@k", operations=[pb.OperationRequest(operation="add", traceContext=sent)]
    )
    EntityTracing().ran(
        pb.WorkItem(entityRequest=batch),
        pb.EntityBatchResult(results=[pb.OperationResult(success=pb.OperationResultSuccess())]),
    )
    (span,) = spans.all()
    assert span.parent is not None
    assert (context_of(span).trace_id, span.parent.span_id) == (7, 9)


class Faulty(SpanProcessor):
    """Fails at what the worker emits."""

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        if span.name.startswith(("orchestration:", "entity:")):
            raise OSError("the disk is full")


def test_a_span_processor_that_fails_does_no_harm_to_orchestrations(
    scheduler: Scheduler, client: TaskHubGrpcClient, provider: TracerProvider, caplog: pytest.LogCaptureFixture
) -> None:
    provider.add_span_processor(Faulty())
    with caplog.at_level(logging.ERROR), a_worker(scheduler, logger=logging.getLogger("test-faulty-processor")):
        client.schedule_new_orchestration(again, input=0, instance_id="p")
        state = client.wait_for_orchestration_completion("p", timeout=30)
    assert state is not None and state.runtime_status.name == "COMPLETED"
    assert "could not be traced" in caplog.text


PROGRAM = """
import importlib.abc, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == MISSING or name.startswith(MISSING + "."):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

MISSING = sys.argv[1]
sys.meta_path.insert(0, Absent())
from durabletask.client import TaskHubGrpcClient
from durabletask.worker import TaskHubGrpcWorker
from durabletask_scheduler import Scheduler

def double(ctx, value):
    return value * 2

def doubles(ctx, value):
    return (yield ctx.call_activity(double, input=value))

with Scheduler(":memory:") as scheduler:
    worker = TaskHubGrpcWorker(channel=scheduler.channel())
    client = TaskHubGrpcClient(channel=scheduler.channel())
    with worker, client:
        worker.add_orchestrator(doubles)
        worker.add_activity(double)
        worker.start()
        if MISSING == "opentelemetry.sdk":
            from opentelemetry import trace
            remote = trace.SpanContext(1, 2, True, trace.TraceFlags(1))
            with trace.use_span(trace.NonRecordingSpan(remote)):
                instance_id = client.schedule_new_orchestration(doubles, input=4)
        else:
            instance_id = client.schedule_new_orchestration(doubles, input=4)
        print(client.wait_for_orchestration_completion(instance_id, timeout=30).get_output())
        for event in client.get_orchestration_history(instance_id):
            context = getattr(event, "parent_trace_context", None)
            if context is not None:
                print(type(event).__name__, context.trace_parent)
print(any(name.split(".")[0] == "opentelemetry" for name in sys.modules))
"""
CARRIED = f"00-{1:032x}-{2:016x}-01"


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ("opentelemetry", ["8", "False"]),
        ("opentelemetry.sdk", ["8", f"ExecutionStartedEvent {CARRIED}", f"TaskScheduledEvent {CARRIED}", "True"]),
    ],
)
def test_without_opentelemetry_or_its_sdk_all_works_and_contexts_are_passed_on(
    missing: str, expected: list[str]
) -> None:
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), missing]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split("\n")[:-1] == expected, done.stderr
