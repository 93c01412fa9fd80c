"""Between our worker and our scheduler over a network, one stream carries work items and answers."""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from durabletask import task
from durabletask.client import OrchestrationStatus, TaskHubGrpcClient
from durabletask.grpc_options import GrpcWorkerResiliencyOptions
from durabletask.worker import ConcurrencyOptions, TaskHubGrpcWorker
from durabletask_proto import additions
from durabletask_scheduler import Scheduler
from durabletask_scheduler.server import ServerOptions

if TYPE_CHECKING:
    from conftest import Hub

WAIT = 60
WIDTH = 300
LONG = 200
QUICK = GrpcWorkerResiliencyOptions(reconnect_backoff_base_seconds=0.01, reconnect_backoff_cap_seconds=0.05)
STREAMED = {"Hello", "Work"}
CALLED = {"Hello", "GetWorkItems", "CompleteOrchestratorTask", "CompleteActivityTask"}


class OfTheProtocol(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):  # type: ignore[type-arg]
    """Counts the calls of a worker by name, and adds metadata, to the kinds of calls that the protocol has."""

    def __init__(self, *metadata: tuple[str, str]) -> None:
        self.calls: collections.Counter[str] = collections.Counter()
        self._metadata = metadata

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        self.calls[details.method.rpartition("/")[2]] += 1
        details = details._replace(metadata=[*(details.metadata or ()), *self._metadata])
        return continuation(details, request)

    intercept_unary_stream = intercept_unary_unary


class OfAll(OfTheProtocol, grpc.StreamStreamClientInterceptor):  # type: ignore[type-arg]
    """The same to all kinds of calls."""

    intercept_stream_stream = OfTheProtocol.intercept_unary_unary


class Frames:
    """What the scheduler sends on one call; ``look`` is given each frame first, and may end the call."""

    def __init__(self, call: Any, look: Callable[[Any, Any], None]) -> None:
        self._call = call
        self._look = look

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        frame = next(self._call)
        self._look(self._call, frame)
        return frame

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


