"""The in-process asyncio channel behaves as a network channel of grpc.aio does."""

from __future__ import annotations

import asyncio
import gc
import sys

import grpc
import grpc.aio
import pytest
from durabletask_proto import additions
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto import orchestrator_service_pb2_grpc as pb_grpc
from durabletask_proto import scheduler_additions_pb2_grpc as additions_pb_grpc
from durabletask_scheduler.aio_channel import InProcessAioChannel
from durabletask_scheduler.hub.model import HubError
from durabletask_scheduler.outgoing import Outgoing
from durabletask_scheduler.rpc import RPCS, SERVICE_NAME
from durabletask_scheduler.transport import Mailbox
from google.protobuf.empty_pb2 import Empty

WAIT = 10


@pytest.fixture
def channel(service):
    return InProcessAioChannel(service)


@pytest.fixture
def stub(channel):
    return pb_grpc.TaskHubSidecarServiceStub(channel)


def start(instance_id="i", name="n"):
    return pb.CreateInstanceRequest(instanceId=instance_id, name=name)


async def test_a_call_returns_the_service_s_response(stub, service):
    call = stub.StartInstance(start("abc"), metadata=(("taskhub", "h"),), timeout=WAIT)
    assert (await call).instanceId == "abc"
    assert (await call.code(), await call.details(), call.done()) == (grpc.StatusCode.OK, "", True)
    assert (await call).instanceId == "abc"
    assert service.requests.get(timeout=WAIT) == ("StartInstance", start("abc"), {"taskhub": "h"})


async def test_the_event_loop_is_woken_when_the_step_of_the_engine_is_over(service):
    outgoing = Outgoing()
    stub = pb_grpc.TaskHubSidecarServiceStub(InProcessAioChannel(service, outgoing=outgoing))
    calls = [stub.RaiseEvent(pb.RaiseEventRequest(instanceId="i"), timeout=WAIT) for _ in range(2)]
    outgoing.hold()
    for _ in calls:
        service.parked.get(timeout=WAIT)(pb.RaiseEventResponse(), None)
    answered_meanwhile = asyncio.get_running_loop().create_future()
    # Whatever had woken the loop for the answers would stand before this.
    asyncio.get_running_loop().call_soon_threadsafe(
        lambda: answered_meanwhile.set_result([call.done() for call in calls])
    )
    assert await answered_meanwhile == [False, False]
    outgoing.release()
    assert [await call for call in calls] == [pb.RaiseEventResponse()] * 2


async def test_headers_are_metadata(stub):
    assert dict(await stub.Hello(Empty()).initial_metadata()) == {"x-of": "hello"}
    assert dict(await stub.GetWorkItems(pb.GetWorkItemsRequest()).initial_metadata()) == {"x-of": "getworkitems"}


