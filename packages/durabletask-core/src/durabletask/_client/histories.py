"""Turns the protocol's history events into the dataclasses of ``durabletask.history``."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields
from datetime import datetime, timezone
from functools import cache
from typing import Any, Final

from durabletask_proto import orchestrator_service_pb2 as pb
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import MessageToDict

from durabletask import history
from durabletask.failures import failure_details

_EVENTS: Final[Mapping[str, type[history.HistoryEvent]]] = {
    "executionStarted": history.ExecutionStartedEvent,
    "executionCompleted": history.ExecutionCompletedEvent,
    "executionTerminated": history.ExecutionTerminatedEvent,
    "taskScheduled": history.TaskScheduledEvent,
    "taskCompleted": history.TaskCompletedEvent,
    "taskFailed": history.TaskFailedEvent,
    "subOrchestrationInstanceCreated": history.SubOrchestrationInstanceCreatedEvent,
    "subOrchestrationInstanceCompleted": history.SubOrchestrationInstanceCompletedEvent,
    "subOrchestrationInstanceFailed": history.SubOrchestrationInstanceFailedEvent,
    "timerCreated": history.TimerCreatedEvent,
    "timerFired": history.TimerFiredEvent,
    "orchestratorStarted": history.OrchestratorStartedEvent,
    "orchestratorCompleted": history.OrchestratorCompletedEvent,
    "eventSent": history.EventSentEvent,
    "eventRaised": history.EventRaisedEvent,
    "genericEvent": history.GenericEvent,
    "historyState": history.HistoryStateEvent,
    "continueAsNew": history.ContinueAsNewEvent,
    "executionSuspended": history.ExecutionSuspendedEvent,
    "executionResumed": history.ExecutionResumedEvent,
    "entityOperationSignaled": history.EntityOperationSignaledEvent,
    "entityOperationCalled": history.EntityOperationCalledEvent,
    "entityOperationCompleted": history.EntityOperationCompletedEvent,
    "entityOperationFailed": history.EntityOperationFailedEvent,
    "entityLockRequested": history.EntityLockRequestedEvent,
    "entityLockGranted": history.EntityLockGrantedEvent,
    "entityUnlockSent": history.EntityUnlockSentEvent,
    "executionRewound": history.ExecutionRewoundEvent,
}
_OF_EVERY_EVENT: Final = frozenset({"event_id", "timestamp"})
_SPAN_ID_FIELDS: Final = {"span_id": "spanID", "orchestration_span_id": "orchestrationSpanID"}


def parse_history(events: Iterable[pb.HistoryEvent]) -> list[history.HistoryEvent]:
    """The public form of the events, in their order; kinds this version does not know become GenericEvent."""
    return [_parse_event(event) for event in events]


def _parse_event(event: pb.HistoryEvent) -> history.HistoryEvent:
    timestamp = event.timestamp.ToDatetime(tzinfo=timezone.utc)
    kind = event.WhichOneof("eventType")
    if kind is None:
        return history.GenericEvent(event.eventId, timestamp)
    cls = _EVENTS[kind]
    return cls(event.eventId, timestamp, **_arguments(cls, getattr(event, kind)))


@cache
def _field_plan(cls: type) -> tuple[tuple[str, str, bool], ...]:
    """For each field its name, its name on the wire, and whether it may be None."""
    return tuple(
        (field.name, _SPAN_ID_FIELDS.get(field.name) or _camel_case(field.name), field.default is not MISSING)
        for field in fields(cls)
        if field.name not in _OF_EVERY_EVENT
    )


def _camel_case(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(word.capitalize() for word in tail)


def _arguments(cls: type, message: Any) -> dict[str, Any]:
    descriptors = message.DESCRIPTOR.fields_by_name
    return {name: _value(message, descriptors[wire], optional) for name, wire, optional in _field_plan(cls)}


def _value(message: Any, descriptor: FieldDescriptor, optional: bool) -> Any:
    value = getattr(message, descriptor.name)
    if descriptor.message_type is None:
        return list(value) if descriptor.name == "lockSet" else value
    if descriptor.message_type.GetOptions().map_entry:
        return dict(value) or None
    if optional and not message.HasField(descriptor.name):
        return None
    return _MESSAGES[descriptor.message_type.name](value)


def _instance(message: pb.OrchestrationInstance) -> history.OrchestrationInstance:
    return history.OrchestrationInstance(**_arguments(history.OrchestrationInstance, message))


def _parent(message: pb.ParentInstanceInfo) -> history.ParentInstanceInfo:
    return history.ParentInstanceInfo(**_arguments(history.ParentInstanceInfo, message))


def _trace_context(message: pb.TraceContext) -> history.TraceContext:
    return history.TraceContext(**_arguments(history.TraceContext, message))


def _aware_datetime(message: Any) -> datetime:
    moment: datetime = message.ToDatetime(tzinfo=timezone.utc)
    return moment


_MESSAGES: Final[Mapping[str, Callable[[Any], Any]]] = {
    "StringValue": lambda message: message.value,
    "Timestamp": _aware_datetime,
    "TraceContext": _trace_context,
    "ParentInstanceInfo": _parent,
    "OrchestrationInstance": _instance,
    "TaskFailureDetails": failure_details,
    "OrchestrationState": MessageToDict,
}
