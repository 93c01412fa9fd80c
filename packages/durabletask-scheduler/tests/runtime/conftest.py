"""A service over a real store, driven without a transport: calls as futures, a worker that follows a script."""

from __future__ import annotations

import dataclasses
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_scheduler.hub.model import Commit, HubError
from durabletask_scheduler.service import RPCS, SchedulerService, ServiceOptions
from durabletask_scheduler.storage import Storage, StorageError
from durabletask_scheduler.storage.sqlite import SqliteStorage
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import StringValue

TIMEOUT = 10.0


class PendingCall(Future):
    """A unary call under way. Answering twice is an error of the service."""

    cancel_call: Callable[[], None]

    def answer(self, response: Message | None, error: HubError | None) -> None:
        assert (response is None) != (error is None)
        if error is not None:
            self.set_exception(error)
        else:
            self.set_result(response)


class Sink:
    """The receiving end of a stream; a slow one takes no more until the test calls ``go_on``."""

    def __init__(self, *, slow: bool = False) -> None:
        self.slow = slow
        self.go_on: Callable[[], None] = lambda: None
        self._messages: queue.Queue[Any] = queue.Queue()
        self.closed = threading.Event()
        self.error: HubError | None = None
        self.cancel: Callable[[], None] = lambda: None

    def send(self, message: Message) -> None:
        self._messages.put(message)

    @property
    def lends(self) -> bool:
        return False

    def when_read(self, go_on: Callable[[], None]) -> None:
        self.go_on = go_on
        if not self.slow:
            go_on()

    def close(self, error: HubError | None = None) -> None:
        self.error = error
        self.closed.set()
        self._messages.put(None)

    def next(self, timeout: float = TIMEOUT) -> Any:
        message = self._messages.get(timeout=timeout)
        assert message is not None, f"the stream ended: {self.error}"
        return message

    def next_or_none(self) -> Any:
        """The next message, None once the stream ended."""
        return self._messages.get(timeout=60)

    def rest(self) -> list[Any]:
        """All until the stream ends."""
        messages = []
        while (message := self._messages.get(timeout=TIMEOUT)) is not None:
            messages.append(message)
        return messages

    @property
    def waiting(self) -> int:
        return self._messages.qsize()


# A store that cannot load one cannot load many.
_LIKE = {"load_many": "load"}


class FailingStorage:
    """A store that can be told to fail: the calls of the methods named in ``failing`` raise."""

    confirm_seconds = 0
    waits_for_disk = False

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.failing: set[str] = set()
        self.calls: list[str] = []
        self.groups: list[Sequence[Commit]] = []
        self.before_write: Callable[[Sequence[Commit]], None] = lambda commits: None
        self._to_fail = 0
        self.on_failure: Callable[[], None] = lambda: None

    def fail_next_writes(self, count: int) -> None:
        self._to_fail = count

    def write(self, commits: Sequence[Commit]) -> None:
        self.calls.append("write")
        self.groups.append(commits)
        self.before_write(commits)
        if "write" in self.failing or self._to_fail > 0:
            self._to_fail -= 1
            raise StorageError("the disk is full")
        self._storage.write(commits)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._storage, name)
        if not callable(method):
            return method

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            if name in self.failing or _LIKE.get(name) in self.failing:
                self.on_failure()
                raise StorageError("the disk is gone")
            return method(*args, **kwargs)

        return call


