"""The public history events: their fields, their dictionaries, and how they are read from the wire."""

import dataclasses
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import pytest
from durabletask import history
from durabletask.client import TaskHubGrpcClient
from durabletask.task import FailureDetails
from durabletask_proto import orchestrator_service_pb2 as pb
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import StringValue

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc)
LATER = datetime(2026, 1, 3, tzinfo=timezone.utc)


def stamp(moment: datetime) -> Timestamp:
    result = Timestamp()
    result.FromDatetime(moment)
    return result


def text(value: str) -> StringValue:
    return StringValue(value=value)


class OneStream:
    """A channel with one answer, for the only call of these tests."""

    def __init__(self, events: list[pb.HistoryEvent]) -> None:
        self._events = events

    def unary_unary(self, *_: Any, **__: Any) -> Any:
        return None

    def unary_stream(self, *_: Any, **__: Any) -> Any:
        return lambda *_, **__: iter([pb.HistoryChunk(events=self._events)])


def read(**event: Any) -> history.HistoryEvent:
    wire = pb.HistoryEvent(eventId=7, timestamp=stamp(MOMENT), **event)
    (parsed,) = TaskHubGrpcClient(channel=OneStream([wire])).get_orchestration_history("i")  # type: ignore[arg-type]
    return parsed


WIRE_TRACE = pb.TraceContext(traceParent="00-1", spanID="s", traceState=text("t"))
WIRE_INSTANCE = pb.OrchestrationInstance(instanceId="p", executionId=text("pe"))
WIRE_PARENT = pb.ParentInstanceInfo(taskScheduledId=3, name=text("n"), orchestrationInstance=WIRE_INSTANCE)
WIRE_FAILURE = pb.TaskFailureDetails(errorType="builtins.ValueError", errorMessage="no", stackTrace=text("at"))
TRACE = history.TraceContext("00-1", "s", "t")
PARENT = history.ParentInstanceInfo(3, "n", None, history.OrchestrationInstance("p", "pe"))
FAILURE = FailureDetails("no", "builtins.ValueError", "at")

