"""The history of an orchestration instance, for people and tools that read it.

The dataclasses mirror the protocol's history events; all datetimes are aware and in UTC. They are made only by
``get_orchestration_history`` of a client: worker and replay engine work on the protocol's own messages.
"""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from durabletask.failures import FailureDetails

__all__ = [
    "ContinueAsNewEvent",
    "EntityLockGrantedEvent",
    "EntityLockRequestedEvent",
    "EntityOperationCalledEvent",
    "EntityOperationCompletedEvent",
    "EntityOperationFailedEvent",
    "EntityOperationSignaledEvent",
    "EntityUnlockSentEvent",
    "EventRaisedEvent",
    "EventSentEvent",
    "ExecutionCompletedEvent",
    "ExecutionResumedEvent",
    "ExecutionRewoundEvent",
    "ExecutionStartedEvent",
    "ExecutionSuspendedEvent",
    "ExecutionTerminatedEvent",
    "GenericEvent",
    "HistoryEvent",
    "HistoryStateEvent",
    "OrchestrationInstance",
    "OrchestratorCompletedEvent",
    "OrchestratorStartedEvent",
    "ParentInstanceInfo",
    "SubOrchestrationInstanceCompletedEvent",
    "SubOrchestrationInstanceCreatedEvent",
    "SubOrchestrationInstanceFailedEvent",
    "TaskCompletedEvent",
    "TaskFailedEvent",
    "TaskScheduledEvent",
    "TimerCreatedEvent",
    "TimerFiredEvent",
    "TraceContext",
    "to_dict",
]


@dataclass(slots=True)
class OrchestrationInstance:
    """An orchestration instance, and the generation of it if known."""

    instance_id: str
    execution_id: str | None = None


@dataclass(slots=True)
class ParentInstanceInfo:
    """Who scheduled a sub-orchestration, and under which task id."""

    task_scheduled_id: int
    name: str | None = None
    version: str | None = None
    orchestration_instance: OrchestrationInstance | None = None


@dataclass(slots=True)
class TraceContext:
    """A W3C trace context."""

    trace_parent: str
    span_id: str
    trace_state: str | None = None


@dataclass(slots=True)
class HistoryEvent:
    """What all events have: an id, -1 unless the event records an action, and the time of recording."""

    event_id: int
    timestamp: datetime

    def to_dict(self) -> dict[str, Any]:
        """See ``durabletask.history.to_dict``."""
        return to_dict(self)


@dataclass(slots=True)
class ExecutionStartedEvent(HistoryEvent):
    """The first event of a generation: what runs, and with which input."""

    name: str
    version: str | None = None
    input: str | None = None
    orchestration_instance: OrchestrationInstance | None = None
    parent_instance: ParentInstanceInfo | None = None
    scheduled_start_timestamp: datetime | None = None
    parent_trace_context: TraceContext | None = None
    orchestration_span_id: str | None = None
    tags: dict[str, str] | None = None


@dataclass(slots=True)
class ExecutionCompletedEvent(HistoryEvent):
    """The orchestration ended; the status is the protocol's number."""

    orchestration_status: int
    result: str | None = None
    failure_details: FailureDetails | None = None


@dataclass(slots=True)
class ExecutionTerminatedEvent(HistoryEvent):
    """Someone asked to terminate; the input becomes the output."""

    input: str | None = None
    recurse: bool = False


@dataclass(slots=True)
class TaskScheduledEvent(HistoryEvent):
    """An activity was scheduled; ``event_id`` is its task id."""

    name: str
    version: str | None = None
    input: str | None = None
    parent_trace_context: TraceContext | None = None
    tags: dict[str, str] | None = None


@dataclass(slots=True)
class TaskCompletedEvent(HistoryEvent):
    """An activity returned."""

    task_scheduled_id: int
    result: str | None = None


@dataclass(slots=True)
class TaskFailedEvent(HistoryEvent):
    """An activity failed."""

    task_scheduled_id: int
    failure_details: FailureDetails | None = None


@dataclass(slots=True)
class SubOrchestrationInstanceCreatedEvent(HistoryEvent):
    """A sub-orchestration was scheduled; ``event_id`` is its task id."""

    instance_id: str
    name: str
    version: str | None = None
    input: str | None = None
    parent_trace_context: TraceContext | None = None
    tags: dict[str, str] | None = None


@dataclass(slots=True)
class SubOrchestrationInstanceCompletedEvent(HistoryEvent):
    """A sub-orchestration completed."""

    task_scheduled_id: int
    result: str | None = None


