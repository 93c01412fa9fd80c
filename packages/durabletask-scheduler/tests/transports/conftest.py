"""A service whose answers the tests decide."""

from __future__ import annotations

import queue
import threading

import pytest
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_scheduler.hub.model import HubError
from durabletask_scheduler.rpc import Exchange
from google.protobuf.empty_pb2 import Empty


class FakeService:
    """Answers StartInstance with the id it was asked for; parks the waits; hands out the sinks of streams.

    An instance id that begins with ``refuse:`` is refused with the code that follows.
    """

    def __init__(self) -> None:
        self.requests: queue.Queue = queue.Queue()
        self.parked: queue.Queue = queue.Queue()
        self.streams: queue.Queue = queue.Queue()
        self.cancelled: queue.Queue = queue.Queue()

    def call(self, rpc, request, metadata, reply):
        self.requests.put((rpc, request, metadata))
        handler = {"Hello": self._hello, "StartInstance": self._start, "GetInstance": self._fault}.get(rpc)
        if handler is None:
            self.parked.put(reply)
        else:
            handler(request, reply)
        return lambda: self.cancelled.put(rpc)

    def open_stream(self, rpc, request, metadata, sink):
        self.requests.put((rpc, request, metadata))
        if getattr(request, "instanceId", "") == "fault":
            raise RuntimeError("a fault of the stream")
        self.streams.put(sink)
        return lambda: self.cancelled.put(rpc)

    def open_exchange(self, rpc, request, metadata, sink):
        return Exchange(
            self.open_stream(rpc, request, metadata, sink),
            lambda answering, message, reply: self.call(answering, message, metadata, reply),
        )

    def initial_metadata(self, rpc):
        return (("x-of", rpc.lower()),)

    def _hello(self, request, reply):
        reply(Empty(), None)

    def _start(self, request, reply):
        prefix, _, code = request.instanceId.partition(":")
        if prefix == "refuse":
            reply(None, HubError(code, "as the test asked: " + request.name))
            return
        threading.Thread(target=reply, args=(pb.CreateInstanceResponse(instanceId=request.instanceId), None)).start()

    def _fault(self, request, reply):
        raise RuntimeError("a fault of the call")


@pytest.fixture
def service():
    return FakeService()
