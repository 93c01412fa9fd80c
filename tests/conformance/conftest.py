"""A scheduler on a real gRPC port, and clients and workers made of the protocol's stubs alone."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto.orchestrator_service_pb2_grpc import TaskHubSidecarServiceStub
from durabletask_scheduler import Scheduler
from durabletask_scheduler.server import ServerOptions
from durabletask_scheduler.service import ServiceOptions
from google.protobuf.wrappers_pb2 import StringValue

SECONDS = 20.0
UNLIMITED = [("grpc.max_receive_message_length", -1)]
MILLISECOND = 1_000_000


def text(value: str | None) -> StringValue | None:
    return None if value is None else StringValue(value=value)


def short(name: str) -> str:
    return name.removeprefix("ORCHESTRATION_STATUS_")


class Worker:
    """One GetWorkItems stream. It answers only what the test tells it to.

    Args:
        request: fields of GetWorkItemsRequest.
    """

    def __init__(self, stub: Any, hub: str, **request: Any) -> None:
        self._stub = stub
        self._metadata = (("taskhub", hub),)
        self._turns: queue.Queue[pb.WorkItem] = queue.Queue()
        self._activities: queue.Queue[pb.WorkItem] = queue.Queue()
        self.ended = threading.Event()
        self.error: grpc.RpcError | None = None
        self._call = stub.GetWorkItems(pb.GetWorkItemsRequest(**request), metadata=self._metadata)
        # Headers mean that the scheduler has the stream.
        self._call.initial_metadata()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            for item in self._call:
                if item.HasField("orchestratorRequest"):
                    self._turns.put(item)
                elif item.HasField("activityRequest"):
                    self._activities.put(item)
        except grpc.RpcError as error:
            self.error = error
        self.ended.set()

    def close(self) -> None:
        self._call.cancel()
        self.ended.wait(SECONDS)

    def nothing(self, seconds: float) -> bool:
        """Whether nothing comes for so long; for what must not come."""
        self.ended.wait(seconds)
        return self._turns.empty() and self._activities.empty()

    def turn(self) -> pb.WorkItem:
        return self._turns.get(timeout=SECONDS)

    def turn_of(self, instance_id: str) -> pb.WorkItem:
        """The next turn of that instance. Others are left out: a turn may leave before its instance is durable."""
        while (item := self.turn()).orchestratorRequest.instanceId != instance_id:
            continue
        return item

    def turn_or_from(self, other: Worker) -> pb.WorkItem:
        """The next turn, whichever of the two workers gets it."""
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            for worker in (self, other):
                try:
                    return worker._turns.get(timeout=0.02)
                except queue.Empty:
                    continue
        raise AssertionError("neither worker got a turn")

    def activity(self) -> pb.WorkItem:
        return self._activities.get(timeout=SECONDS)

    def answer(self, item: pb.WorkItem, *actions: pb.OrchestratorAction, **fields: Any) -> None:
        fields.setdefault("completionToken", item.completionToken)
        fields.setdefault("instanceId", item.orchestratorRequest.instanceId)
        response = pb.OrchestratorResponse(actions=actions, **fields)
        self._stub.CompleteOrchestratorTask(response, timeout=SECONDS, metadata=self._metadata)

    def result(self, item: pb.WorkItem, value: str | None = "1", **fields: Any) -> None:
        fields.setdefault("completionToken", item.completionToken)
        response = pb.ActivityResponse(
            instanceId=item.activityRequest.orchestrationInstance.instanceId,
            taskId=item.activityRequest.taskId,
            result=text(value),
            **fields,
        )
        self._stub.CompleteActivityTask(response, timeout=SECONDS, metadata=self._metadata)

    def failure(self, item: pb.WorkItem, message: str = "no") -> None:
        self.result(item, None, failureDetails=pb.TaskFailureDetails(errorType="E", errorMessage=message))

    def step(self, *actions: pb.OrchestratorAction, **fields: Any) -> list[str]:
        """Take the next turn and answer it; the kinds of its new events."""
        item = self.turn()
        self.answer(item, *actions, **fields)
        return kinds(item.orchestratorRequest.newEvents)


def kinds(events: Any) -> list[str]:
    return [event.WhichOneof("eventType") for event in events]


class Site:
    """A scheduler on a file and a port."""

    def __init__(self, database: Path, options: ServiceOptions, server: ServerOptions) -> None:
        self.database = database
        self._options = options
        self._server = server
        self._closing: list[Callable[[], None]] = []
        self._open()

    def _open(self) -> None:
        self.scheduler = Scheduler(
            self.database,
            task_hubs=["default", "other"],
            synchronous="OFF",
            server_options=self._server,
            service_options=self._options,
        )
        self.scheduler.start()
        self.port = self.scheduler.serve("127.0.0.1", 0)
        self.address = f"127.0.0.1:{self.port}"
        self.channel = self.connect(UNLIMITED)
        self.stub = TaskHubSidecarServiceStub(self.channel)

    def connect(self, options: list[tuple[str, int]] | None = None, address: str | None = None) -> grpc.Channel:
        """A connection of its own, with gRPC's limits unless ``options`` say otherwise."""
        own = [("grpc.use_local_subchannel_pool", 1), *(options or [])]
        channel = grpc.insecure_channel(address or self.address, own)
        self._closing.append(channel.close)
        return channel

    def close(self) -> None:
        for close in reversed(self._closing):
            close()
        self._closing.clear()
        self.scheduler.stop()

    def restart(self) -> None:
        self.close()
        self._open()

    def worker(self, hub: str = "default", *, channel: grpc.Channel | None = None, **request: Any) -> Worker:
        stub = self.stub if channel is None else TaskHubSidecarServiceStub(channel)
        worker = Worker(stub, hub, **request)
        self._closing.append(worker.close)
        return worker

    # -- clients

    def start(self, instance_id: str, name: str = "order", **fields: Any) -> str:
        request = pb.CreateInstanceRequest(instanceId=instance_id, name=name, **fields)
        return self.stub.StartInstance(request, timeout=SECONDS).instanceId

    def get(self, instance_id: str, payloads: bool = True) -> pb.GetInstanceResponse:
        return self.stub.GetInstance(
            pb.GetInstanceRequest(instanceId=instance_id, getInputsAndOutputs=payloads), timeout=SECONDS
        )

    def state(self, instance_id: str) -> pb.OrchestrationState:
        found = self.get(instance_id)
        assert found.exists
        return found.orchestrationState

    def status(self, instance_id: str) -> str:
        return short(pb.OrchestrationStatus.Name(self.state(instance_id).orchestrationStatus))

    def begin_wait(self, instance_id: str, rpc: str = "WaitForInstanceCompletion", timeout: float = SECONDS) -> Any:
        request = pb.GetInstanceRequest(instanceId=instance_id, getInputsAndOutputs=True)
        return getattr(self.stub, rpc).future(request, timeout=timeout)

    def wait(self, instance_id: str) -> pb.OrchestrationState:
        return self.begin_wait(instance_id).result().orchestrationState

    def raise_event(self, instance_id: str, name: str = "go", data: str | None = None) -> None:
        self.stub.RaiseEvent(pb.RaiseEventRequest(instanceId=instance_id, name=name, input=text(data)), timeout=SECONDS)

    def terminate(self, instance_id: str, output: str | None = None, *, recursive: bool = False) -> None:
        request = pb.TerminateRequest(instanceId=instance_id, output=text(output), recursive=recursive)
        self.stub.TerminateInstance(request, timeout=SECONDS)

    def suspend(self, instance_id: str) -> None:
        self.stub.SuspendInstance(pb.SuspendRequest(instanceId=instance_id), timeout=SECONDS)

    def resume(self, instance_id: str) -> None:
        self.stub.ResumeInstance(pb.ResumeRequest(instanceId=instance_id), timeout=SECONDS)

    def rewind(self, instance_id: str) -> None:
        self.stub.RewindInstance(pb.RewindInstanceRequest(instanceId=instance_id), timeout=SECONDS)

    def history(self, instance_id: str) -> list[pb.HistoryEvent]:
        request = pb.StreamInstanceHistoryRequest(instanceId=instance_id)
        return [event for chunk in self.stub.StreamInstanceHistory(request, timeout=SECONDS) for event in chunk.events]

    def kinds(self, instance_id: str) -> list[str]:
        return kinds(self.history(instance_id))


