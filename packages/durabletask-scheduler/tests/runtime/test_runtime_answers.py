"""Many answers of a worker in one call, and many work items in one message."""

from __future__ import annotations

from collections import deque

import grpc
import pytest
from durabletask_proto import additions
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto import scheduler_additions_pb2 as additions_pb
from durabletask_scheduler import packs
from durabletask_scheduler.hub.model import HubError
from google.protobuf.wrappers_pb2 import Int32Value, StringValue


def answer_all(runtime, *answers):
    request = additions_pb.CompleteWorkItemsRequest()
    for one in answers:
        field = {pb.OrchestratorResponse: "turn", pb.ActivityResponse: "activity", pb.EntityBatchResult: "batch"}
        request.answers.add(**{field[type(one)]: one})
    return runtime.begin("CompleteWorkItems", request)


def result(item, value="1"):
    request = item.activityRequest
    return pb.ActivityResponse(
        instanceId=request.orchestrationInstance.instanceId,
        taskId=request.taskId,
        result=StringValue(value=value),
        completionToken=item.completionToken,
    )


def turn(item, *actions, **fields):
    return pb.OrchestratorResponse(
        instanceId=item.orchestratorRequest.instanceId, completionToken=item.completionToken, actions=actions, **fields
    )


def fan_out(runtime, do, width):
    """A worker that holds ``width`` activities of one orchestration instance."""
    worker = runtime.worker()
    runtime.start("a")
    runtime.answer(worker.next(), *(do.activity(number) for number in range(1, width + 1))).result(5)
    return worker, [worker.next() for _ in range(width)]


def test_all_are_committed_and_answered_together(runtime, do):
    worker, items = fan_out(runtime, do, 5)
    runtime.storage.groups.clear()
    response = answer_all(runtime, *(result(item, str(n)) for n, item in enumerate(items))).result(5)
    assert not response.refusals
    assert len(runtime.storage.groups) < 5
    events = worker.next().orchestratorRequest.newEvents
    assert sum(event.HasField("taskCompleted") for event in events) == 5


def test_each_is_judged_by_itself(runtime, do):
    worker, items = fan_out(runtime, do, 1)
    runtime.start("b")
    bad = turn(worker.next(), numEventsProcessed=Int32Value(value=99))
    unknown = pb.ActivityResponse(instanceId="a", taskId=7, completionToken="of somebody else")
    response = answer_all(runtime, bad, unknown, result(items[0])).result(5)
    (refusal,) = response.refusals
    assert (refusal.index, refusal.code) == (0, grpc.StatusCode.INVALID_ARGUMENT.value[0])
    assert "numEventsProcessed is 99" in refusal.message
    assert worker.next().orchestratorRequest.instanceId == "a"


def test_a_failed_write_refuses_those_of_its_group_and_loses_nothing(runtime, do):
    worker, items = fan_out(runtime, do, 3)
    runtime.storage.fail_next_writes(1)
    response = answer_all(runtime, *(result(item) for item in items)).result(5)
    assert {refusal.code for refusal in response.refusals} == {grpc.StatusCode.UNAVAILABLE.value[0]}
    again = []
    while len(again) < len(response.refusals):
        # A turn may be among them that left before the write failed; its answer would count for nothing.
        item = worker.next()
        again += [item] if item.HasField("activityRequest") else []
    assert not answer_all(runtime, *(result(item) for item in again)).result(5).refusals
    completed = set()
    while completed != {1, 2, 3}:
        item = worker.next()
        completed |= {event.taskCompleted.taskScheduledId for event in item.orchestratorRequest.newEvents} - {0}
        runtime.answer(item)


def test_none_is_answered_at_once(runtime):
    assert answer_all(runtime).result(5) == additions_pb.CompleteWorkItemsResponse()


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([additions_pb.WorkItemAnswer()], "answer 0 is empty"),
        ([additions_pb.WorkItemAnswer(activity=pb.ActivityResponse())] * (additions.MOST_ANSWERS + 1), "split it"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(runtime, answers, message):
    with pytest.raises(HubError, match=message) as caught:
        runtime.call("CompleteWorkItems", additions_pb.CompleteWorkItemsRequest(answers=answers))
    assert caught.value.code == "INVALID_ARGUMENT"


def test_work_items_come_in_packs(runtime):
    stream = runtime.stream("GetWorkItemPacks", pb.GetWorkItemsRequest())
    runtime.start("a")
    (item,) = stream.next().items
    assert item.orchestratorRequest.instanceId == "a" and item.completionToken


class TestGrowing:
    def pack(self, size=1):
        turn = pb.OrchestratorRequest(instanceId="x" * size)
        return additions_pb.WorkItemPack(items=[pb.WorkItem(orchestratorRequest=turn)])

    def test_a_pack_takes_in_those_that_wait(self):
        first, waiting = self.pack(), deque([self.pack(), self.pack()])
        packs.grow(first, waiting)
        assert len(first.items) == 3 and not waiting

    def test_it_stops_at_its_size(self):
        first, waiting = self.pack(packs.MOST_BYTES - 100), deque([self.pack(), self.pack(200)])
        packs.grow(first, waiting)
        assert len(first.items) == 2 and len(waiting) == 1

    def test_other_messages_stay_as_they_are(self):
        message, waiting = pb.WorkItem(), deque([pb.WorkItem()])
        packs.grow(message, waiting)
        assert message == pb.WorkItem() and len(waiting) == 1
