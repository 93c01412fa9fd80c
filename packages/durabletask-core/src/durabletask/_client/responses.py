"""From the protocol's answers to the values that clients return."""

from collections.abc import Iterable
from datetime import datetime

from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto import scheduler_additions_pb2 as additions_pb

from durabletask._client.models import (
    OrchestrationCount,
    OrchestrationState,
    OrchestrationStatus,
    Page,
    PurgeInstancesResult,
)
from durabletask.failures import FailureDetails, failure_details
from durabletask.serialization import DEFAULT_DATA_CONVERTER, DataConverter


def new_orchestration_state(
    instance_id: str, res_pb: pb.GetInstanceResponse, data_converter: DataConverter | None = None
) -> OrchestrationState | None:
    """The state in the answer of GetInstance or one of the waits; None if the instance does not exist."""
    if not res_pb.exists:
        return None
    state = parse_orchestration_state(res_pb.orchestrationState, data_converter)
    state.instance_id = state.instance_id or instance_id
    return state


def parse_orchestration_state(
    state_pb: pb.OrchestrationState, data_converter: DataConverter | None = None
) -> OrchestrationState:
    """The public form of the protocol's orchestration state; empty payloads count as absent.

    Raises:
        ValueError: The status is a number that the protocol does not define.
    """
    return OrchestrationState(
        instance_id=state_pb.instanceId,
        name=state_pb.name,
        runtime_status=OrchestrationStatus(state_pb.orchestrationStatus),
        created_at=state_pb.createdTimestamp.ToDatetime(),
        last_updated_at=state_pb.lastUpdatedTimestamp.ToDatetime(),
        serialized_input=state_pb.input.value or None,
        serialized_output=state_pb.output.value or None,
        serialized_custom_status=state_pb.customStatus.value or None,
        failure_details=_failure(state_pb),
        _data_converter=data_converter or DEFAULT_DATA_CONVERTER,
        version=state_pb.version.value or None,
        tags=dict(state_pb.tags),
        parent_instance_id=state_pb.parentInstanceId.value or None,
        execution_id=state_pb.executionId.value or None,
        completed_at=_moment(state_pb, "completedTimestamp"),
        scheduled_start_at=_moment(state_pb, "scheduledStartTimestamp"),
    )


def new_purge_instances_result(res_pb: pb.PurgeInstancesResponse) -> PurgeInstancesResult:
    """The public form of the answer of PurgeInstances."""
    is_complete = res_pb.isComplete.value if res_pb.HasField("isComplete") else None
    return PurgeInstancesResult(res_pb.deletedInstanceCount, is_complete)


def orchestration_count(count: additions_pb.InstanceCount, by_name: bool, by_version: bool) -> OrchestrationCount:
    return OrchestrationCount(
        OrchestrationStatus(count.status),
        count.count,
        count.name if by_name else None,
        count.version if by_version else None,
    )


def instance_id_page(res: pb.ListInstanceIdsResponse) -> Page[str]:
    """The public form of the answer of ListInstanceIds."""
    return Page(list(res.instanceIds), res.lastInstanceKey.value or None)


def history_events(chunks: Iterable[pb.HistoryChunk]) -> list[pb.HistoryEvent]:
    """The events of all chunks of a streamed history."""
    return [event for chunk in chunks for event in chunk.events]


def _failure(state: pb.OrchestrationState) -> FailureDetails | None:
    details = state.failureDetails
    return failure_details(details) if details.errorMessage or details.errorType else None


def _moment(state: pb.OrchestrationState, field: str) -> datetime | None:
    # Some SDKs send the epoch where they mean "none", and some servers store it.
    timestamp = getattr(state, field)
    moment: datetime | None = timestamp.ToDatetime() if timestamp.seconds or timestamp.nanos else None
    return moment
