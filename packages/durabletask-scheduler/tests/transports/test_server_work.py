"""Work over gRPC: work items one way, answers the other, in frames."""

from __future__ import annotations

import queue
import threading

import grpc
import pytest
from durabletask_proto import additions
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto import orchestrator_service_pb2_grpc as pb_grpc
from durabletask_proto import scheduler_additions_pb2 as additions_pb
from durabletask_proto import scheduler_additions_pb2_grpc as additions_pb_grpc
from durabletask_scheduler import Scheduler
from durabletask_scheduler.channel import InProcessChannel
from durabletask_scheduler.hub.model import HubError
from durabletask_scheduler.outgoing import Outgoing
from durabletask_scheduler.server import GrpcServer, ServerOptions
from google.protobuf.empty_pb2 import Empty

WAIT = 10
OF_HUB = (("taskhub", "orders"),)


class Call:
    """A worker's end of one call."""

    def __init__(self, channel, opening=None, metadata=OF_HUB):
        self._frames = queue.SimpleQueue()
        self.send(opening or additions_pb.WorkerFrame(open=pb.GetWorkItemsRequest(), taskHub="orders"))
        self._call = channel.stream_stream(f"/{additions.SERVICE}/Work")(
            iter(self._frames.get, None), metadata=metadata, timeout=WAIT
        )

    def send(self, frame):
        self._frames.put(frame if isinstance(frame, bytes) else frame.SerializeToString())

    def answer(self, **numbers):
        """One activity's result for each instance id, under these numbers."""
        answers = [
            additions_pb.WorkItemAnswer(number=number, activity=pb.ActivityResponse(instanceId=instance_id))
            for instance_id, number in numbers.items()
        ]
        self.send(additions_pb.WorkerFrame(answers=answers))

    def next(self):
        return additions_pb.SchedulerFrame.FromString(next(self._call))

    def hang_up(self):
        self._frames.put(None)

    def cancel(self):
        self._call.cancel()

    def status(self):
        with pytest.raises(grpc.RpcError) as caught:
            self.next()
        return caught.value.code(), caught.value.details()


@pytest.fixture
def outgoing():
    return Outgoing()


@pytest.fixture
def target(service, outgoing):
    server = GrpcServer(service, port=0, outgoing=outgoing)
    yield f"127.0.0.1:{server.start()}"
    server.stop(0)


@pytest.fixture
def channel(target):
    with grpc.insecure_channel(target) as channel:
        yield channel


@pytest.fixture
def call(channel):
    call = Call(channel)
    yield call
    call.cancel()
    call.hang_up()


def item(instance_id, size=0):
    return pb.WorkItem(
        orchestratorRequest=pb.OrchestratorRequest(instanceId=instance_id, executionId={"value": "x" * size})
    )


def given(service, count):
    """The answers that reached the service, by instance id, as request and reply."""
    found = {}
    for _ in range(count):
        rpc, request, metadata = service.requests.get(timeout=WAIT)
        assert (rpc, metadata["taskhub"]) == ("CompleteActivityTask", "orders")
        found[request.instanceId] = service.parked.get(timeout=WAIT)
    return found


def opened(service):
    rpc, request, metadata = service.requests.get(timeout=WAIT)
    assert (rpc, type(request), metadata["taskhub"]) == ("Work", pb.GetWorkItemsRequest, "orders")
    return service.streams.get(timeout=WAIT)


def test_hello_announces_it_and_names_the_task_hub(channel):
    hello = pb_grpc.TaskHubSidecarServiceStub(channel).Hello
    _, answered = hello.with_call(Empty(), metadata=OF_HUB, timeout=WAIT)
    announced = dict(answered.initial_metadata())
    assert announced[additions.STREAM_HEADER] == additions.VERSION
    assert announced[additions.TASK_HUB_HEADER] == "orders"


@pytest.mark.parametrize("limit", [{"max_receive_bytes": 1_000}, {"max_send_bytes": 1_000}])
def test_a_server_too_small_for_frames_does_not_announce_it(service, limit):
    server = GrpcServer(service, port=0, options=ServerOptions(**limit))
    try:
        with grpc.insecure_channel(f"127.0.0.1:{server.start()}") as channel:
            _, answered = pb_grpc.TaskHubSidecarServiceStub(channel).Hello.with_call(Empty(), timeout=WAIT)
        assert additions.STREAM_HEADER not in dict(answered.initial_metadata())
    finally:
        server.stop(0)


def test_work_items_come_and_answers_go(service, call):
    sink = opened(service)
    sink.send(item("a"))
    assert [one.orchestratorRequest.instanceId for one in call.next().items] == ["a"]
    call.answer(good=7, bad=8)
    replies = given(service, 2)
    replies["bad"](None, HubError("NOT_FOUND", "no such task hub"))
    assert call.next().refusals[0] == additions_pb.Refusal(
        index=8, code=grpc.StatusCode.NOT_FOUND.value[0], message="no such task hub"
    )
    replies["good"](pb.CompleteTaskResponse(), None)
    assert list(call.next().taken) == [7]


def test_answers_may_come_with_the_opening_frame(service, channel):
    answer = additions_pb.WorkItemAnswer(number=1, activity=pb.ActivityResponse(instanceId="a"))
    opening = additions_pb.WorkerFrame(open=pb.GetWorkItemsRequest(), taskHub="orders", answers=[answer])
    call = Call(channel, opening)
    opened(service)
    given(service, 1)["a"](pb.CompleteTaskResponse(), None)
    assert list(call.next().taken) == [1]
    call.cancel()
    call.hang_up()


