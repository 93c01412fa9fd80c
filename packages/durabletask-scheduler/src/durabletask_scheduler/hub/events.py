"""History events that the hub makes itself, and the bytes of a history row.

Events that confirm an action carry the action's id; all others carry -1, written out, because a
missing eventId reads as 0, which is a real action's id (protocol, history event model).
"""

from __future__ import annotations

from collections.abc import Iterable

from durabletask_proto import orchestrator_service_pb2 as pb
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import StringValue

from durabletask_scheduler.hub.model import Context, Instance, OpenTask
from durabletask_scheduler.hub.times import SECOND, to_timestamp

NO_ID = -1


def orchestrator_started(at: int) -> pb.HistoryEvent:
    event = new_event(NO_ID, at)
    event.orchestratorStarted.SetInParent()
    return event


def turn_started(at: int, ctx: Context) -> pb.HistoryEvent:
    """The OrchestratorStarted of a turn: one event for all that begin at the same time, hence never changed."""
    started = ctx.turn_started
    if started is None or started[0] != at:
        started = ctx.turn_started = (at, orchestrator_started(at))
    return started[1]


def new_event(event_id: int, at: int) -> pb.HistoryEvent:
    """An event of no kind yet, to be filled in.

    That costs half of what building its parts and copying them does, and a tenth where a payload is among them.
    """
    event = pb.HistoryEvent(eventId=event_id)
    timestamp = event.timestamp
    timestamp.seconds, timestamp.nanos = divmod(at, SECOND)
    return event


def copy_fields(source: Message, target: Message, *names: str) -> None:
    """Copy those of the fields, all of them messages, that are set."""
    for name in names:
        if source.HasField(name):
            getattr(target, name).CopyFrom(getattr(source, name))


def event_raised(at: int, name: str, data: StringValue | None) -> pb.HistoryEvent:
    event = new_event(NO_ID, at)
    raised = event.eventRaised
    raised.name = name
    if data is not None:
        raised.input.CopyFrom(data)
    return event


def timer_fired(at: int, timer: OpenTask) -> pb.HistoryEvent:
    return pb.HistoryEvent(
        eventId=NO_ID,
        timestamp=to_timestamp(at),
        timerFired=pb.TimerFiredEvent(fireAt=to_timestamp(timer.due_at), timerId=timer.task_id),
    )


def execution_suspended(at: int, reason: StringValue | None) -> pb.HistoryEvent:
    return pb.HistoryEvent(
        eventId=NO_ID, timestamp=to_timestamp(at), executionSuspended=pb.ExecutionSuspendedEvent(input=reason)
    )


def execution_resumed(at: int, reason: StringValue | None) -> pb.HistoryEvent:
    return pb.HistoryEvent(
        eventId=NO_ID, timestamp=to_timestamp(at), executionResumed=pb.ExecutionResumedEvent(input=reason)
    )


def execution_terminated(at: int, output: StringValue | None, recurse: bool) -> pb.HistoryEvent:
    return pb.HistoryEvent(
        eventId=NO_ID,
        timestamp=to_timestamp(at),
        executionTerminated=pb.ExecutionTerminatedEvent(input=output, recurse=recurse),
    )


def execution_completed(
    at: int,
    status: pb.OrchestrationStatus.ValueType,
    result: StringValue | None = None,
    details: pb.TaskFailureDetails | None = None,
    event_id: int = NO_ID,
) -> pb.HistoryEvent:
    event = new_event(event_id, at)
    completed = event.executionCompleted
    completed.orchestrationStatus = status
    if result is not None:
        completed.result.CopyFrom(result)
    if details is not None:
        completed.failureDetails.CopyFrom(details)
    return event


def child_completed(at: int, task_id: int, result: StringValue | None) -> pb.HistoryEvent:
    event = new_event(NO_ID, at)
    completed = event.subOrchestrationInstanceCompleted
    completed.taskScheduledId = task_id
    if result is not None:
        completed.result.CopyFrom(result)
    return event


def child_failed(at: int, task_id: int, details: pb.TaskFailureDetails) -> pb.HistoryEvent:
    return pb.HistoryEvent(
        eventId=NO_ID,
        timestamp=to_timestamp(at),
        subOrchestrationInstanceFailed=pb.SubOrchestrationInstanceFailedEvent(
            taskScheduledId=task_id, failureDetails=details
        ),
    )


def failure(error_type: str, message: str) -> pb.TaskFailureDetails:
    """A failure that the scheduler itself reports."""
    return pb.TaskFailureDetails(errorType=error_type, errorMessage=message)


def started_event(instance: Instance) -> pb.HistoryEvent:
    """The ExecutionStarted event of the instance's current generation; not to be changed."""
    if instance.turn is not None and instance.event_count == 0:
        return instance.turn.events[1]
    return pb.HistoryEvent.FromString(instance.started)


def next_clock(instance: Instance, ctx: Context, *, at_least: int = 0, tick: int = 1_000) -> int:
    """A time for the next OrchestratorStarted: now, but later than the last one by a tick at least.

    A tick is a microsecond, the finest step that every SDK of the family can see.
    """
    return max(ctx.now, instance.clock + tick, at_least)


_SMALL = [bytes((n,)) for n in range(128)]


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 128:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def encode_chunk(events: Iterable[bytes]) -> bytes:
    """The bytes of a ``HistoryChunk`` made of events that are already serialized."""
    parts: list[bytes] = []
    for event in events:
        size = len(event)
        parts += (b"\x0a", _SMALL[size] if size < 128 else _varint(size), event)
    return b"".join(parts)
