"""What others get to see of an instance: its state, its history, its work item."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from durabletask_proto import copying
from durabletask_proto import orchestrator_service_pb2 as pb
from google.protobuf.duration_pb2 import Duration

from durabletask_scheduler.hub.model import HistoryRow, Instance, Turn
from durabletask_scheduler.hub.times import SECOND


class Described(Protocol):
    """What :func:`orchestration_state` reads; instances and the rows of queries both have it."""

    @property
    def instance_id(self) -> str: ...
    @property
    def execution_id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str | None: ...
    @property
    def status(self) -> int: ...
    @property
    def created_at(self) -> int: ...
    @property
    def updated_at(self) -> int: ...
    @property
    def scheduled_at(self) -> int: ...
    @property
    def completed_at(self) -> int: ...
    @property
    def custom_status(self) -> str | None: ...
    @property
    def tags(self) -> dict[str, str]: ...
    @property
    def parent_instance_id(self) -> str: ...
    @property
    def started(self) -> bytes: ...
    @property
    def completed(self) -> bytes: ...


_ENTITY_PARAMETERS = pb.OrchestratorEntityParameters(entityMessageReorderWindow=Duration())


def describe(instance: Described, state: pb.OrchestrationState, *, payloads: bool) -> None:
    """Fill in the public state of an instance. In place, because a copy of large payloads is dear.

    Args:
        state: an empty one.
        payloads: with input and output; custom status and failure details are always there.
    """
    state.instanceId = instance.instance_id
    state.name = instance.name
    state.orchestrationStatus = pb.OrchestrationStatus.ValueType(instance.status)
    state.executionId.value = instance.execution_id
    if instance.version is not None:
        state.version.value = instance.version
    if instance.custom_status is not None:
        state.customStatus.value = instance.custom_status
    if instance.parent_instance_id:
        state.parentInstanceId.value = instance.parent_instance_id
    if instance.tags:
        state.tags.update(instance.tags)
    for timestamp, time in (
        (state.createdTimestamp, instance.created_at),
        (state.lastUpdatedTimestamp, instance.updated_at),
        (state.scheduledStartTimestamp, instance.scheduled_at),
        (state.completedTimestamp, instance.completed_at),
    ):
        if time:
            timestamp.seconds, timestamp.nanos = divmod(time, SECOND)
    if payloads and instance.started:
        _describe_input(instance.started, state)
    if instance.completed:
        _describe_end(instance.completed, state, payloads=payloads)


def _describe_input(started: bytes, state: pb.OrchestrationState) -> None:
    event = pb.HistoryEvent.FromString(started).executionStarted
    if event.HasField("input"):
        state.input.CopyFrom(event.input)


def _describe_end(completed: bytes, state: pb.OrchestrationState, *, payloads: bool) -> None:
    event = pb.HistoryEvent.FromString(completed).executionCompleted
    if payloads and event.HasField("result"):
        state.output.CopyFrom(event.result)
    if event.HasField("failureDetails"):
        state.failureDetails.CopyFrom(event.failureDetails)


def past_events(instance: Instance, rows: Iterable[HistoryRow]) -> list[pb.HistoryEvent]:
    """The committed events of the current generation in order, without ExecutionCompleted.

    OrchestratorStarted of the first turn, ExecutionStarted, then everything else. Empty if no turn
    of this generation has been committed.
    """
    past: list[pb.HistoryEvent] = []
    for row in rows:
        past.extend(pb.HistoryChunk.FromString(row.events).events)
    if past:
        past.insert(1, pb.HistoryEvent.FromString(instance.started))
    return past


def each_event(instance: Instance, rows: Iterable[HistoryRow], *, whole: bool) -> Iterator[pb.HistoryEvent]:
    """The same one by one, so that a long history is never in memory as messages.

    Args:
        whole: with ExecutionCompleted at the very end of a terminal instance.
    """
    for number, row in enumerate(rows):
        events = iter(pb.HistoryChunk.FromString(row.events).events)
        if number == 0:
            yield next(events)
            yield pb.HistoryEvent.FromString(instance.started)
        yield from events
    if whole and instance.completed:
        yield pb.HistoryEvent.FromString(instance.completed)


def full_history(instance: Instance, rows: Iterable[HistoryRow]) -> list[pb.HistoryEvent]:
    """The same with ExecutionCompleted at the very end of a terminal instance."""
    history = past_events(instance, rows)
    if instance.completed:
        history.append(pb.HistoryEvent.FromString(instance.completed))
    return history


def turn_request(
    instance: Instance,
    turn: Turn,
    past_rows: Iterable[HistoryRow] | None,
    request: pb.OrchestratorRequest | None = None,
) -> pb.OrchestratorRequest:
    """The work item of a turn.

    Args:
        past_rows: the history rows of the current generation; None to leave the past out, for
            workers that keep it (warm) or fetch it (history streaming).
        request: an empty one to fill in; by default a new one.
    """
    request = pb.OrchestratorRequest() if request is None else request
    request.instanceId = instance.instance_id
    request.executionId.value = instance.execution_id
    copying.copy_all(turn.events, request.newEvents)
    request.entityParameters.CopyFrom(_ENTITY_PARAMETERS)
    if past_rows:
        copying.copy_all(past_events(instance, past_rows), request.pastEvents)
    if instance.trace_context:
        request.orchestrationTraceContext.ParseFromString(instance.trace_context)
    return request