CASES: list[tuple[dict[str, Any], history.HistoryEvent]] = [
    (
        {
            "executionStarted": pb.ExecutionStartedEvent(
                name="o",
                version=text(""),
                input=text("1"),
                orchestrationInstance=pb.OrchestrationInstance(instanceId="i"),
                parentInstance=WIRE_PARENT,
                scheduledStartTimestamp=stamp(LATER),
                parentTraceContext=WIRE_TRACE,
                orchestrationSpanID=text("span"),
                tags={"a": "b"},
            )
        },
        history.ExecutionStartedEvent(
            7, MOMENT, "o", "", "1", history.OrchestrationInstance("i"), PARENT, LATER, TRACE, "span", {"a": "b"}
        ),
    ),
    (
        {"executionStarted": pb.ExecutionStartedEvent(name="o")},
        history.ExecutionStartedEvent(7, MOMENT, "o"),
    ),
    (
        {
            "executionCompleted": pb.ExecutionCompletedEvent(
                orchestrationStatus="ORCHESTRATION_STATUS_FAILED", failureDetails=WIRE_FAILURE
            )
        },
        history.ExecutionCompletedEvent(7, MOMENT, 3, None, FAILURE),
    ),
    (
        {"executionTerminated": pb.ExecutionTerminatedEvent(input=text("1"), recurse=True)},
        history.ExecutionTerminatedEvent(7, MOMENT, "1", True),
    ),
    (
        {"taskScheduled": pb.TaskScheduledEvent(name="a", input=text("2"), parentTraceContext=WIRE_TRACE)},
        history.TaskScheduledEvent(7, MOMENT, "a", None, "2", TRACE),
    ),
    (
        {"taskCompleted": pb.TaskCompletedEvent(taskScheduledId=1, result=text("2"))},
        history.TaskCompletedEvent(7, MOMENT, 1, "2"),
    ),
    (
        {"taskFailed": pb.TaskFailedEvent(taskScheduledId=1, failureDetails=WIRE_FAILURE)},
        history.TaskFailedEvent(7, MOMENT, 1, FAILURE),
    ),
    (
        {
            "subOrchestrationInstanceCreated": pb.SubOrchestrationInstanceCreatedEvent(
                instanceId="c", name="o", tags={"a": "b"}
            )
        },
        history.SubOrchestrationInstanceCreatedEvent(7, MOMENT, "c", "o", tags={"a": "b"}),
    ),
    (
        {"subOrchestrationInstanceCompleted": pb.SubOrchestrationInstanceCompletedEvent(taskScheduledId=2)},
        history.SubOrchestrationInstanceCompletedEvent(7, MOMENT, 2),
    ),
    (
        {"subOrchestrationInstanceFailed": pb.SubOrchestrationInstanceFailedEvent(taskScheduledId=2)},
        history.SubOrchestrationInstanceFailedEvent(7, MOMENT, 2),
    ),
    ({"timerCreated": pb.TimerCreatedEvent(fireAt=stamp(LATER))}, history.TimerCreatedEvent(7, MOMENT, LATER)),
    ({"timerFired": pb.TimerFiredEvent(fireAt=stamp(LATER), timerId=4)}, history.TimerFiredEvent(7, MOMENT, LATER, 4)),
    ({"orchestratorStarted": pb.OrchestratorStartedEvent()}, history.OrchestratorStartedEvent(7, MOMENT)),
    ({"orchestratorCompleted": pb.OrchestratorCompletedEvent()}, history.OrchestratorCompletedEvent(7, MOMENT)),
    (
        {"eventSent": pb.EventSentEvent(instanceId="t", name="e", input=text("1"))},
        history.EventSentEvent(7, MOMENT, "t", "e", "1"),
    ),
    ({"eventRaised": pb.EventRaisedEvent(name="e")}, history.EventRaisedEvent(7, MOMENT, "e")),
    ({"genericEvent": pb.GenericEvent(data=text("d"))}, history.GenericEvent(7, MOMENT, "d")),
    (
        {"historyState": pb.HistoryStateEvent(orchestrationState=pb.OrchestrationState(instanceId="i"))},
        history.HistoryStateEvent(7, MOMENT, {"instanceId": "i"}),
    ),
    ({"continueAsNew": pb.ContinueAsNewEvent(input=text("1"))}, history.ContinueAsNewEvent(7, MOMENT, "1")),
    (
        {"executionSuspended": pb.ExecutionSuspendedEvent(input=text("r"))},
        history.ExecutionSuspendedEvent(7, MOMENT, "r"),
    ),
    ({"executionResumed": pb.ExecutionResumedEvent()}, history.ExecutionResumedEvent(7, MOMENT)),
    (
        {
            "entityOperationSignaled": pb.EntityOperationSignaledEvent(
                requestId="r",
                operation="add",
                scheduledTime=stamp(LATER),
                input=text("1"),
                targetInstanceId=text("@e@k"),
            )
        },
        history.EntityOperationSignaledEvent(7, MOMENT, "r", "add", LATER, "1", "@e@k"),
    ),
    (
        {
            "entityOperationCalled": pb.EntityOperationCalledEvent(
                requestId="r", operation="add", parentInstanceId=text("p"), parentExecutionId=text("pe")
            )
        },
        history.EntityOperationCalledEvent(7, MOMENT, "r", "add", parent_instance_id="p", parent_execution_id="pe"),
    ),
    (
        {"entityOperationCompleted": pb.EntityOperationCompletedEvent(requestId="r", output=text("1"))},
        history.EntityOperationCompletedEvent(7, MOMENT, "r", "1"),
    ),
    (
        {"entityOperationFailed": pb.EntityOperationFailedEvent(requestId="r", failureDetails=WIRE_FAILURE)},
        history.EntityOperationFailedEvent(7, MOMENT, "r", FAILURE),
    ),
    (
        {
            "entityLockRequested": pb.EntityLockRequestedEvent(
                criticalSectionId="c", lockSet=["@a@1", "@b@2"], position=1
            )
        },
        history.EntityLockRequestedEvent(7, MOMENT, "c", ["@a@1", "@b@2"], 1),
    ),
    (
        {"entityLockGranted": pb.EntityLockGrantedEvent(criticalSectionId="c")},
        history.EntityLockGrantedEvent(7, MOMENT, "c"),
    ),
    (
        {"entityUnlockSent": pb.EntityUnlockSentEvent(criticalSectionId="c", targetInstanceId=text("@a@1"))},
        history.EntityUnlockSentEvent(7, MOMENT, "c", None, "@a@1"),
    ),
    (
        {
            "executionRewound": pb.ExecutionRewoundEvent(
                reason=text("r"), parentExecutionId=text("pe"), parentInstance=WIRE_PARENT
            )
        },
        history.ExecutionRewoundEvent(7, MOMENT, "r", "pe", parent_instance=PARENT),
    ),
    ({}, history.GenericEvent(7, MOMENT)),
]


