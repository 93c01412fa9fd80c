"""The scheduler inside a program: its life, and its ways in."""

from __future__ import annotations

import asyncio
import threading

import durabletask_scheduler
import grpc
import pytest
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto import orchestrator_service_pb2_grpc as pb_grpc
from durabletask_proto import warm
from durabletask_scheduler import Scheduler
from durabletask_scheduler.server import ServerError
from durabletask_scheduler.storage import StorageUnusable
from google.protobuf.empty_pb2 import Empty

WAIT = 10


@pytest.fixture
def scheduler():
    with Scheduler() as scheduler:
        yield scheduler


def stub_of(channel):
    return pb_grpc.TaskHubSidecarServiceStub(channel)


def begin(stub, instance_id="a", **more):
    return stub.StartInstance(pb.CreateInstanceRequest(instanceId=instance_id, name="n"), timeout=WAIT, **more)


def exists(stub, instance_id="a", **more):
    return stub.GetInstance(pb.GetInstanceRequest(instanceId=instance_id), timeout=WAIT, **more).exists


def test_every_way_in_leads_to_the_same_scheduler(scheduler):
    ports = [scheduler.serve(port=0), scheduler.serve("localhost", 0)]
    begin(stub_of(scheduler.channel()))
    for port in ports:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert exists(stub_of(channel))

    async def ask():
        async with scheduler.aio_channel() as channel:
            response = await stub_of(channel).GetInstance(pb.GetInstanceRequest(instanceId="a"), timeout=WAIT)
        return response.exists

    assert asyncio.run(ask())


def test_hello_says_on_every_transport_that_warm_runs_are_supported(scheduler):
    _, call = stub_of(scheduler.channel()).Hello.with_call(Empty(), timeout=WAIT)
    assert dict(call.initial_metadata())[warm.HEADER] == warm.VERSION
    with grpc.insecure_channel(f"127.0.0.1:{scheduler.serve(port=0)}") as channel:
        _, call = stub_of(channel).Hello.with_call(Empty(), timeout=WAIT)
        assert dict(call.initial_metadata())[warm.HEADER] == warm.VERSION


def test_a_work_item_reaches_a_worker_in_process(scheduler):
    stub = stub_of(scheduler.channel())
    stream = stub.GetWorkItems(pb.GetWorkItemsRequest(maxConcurrentOrchestrationWorkItems=1), timeout=WAIT)
    begin(stub)
    item = next(stream)
    assert item.orchestratorRequest.instanceId == "a"
    action = pb.OrchestratorAction(
        completeOrchestration=pb.CompleteOrchestrationAction(
            orchestrationStatus=pb.ORCHESTRATION_STATUS_COMPLETED,
        )
    )
    waiter = stub.WaitForInstanceCompletion.future(pb.GetInstanceRequest(instanceId="a"), timeout=WAIT)
    stub.CompleteOrchestratorTask(
        pb.OrchestratorResponse(instanceId="a", actions=[action], completionToken=item.completionToken), timeout=WAIT
    )
    assert waiter.result().orchestrationState.orchestrationStatus == pb.ORCHESTRATION_STATUS_COMPLETED
    stream.cancel()


def test_task_hubs_are_apart_and_the_first_is_the_default():
    with Scheduler(task_hubs=["one", "two"]) as scheduler:
        stub = stub_of(scheduler.channel())
        begin(stub)
        assert exists(stub, metadata=(("taskhub", "one"),))
        assert not exists(stub, metadata=(("taskhub", "two"),))


@pytest.mark.parametrize("again", [True, False])
def test_a_file_outlives_its_scheduler(tmp_path, again):
    scheduler = Scheduler(tmp_path / "x.db", synchronous="normal")
    with scheduler:
        begin(stub_of(scheduler.channel()))
    with scheduler if again else Scheduler(str(tmp_path / "x.db")) as later:
        assert exists(stub_of(later.channel()))


def test_memory_is_forgotten(scheduler):
    begin(stub_of(scheduler.channel()))
    scheduler.stop()
    scheduler.start()
    assert not exists(stub_of(scheduler.channel()))


def test_stopping_answers_those_who_wait_and_those_who_come_later(scheduler):
    stub = stub_of(scheduler.channel())
    begin(stub)
    waiter = stub.WaitForInstanceCompletion.future(pb.GetInstanceRequest(instanceId="a"))
    stream = stub.GetWorkItems(pb.GetWorkItemsRequest())
    scheduler.stop()
    scheduler.stop()
    assert waiter.exception(timeout=WAIT).code() is grpc.StatusCode.UNAVAILABLE
    assert stream.code() in (grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE)
    with pytest.raises(grpc.RpcError) as caught:
        begin(stub)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_stopping_ends_every_thread_but_those_of_channels():
    before = set(threading.enumerate())
    with Scheduler() as scheduler:
        scheduler.serve(port=0)
        begin(stub_of(scheduler.channel()))
        own = set(threading.enumerate()) - before
    for thread in own:
        thread.join(WAIT)
    left = [thread.name for thread in own if thread.is_alive() and thread.name.startswith("durabletask")]
    assert own and left == []


def test_starting_twice_is_starting_once(scheduler):
    begin(stub_of(scheduler.channel()))
    scheduler.start()
    assert exists(stub_of(scheduler.channel()))


def test_a_port_in_use_leaves_the_scheduler_running(scheduler):
    port = scheduler.serve(port=0)
    with pytest.raises(ServerError, match="cannot listen on"):
        scheduler.serve(port=port)
    begin(stub_of(scheduler.channel()))


def test_one_file_has_one_scheduler(tmp_path):
    with Scheduler(tmp_path / "x.db"), pytest.raises(StorageUnusable, match="in use by another scheduler"):
        Scheduler(tmp_path / "x.db").start()


def test_ways_in_need_a_started_scheduler():
    scheduler = Scheduler()
    for attempt in (scheduler.channel, scheduler.aio_channel, scheduler.serve):
        with pytest.raises(RuntimeError, match="not started"):
            attempt()


@pytest.mark.parametrize("task_hubs", [(), ("",), "default"])
def test_task_hubs_must_be_names(task_hubs):
    with pytest.raises(ValueError, match="task_hubs must be"):
        Scheduler(task_hubs=task_hubs)


def test_synchronous_must_be_known():
    with pytest.raises(ValueError, match="FULL"):
        Scheduler(synchronous="sometimes")


def test_the_package_exports_the_scheduler_lazily():
    assert "Scheduler" in dir(durabletask_scheduler)
    with pytest.raises(AttributeError, match="Nonsense"):
        _ = durabletask_scheduler.Nonsense
