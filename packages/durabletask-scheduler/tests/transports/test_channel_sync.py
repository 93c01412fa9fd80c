"""The in-process channel behaves as a network channel does."""

from __future__ import annotations

import collections
import gc
import threading
import time

import grpc
import pytest
from durabletask_proto import additions
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto import orchestrator_service_pb2_grpc as pb_grpc
from durabletask_proto import scheduler_additions_pb2_grpc as additions_pb_grpc
from durabletask_scheduler.calls import StreamCall
from durabletask_scheduler.channel import InProcessChannel
from durabletask_scheduler.hub.model import HubError
from durabletask_scheduler.rpc import RPCS, SERVICE_NAME
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.empty_pb2 import Empty

WAIT = 10


@pytest.fixture
def channel(service):
    with InProcessChannel(service) as channel:
        yield channel


@pytest.fixture
def stub(channel):
    return pb_grpc.TaskHubSidecarServiceStub(channel)


def start(instance_id="i", name="n"):
    return pb.CreateInstanceRequest(instanceId=instance_id, name=name)


def item(token):
    return pb.WorkItem(completionToken=token)


def test_a_call_returns_the_service_s_response(stub):
    assert stub.StartInstance(start("abc")).instanceId == "abc"


def test_messages_and_metadata_arrive_as_they_were_given(stub, service):
    request = start()
    stub.StartInstance(request, metadata=(("taskhub", "h"), ("trace-bin", b"\x00")))
    rpc, received, metadata = service.requests.get(timeout=WAIT)
    assert (rpc, metadata) == ("StartInstance", {"taskhub": "h"})
    assert received is request


@pytest.mark.parametrize("code", ["ALREADY_EXISTS", "NOT_FOUND", "UNAVAILABLE", "FAILED_PRECONDITION"])
def test_a_refusal_is_an_rpc_error_with_its_code(stub, code):
    with pytest.raises(grpc.RpcError) as caught:
        stub.StartInstance(start(f"refuse:{code}", "why"))
    assert caught.value.code() is grpc.StatusCode[code]
    assert caught.value.details() == "as the test asked: why"
    assert code in str(caught.value)


def test_a_fault_of_the_service_is_internal_and_logged(stub, caplog):
    with pytest.raises(grpc.RpcError) as caught:
        stub.GetInstance(pb.GetInstanceRequest())
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "a fault of the call" in caught.value.details()
    assert "a fault of the call" in caplog.text


def test_with_call_gives_headers_code_and_details(stub):
    response, call = stub.Hello.with_call(Empty(), timeout=WAIT)
    assert isinstance(response, Empty)
    assert dict(call.initial_metadata()) == {"x-of": "hello"}
    assert (call.code(), call.details(), tuple(call.trailing_metadata())) == (grpc.StatusCode.OK, "", ())


def test_a_deadline_ends_a_blocking_wait_and_frees_the_waiter(stub, service):
    begun = time.monotonic()
    with pytest.raises(grpc.RpcError) as caught:
        stub.WaitForInstanceCompletion(pb.GetInstanceRequest(), timeout=0.05)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - begun < 5
    assert service.cancelled.get(timeout=WAIT) == "WaitForInstanceCompletion"


def test_an_answer_after_the_deadline_is_ignored(stub, service):
    future = stub.WaitForInstanceCompletion.future(pb.GetInstanceRequest(), timeout=0.01)
    assert future.exception(timeout=WAIT).code() is grpc.StatusCode.DEADLINE_EXCEEDED
    service.parked.get(timeout=WAIT)(pb.GetInstanceResponse(), None)
    assert future.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_future_completes_and_tells_its_callbacks(stub, service):
    future = stub.WaitForInstanceStart.future(pb.GetInstanceRequest())
    told = threading.Event()
    future.add_done_callback(lambda done: done is future and told.set())
    assert (future.done(), future.running(), future.is_active()) == (False, True, True)
    service.parked.get(timeout=WAIT)(pb.GetInstanceResponse(exists=True), None)
    assert future.result(timeout=WAIT).exists
    assert told.wait(WAIT)
    assert future.exception() is None and future.traceback() is None and not future.cancelled()
    late = []
    future.add_done_callback(late.append)
    assert late == [future]


def test_waiting_for_a_future_can_time_out_without_ending_it(stub, service):
    future = stub.WaitForInstanceStart.future(pb.GetInstanceRequest())
    with pytest.raises(grpc.FutureTimeoutError):
        future.result(timeout=0.01)
    assert future.running()
    service.parked.get(timeout=WAIT)(pb.GetInstanceResponse(exists=True), None)
    assert future.result(timeout=WAIT).exists