@pytest.mark.parametrize("wire, expected", CASES, ids=[next(iter(wire), "unknown kind") for wire, _ in CASES])
def test_an_event_is_read_from_the_wire(wire: dict[str, Any], expected: history.HistoryEvent) -> None:
    assert read(**wire) == expected


def test_every_kind_of_the_protocol_is_covered() -> None:
    kinds = {field.name for field in pb.HistoryEvent.DESCRIPTOR.oneofs_by_name["eventType"].fields}
    assert kinds == {next(iter(wire)) for wire, _ in CASES if wire}


@pytest.mark.parametrize("event", [expected for _, expected in CASES], ids=lambda event: type(event).__name__)
def test_events_have_slots_and_are_not_hashable(event: history.HistoryEvent) -> None:
    assert not hasattr(event, "__dict__")
    assert type(event).__name__ in history.__all__
    with pytest.raises(TypeError):
        hash(event)


def literally(event: Any) -> Any:
    """The definition of ``to_dict``, written another way."""

    def plain(value: Any) -> Any:
        if type(value) is datetime or isinstance(value, datetime):
            return value.isoformat()
        if isinstance(value, list):
            return list(map(plain, value))
        return {k: plain(v) for k, v in value.items()} if isinstance(value, dict) else value

    return plain(dataclasses.asdict(event))


@pytest.mark.parametrize("event", [expected for _, expected in CASES], ids=lambda event: type(event).__name__)
def test_to_dict_is_asdict_with_datetimes_as_text(event: history.HistoryEvent) -> None:
    """Item 25 of the pinned behaviours."""
    assert event.to_dict() == history.to_dict(event) == literally(event)
    assert event.to_dict()["timestamp"] == "2026-01-02T03:04:05.678901+00:00"


Pair = namedtuple("Pair", "left right")


@dataclass
class Widened(history.GenericEvent):
    extra: Any = None


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ([MOMENT], [MOMENT.isoformat()]),
        ({"k": [MOMENT]}, {"k": [MOMENT.isoformat()]}),
        ((MOMENT,), (MOMENT,)),
        (Pair(MOMENT, 1), Pair(MOMENT, 1)),
        (OrderedDict(a=MOMENT), {"a": MOMENT.isoformat()}),
        ({1, 2}, {1, 2}),
    ],
)
def test_to_dict_of_a_subclass_changes_datetimes_in_lists_and_dicts_only(extra: Any, expected: Any) -> None:
    converted = Widened(1, MOMENT, "d", extra).to_dict()
    assert converted["extra"] == expected
    assert type(converted["extra"]) is type(expected)


def test_to_dict_copies_leaves_deeply() -> None:
    leaf = {1}
    converted = Widened(1, MOMENT, None, leaf).to_dict()
    leaf.add(2)
    assert converted["extra"] == {1}


def test_to_dict_raises_what_asdict_raises() -> None:
    with pytest.raises(TypeError):
        history.to_dict("not an event")  # type: ignore[arg-type]


def test_failure_details_become_five_keys() -> None:
    event = history.TaskFailedEvent(1, MOMENT, 1, FAILURE)
    assert list(event.to_dict()["failure_details"]) == [
        "message",
        "error_type",
        "stack_trace",
        "inner_failure",
        "properties",
    ]
