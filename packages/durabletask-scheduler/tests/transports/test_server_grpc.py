"""The gRPC server over real sockets, in front of a service whose answers the test decides."""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import struct
import threading

import grpc
import pytest
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto import orchestrator_service_pb2_grpc as pb_grpc
from durabletask_scheduler.hub.model import HubError
from durabletask_scheduler.server import GrpcServer, ServerError, ServerOptions
from google.protobuf.empty_pb2 import Empty

WAIT = 10


@pytest.fixture
def server(service):
    server = GrpcServer(service, "127.0.0.1", 0, ServerOptions(max_receive_bytes=5_000_000))
    server.test_port = server.start()
    yield server
    server.stop(0)


@pytest.fixture
def channel(server):
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{server.test_port}", options) as channel:
        yield channel


@pytest.fixture
def stub(channel):
    return pb_grpc.TaskHubSidecarServiceStub(channel)


def start(instance_id="i", name="n"):
    return pb.CreateInstanceRequest(instanceId=instance_id, name=name)


def test_a_call_carries_metadata_and_headers(stub, service):
    response, call = stub.StartInstance.with_call(start("abc"), metadata=(("taskhub", "h"),), timeout=WAIT)
    assert response.instanceId == "abc"
    assert dict(call.initial_metadata())["x-of"] == "startinstance"
    rpc, request, metadata = service.requests.get(timeout=WAIT)
    assert (rpc, request, metadata["taskhub"]) == ("StartInstance", start("abc"), "h")


def test_a_refusal_keeps_code_and_text(stub):
    with pytest.raises(grpc.RpcError) as caught:
        stub.StartInstance(start("refuse:ALREADY_EXISTS", "zwölf"), timeout=WAIT)
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
    assert caught.value.details() == "as the test asked: zwölf"


@pytest.mark.parametrize("letter", ["x", "\N{SNAKE}"])
def test_a_refusal_too_long_for_grpc_is_cut(stub, letter):
    with pytest.raises(grpc.RpcError) as caught:
        stub.StartInstance(start("refuse:NOT_FOUND", letter * 50_000), timeout=WAIT)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert caught.value.details().endswith("...")


def test_a_fault_of_the_service_is_internal(stub):
    with pytest.raises(grpc.RpcError) as caught:
        stub.GetInstance(pb.GetInstanceRequest(), timeout=WAIT)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "a fault of the call" in caught.value.details()


def test_headers_of_a_stream_come_before_its_first_message(stub, service):
    stream = stub.GetWorkItems(pb.GetWorkItemsRequest(), timeout=WAIT)
    assert dict(stream.initial_metadata())["x-of"] == "getworkitems"


def test_a_stream_yields_in_order_then_its_error(stub, service):
    stream = stub.GetWorkItems(pb.GetWorkItemsRequest(), timeout=WAIT)
    sink = service.streams.get(timeout=WAIT)
    for number in range(200):
        sink.send(pb.WorkItem(completionToken=str(number)))
    sink.close(HubError("UNAVAILABLE", "going down"))
    received = []
    with pytest.raises(grpc.RpcError) as caught:
        for message in stream:
            received.append(message.completionToken)
    assert received == [str(number) for number in range(200)]
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNAVAILABLE, "going down")


def test_cancelling_a_stream_reaches_the_service(stub, service):
    stream = stub.GetWorkItems(pb.GetWorkItemsRequest())
    service.streams.get(timeout=WAIT)
    stream.cancel()
    assert service.cancelled.get(timeout=WAIT) == "GetWorkItems"


def test_a_deadline_frees_the_waiter(stub, service):
    with pytest.raises(grpc.RpcError) as caught:
        stub.WaitForInstanceCompletion(pb.GetInstanceRequest(), timeout=0.2)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert service.cancelled.get(timeout=WAIT) == "WaitForInstanceCompletion"


def test_a_hundred_waiters_do_not_keep_others_from_being_answered(stub, service):
    """Waiters hold no threads (lessons: 12 concurrent waiters blocked a server)."""
    waiters = [stub.WaitForInstanceCompletion.future(pb.GetInstanceRequest()) for _ in range(100)]
    replies = [service.parked.get(timeout=WAIT) for _ in waiters]
    assert stub.StartInstance(start("z"), timeout=WAIT).instanceId == "z"
    for reply in replies:
        reply(pb.GetInstanceResponse(exists=True), None)
    assert all(waiter.result(timeout=WAIT).exists for waiter in waiters)


