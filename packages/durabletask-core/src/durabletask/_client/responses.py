"""From the protocol's answers to the values that clients return."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final

from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto import scheduler_additions_pb2 as additions_pb
from google.protobuf.timestamp_pb2 import Timestamp

from durabletask._client.models import (
    OrchestrationCount,
    OrchestrationState,
    OrchestrationStatus,
    Page,
    PurgeInstancesResult,
)
from durabletask.failures import failure_details
from durabletask.serialization import DEFAULT_DATA_CONVERTER, DataConverter

_STATUSES: Final[Mapping[int, OrchestrationStatus]] = {status.value: status for status in OrchestrationStatus}
_EPOCH: Final = datetime(1970, 1, 1)


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
    number, tags, failure = state_pb.orchestrationStatus, state_pb.tags, state_pb.failureDetails
    return OrchestrationState(
        instance_id=state_pb.instanceId,
        name=state_pb.name,
        runtime_status=_STATUSES.get(number) or OrchestrationStatus(number),
        created_at=_moment(state_pb.createdTimestamp) or _EPOCH,
        last_updated_at=_moment(state_pb.lastUpdatedTimestamp) or _EPOCH,
        serialized_input=state_pb.input.value or None,
        serialized_output=state_pb.output.value or None,
        serialized_custom_status=state_pb.customStatus.value or None,
        failure_details=failure_details(failure) if failure.errorMessage or failure.errorType else None,
        _data_converter=data_converter or DEFAULT_DATA_CONVERTER,
        version=state_pb.version.value or None,
        tags=dict(tags) if tags else {},
        parent_instance_id=state_pb.parentInstanceId.value or None,
        execution_id=state_pb.executionId.value or None,
        completed_at=_moment(state_pb.completedTimestamp),
        scheduled_start_at=_moment(state_pb.scheduledStartTimestamp),
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


def _moment(timestamp: Timestamp) -> datetime | None:
    # Some SDKs send the epoch where they mean "none", and some servers store it.
    seconds, nanos = timestamp.seconds, timestamp.nanos
    return _EPOCH + timedelta(0, seconds, nanos // 1000) if seconds or nanos else None
