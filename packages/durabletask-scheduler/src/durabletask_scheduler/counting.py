"""How many instances there are: runs on reader threads, straight from storage."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto import scheduler_additions_pb2 as additions_pb
from google.protobuf.message import Message

from durabletask_scheduler.queries import Query, time_of
from durabletask_scheduler.storage import InstanceFilter


def count_instances(call: Query) -> additions_pb.CountInstancesResponse:
    request: additions_pb.CountInstancesRequest = call.request
    query = request.query
    where = InstanceFilter(
        statuses=frozenset(query.runtimeStatus),
        created_from=time_of(query, "createdTimeFrom"),
        created_to=time_of(query, "createdTimeTo"),
        id_prefix=query.instanceIdPrefix.value,
        name=request.name.value if request.HasField("name") else None,
        version=request.version.value if request.HasField("version") else None,
        tags=tuple(sorted(request.tags.items())),
    )
    counts = call.storage.counts(call.task_hub, where, by_name=request.byName, by_version=request.byVersion)
    return additions_pb.CountInstancesResponse(
        counts=[
            additions_pb.InstanceCount(
                status=pb.OrchestrationStatus.ValueType(status), name=name, version=version, count=count
            )
            for (status, name, version), count in sorted(counts.items())
        ]
    )


HANDLERS: Mapping[str, Callable[[Query], Message]] = {"CountInstances": count_instances}
