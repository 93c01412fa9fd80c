"""From the arguments of client methods to the protocol's requests."""

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto import scheduler_additions_pb2 as additions_pb
from durabletask_proto.ids import random_id, random_uuid
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from durabletask._client.models import EntityQuery, NewOrchestration, OrchestrationQuery, OrchestrationStatus
from durabletask.internal.texts import require_tags, require_version
from durabletask.serialization import DataConverter
from durabletask.task import get_name

QUERY_METADATA_KEY = "durabletask-query"


def optional_string(value: str | None) -> StringValue | None:
    return None if value is None else StringValue(value=value)


def optional_timestamp(value: datetime | None) -> Timestamp | None:
    """A naive datetime is taken as UTC."""
    if value is None:
        return None
    timestamp = Timestamp()
    timestamp.FromDatetime(value)
    return timestamp


def _now() -> Timestamp:
    seconds, nanos = divmod(time.time_ns(), 1_000_000_000)
    return Timestamp(seconds=seconds, nanos=nanos)


def _statuses(statuses: Iterable[OrchestrationStatus] | None) -> list[Any]:
    return [status.value for status in statuses or ()]


@dataclass(frozen=True, slots=True)
class RequestBuilder:
    """Builds requests; the data converter encodes the payloads in them."""

    data_converter: DataConverter

    def _put(self, value: Any, field: StringValue) -> None:
        """Encode a payload into a field of a request: a message made apart would be copied, which is slow if large.

        None leaves the field unset, which is not the same as ``null``.
        """
        encoded = None if value is None else self.data_converter.serialize(value)
        if encoded is not None:
            field.value = encoded

    def start(
        self,
        new: NewOrchestration,
        default_version: str | None,
        make: Callable[..., pb.CreateInstanceRequest] = pb.CreateInstanceRequest,
    ) -> pb.CreateInstanceRequest:
        """Start an instance.

        Args:
            new: The instance.
            default_version: Its version if it names none.
            make: Makes the request, as a message of its own or as a part of another one.

        Raises:
            ValueError: The instance id is the empty string, or the orchestrator is a lambda.
            TypeError: The version is neither a text nor None, or the tags are not texts.
        """
        version = require_version(new.version) or require_version(default_version, "default_version")
        require_tags(new.tags)
        if new.instance_id == "":
            raise ValueError("instance_id must not be empty: leave it out to have one generated")
        orchestrator = new.orchestrator
        request = make(
            name=orchestrator if isinstance(orchestrator, str) else get_name(orchestrator),
            instanceId=new.instance_id or random_id(),
            orchestrationIdReusePolicy=new.reuse_id_policy,
            tags=new.tags,
        )
        # In place: to make a message for each field and have it copied is what costs most here.
        now = request.requestTime
        now.seconds, now.nanos = divmod(time.time_ns(), 1_000_000_000)
        if version:
            request.version.value = version
        self._put(new.input, request.input)
        if new.start_at is not None:
            request.scheduledStartTimestamp.FromDatetime(new.start_at)
        return request

    def raise_event(self, instance_id: str, event_name: str, data: Any) -> pb.RaiseEventRequest:
        request = pb.RaiseEventRequest(instanceId=instance_id, name=event_name)
        self._put(data, request.input)
        return request

    def terminate(self, instance_id: str, output: Any, recursive: bool) -> pb.TerminateRequest:
        request = pb.TerminateRequest(instanceId=instance_id, recursive=recursive)
        self._put(output, request.output)
        return request

    def signal_entity(
        self, entity_id: str, operation_name: str, input: Any, signal_time: datetime | None
    ) -> pb.SignalEntityRequest:
        request = pb.SignalEntityRequest(
            instanceId=entity_id,
            name=operation_name,
            requestId=random_uuid(),
            scheduledTime=optional_timestamp(signal_time),
            requestTime=_now(),
        )
        self._put(input, request.input)
        return request


def query_instances(query: OrchestrationQuery, continuation_token: str | None) -> pb.QueryInstancesRequest:
    return pb.QueryInstancesRequest(
        query=pb.InstanceQuery(
            runtimeStatus=_statuses(query.runtime_status),
            createdTimeFrom=optional_timestamp(query.created_time_from),
            createdTimeTo=optional_timestamp(query.created_time_to),
            maxInstanceCount=query.max_instance_count or 0,
            continuationToken=optional_string(continuation_token),
            instanceIdPrefix=optional_string(query.instance_id_prefix),
            fetchInputsAndOutputs=query.fetch_inputs_and_outputs,
        )
    )


def count_instances(query: OrchestrationQuery, by_name: bool, by_version: bool) -> additions_pb.CountInstancesRequest:
    return additions_pb.CountInstancesRequest(
        query=query_instances(query, None).query,
        name=optional_string(query.name),
        version=optional_string(query.version),
        tags=query.tags,
        byName=by_name,
        byVersion=by_version,
    )


def query_metadata(query: OrchestrationQuery) -> tuple[tuple[str, str], ...]:
    """The filters for which the protocol has no field, as metadata for servers that know how to read it."""
    filters = {"name": query.name, "version": query.version, "tags": query.tags}
    known = {key: value for key, value in filters.items() if value is not None}
    return ((QUERY_METADATA_KEY, json.dumps(known)),) if known else ()


def list_instance_ids(
    runtime_status: Iterable[OrchestrationStatus] | None,
    completed_time_from: datetime | None,
    completed_time_to: datetime | None,
    page_size: int | None,
    continuation_token: str | None,
) -> pb.ListInstanceIdsRequest:
    return pb.ListInstanceIdsRequest(
        runtimeStatus=_statuses(runtime_status),
        completedTimeFrom=optional_timestamp(completed_time_from),
        completedTimeTo=optional_timestamp(completed_time_to),
        pageSize=page_size or 0,
        lastInstanceKey=optional_string(continuation_token),
    )


def purge_by_filter(
    created_time_from: datetime | None,
    created_time_to: datetime | None,
    runtime_status: Iterable[OrchestrationStatus] | None,
    recursive: bool,
    timeout: timedelta | None,
) -> pb.PurgeInstancesRequest:
    """Purge what a filter selects.

    Raises:
        ValueError: The timeout is zero or negative.
    """
    duration = None
    if timeout is not None:
        if timeout <= timedelta(0):
            raise ValueError(f"timeout must be greater than zero, found {timeout!r}")
        duration = Duration()
        duration.FromTimedelta(timeout)
    return pb.PurgeInstancesRequest(
        purgeInstanceFilter=pb.PurgeInstanceFilter(
            createdTimeFrom=optional_timestamp(created_time_from),
            createdTimeTo=optional_timestamp(created_time_to),
            runtimeStatus=_statuses(runtime_status),
            timeout=duration,
        ),
        recursive=recursive,
    )


def query_entities(query: EntityQuery, continuation_token: str | None) -> pb.QueryEntitiesRequest:
    page_size = None if query.page_size is None else Int32Value(value=query.page_size)
    return pb.QueryEntitiesRequest(
        query=pb.EntityQuery(
            instanceIdStartsWith=optional_string(query.instance_id_starts_with),
            lastModifiedFrom=optional_timestamp(query.last_modified_from),
            lastModifiedTo=optional_timestamp(query.last_modified_to),
            includeState=query.include_state,
            includeTransient=query.include_transient,
            pageSize=page_size,
            continuationToken=optional_string(continuation_token),
        )
    )