class Cutting(OfAll):
    """Cuts the stream some times just before the worker is told that an answer was taken."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.left = times

    def intercept_stream_stream(self, continuation: Any, details: Any, request_iterator: Any) -> Any:
        return Frames(super().intercept_unary_unary(continuation, details, request_iterator), self._cut)

    def _cut(self, call: Any, frame: Any) -> None:
        if frame.taken and self.left:
            self.left -= 1
            call.cancel()
            next(call)


class Runs:
    """An activity that counts its executions by input."""

    def __init__(self) -> None:
        self.of: collections.Counter[int] = collections.Counter()
        self._lock = threading.Lock()

    def one(self, _: task.ActivityContext, number: int) -> int:
        with self._lock:
            self.of[number] += 1
        return number


def fan_out(ctx: task.OrchestrationContext, width: int) -> Any:
    return (yield task.when_all([ctx.call_activity("one", input=number) for number in range(width)]))


def chain(ctx: task.OrchestrationContext, length: int) -> Any:
    total = 0
    for number in range(length):
        total += yield ctx.call_activity("one", input=number)
    return total


def setup(worker: TaskHubGrpcWorker, runs: Runs | None = None) -> TaskHubGrpcWorker:
    worker.add_orchestrator(fan_out)
    worker.add_orchestrator(chain)
    worker.add_activity((runs or Runs()).one, name="one")
    return worker


def output_of(client: TaskHubGrpcClient, orchestrator: Any, size: int) -> Any:
    instance_id = client.schedule_new_orchestration(orchestrator, input=size)
    state = client.wait_for_orchestration_completion(instance_id, timeout=WAIT)
    assert state is not None and state.runtime_status is OrchestrationStatus.COMPLETED, state
    return state.get_output()


def worker_at(port: int, *interceptors: Any) -> TaskHubGrpcWorker:
    worker = TaskHubGrpcWorker(
        host_address=f"127.0.0.1:{port}", interceptors=list(interceptors), resiliency_options=QUICK
    )
    return setup(worker)


def test_over_a_network_no_answer_takes_a_call_and_in_process_no_work_takes_the_stream(hub: Hub) -> None:
    seen = OfAll()
    connection = hub.connection
    if "channel" in connection:
        worker = TaskHubGrpcWorker(channel=grpc.intercept_channel(hub.scheduler.channel(), seen))
    else:
        worker = TaskHubGrpcWorker(host_address=str(connection["host_address"]), interceptors=[seen])
    with worker:
        setup(worker).start()
        assert output_of(hub.client(), fan_out, WIDTH) == list(range(WIDTH))
        # What the stream has not settled when the worker stops goes by calls.
        calls = dict(seen.calls)
    assert set(calls) == (STREAMED if hub.over_grpc else CALLED)
    assert calls.get("Work", 0) + calls.get("GetWorkItems", 0) == 1


@pytest.mark.parametrize("hub", ["grpc"], indirect=True)
@pytest.mark.parametrize("orchestrator", [fan_out, chain])
def test_what_was_answered_when_a_stream_broke_is_neither_lost_nor_done_again(hub: Hub, orchestrator: Any) -> None:
    """The scheduler has taken the answers, but the worker does not learn it and sends them again."""
    cutting, runs = Cutting(2), Runs()
    with TaskHubGrpcWorker(**hub.connection, interceptors=[cutting], resiliency_options=QUICK) as worker:  # type: ignore[arg-type]
        setup(worker, runs).start()
        output = output_of(hub.client(), orchestrator, 40)
    assert output == (list(range(40)) if orchestrator is fan_out else sum(range(40)))
    assert cutting.left == 0 and cutting.calls["Work"] >= 2
    assert cutting.calls["CompleteActivityTask"] + cutting.calls["CompleteOrchestratorTask"] >= 2
    assert set(runs.of.values()) == {1}


@pytest.mark.parametrize(("interceptor", "calls"), [(OfAll, STREAMED), (OfTheProtocol, CALLED)])
def test_a_worker_whose_metadata_would_miss_the_stream_keeps_to_the_protocol(
    tmp_path: Path, interceptor: Any, calls: set[str]
) -> None:
    """Its interceptor names the task hub, but knows only the kinds of calls that the protocol has."""
    seen = interceptor(("taskhub", "billing"))
    with Scheduler(tmp_path / "hub.db", task_hubs=("orders", "billing")) as scheduler:
        port = scheduler.serve("127.0.0.1", 0)
        address, metadata = f"127.0.0.1:{port}", (("taskhub", "billing"),)
        with worker_at(port, seen) as worker, TaskHubGrpcClient(host_address=address, metadata=metadata) as client:
            worker.start()
            assert output_of(client, fan_out, 3) == [0, 1, 2]
            assert set(seen.calls) == calls


class ChannelOfTheProtocol:
    """A channel of the user's own making: it knows the kinds of calls that the protocol has, and counts them."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self.calls: collections.Counter[str] = collections.Counter()

    def unary_unary(self, method: str, *arguments: Any, **options: Any) -> Any:
        return self._channel.unary_unary(method, *arguments, **options)

    def unary_stream(self, method: str, *arguments: Any, **options: Any) -> Any:
        call = self._channel.unary_stream(method, *arguments, **options)

        def counted(*arguments: Any, **options: Any) -> Any:
            self.calls[method.rpartition("/")[2]] += 1
            return call(*arguments, **options)

        return counted


@pytest.mark.parametrize("hub", ["grpc"], indirect=True)
def test_a_channel_that_knows_only_the_kinds_of_calls_of_the_protocol_will_do(hub: Hub) -> None:
    with grpc.insecure_channel(str(hub.connection["host_address"])) as network:
        channel = ChannelOfTheProtocol(network)
        with TaskHubGrpcWorker(channel=channel) as worker:  # type: ignore[arg-type]
            setup(worker).start()
            assert output_of(TaskHubGrpcClient(channel=channel), fan_out, 3) == [0, 1, 2]  # type: ignore[arg-type]
        assert channel.calls["GetWorkItems"] == 1