def refused(call: Callable[[], object]) -> tuple[str, str]:
    """The code and text with which a call is refused."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code().name, caught.value.details()


def eventually(condition: Callable[[], object], seconds: float = SECONDS) -> None:
    """For what the protocol tells nobody about."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.02)


class Do:
    """Actions of orchestrators, shortly."""

    @staticmethod
    def activity(number: int, name: str = "charge", **fields: Any) -> pb.OrchestratorAction:
        return pb.OrchestratorAction(id=number, scheduleTask=pb.ScheduleTaskAction(name=name, **fields))

    @staticmethod
    def timer(number: int, in_nanoseconds: int = 0, **fire_at: int) -> pb.OrchestratorAction:
        action = pb.OrchestratorAction(id=number, createTimer=pb.CreateTimerAction())
        if fire_at:
            action.createTimer.fireAt.seconds = fire_at["seconds"]
            action.createTimer.fireAt.nanos = fire_at.get("nanos", 0)
        else:
            action.createTimer.fireAt.FromNanoseconds(time.time_ns() + in_nanoseconds)
        return action

    @staticmethod
    def child(number: int, instance_id: str, name: str = "child", **fields: Any) -> pb.OrchestratorAction:
        create = pb.CreateSubOrchestrationAction(instanceId=instance_id, name=name, **fields)
        return pb.OrchestratorAction(id=number, createSubOrchestration=create)

    @staticmethod
    def send(number: int, target: str, name: str = "go", data: str | None = None) -> pb.OrchestratorAction:
        send = pb.SendEventAction(instance=pb.OrchestrationInstance(instanceId=target), name=name, data=text(data))
        return pb.OrchestratorAction(id=number, sendEvent=send)

    @staticmethod
    def complete(number: int = 100, result: str | None = "1", status: str = "COMPLETED", **fields: Any) -> Any:
        completion = pb.CompleteOrchestrationAction(
            orchestrationStatus=pb.OrchestrationStatus.Value(f"ORCHESTRATION_STATUS_{status}"),
            result=text(result),
            **fields,
        )
        return pb.OrchestratorAction(id=number, completeOrchestration=completion)

    def again(self, data: str = "2", *carried: str) -> pb.OrchestratorAction:
        events = [pb.HistoryEvent(eventId=-1, eventRaised=pb.EventRaisedEvent(name=name)) for name in carried]
        return self.complete(100, data, "CONTINUED_AS_NEW", carryoverEvents=events)

    def fail(self, message: str = "no") -> pb.OrchestratorAction:
        details = pb.TaskFailureDetails(errorType="E", errorMessage=message)
        return self.complete(100, None, "FAILED", failureDetails=details)


@pytest.fixture
def do() -> Do:
    return Do()


@pytest.fixture
def service_options() -> dict[str, Any]:
    """Override to change how the scheduler of ``site`` behaves."""
    return {}


@pytest.fixture
def server_options() -> ServerOptions:
    return ServerOptions()


@pytest.fixture
def site(tmp_path: Path, service_options: dict[str, Any], server_options: ServerOptions) -> Iterator[Site]:
    options = ServiceOptions(stream_grace=50 * MILLISECOND, retry_delay=50 * MILLISECOND)
    site = Site(tmp_path / "hub.db", replace(options, **service_options), server_options)
    yield site
    site.close()


@pytest.fixture
def tools() -> Any:
    """What tests of this folder share besides the fixtures."""

    class Tools:
        refused = staticmethod(refused)
        eventually = staticmethod(eventually)
        kinds = staticmethod(kinds)
        text = staticmethod(text)

    return Tools