def test_many_threads_wait_for_one_future(stub, service):
    def wait():
        ready.wait(WAIT)
        answers.append(future.result(timeout=WAIT).exists)

    future, ready, answers = stub.WaitForInstanceStart.future(pb.GetInstanceRequest()), threading.Barrier(9), []
    threads = [threading.Thread(target=wait) for _ in range(8)]
    for thread in threads:
        thread.start()
    ready.wait(WAIT)
    service.parked.get(timeout=WAIT)(pb.GetInstanceResponse(exists=True), None)
    for thread in threads:
        thread.join(WAIT)
    assert answers == [True] * 8


def test_a_future_s_deadline_is_kept_though_nobody_waits(stub, service):
    future = stub.WaitForInstanceStart.future(pb.GetInstanceRequest(), timeout=0.02)
    told = threading.Event()
    future.add_done_callback(lambda _: told.set())
    assert told.wait(WAIT)
    assert future.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert service.cancelled.get(timeout=WAIT) == "WaitForInstanceStart"


@pytest.mark.parametrize("timeouts", [(60, 0.02), (0.02, 0.04)], ids=["earlier one later", "one after the other"])
def test_every_deadline_is_kept_in_whatever_order_they_were_set(stub, timeouts):
    futures = [stub.WaitForInstanceStart.future(pb.GetInstanceRequest(), timeout=timeout) for timeout in timeouts]
    told = threading.Event()
    futures[-1].add_done_callback(lambda _: told.set())
    assert told.wait(WAIT)
    assert [future.done() for future in futures] == [timeout < 1 for timeout in timeouts]


def test_thousands_of_futures_with_deadlines_may_be_answered_at_once(stub):
    assert all(stub.Hello.future(Empty(), timeout=60).done() for _ in range(3_000))


def test_thousands_of_deadlines_that_pass_together_are_all_kept(stub, service):
    futures = [stub.WaitForInstanceStart.future(pb.GetInstanceRequest(), timeout=0.05) for _ in range(2_000)]
    codes = {future.exception(timeout=WAIT).code() for future in futures}
    assert codes == {grpc.StatusCode.DEADLINE_EXCEEDED}
    assert service.cancelled.qsize() == 2_000


def test_a_prompt_callback_has_run_when_the_service_has_answered(stub, service):
    future = stub.WaitForInstanceStart.future(pb.GetInstanceRequest())
    told = []
    future.add_prompt_callback(lambda done: told.append((done is future, threading.get_ident())))
    service.parked.get(timeout=WAIT)(pb.GetInstanceResponse(), None)
    assert told == [(True, threading.get_ident())]
    future.add_prompt_callback(told.append)
    assert told[1:] == [future]


def test_a_failing_prompt_callback_is_reported_and_harms_neither_the_service_nor_the_next_one(stub, service, caplog):
    future = stub.WaitForInstanceStart.future(pb.GetInstanceRequest())
    told = []
    future.add_prompt_callback(lambda _: 1 / 0)
    future.add_prompt_callback(told.append)
    service.parked.get(timeout=WAIT)(pb.GetInstanceResponse(), None)
    assert told == [future]
    assert "ZeroDivisionError" in caplog.text


def test_cancelling_a_future_frees_the_waiter(stub, service):
    future = stub.WaitForInstanceStart.future(pb.GetInstanceRequest())
    assert future.cancel() and not future.cancel()
    assert future.cancelled() and future.code() is grpc.StatusCode.CANCELLED
    with pytest.raises(grpc.FutureCancelledError):
        future.result()
    assert service.cancelled.get(timeout=WAIT) == "WaitForInstanceStart"


def test_a_failing_callback_is_reported_and_the_next_one_runs(stub, service, caplog):
    future = stub.WaitForInstanceStart.future(pb.GetInstanceRequest())
    told = threading.Event()
    future.add_done_callback(lambda _: 1 / 0)
    future.add_done_callback(lambda _: told.set())
    service.parked.get(timeout=WAIT)(pb.GetInstanceResponse(), None)
    assert told.wait(WAIT)
    assert "ZeroDivisionError" in caplog.text


def test_a_stream_yields_in_order_and_ends(stub, service):
    stream = stub.GetWorkItems(pb.GetWorkItemsRequest())
    sink = service.streams.get(timeout=WAIT)
    for number in range(3):
        sink.send(item(str(number)))
    sink.close()
    assert [message.completionToken for message in stream] == ["0", "1", "2"]
    assert stream.code() is grpc.StatusCode.OK
    assert list(stream) == []