def test_a_scheduler_too_small_for_frames_gets_calls(tmp_path: Path) -> None:
    seen = OfAll()
    options = ServerOptions(max_receive_bytes=additions.MOST_FRAME_BYTES - 1)
    with Scheduler(tmp_path / "hub.db", server_options=options) as scheduler:
        port = scheduler.serve("127.0.0.1", 0)
        with worker_at(port, seen) as worker, TaskHubGrpcClient(host_address=f"127.0.0.1:{port}") as client:
            worker.start()
            assert output_of(client, fan_out, 3) == [0, 1, 2]
            assert set(seen.calls) == CALLED


@pytest.mark.parametrize("share", [0.4, 0.6, 1.1, 4.0])
def test_results_near_the_limit_of_a_frame_arrive(hub: Hub, share: float) -> None:
    def large(ctx: task.OrchestrationContext, size: int) -> Any:
        results = yield task.when_all([ctx.call_activity("text", input=size) for _ in range(3)])
        return sum(map(len, results))

    size = int(additions.MOST_FRAME_BYTES * share)
    with TaskHubGrpcWorker(**hub.connection) as worker:  # type: ignore[arg-type]
        worker.add_orchestrator(large)
        worker.add_activity(lambda _, size: "x" * size, name="text")
        worker.start()
        client = hub.client()
        instance_id = client.schedule_new_orchestration(large, input=size)
        state = client.wait_for_orchestration_completion(instance_id, timeout=WAIT)
        assert state is not None and state.get_output() == 3 * size, state


def test_a_worker_that_stops_answers_what_it_has_begun(hub: Hub) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(_: task.ActivityContext, number: int) -> int:
        begun.set()
        assert go_on.wait(WAIT)
        return number

    def one_slow(ctx: task.OrchestrationContext, _: Any) -> Any:
        return (yield ctx.call_activity("slow", input=7))

    client = hub.client()
    worker = TaskHubGrpcWorker(**hub.connection, concurrency_options=ConcurrencyOptions(2, 2, 2))  # type: ignore[arg-type]
    worker.add_orchestrator(one_slow)
    worker.add_activity(slow, name="slow")
    worker.start()
    instance_id = client.schedule_new_orchestration(one_slow)
    assert begun.wait(WAIT)
    stopping = threading.Thread(target=worker.stop)
    stopping.start()
    go_on.set()
    stopping.join(WAIT)
    with TaskHubGrpcWorker(**hub.connection) as other:  # type: ignore[arg-type]
        other.add_orchestrator(one_slow)
        other.add_activity(lambda _, number: -number, name="slow")
        other.start()
        state = client.wait_for_orchestration_completion(instance_id, timeout=WAIT)
    assert state is not None and state.get_output() == 7


def test_workers_go_on_by_the_stream_after_a_restart_of_the_scheduler(tmp_path: Path) -> None:
    seen, runs = OfAll(), Runs()
    first = Scheduler(tmp_path / "hub.db")
    first.start()
    port = first.serve("127.0.0.1", 0)
    worker = TaskHubGrpcWorker(host_address=f"127.0.0.1:{port}", interceptors=[seen], resiliency_options=QUICK)
    with setup(worker, runs) as worker, TaskHubGrpcClient(channel=first.channel()) as client:
        worker.start()
        assert output_of(client, fan_out, 3) == [0, 1, 2]
        instance_id = client.schedule_new_orchestration(chain, input=LONG)
        client.wait_for_orchestration_start(instance_id, timeout=WAIT)
        first.stop()
        with Scheduler(tmp_path / "hub.db") as second, TaskHubGrpcClient(channel=second.channel()) as client:
            second.serve("127.0.0.1", port)
            state = client.wait_for_orchestration_completion(instance_id, timeout=WAIT)
            assert state is not None and state.get_output() == sum(range(LONG))
    assert seen.calls["Work"] >= 2 and seen.calls["GetWorkItems"] == 0