def test_malformed_bytes_are_refused_and_the_server_lives_on(channel, stub):
    raw = channel.unary_unary("/TaskHubSidecarService/StartInstance")
    with pytest.raises(grpc.RpcError) as caught:
        raw(b"\xff\xff\xff", timeout=WAIT)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "CreateInstanceRequest" in caught.value.details()
    assert stub.StartInstance(start("ok"), timeout=WAIT).instanceId == "ok"


def test_an_unknown_method_is_unimplemented(channel):
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/TaskHubSidecarService/Nonsense")(b"", timeout=WAIT)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_requests_up_to_the_limit_pass_and_larger_ones_are_refused(stub):
    request = start("big")
    request.input.value = "x" * 4_900_000
    assert stub.StartInstance(request, timeout=WAIT).instanceId == "big"
    request.input.value = "x" * 5_100_000
    with pytest.raises(grpc.RpcError) as caught:
        stub.StartInstance(request, timeout=WAIT)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_port_in_use_is_one_clear_error(server, service):
    port = server.test_port
    with pytest.raises(ServerError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
        GrpcServer(service, "127.0.0.1", port).start()


@pytest.mark.parametrize("host", ["no-such-host.invalid", "no..name", "x" * 64])
def test_an_unknown_host_is_one_clear_error(service, host):
    with pytest.raises(ServerError, match=f"cannot listen on {re.escape(host)}:0"):
        GrpcServer(service, host, 0).start()


def test_stopping_lets_running_calls_finish_and_refuses_new_ones(server, stub, service):
    waiter = stub.WaitForInstanceStart.future(pb.GetInstanceRequest())
    reply = service.parked.get(timeout=WAIT)
    server.begin_stop(WAIT)
    reply(pb.GetInstanceResponse(exists=True), None)
    assert waiter.result(timeout=WAIT).exists
    server.stop()
    with pytest.raises(grpc.RpcError) as caught:
        stub.StartInstance(start(), timeout=WAIT)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", server.test_port))
    server.stop()


def test_stopping_cancels_what_outlasts_the_grace(server, stub, service):
    stream = stub.GetWorkItems(pb.GetWorkItemsRequest())
    service.streams.get(timeout=WAIT)
    server.stop(grace=0.05)
    with pytest.raises(grpc.RpcError):
        next(stream)
    assert service.cancelled.get(timeout=WAIT) == "GetWorkItems"


@pytest.mark.parametrize(
    ("request_bytes", "serving"), [(b"", True), (b"\n\x15TaskHubSidecarService", True), (b"\n\x01x", False)]
)
def test_health_is_answered_as_the_standard_says(channel, request_bytes, serving):
    check = channel.unary_unary("/grpc.health.v1.Health/Check")
    if serving:
        assert check(request_bytes, timeout=WAIT) == b"\x08\x01"
    else:
        with pytest.raises(grpc.RpcError) as caught:
            check(request_bytes, timeout=WAIT)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(request_bytes, timeout=WAIT)
    assert next(watch) == (b"\x08\x01" if serving else b"\x08\x03")
    watch.cancel()


def test_hello_is_answered(stub):
    assert isinstance(stub.Hello(Empty(), timeout=WAIT), Empty)


class Relay:
    """A way to a server on this machine that can be cut, as by a power loss on the other side."""

    def __init__(self, port):
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.carried = threading.Event()
        self._ends = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):
            client, _ = self._listener.accept()
            server = socket.create_connection(("127.0.0.1", self._port))
            self._ends = [client, server]
            threading.Thread(target=self._copy, args=(client, server, lambda: None), daemon=True).start()
            self._copy(server, client, self.carried.set)

    def _copy(self, source, target, after_many):
        many = 0
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
                many += len(data)
                if many > 500_000:
                    after_many()

    def cut(self):
        for end in (*self._ends, self._listener):
            with contextlib.suppress(OSError):
                # Without lingering a reset is sent at once, whatever is under way.
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def test_a_caller_that_goes_away_in_the_midst_of_a_write_ends_quietly(server, service, caplog):
    item = pb.WorkItem(completionToken="x" * 100_000)
    for _ in range(20):
        relay = Relay(server.test_port)
        with grpc.insecure_channel(f"127.0.0.1:{relay.port}") as channel:
            stream = pb_grpc.TaskHubSidecarServiceStub(channel).GetWorkItems(pb.GetWorkItemsRequest())
            reader = threading.Thread(target=lambda stream=stream: list(take_all(stream)), daemon=True)
            reader.start()
            sink = service.streams.get(timeout=WAIT)
            for _ in range(100):
                sink.send(item)
            assert relay.carried.wait(WAIT)
            relay.cut()
            assert service.cancelled.get(timeout=WAIT) == "GetWorkItems"
            reader.join(WAIT)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def take_all(stream):
    with contextlib.suppress(grpc.RpcError):
        yield from stream