def test_what_a_step_of_the_engine_sends_shares_a_frame(service, call, outgoing):
    sink = opened(service)
    call.answer(a=1, b=2)
    replies = given(service, 2)
    outgoing.hold()
    replies["a"](pb.CompleteTaskResponse(), None)
    sink.send(item("x"))
    replies["b"](pb.CompleteTaskResponse(), None)
    sink.send(item("y"))
    outgoing.release()
    frame = call.next()
    assert list(frame.taken) == [1, 2]
    assert [one.orchestratorRequest.instanceId for one in frame.items] == ["x", "y"]


def test_a_frame_stays_below_its_size_and_a_large_work_item_has_one_for_itself(service, call, outgoing):
    sink = opened(service)
    outgoing.hold()
    for instance_id, size in {"a": 10, "b": additions.MOST_FRAME_BYTES + 1, "c": 10, "d": 10}.items():
        sink.send(item(instance_id, size))
    outgoing.release()
    frames = [[one.orchestratorRequest.instanceId for one in call.next().items] for _ in range(3)]
    assert frames == [["a"], ["b"], ["c", "d"]]


def test_an_empty_answer_is_refused_and_the_others_are_taken(service, call):
    opened(service)
    answers = [
        additions_pb.WorkItemAnswer(number=1),
        additions_pb.WorkItemAnswer(number=2, batch=pb.EntityBatchResult()),
    ]
    call.send(additions_pb.WorkerFrame(answers=answers))
    (refusal,) = call.next().refusals
    assert (refusal.index, refusal.code) == (1, grpc.StatusCode.INVALID_ARGUMENT.value[0])
    assert "answer is empty" in refusal.message
    assert service.requests.get(timeout=WAIT)[0] == "CompleteEntityTask"


def test_credentials_that_count_no_longer_end_the_stream(service, call):
    """The answer is not lost: the worker sends it again with fresh ones."""
    opened(service)
    call.answer(a=1)
    given(service, 1)["a"](None, HubError("UNAUTHENTICATED", "show a valid token"))
    assert call.status() == (grpc.StatusCode.UNAUTHENTICATED, "show a valid token")


@pytest.mark.parametrize(
    ("opening", "metadata", "code", "text"),
    [
        (additions_pb.WorkerFrame(), OF_HUB, "INVALID_ARGUMENT", "no request for work items"),
        (b"\xff\xff", OF_HUB, "INVALID_ARGUMENT", "expects a serialized WorkerFrame"),
        (None, (), "FAILED_PRECONDITION", "names task hub '', that of Hello 'orders'"),
    ],
    ids=["nothing asked for", "garbage", "another task hub"],
)
def test_a_call_that_is_opened_wrongly_is_refused(service, channel, opening, metadata, code, text):
    call = Call(channel, opening, metadata)
    found, details = call.status()
    assert found is grpc.StatusCode[code] and text in details
    assert service.requests.empty()
    call.hang_up()


def test_a_frame_that_cannot_be_read_ends_the_stream(service, call):
    opened(service)
    call.send(b"\xff\xff")
    assert call.status()[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert service.cancelled.get(timeout=WAIT) == "Work"


@pytest.mark.parametrize("go", [Call.cancel, Call.hang_up])
def test_a_worker_that_goes_ends_its_stream(service, channel, go):
    call = Call(channel)
    opened(service)
    go(call)
    assert service.cancelled.get(timeout=WAIT) == "Work"
    call.cancel()
    call.hang_up()


def test_what_another_thread_posts_in_the_midst_of_a_step_does_not_wait_for_it(service, call, outgoing):
    sink = opened(service)
    outgoing.hold()
    thread = threading.Thread(target=sink.send, args=(item("a"),))
    thread.start()
    thread.join(WAIT)
    assert [one.orchestratorRequest.instanceId for one in call.next().items] == ["a"]
    outgoing.release()


def test_the_outcome_of_a_turn_and_the_activities_it_schedules_share_a_frame():
    """They become durable by one commit."""
    with Scheduler() as scheduler, grpc.insecure_channel(f"127.0.0.1:{scheduler.serve(port=0)}") as channel:
        call = Call(channel, additions_pb.WorkerFrame(open=pb.GetWorkItemsRequest()), metadata=())
        protocol = pb_grpc.TaskHubSidecarServiceStub(channel)
        protocol.StartInstance(pb.CreateInstanceRequest(instanceId="a", name="order"), timeout=WAIT)
        (turn,) = call.next().items
        actions = [
            pb.OrchestratorAction(id=number, scheduleTask=pb.ScheduleTaskAction(name="pay")) for number in (1, 2, 3)
        ]
        response = pb.OrchestratorResponse(instanceId="a", completionToken=turn.completionToken, actions=actions)
        call.send(additions_pb.WorkerFrame(answers=[additions_pb.WorkItemAnswer(number=5, turn=response)]))
        frame = call.next()
        assert list(frame.taken) == [5]
        assert [one.activityRequest.taskId for one in frame.items] == [1, 2, 3]
        call.cancel()
        call.hang_up()


def test_it_is_not_served_in_process(service):
    stub = additions_pb_grpc.SchedulerAdditionsStub(InProcessChannel(service))
    with pytest.raises(grpc.RpcError) as caught:
        stub.Work(iter(()))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
