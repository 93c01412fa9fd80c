"""The floor under the workloads in process: what each must do at least, and nothing else.

The messages of the protocol that an operation passes between client, task hub and worker, each built once and, where
it is stored, serialized once; the JSON of the payloads; the orchestrator as a generator; the two awaits of the client.
No rules, no leases, no versions, no threads, no storage. Whoever offers the client and the worker of the protocol over
its messages in Python pays this; the rows in SQLite (``limits``) come on top.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Generator

from durabletask_proto import orchestrator_service_pb2 as pb
from google.protobuf.wrappers_pb2 import StringValue

from drivers.concurrency import bounded

ROUNDS = 5
AT_ONCE = 128
SECONDS, NANOS = 1_700_000_000, 123_456_789


def _event(event_id: int) -> pb.HistoryEvent:
    event = pb.HistoryEvent(eventId=event_id)
    event.timestamp.seconds, event.timestamp.nanos = SECONDS, NANOS
    return event


def _turn(instance_id: str, token: str, *events: pb.HistoryEvent) -> pb.WorkItem:
    started = _event(-1)
    started.orchestratorStarted.SetInParent()
    started.SerializeToString()
    item = pb.WorkItem(completionToken=token)
    request = item.orchestratorRequest
    request.instanceId = instance_id
    request.executionId.value = token
    request.newEvents.extend((started, *events))
    return item


def _orchestrator(value: object) -> Generator[object, object, object]:
    result = yield value
    return result


def _activity(instance_id: str, token: str, number: int, value: object) -> tuple[pb.HistoryEvent, object]:
    """Schedule it, run it and take its result; returns the event for the next turn and the value."""
    action = pb.OrchestratorAction(id=number)
    action.scheduleTask.name = "echo"
    action.scheduleTask.input.value = json.dumps(value)
    pb.OrchestratorResponse(instanceId=instance_id, actions=[action], completionToken=token)
    scheduled = _event(number)
    scheduled.taskScheduled.name = "echo"
    scheduled.taskScheduled.input.CopyFrom(action.scheduleTask.input)
    scheduled.SerializeToString()
    item = pb.WorkItem(completionToken=token)
    request = item.activityRequest
    request.name, request.taskId = "echo", number
    request.input.CopyFrom(scheduled.taskScheduled.input)
    request.orchestrationInstance.instanceId = instance_id
    request.orchestrationInstance.executionId.value = token
    result = json.dumps(json.loads(request.input.value))
    response = pb.ActivityResponse(instanceId=instance_id, taskId=number, completionToken=token)
    response.result.value = result
    completed = _event(-1)
    completed.taskCompleted.taskScheduledId = number
    completed.taskCompleted.result.CopyFrom(response.result)
    completed.SerializeToString()
    return completed, json.loads(completed.taskCompleted.result.value)


def _orchestration(number: int) -> pb.GetInstanceResponse:
    instance_id = f"{number:032x}"
    token = instance_id
    start = pb.CreateInstanceRequest(instanceId=instance_id, name="single", input=StringValue(value=json.dumps(1)))
    begun = _event(-1)
    begun.executionStarted.name = start.name
    begun.executionStarted.input.CopyFrom(start.input)
    begun.executionStarted.orchestrationInstance.instanceId = instance_id
    begun.executionStarted.orchestrationInstance.executionId.value = token
    begun.SerializeToString()
    item = _turn(instance_id, token, begun)
    run = _orchestrator(json.loads(item.orchestratorRequest.newEvents[1].executionStarted.input.value))
    completed, value = _activity(instance_id, token, 1, next(run))
    _turn(instance_id, token, completed)
    action = pb.OrchestratorAction(id=2)
    try:
        run.send(value)
    except StopIteration as end:
        action.completeOrchestration.result.value = json.dumps(end.value)
    pb.OrchestratorResponse(instanceId=instance_id, actions=[action], completionToken=token)
    ended = _event(2)
    ended.executionCompleted.orchestrationStatus = pb.ORCHESTRATION_STATUS_COMPLETED
    ended.executionCompleted.result.CopyFrom(action.completeOrchestration.result)
    ended.SerializeToString()
    response = pb.GetInstanceResponse(exists=True)
    state = response.orchestrationState
    state.instanceId, state.name = instance_id, "single"
    state.input.CopyFrom(start.input)
    state.output.CopyFrom(action.completeOrchestration.result)
    for timestamp in (state.createdTimestamp, state.lastUpdatedTimestamp, state.completedTimestamp):
        timestamp.seconds, timestamp.nanos = SECONDS, NANOS
    return response


def _chain(steps: int) -> None:
    for number in range(1, steps + 1):
        completed, _ = _activity("chain", "token", number, number)
        _turn("chain", "token", completed)


def _fan(width: int) -> None:
    for number in range(1, width + 1):
        _activity("fan", "token", number, number)


async def _concurrently(count: int) -> None:
    """As the asyncio client of W1a does: many at once, and for each two answers that somebody else brings."""
    loop = asyncio.get_running_loop()

    async def start_and_await(number: int) -> None:
        for _ in range(2):
            future = loop.create_future()
            loop.call_soon(future.set_result, None)
            await future
        json.loads(_orchestration(number).orchestrationState.output.value)

    await bounded(AT_ONCE, start_and_await, range(count))


def _seconds_each(run: Callable[[], object], operations: int) -> float:
    taken = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        run()
        taken.append(time.process_time() - begun)
    return min(taken) / operations


def microseconds(count: int) -> dict[str, float]:
    """CPU of one orchestration (W1a), one step (W2) and one activity of a fan-out (W3)."""
    return {
        "floor_w1a_us": _seconds_each(lambda: asyncio.run(_concurrently(count)), count) * 1e6,
        "floor_w2_us": _seconds_each(lambda: _chain(count), count) * 1e6,
        "floor_w3_us": _seconds_each(lambda: _fan(count), count) * 1e6,
    }