class Runtime:
    """A service and its store; :meth:`restart` ends both and opens them again on the same file."""

    def __init__(self, path: Path, options: ServiceOptions) -> None:
        self._path = path
        self._options = options
        self._open()

    def _open(self) -> None:
        self._sqlite = SqliteStorage(self._path, synchronous="OFF")
        self._sqlite.add_task_hub("default")
        self._sqlite.add_task_hub("other")
        self.storage = FailingStorage(self._sqlite)
        self.service = SchedulerService(self.storage, self._options)  # type: ignore[arg-type]
        self.service.start()

    def close(self) -> None:
        self.service.stop(TIMEOUT)
        self._sqlite.close()

    def restart(self) -> None:
        self.close()
        self._open()

    def begin(self, rpc: str, request: Message | None = None, hub: str = "default", **metadata: str) -> PendingCall:
        pending = PendingCall()
        request = RPCS[rpc].request_type() if request is None else request
        pending.cancel_call = self.service.call(rpc, request, {"taskhub": hub, **metadata}, pending.answer)
        return pending

    def call(self, rpc: str, request: Message | None = None, hub: str = "default", **metadata: str) -> Any:
        return self.begin(rpc, request, hub, **metadata).result(TIMEOUT)

    def stream(self, rpc: str, request: Message, hub: str = "default", *, slow: bool = False) -> Sink:
        sink = Sink(slow=slow)
        sink.cancel = self.service.open_stream(rpc, request, {"taskhub": hub}, sink)
        return sink

    def pause(self, seconds: float) -> None:
        """Let things happen for a while; for tests of chance only, never to wait for something."""
        threading.Event().wait(seconds)

    # -- clients --

    def start(self, instance_id: str, name: str = "order", hub: str = "default", **fields: Any) -> str:
        request = pb.CreateInstanceRequest(instanceId=instance_id, name=name, **fields)
        return self.call("StartInstance", request, hub).instanceId

    def get(self, instance_id: str, hub: str = "default") -> pb.GetInstanceResponse:
        return self.call("GetInstance", pb.GetInstanceRequest(instanceId=instance_id, getInputsAndOutputs=True), hub)

    def status(self, instance_id: str) -> str:
        state = self.get(instance_id).orchestrationState
        return pb.OrchestrationStatus.Name(state.orchestrationStatus).removeprefix("ORCHESTRATION_STATUS_")

    def wait(self, instance_id: str, rpc: str = "WaitForInstanceCompletion") -> PendingCall:
        return self.begin(rpc, pb.GetInstanceRequest(instanceId=instance_id, getInputsAndOutputs=True))

    # -- workers --

    def worker(self, hub: str = "default", **fields: Any) -> Sink:
        return self.stream("GetWorkItems", pb.GetWorkItemsRequest(**fields), hub)

    def answer(self, item: pb.WorkItem, *actions: pb.OrchestratorAction, **fields: Any) -> PendingCall:
        response = pb.OrchestratorResponse(
            instanceId=item.orchestratorRequest.instanceId,
            completionToken=fields.pop("token", item.completionToken),
            actions=actions,
            **fields,
        )
        return self.begin("CompleteOrchestratorTask", response)

    def result(self, item: pb.WorkItem, value: str = "1", token: str | None = None) -> PendingCall:
        request = item.activityRequest
        response = pb.ActivityResponse(
            instanceId=request.orchestrationInstance.instanceId,
            taskId=request.taskId,
            result=StringValue(value=value),
            completionToken=item.completionToken if token is None else token,
        )
        return self.begin("CompleteActivityTask", response)


class Actions:
    """Orchestrator actions, shortly."""

    @staticmethod
    def activity(number: int, name: str = "charge", version: str | None = None) -> pb.OrchestratorAction:
        task = pb.ScheduleTaskAction(name=name, version=None if version is None else StringValue(value=version))
        return pb.OrchestratorAction(id=number, scheduleTask=task)

    @staticmethod
    def timer(number: int, at: int) -> pb.OrchestratorAction:
        action = pb.OrchestratorAction(id=number, createTimer=pb.CreateTimerAction())
        action.createTimer.fireAt.FromNanoseconds(at)
        return action

    @staticmethod
    def child(number: int, instance_id: str, name: str = "child") -> pb.OrchestratorAction:
        create = pb.CreateSubOrchestrationAction(instanceId=instance_id, name=name)
        return pb.OrchestratorAction(id=number, createSubOrchestration=create)

    @staticmethod
    def complete(
        number: int = 100, result: str = "1", status: int = pb.ORCHESTRATION_STATUS_COMPLETED
    ) -> pb.OrchestratorAction:
        completion = pb.CompleteOrchestrationAction(orchestrationStatus=status, result=StringValue(value=result))
        return pb.OrchestratorAction(id=number, completeOrchestration=completion)


@pytest.fixture
def options() -> ServiceOptions:
    """Override to change what ``runtime`` is made of. Calls in close succession are held in tests of that alone."""
    return ServiceOptions(stream_grace=50_000_000, retry_delay=20_000_000, burst_hold=0)


@pytest.fixture
def runtime(tmp_path: Path, options: ServiceOptions) -> Iterator[Runtime]:
    runtime = Runtime(tmp_path / "hub.db", options)
    yield runtime
    runtime.close()


@pytest.fixture
def small(tmp_path: Path, options: ServiceOptions) -> Iterator[Runtime]:
    """A runtime that keeps one idle instance and no history in memory."""
    small = Runtime(tmp_path / "small.db", dataclasses.replace(options, idle_instances=1, history_cache_bytes=0))
    yield small
    small.close()


@pytest.fixture
def do() -> type[Actions]:
    return Actions