def test_a_stream_s_headers_are_there_before_its_messages(stub):
    assert dict(stub.GetWorkItems(pb.GetWorkItemsRequest()).initial_metadata()) == {"x-of": "getworkitems"}


def test_an_error_ends_a_stream_after_what_was_sent(stub, service):
    stream = stub.GetWorkItems(pb.GetWorkItemsRequest())
    sink = service.streams.get(timeout=WAIT)
    sink.send(item("last"))
    sink.close(HubError("UNAVAILABLE", "going down"))
    assert next(stream).completionToken == "last"
    for _ in range(2):
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNAVAILABLE, "going down")


def test_cancelling_a_stream_wakes_its_reader_at_once(stub, service):
    stream = stub.GetWorkItems(pb.GetWorkItemsRequest())
    ended = threading.Event()
    assert stream.add_callback(ended.set)
    threading.Thread(target=stream.cancel).start()
    with pytest.raises(grpc.RpcError) as caught:
        next(stream)
    assert caught.value.code() is grpc.StatusCode.CANCELLED
    assert not stream.is_active() and not stream.add_callback(ended.set)
    assert ended.wait(WAIT)
    assert service.cancelled.get(timeout=WAIT) == "GetWorkItems"


@pytest.mark.parametrize("reading", [True, False])
def test_a_stream_s_deadline_is_kept(stub, service, reading):
    stream = stub.GetWorkItems(pb.GetWorkItemsRequest(), timeout=0.02)
    if reading:
        with pytest.raises(grpc.RpcError):
            next(stream)
    assert service.cancelled.get(timeout=WAIT) == "GetWorkItems"
    assert stream.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_stream_that_nobody_holds_is_cancelled(stub, service):
    stream = stub.GetWorkItems(pb.GetWorkItemsRequest())
    service.streams.get(timeout=WAIT).send(item("x"))
    assert next(stream).completionToken == "x"
    del stream
    gc.collect()
    assert service.cancelled.get(timeout=WAIT) == "GetWorkItems"


def test_a_fault_of_a_stream_ends_it(stub):
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.StreamInstanceHistory(pb.StreamInstanceHistoryRequest(instanceId="fault")))
    assert caught.value.code() is grpc.StatusCode.INTERNAL


def test_closing_cancels_open_calls_and_refuses_new_ones(channel, stub, service):
    future = stub.WaitForInstanceStart.future(pb.GetInstanceRequest())
    stream = stub.GetWorkItems(pb.GetWorkItemsRequest())
    channel.close()
    assert future.code() is grpc.StatusCode.CANCELLED
    with pytest.raises(grpc.RpcError) as caught:
        next(stream)
    assert caught.value.code() is grpc.StatusCode.CANCELLED
    for begin in (stub.Hello, stub.Hello.future, stub.Hello.with_call):
        with pytest.raises(ValueError, match="closed channel") as closed:
            begin(Empty())
        assert closed.value.code() is grpc.StatusCode.CANCELLED
    with pytest.raises(ValueError, match="closed channel"):
        stub.GetWorkItems(pb.GetWorkItemsRequest())
    channel.close()


def test_a_stream_that_is_begun_while_the_channel_is_closed_is_refused(channel, stub, monkeypatch):
    """Closing has looked at the open calls before this one was among them, and its caller had seen the channel open."""

    begin = StreamCall.__init__

    def begin_and_close(call, *args):
        begin(call, *args)
        channel.close()

    monkeypatch.setattr(StreamCall, "__init__", begin_and_close)
    with pytest.raises(ValueError, match="closed channel"):
        stub.GetWorkItems(pb.GetWorkItemsRequest())


