"""The test backend behind a port, and how it is found."""

import importlib.metadata
import socket
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import grpc
import pytest
from durabletask import testing
from durabletask.client import OrchestrationStatus, TaskHubGrpcClient
from durabletask.features import FeatureMissingError
from durabletask.testing.in_memory_backend import InMemoryOrchestrationBackend, create_test_backend
from durabletask.worker import TaskHubGrpcWorker


def echo(ctx, value):
    return value


def waiting(ctx, _):
    yield ctx.wait_for_external_event("go")


def growing(ctx, count):
    for _ in range(count):
        yield ctx.call_activity(echo)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def backend() -> Iterator[InMemoryOrchestrationBackend]:
    backend = create_test_backend(port=0)
    yield backend
    backend.stop()


@pytest.fixture
def client(backend: InMemoryOrchestrationBackend) -> Iterator[TaskHubGrpcClient]:
    with TaskHubGrpcClient(host_address=f"localhost:{backend.port}") as client:
        yield client


@pytest.fixture
def worker(backend: InMemoryOrchestrationBackend) -> Iterator[TaskHubGrpcWorker]:
    with TaskHubGrpcWorker(host_address=f"localhost:{backend.port}") as worker:
        worker.add_orchestrator(echo)
        worker.add_orchestrator(waiting)
        worker.add_orchestrator(growing)
        worker.add_activity(echo)
        worker.start()
        yield worker


def test_orchestrations_run_over_the_port(client, worker):
    instance_id = client.schedule_new_orchestration(echo, input=7)
    assert client.wait_for_orchestration_completion(instance_id, timeout=10).get_output() == 7


def test_it_is_every_task_hub(backend, client, worker):
    """Clients and workers of Azure Durable Task Scheduler name the hub that they have in production."""
    metadata = [("taskhub", "production"), ("authorization", "Bearer none")]
    with TaskHubGrpcClient(host_address=f"localhost:{backend.port}", metadata=metadata) as other:
        instance_id = other.schedule_new_orchestration(echo, input=9)
        assert other.wait_for_orchestration_completion(instance_id, timeout=10).get_output() == 9
    assert client.get_orchestration_state(instance_id) is not None


def test_reset_forgets_instances_and_keeps_workers(backend, client, worker):
    held = client.schedule_new_orchestration(waiting, instance_id="held")
    client.wait_for_orchestration_start(held, timeout=10)
    backend.reset()
    assert client.get_orchestration_state("held") is None
    assert client.get_all_orchestration_states() == []
    again = client.schedule_new_orchestration(echo, input=8, instance_id="held")
    assert client.wait_for_orchestration_completion(again, timeout=10).get_output() == 8


def test_the_history_has_a_bound():
    backend = create_test_backend(port=0, max_history_size=20)
    address = f"localhost:{backend.port}"
    try:
        with TaskHubGrpcClient(host_address=address) as client, TaskHubGrpcWorker(host_address=address) as worker:
            worker.add_orchestrator(growing)
            worker.add_activity(echo)
            worker.start()
            instance_id = client.schedule_new_orchestration(growing, input=100)
            state = client.wait_for_orchestration_completion(instance_id, timeout=10)
            assert state.runtime_status is OrchestrationStatus.FAILED
            assert "20" in state.failure_details.message
    finally:
        backend.stop()


def test_it_starts_on_its_port_and_again_after_a_stop():
    port = free_port()
    backend = InMemoryOrchestrationBackend(10000, port)
    assert backend.start() == f"localhost:{port}"
    with pytest.raises(RuntimeError, match=f"already running on localhost:{port}"):
        backend.start()
    with TaskHubGrpcClient(host_address=f"localhost:{port}") as client:
        client.schedule_new_orchestration("anything", instance_id="kept")
    backend.stop(grace=0.1)
    backend.stop()
    backend.reset()
    assert backend.start() == f"localhost:{port}"
    with TaskHubGrpcClient(host_address=f"localhost:{port}") as client:
        assert client.get_orchestration_state("kept") is None
    backend.stop()


def test_a_port_in_use_is_told_of(backend):
    with pytest.raises(Exception, match=f"cannot listen on localhost:{backend.port}"):
        create_test_backend(port=backend.port)


def test_calls_after_a_stop_find_no_server():
    backend = create_test_backend(port=0)
    with TaskHubGrpcClient(host_address=f"localhost:{backend.port}") as client:
        backend.stop()
        with pytest.raises(grpc.RpcError) as error:
            client.schedule_new_orchestration("anything")
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_history_size_of_nothing_is_refused():
    with pytest.raises(ValueError, match="max_history_size must be 1 or more"):
        create_test_backend(port=0, max_history_size=0)


@pytest.mark.parametrize("start", [testing.Environment, lambda: create_test_backend(port=0)])
def test_without_a_scheduler_the_error_names_the_package(monkeypatch, start):
    monkeypatch.setattr("durabletask.testing.backends.entry_points", lambda group: importlib.metadata.EntryPoints(()))
    with pytest.raises(FeatureMissingError, match="pip install durabletask-scheduler"):
        start()


def failing(ctx, _):
    raise ValueError("no")


def family(ctx, _):
    yield ctx.call_sub_orchestrator(failing)


def test_a_parent_gets_the_whole_failure_of_its_child(client, worker):
    worker.stop()
    worker.add_orchestrator(failing)
    worker.add_orchestrator(family)
    worker.start()
    state = client.wait_for_orchestration_completion(client.schedule_new_orchestration(family), timeout=30)
    inner = state.failure_details.inner_failure
    assert (inner.error_type, inner.message) == ("builtins.ValueError", "no")
    assert inner.stack_trace is not None


def asks_for_its_parent(ctx, _):
    return ctx.parent_instance_id


def keeps_a_child(ctx, _):
    parent = yield ctx.call_sub_orchestrator(asks_for_its_parent)
    ctx.set_custom_status(parent == ctx.instance_id)
    yield ctx.call_sub_orchestrator(waiting, instance_id="child")


def test_children_know_their_parent_and_are_terminated_with_it(client, worker):
    worker.stop()
    for orchestrator in (keeps_a_child, asks_for_its_parent):
        worker.add_orchestrator(orchestrator)
    worker.start()
    client.schedule_new_orchestration(keeps_a_child, instance_id="parent")
    client.wait_for_orchestration_start("child", timeout=30)
    client.terminate_orchestration("parent")
    ended = [client.wait_for_orchestration_completion(name, timeout=30) for name in ("parent", "child")]
    assert [state.runtime_status for state in ended] == [OrchestrationStatus.TERMINATED] * 2
    assert ended[0].get_custom_status() is True


def test_a_start_in_the_future_waits_and_what_is_live_is_not_purged(client, worker):
    later = datetime.now(timezone.utc) + timedelta(hours=1)
    client.schedule_new_orchestration(echo, instance_id="later", start_at=later)
    client.wait_for_orchestration_completion(client.schedule_new_orchestration(echo), timeout=30)
    assert client.get_orchestration_state("later").runtime_status is OrchestrationStatus.PENDING
    with pytest.raises(grpc.RpcError) as refusal:
        client.purge_orchestration("later")
    assert refusal.value.code() is grpc.StatusCode.FAILED_PRECONDITION