@dataclass(slots=True)
class SubOrchestrationInstanceFailedEvent(HistoryEvent):
    """A sub-orchestration failed or was terminated."""

    task_scheduled_id: int
    failure_details: FailureDetails | None = None


@dataclass(slots=True)
class TimerCreatedEvent(HistoryEvent):
    """A timer was set; ``event_id`` is its timer id."""

    fire_at: datetime


@dataclass(slots=True)
class TimerFiredEvent(HistoryEvent):
    """A timer came due."""

    fire_at: datetime
    timer_id: int


@dataclass(slots=True)
class OrchestratorStartedEvent(HistoryEvent):
    """A turn began; its timestamp is the orchestration's clock."""


@dataclass(slots=True)
class OrchestratorCompletedEvent(HistoryEvent):
    """A turn ended."""


@dataclass(slots=True)
class EventSentEvent(HistoryEvent):
    """The orchestration sent an external event to another instance."""

    instance_id: str
    name: str
    input: str | None = None


@dataclass(slots=True)
class EventRaisedEvent(HistoryEvent):
    """An external event arrived."""

    name: str
    input: str | None = None


@dataclass(slots=True)
class GenericEvent(HistoryEvent):
    """An event of no particular kind."""

    data: str | None = None


@dataclass(slots=True)
class HistoryStateEvent(HistoryEvent):
    """A snapshot of the state, as the JSON form of the protocol's message."""

    orchestration_state: dict[str, Any]


@dataclass(slots=True)
class ContinueAsNewEvent(HistoryEvent):
    """The orchestration continued as new."""

    input: str | None = None


@dataclass(slots=True)
class ExecutionSuspendedEvent(HistoryEvent):
    """The instance was suspended; the input is the reason."""

    input: str | None = None


@dataclass(slots=True)
class ExecutionResumedEvent(HistoryEvent):
    """The instance was resumed; the input is the reason."""

    input: str | None = None


@dataclass(slots=True)
class EntityOperationSignaledEvent(HistoryEvent):
    """An entity was signaled."""

    request_id: str
    operation: str
    scheduled_time: datetime | None = None
    input: str | None = None
    target_instance_id: str | None = None


@dataclass(slots=True)
class EntityOperationCalledEvent(HistoryEvent):
    """An entity was called."""

    request_id: str
    operation: str
    scheduled_time: datetime | None = None
    input: str | None = None
    parent_instance_id: str | None = None
    parent_execution_id: str | None = None
    target_instance_id: str | None = None


@dataclass(slots=True)
class EntityOperationCompletedEvent(HistoryEvent):
    """A called entity operation returned."""

    request_id: str
    output: str | None = None


@dataclass(slots=True)
class EntityOperationFailedEvent(HistoryEvent):
    """A called entity operation failed."""

    request_id: str
    failure_details: FailureDetails | None = None


@dataclass(slots=True)
class EntityLockRequestedEvent(HistoryEvent):
    """A critical section asked for its locks."""

    critical_section_id: str
    lock_set: list[str]
    position: int
    parent_instance_id: str | None = None


@dataclass(slots=True)
class EntityLockGrantedEvent(HistoryEvent):
    """A critical section holds its locks."""

    critical_section_id: str


@dataclass(slots=True)
class EntityUnlockSentEvent(HistoryEvent):
    """A critical section released one entity."""

    critical_section_id: str
    parent_instance_id: str | None = None
    target_instance_id: str | None = None


@dataclass(slots=True)
class ExecutionRewoundEvent(HistoryEvent):
    """A failed instance was rewound."""

    reason: str | None = None
    parent_execution_id: str | None = None
    instance_id: str | None = None
    parent_trace_context: TraceContext | None = None
    name: str | None = None
    version: str | None = None
    input: str | None = None
    parent_instance: ParentInstanceInfo | None = None
    tags: dict[str, str] | None = None


def to_dict(event: HistoryEvent) -> dict[str, Any]:
    """The event as a dictionary of plain values: ``dataclasses.asdict``, with datetimes in ISO 8601.

    Datetimes directly inside dictionaries and lists are written as text; other containers stay as ``asdict``
    leaves them.
    """
    plain: dict[str, Any] = _iso_datetimes(asdict(event))
    return plain


def _iso_datetimes(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict):
        return {key: _iso_datetimes(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_iso_datetimes(item) for item in value]
    return value