async def test_a_refusal_is_an_aio_rpc_error_with_its_code(stub):
    call = stub.StartInstance(start("refuse:ALREADY_EXISTS", "why"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert (caught.value.code(), caught.value.details()) == (
        grpc.StatusCode.ALREADY_EXISTS,
        "as the test asked: why",
    )
    assert await call.code() is grpc.StatusCode.ALREADY_EXISTS


async def test_a_fault_of_the_service_is_internal(stub):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GetInstance(pb.GetInstanceRequest())
    assert caught.value.code() is grpc.StatusCode.INTERNAL


async def test_a_deadline_ends_a_wait_and_frees_the_waiter(stub, service):
    call = stub.WaitForInstanceStart(pb.GetInstanceRequest(), timeout=0.02)
    assert 0 < call.time_remaining() <= 0.02
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert service.cancelled.get(timeout=WAIT) == "WaitForInstanceStart"


@pytest.mark.parametrize("timeouts", [(60, 0.02), (0.02, 0.04)], ids=["earlier one later", "one after the other"])
async def test_every_deadline_is_kept_in_whatever_order_they_were_set(stub, timeouts):
    calls = [stub.WaitForInstanceStart(pb.GetInstanceRequest(), timeout=timeout) for timeout in timeouts]
    assert await asyncio.wait_for(calls[-1].code(), WAIT) is grpc.StatusCode.DEADLINE_EXCEEDED
    assert [call.done() for call in calls] == [timeout < 1 for timeout in timeouts]


async def test_thousands_of_deadlines_that_pass_together_are_all_kept(stub, service):
    calls = [stub.WaitForInstanceStart(pb.GetInstanceRequest(), timeout=0.05) for _ in range(2_000)]
    codes = await asyncio.wait_for(asyncio.gather(*(call.code() for call in calls)), WAIT)
    assert set(codes) == {grpc.StatusCode.DEADLINE_EXCEEDED}
    assert service.cancelled.qsize() == 2_000


async def test_cancelling_who_awaits_cancels_the_call(stub, service):
    async def wait():
        return await calls[0]

    calls = [stub.WaitForInstanceStart(pb.GetInstanceRequest())]
    told = asyncio.Event()
    calls[0].add_done_callback(lambda call: call is calls[0] and told.set())
    task = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(told.wait(), WAIT)
    assert calls[0].cancelled() and await calls[0].code() is grpc.StatusCode.CANCELLED
    assert service.cancelled.get(timeout=WAIT) == "WaitForInstanceStart"


async def test_cancelling_a_call_ends_those_who_await_it(stub):
    call = stub.WaitForInstanceStart(pb.GetInstanceRequest())
    asyncio.get_running_loop().call_soon(call.cancel)
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not call.cancel()


async def test_asking_for_the_code_does_not_end_the_call(stub, service):
    call = stub.WaitForInstanceStart(pb.GetInstanceRequest())
    asking = asyncio.ensure_future(call.code())
    await asyncio.sleep(0)
    asking.cancel()
    service.parked.get(timeout=WAIT)(pb.GetInstanceResponse(exists=True), None)
    assert (await call).exists


async def test_a_stream_yields_in_order_then_ends(stub, service):
    stream = stub.GetWorkItems(pb.GetWorkItemsRequest())
    sink = service.streams.get(timeout=WAIT)
    for number in range(100):
        sink.send(pb.WorkItem(completionToken=str(number)))
    sink.close()
    assert [item.completionToken async for item in stream] == [str(number) for number in range(100)]
    assert await stream.read() is grpc.aio.EOF
    assert await stream.code() is grpc.StatusCode.OK


async def test_an_error_ends_a_stream_after_what_was_sent(stub, service):
    stream = stub.GetWorkItems(pb.GetWorkItemsRequest())
    sink = service.streams.get(timeout=WAIT)
    sink.send(pb.WorkItem(completionToken="last"))
    sink.close(HubError("UNAVAILABLE", "going down"))
    assert (await stream.read()).completionToken == "last"
    for _ in range(2):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.read()
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNAVAILABLE, "going down")


async def test_cancelling_a_stream_wakes_its_reader(stub, service):
    stream = stub.GetWorkItems(pb.GetWorkItemsRequest())
    asyncio.get_running_loop().call_soon(stream.cancel)
    with pytest.raises(asyncio.CancelledError):
        await stream.read()
    assert service.cancelled.get(timeout=WAIT) == "GetWorkItems"


async def test_a_stream_s_deadline_is_kept(stub, service):
    stream = stub.GetWorkItems(pb.GetWorkItemsRequest(), timeout=0.02)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert service.cancelled.get(timeout=WAIT) == "GetWorkItems"


@pytest.mark.parametrize("timeout", [None, 60 * WAIT])
async def test_a_stream_that_nobody_holds_is_cancelled(stub, service, timeout):
    stream = stub.GetWorkItems(pb.GetWorkItemsRequest(), timeout=timeout)
    del stream
    gc.collect()
    assert service.cancelled.get(timeout=WAIT) == "GetWorkItems"


async def test_closing_cancels_open_calls_and_refuses_new_ones(channel, stub):
    assert channel.get_state() is grpc.ChannelConnectivity.READY
    changed = asyncio.ensure_future(channel.wait_for_state_change(grpc.ChannelConnectivity.READY))
    call, stream = stub.WaitForInstanceStart(pb.GetInstanceRequest()), stub.GetWorkItems(pb.GetWorkItemsRequest())
    await channel.close(grace=0.01)
    assert await call.code() is await stream.code() is grpc.StatusCode.CANCELLED
    with pytest.raises(ValueError, match="closed channel") as closed:
        stub.Hello(Empty())
    assert closed.value.code() is grpc.StatusCode.CANCELLED
    await asyncio.wait_for(changed, WAIT)
    assert channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN


async def test_closing_with_grace_lets_calls_finish(channel, stub, service):
    call = stub.WaitForInstanceStart(pb.GetInstanceRequest())
    asyncio.get_running_loop().call_soon(service.parked.get(timeout=WAIT), pb.GetInstanceResponse(exists=True), None)
    await channel.close(grace=WAIT)
    assert (await call).exists


async def test_a_channel_closes_with_its_context(service):
    async with InProcessAioChannel(service) as channel:
        await channel.channel_ready()
        await pb_grpc.TaskHubSidecarServiceStub(channel).Hello(Empty())
    assert channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN


def test_a_channel_serves_one_loop_after_the_other(stub):
    async def begin():
        return await stub.StartInstance(start("x"))

    assert asyncio.run(begin()).instanceId == asyncio.run(begin()).instanceId == "x"


def test_an_answer_after_the_loop_is_closed_is_ignored(stub, service):
    async def begin():
        stub.WaitForInstanceStart(pb.GetInstanceRequest())

    asyncio.run(begin())
    assert service.parked.get(timeout=WAIT)(pb.GetInstanceResponse(), None) is None


async def test_unknown_methods_and_arities_are_unimplemented(channel):
    path = "/TaskHubSidecarService/"

    async def attempts(number):
        await (
            lambda: channel.unary_unary(path + "Nonsense")(Empty()),
            lambda: channel.unary_unary(path + "GetWorkItems")(pb.GetWorkItemsRequest()),
            lambda: channel.unary_stream(path + "Hello")(Empty()).read(),
            lambda: channel.stream_unary(path + "Hello")(iter(())),
            lambda: channel.stream_stream(path + "Hello")(iter(())),
        )[number]()

    for number in range(5):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await attempts(number)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


class AddHeader(grpc.aio.UnaryUnaryClientInterceptor, grpc.aio.UnaryStreamClientInterceptor):
    def __init__(self, value):
        self.value = value

    def changed(self, details):
        metadata = [*(details.metadata or ()), (self.value, self.value)]
        return grpc.aio.ClientCallDetails(details.method, details.timeout, metadata, None, None)

    async def intercept_unary_unary(self, continuation, details, request):
        return await continuation(self.changed(details), request)

    async def intercept_unary_stream(self, continuation, details, request):
        return await continuation(self.changed(details), request)


class Answer(grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation, details, request):
        return pb.CreateInstanceResponse(instanceId="of the interceptor")


async def test_interceptors_see_and_change_calls_in_their_order(service):
    channel = InProcessAioChannel(service, interceptors=[AddHeader("a"), AddHeader("b")])
    stub = pb_grpc.TaskHubSidecarServiceStub(channel)
    call = stub.StartInstance(start("x"))
    told = asyncio.Event()
    call.add_done_callback(lambda done: done is call and told.set())
    assert (await call).instanceId == "x"
    await asyncio.wait_for(told.wait(), WAIT)
    assert (await call.code(), call.done(), call.cancelled()) == (grpc.StatusCode.OK, True, False)
    stream = stub.GetWorkItems(pb.GetWorkItemsRequest())
    assert dict(await stream.initial_metadata()) == {"x-of": "getworkitems"}
    service.streams.get(timeout=WAIT).close()
    assert [item async for item in stream] == []
    headers = [list(service.requests.get(timeout=WAIT)[2]) for _ in range(2)]
    assert headers == [["a", "b"], ["a", "b"]]


async def test_an_intercepted_call_can_fail_and_be_cancelled(service):
    stub = pb_grpc.TaskHubSidecarServiceStub(InProcessAioChannel(service, interceptors=[AddHeader("a")]))
    refused = stub.StartInstance(start("refuse:NOT_FOUND"))
    with pytest.raises(grpc.aio.AioRpcError):
        await refused
    assert await refused.code() is grpc.StatusCode.NOT_FOUND
    waiting = stub.WaitForInstanceStart(pb.GetInstanceRequest())
    asyncio.get_running_loop().call_soon(waiting.cancel)
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await waiting.code() is grpc.StatusCode.CANCELLED


async def test_an_interceptor_may_answer_in_the_service_s_place(service):
    stub = pb_grpc.TaskHubSidecarServiceStub(InProcessAioChannel(service, interceptors=[Answer()]))
    call = stub.StartInstance(start())
    assert (await call).instanceId == "of the interceptor"
    assert await call.code() is grpc.StatusCode.OK
    assert service.requests.empty()


def test_what_is_not_an_interceptor_is_refused(service):
    with pytest.raises(TypeError, match="found object"):
        InProcessAioChannel(service, interceptors=[object()])


async def test_every_call_is_reachable(stub, channel, service):
    stubs = {SERVICE_NAME: stub, additions.SERVICE: additions_pb_grpc.SchedulerAdditionsStub(channel)}
    for rpc in RPCS.values():
        if rpc.takes_stream:
            continue
        getattr(stubs[rpc.service], rpc.name)(rpc.request_type()).cancel()
        assert service.requests.get(timeout=WAIT)[0] == rpc.name


async def test_many_calls_at_once_get_their_own_answers(stub):
    answers = await asyncio.gather(*(stub.StartInstance(start(str(number)), timeout=WAIT) for number in range(100)))
    assert [answer.instanceId for answer in answers] == [str(number) for number in range(100)]


def test_what_is_posted_to_a_loop_that_was_closed_is_not_kept():
    loop = asyncio.new_event_loop()
    mailbox = Mailbox(loop)
    loop.close()
    letters = [pb.WorkItem() for _ in range(3)]
    kept = [sys.getrefcount(letter) for letter in letters]
    for number in range(3):
        mailbox.post(print, letters[number])
    assert [sys.getrefcount(letter) for letter in letters] == kept