class AddHeader(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    Details = collections.namedtuple("Details", "method timeout metadata credentials wait_for_ready compression")

    def intercept_unary_unary(self, continuation, details, request):
        headers = [*(details.metadata or ()), ("taskhub", "added")]
        return continuation(self.Details(details.method, details.timeout, headers, None, None, None), request)

    intercept_unary_stream = intercept_unary_unary


def test_interceptors_see_and_change_calls(channel, service):
    stub = pb_grpc.TaskHubSidecarServiceStub(grpc.intercept_channel(channel, AddHeader(), AddHeader()))
    assert stub.StartInstance(start("x")).instanceId == "x"
    assert stub.StartInstance.future(start("y")).result(timeout=WAIT).instanceId == "y"
    stream = stub.GetWorkItems(pb.GetWorkItemsRequest())
    service.streams.get(timeout=WAIT).close()
    assert list(stream) == []
    assert [service.requests.get(timeout=WAIT)[2] for _ in range(3)] == [{"taskhub": "added"}] * 3
    with pytest.raises(grpc.RpcError) as caught:
        stub.StartInstance(start("refuse:NOT_FOUND"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_unknown_methods_and_arities_are_unimplemented(channel):
    path = "/TaskHubSidecarService/"
    attempts = (
        lambda: channel.unary_unary(path + "Nonsense")(Empty()),
        lambda: channel.unary_unary(path + "GetWorkItems")(pb.GetWorkItemsRequest()),
        lambda: next(channel.unary_stream(path + "Hello")(Empty())),
        lambda: channel.stream_unary(path + "Hello")(iter(())),
        lambda: channel.stream_stream(path + "Hello")(iter(())),
    )
    for attempt in attempts:
        with pytest.raises(grpc.RpcError) as caught:
            attempt()
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_request_of_another_type_is_refused_by_name(stub):
    with pytest.raises(TypeError, match=r"Hello expects a Empty message, found builtins\.str"):
        stub.Hello("not a message")


def foreign(name):
    """Another SDK's class for the same message: the same fields in another descriptor pool."""
    file = descriptor_pb2.FileDescriptorProto()
    pb.DESCRIPTOR.CopyToProto(file)
    pool = descriptor_pool.DescriptorPool()
    for dependency in pb.DESCRIPTOR.dependencies:
        copy = descriptor_pb2.FileDescriptorProto()
        dependency.CopyToProto(copy)
        pool.Add(copy)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.{name}"))


def test_another_sdk_s_copy_of_the_protocol_is_converted(channel, service):
    request_type, response_type = foreign("CreateInstanceRequest"), foreign("CreateInstanceResponse")
    begin = channel.unary_unary(
        "/TaskHubSidecarService/StartInstance", request_type.SerializeToString, response_type.FromString
    )
    response = begin(request_type(instanceId="theirs"))
    assert isinstance(response, response_type) and response.instanceId == "theirs"
    assert type(service.requests.get(timeout=WAIT)[1]) is pb.CreateInstanceRequest


def test_the_channel_is_ready_at_once(channel):
    grpc.channel_ready_future(channel).result(timeout=WAIT)


def test_every_call_is_reachable(channel, service):
    stubs = {
        SERVICE_NAME: pb_grpc.TaskHubSidecarServiceStub(channel),
        additions.SERVICE: additions_pb_grpc.SchedulerAdditionsStub(channel),
    }
    for rpc in RPCS.values():
        if rpc.takes_stream:
            continue
        call = getattr(stubs[rpc.service], rpc.name)
        (call if rpc.streaming else call.future)(rpc.request_type()).cancel()
        assert service.requests.get(timeout=WAIT)[0] == rpc.name


def test_many_threads_share_a_channel(stub):
    def begin(number):
        answers[number] = stub.StartInstance(start(str(number)), timeout=WAIT).instanceId

    answers = {}
    threads = [threading.Thread(target=begin, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert answers == {number: str(number) for number in range(50)}


def test_a_channel_ends_its_thread_when_it_is_closed(service):
    before = set(threading.enumerate())
    with InProcessChannel(service) as channel:
        stub = pb_grpc.TaskHubSidecarServiceStub(channel)
        stub.WaitForInstanceStart.future(pb.GetInstanceRequest(), timeout=60)
        (own,) = set(threading.enumerate()) - before
    own.join(WAIT)
    assert not own.is_alive()


def test_a_channel_that_nobody_holds_ends_its_thread_once_its_calls_are_over(service):
    before = set(threading.enumerate())
    future = pb_grpc.TaskHubSidecarServiceStub(InProcessChannel(service)).WaitForInstanceStart.future(
        pb.GetInstanceRequest(), timeout=60
    )
    (own,) = set(threading.enumerate()) - before
    gc.collect()
    told = threading.Event()
    future.add_done_callback(lambda _: told.set())
    assert own.is_alive()
    future.cancel()
    own.join(WAIT)
    assert told.is_set() and not own.is_alive()


def test_callbacks_run_though_the_channel_was_dropped(service):
    future = pb_grpc.TaskHubSidecarServiceStub(InProcessChannel(service)).WaitForInstanceStart.future(
        pb.GetInstanceRequest()
    )
    gc.collect()
    told = threading.Event()
    future.add_done_callback(lambda _: told.set())
    service.parked.get(timeout=WAIT)(pb.GetInstanceResponse(), None)
    assert told.wait(WAIT)
