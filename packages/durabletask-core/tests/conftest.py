"""A task hub on loopback that plays what a test tells it to."""

import queue
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto import orchestrator_service_pb2_grpc as pb_grpc
from durabletask_proto import warm
from google.protobuf import empty_pb2

PATIENCE = 10.0
"""Seconds a test waits for what must happen."""


@dataclass
class OpenStream:
    """One GetWorkItems call as the task hub sees it."""

    request: pb.GetWorkItemsRequest
    metadata: dict[str, str]
    peer: str = ""
    items: "queue.SimpleQueue[Any]" = field(default_factory=queue.SimpleQueue)
    ended: threading.Event = field(default_factory=threading.Event)

    def send(self, *items: pb.WorkItem) -> None:
        for item in items:
            self.items.put(item)

    def end(self, code: grpc.StatusCode = grpc.StatusCode.OK, details: str = "") -> None:
        self.items.put((code, details))


class ScriptedTaskHub(pb_grpc.TaskHubSidecarServiceServicer):
    """A real gRPC server whose work items and refusals come from the test."""

    def __init__(self) -> None:
        self.warm_runs = False
        self.hello_code: grpc.StatusCode | None = None
        self.hello_deadlines: queue.SimpleQueue[float | None] = queue.SimpleQueue()
        self.hello_gate = threading.Event()
        self.hello_gate.set()
        self.answers: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self.calls: Counter[str] = Counter()
        self.history: list[pb.HistoryChunk] = []
        self._streams: queue.SimpleQueue[OpenStream] = queue.SimpleQueue()
        self._refusals: dict[str, list[tuple[grpc.StatusCode, str]]] = defaultdict(list)
        self.gate = threading.Event()
        self.gate.set()
        self._server: grpc.Server | None = None
        self.port = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> "ScriptedTaskHub":
        options = [("grpc.so_reuseport", 0)]
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=16), options=options)
        pb_grpc.add_TaskHubSidecarServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()
        return self

    def stop(self) -> None:
        self.gate.set()
        self.hello_gate.set()
        if self._server is not None:
            self._server.stop(None).wait()
            self._server = None

    def stream(self) -> OpenStream:
        """The next stream a worker opens."""
        return self._streams.get(timeout=PATIENCE)

    def answer(self) -> tuple[str, Any]:
        """The next completion or abandonment that was accepted, as (RPC, request)."""
        return self.answers.get(timeout=PATIENCE)

    def refuse(self, rpc: str, code: grpc.StatusCode, details: str = "scripted", times: int = 1) -> None:
        self._refusals[rpc].extend([(code, details)] * times)

    def Hello(self, request: Any, context: grpc.ServicerContext) -> empty_pb2.Empty:
        self.calls["Hello"] += 1
        self.hello_deadlines.put(context.time_remaining())
        self.hello_gate.wait()
        if self.hello_code is not None:
            context.abort(self.hello_code, "scripted")
        if self.warm_runs:
            context.send_initial_metadata(((warm.HEADER, warm.VERSION),))
        return empty_pb2.Empty()

    def GetWorkItems(self, request: Any, context: grpc.ServicerContext) -> Iterator[pb.WorkItem]:
        stream = OpenStream(request, dict(context.invocation_metadata()), context.peer())
        self.calls["GetWorkItems"] += 1
        context.add_callback(lambda: stream.items.put((grpc.StatusCode.CANCELLED, "")))
        self._streams.put(stream)
        try:
            while isinstance(item := stream.items.get(), pb.WorkItem):
                yield item
        finally:
            stream.ended.set()
        code, details = item
        if code is not grpc.StatusCode.OK:
            context.abort(code, details)

    def StreamInstanceHistory(self, request: Any, context: grpc.ServicerContext) -> Iterator[pb.HistoryChunk]:
        self.answers.put(("StreamInstanceHistory", request))
        yield from self.history

    def _accept(self, rpc: str, request: Any, context: grpc.ServicerContext) -> None:
        self.calls[rpc] += 1
        self.gate.wait()
        if self._refusals[rpc]:
            context.abort(*self._refusals[rpc].pop(0))
        self.answers.put((rpc, request))

    def CompleteOrchestratorTask(self, request: Any, context: grpc.ServicerContext) -> pb.CompleteTaskResponse:
        self._accept("CompleteOrchestratorTask", request, context)
        return pb.CompleteTaskResponse()

    def CompleteActivityTask(self, request: Any, context: grpc.ServicerContext) -> pb.CompleteTaskResponse:
        self._accept("CompleteActivityTask", request, context)
        return pb.CompleteTaskResponse()

    def CompleteEntityTask(self, request: Any, context: grpc.ServicerContext) -> pb.CompleteTaskResponse:
        self._accept("CompleteEntityTask", request, context)
        return pb.CompleteTaskResponse()

    def AbandonTaskOrchestratorWorkItem(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._accept("AbandonTaskOrchestratorWorkItem", request, context)
        return pb.AbandonOrchestrationTaskResponse()

    def AbandonTaskActivityWorkItem(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._accept("AbandonTaskActivityWorkItem", request, context)
        return pb.AbandonActivityTaskResponse()

    def AbandonTaskEntityWorkItem(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._accept("AbandonTaskEntityWorkItem", request, context)
        return pb.AbandonEntityTaskResponse()


@pytest.fixture
def task_hub() -> Iterator[ScriptedTaskHub]:
    hub = ScriptedTaskHub().start()
    yield hub
    hub.stop()
