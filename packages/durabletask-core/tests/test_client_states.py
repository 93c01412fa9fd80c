"""How the answers of a task hub become the values that clients return."""

from datetime import datetime

import pytest
from durabletask.client import (
    OrchestrationStatus,
    PurgeInstancesResult,
    new_orchestration_state,
    new_purge_instances_result,
    parse_orchestration_state,
)
from durabletask.serialization import JsonDataConverter
from durabletask_proto import orchestrator_service_pb2 as pb
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import BoolValue, StringValue

NAIVE = datetime(2026, 1, 2, 3, 4, 5, 678901)


def stamp(moment: datetime) -> Timestamp:
    result = Timestamp()
    result.FromDatetime(moment)
    return result


def text(value: str) -> StringValue:
    return StringValue(value=value)


def test_canceled_is_a_status_like_the_others() -> None:
    """Summary of the lessons: status 4 (CANCELED) from a backend parses."""
    state = parse_orchestration_state(pb.OrchestrationState(orchestrationStatus=4))  # type: ignore[arg-type]
    assert state.runtime_status is OrchestrationStatus.CANCELED
    assert str(state.runtime_status) == "CANCELED"


def test_a_status_that_the_protocol_does_not_define_is_an_error() -> None:
    with pytest.raises(ValueError, match="8 is not a valid OrchestrationStatus"):
        parse_orchestration_state(pb.OrchestrationState(orchestrationStatus=8))  # type: ignore[arg-type]


def test_a_state_shows_everything_on_the_wire() -> None:
    """R25: version, tags, parent, execution id and times are shown; empty payloads are None."""
    state = parse_orchestration_state(
        pb.OrchestrationState(
            instanceId="i",
            name="n",
            version=text("1"),
            createdTimestamp=stamp(NAIVE),
            lastUpdatedTimestamp=stamp(NAIVE),
            completedTimestamp=stamp(NAIVE),
            scheduledStartTimestamp=Timestamp(),
            input=text(""),
            customStatus=text('"s"'),
            executionId=text("e"),
            parentInstanceId=text("p"),
            tags={"a": "b"},
        )
    )
    assert (state.created_at, state.completed_at, state.scheduled_start_at) == (NAIVE, NAIVE, None)
    assert (state.version, state.tags, state.parent_instance_id, state.execution_id) == ("1", {"a": "b"}, "p", "e")
    assert (state.serialized_input, state.get_input(), state.get_custom_status()) == (None, None, "s")
    assert state.failure_details is None
    assert "_data_converter" not in repr(state)


def test_two_states_are_equal_whatever_decodes_them() -> None:
    wire = pb.OrchestrationState(instanceId="i", input=text("1"))
    assert parse_orchestration_state(wire) == parse_orchestration_state(wire, JsonDataConverter())


@pytest.mark.parametrize(("payload", "value"), [("0", 0), ('""', ""), ("[]", []), ("{}", {}), ("false", False)])
def test_falsy_payloads_are_not_absent_ones(payload: str, value: object) -> None:
    """Lesson 8: falsy values round-trip."""
    state = parse_orchestration_state(pb.OrchestrationState(output=text(payload)))
    assert state.serialized_output == payload
    assert state.get_output() == value


def test_failure_details_need_a_message_or_a_type() -> None:
    empty = parse_orchestration_state(pb.OrchestrationState(failureDetails=pb.TaskFailureDetails()))
    typed = parse_orchestration_state(pb.OrchestrationState(failureDetails=pb.TaskFailureDetails(errorType="T")))
    assert empty.failure_details is None
    assert typed.failure_details is not None
    empty.raise_if_failed()


def test_a_missing_instance_has_no_state() -> None:
    assert new_orchestration_state("i", pb.GetInstanceResponse()) is None


def test_a_state_without_an_id_takes_the_one_that_was_asked_for() -> None:
    state = new_orchestration_state("i", pb.GetInstanceResponse(exists=True))
    assert state is not None
    assert state.instance_id == "i"


@pytest.mark.parametrize(("wire", "expected"), [(None, None), (BoolValue(), False), (BoolValue(value=True), True)])
def test_a_silent_server_does_not_say_whether_a_purge_is_complete(
    wire: BoolValue | None, expected: bool | None
) -> None:
    result = new_purge_instances_result(pb.PurgeInstancesResponse(deletedInstanceCount=2, isComplete=wire))
    assert result == PurgeInstancesResult(2, expected)
