"""What only reads, or selects before it changes: runs on reader threads, straight from storage."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from durabletask_proto import orchestrator_service_pb2 as pb
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import BoolValue, StringValue

from durabletask_scheduler import given_json, paging
from durabletask_scheduler.engine import Command, Engine
from durabletask_scheduler.hub import views
from durabletask_scheduler.hub.entity_ids import is_entity
from durabletask_scheduler.hub.model import TERMINAL, HistoryRow, HubError, Instance
from durabletask_scheduler.hub.times import SECOND, from_timestamp
from durabletask_scheduler.limits import HISTORY_CHUNK_BYTES, MAX_BATCH, check_batch, page_size
from durabletask_scheduler.requests import purge_all, terminate_all
from durabletask_scheduler.storage import InstanceFilter, InstanceSummary, Storage

QUERY_METADATA = "durabletask-query"
"""Metadata key of QueryInstances: JSON with any of "name", "version" (strings) and "tags" (strings by name)."""

# Instances that one command of a purge by filter deletes: the engine does nothing else meanwhile.
_PURGE_PAGE = 32


@dataclass(frozen=True, slots=True)
class Query:
    """One call that a reader answers."""

    engine: Engine
    storage: Storage
    task_hub: str
    request: Any
    metadata: Mapping[str, str]


def query_instances(call: Query) -> pb.QueryInstancesResponse:
    query: pb.InstanceQuery = call.request.query
    limit = page_size(query.maxInstanceCount)
    extra = _extra_conditions(call.metadata)
    where = InstanceFilter(
        statuses=frozenset(query.runtimeStatus),
        created_from=time_of(query, "createdTimeFrom"),
        created_to=time_of(query, "createdTimeTo"),
        id_prefix=query.instanceIdPrefix.value,
        name=extra.name,
        version=extra.version,
        tags=extra.tags,
    )
    after = paging.decode("QueryInstances", query.continuationToken.value)
    rows = call.storage.query(call.task_hub, where, limit=limit + 1, after=after, payloads=query.fetchInputsAndOutputs)
    page = rows[:limit]
    more = len(rows) > limit
    response = pb.QueryInstancesResponse(
        continuationToken=_token("QueryInstances", page[-1].created_at, page[-1].key) if more else None
    )
    for row in page:
        views.describe(row, response.orchestrationState.add(), payloads=query.fetchInputsAndOutputs)
    return response


def list_instance_ids(call: Query) -> pb.ListInstanceIdsResponse:
    request: pb.ListInstanceIdsRequest = call.request
    limit = page_size(request.pageSize)
    where = InstanceFilter(
        statuses=frozenset(request.runtimeStatus),
        completed_from=time_of(request, "completedTimeFrom"),
        completed_to=time_of(request, "completedTimeTo"),
    )
    after = paging.decode("ListInstanceIds", request.lastInstanceKey.value)
    rows = call.storage.query_completed(call.task_hub, where, limit=limit + 1, after=after)
    page = rows[:limit]
    more = len(rows) > limit
    return pb.ListInstanceIdsResponse(
        instanceIds=[row.instance_id for row in page],
        lastInstanceKey=_token("ListInstanceIds", page[-1].completed_at, page[-1].key) if more else None,
    )


def terminate_descendants(call: Query) -> pb.TerminateResponse:
    """Terminate whatever lives below the instance, also below children that have ended."""
    below = _descendants(call, [call.request.instanceId])
    while batch := list(islice(below, MAX_BATCH)):
        on_engine(call.engine, partial(terminate_all, call.engine, call.task_hub, batch, call.request))
    return pb.TerminateResponse()


def purge_instances(call: Query) -> pb.PurgeInstancesResponse:
    selection: str = call.request.WhichOneof("request") or ""
    purge = _PURGES.get(selection)
    if purge is None:
        raise HubError(
            "INVALID_ARGUMENT", "PurgeInstances needs an instance id, a filter or a batch of ids; found none of them"
        )
    return purge(call)


def _purge_one(call: Query) -> pb.PurgeInstancesResponse:
    # Older clients never say what they mean, so it is the id that tells.
    if call.request.isOrchestration and is_entity(call.request.instanceId):
        return _purged(0)
    return _purged(_purge(call, [call.request.instanceId], single=True))


def _purge_batch(call: Query) -> pb.PurgeInstancesResponse:
    instance_ids = list(call.request.instanceBatch.instanceIds)
    check_batch(len(instance_ids))
    return _purged(_purge(call, instance_ids, single=False))


def _purge_filter(call: Query) -> pb.PurgeInstancesResponse:
    chosen: pb.PurgeInstanceFilter = call.request.purgeInstanceFilter
    statuses = frozenset(chosen.runtimeStatus) & TERMINAL if chosen.runtimeStatus else TERMINAL
    if not statuses:
        return _purged(0)
    where = InstanceFilter(
        statuses=statuses,
        created_from=time_of(chosen, "createdTimeFrom"),
        created_to=time_of(chosen, "createdTimeTo"),
    )
    deadline = None
    if chosen.HasField("timeout"):
        deadline = time.monotonic() + chosen.timeout.ToNanoseconds() / SECOND
    deleted = 0
    for page in _pages(call, where):
        if deadline is not None and time.monotonic() >= deadline:
            return _purged(deleted, complete=False)
        deleted += _purge(call, [row.instance_id for row in page], single=False)
    return _purged(deleted)


def _pages(call: Query, where: InstanceFilter) -> Iterator[list[InstanceSummary]]:
    after: paging.Position | None = None
    while page := call.storage.query(call.task_hub, where, limit=_PURGE_PAGE, after=after, payloads=False):
        yield page
        after = (page[-1].created_at, page[-1].key)


def _purge(call: Query, instance_ids: list[str], *, single: bool) -> int:
    if call.request.recursive:
        instance_ids = [*instance_ids, *_descendants(call, instance_ids)]
    deleted = 0
    for first in range(0, len(instance_ids), MAX_BATCH):
        batch = instance_ids[first : first + MAX_BATCH]
        purge = partial(purge_all, call.engine, call.task_hub, batch, single=single and first == 0)
        deleted += on_engine(call.engine, purge)
    return deleted


def _descendants(call: Query, instance_ids: Iterable[str]) -> Iterator[str]:
    """All children, grandchildren and so on, each once."""
    seen = set(instance_ids)
    parents = list(seen)
    while parents:
        for child in call.storage.children(call.task_hub, parents.pop()):
            if child not in seen:
                seen.add(child)
                parents.append(child)
                yield child


def on_engine(engine: Engine, run: Callable[[], int]) -> int:
    """Run it in the engine, and wait until what it changed is durable."""
    outcome: Future[int] = Future()
    counted: list[int] = []

    def command() -> Message:
        counted.append(run())
        return pb.PurgeInstancesResponse()

    def reply(response: Message | None, error: HubError | None) -> None:
        if error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(counted[0])

    engine.submit(Command(command, reply))
    return outcome.result()


def _purged(count: int, *, complete: bool = True) -> pb.PurgeInstancesResponse:
    return pb.PurgeInstancesResponse(deletedInstanceCount=count, isComplete=BoolValue(value=complete))


_PURGES: Mapping[str, Callable[[Query], pb.PurgeInstancesResponse]] = {
    "instanceId": _purge_one,
    "purgeInstanceFilter": _purge_filter,
    "instanceBatch": _purge_batch,
}

HANDLERS: Mapping[str, Callable[[Query], Message]] = {
    "QueryInstances": query_instances,
    "ListInstanceIds": list_instance_ids,
    "PurgeInstances": purge_instances,
}


def instance_history(
    storage: Storage, task_hub: str, request: pb.StreamInstanceHistoryRequest, wanted: Callable[[], bool]
) -> Iterator[pb.HistoryEvent]:
    """The history of the current generation as clients see it.

    Args:
        wanted: whether the caller still waits; if not, there is nothing.

    Raises:
        HubError: NOT_FOUND if there is no such instance, or not in the generation that was asked for.
    """
    while wanted():
        instance = storage.load(task_hub, request.instanceId)
        if instance is None:
            raise HubError("NOT_FOUND", f"there is no orchestration instance '{request.instanceId}' in this task hub")
        if request.executionId.value not in ("", instance.execution_id):
            raise HubError(
                "NOT_FOUND",
                f"orchestration instance '{request.instanceId}' has execution id '{instance.execution_id}', "
                f"not '{request.executionId.value}'",
            )
        rows = storage.history(instance.key)
        again = storage.load(task_hub, request.instanceId)
        # The reads may straddle commits. As long as the generation is the same these only add rows at the end;
        # another one, also a rewound one, has another execution id.
        if again is not None and (again.key, again.execution_id) == (instance.key, instance.execution_id):
            return views.each_event(instance, _rows_of(instance, rows), whole=True)
    return iter(())


def _rows_of(instance: Instance, rows: Iterable[HistoryRow]) -> list[HistoryRow]:
    """Those of the rows that the instance had when it was read, without what was added meanwhile."""
    # Without ExecutionStarted and ExecutionCompleted, which are not in rows.
    missing = instance.event_count - 1 - bool(instance.completed)
    kept: list[HistoryRow] = []
    for row in rows:
        if missing <= 0:
            break
        kept.append(row)
        missing -= row.count
    return kept


def past_of_turn(storage: Storage, instance: Instance, last_key: int) -> Iterator[pb.HistoryEvent]:
    """Just the events that the turn in flight has as its past; ``last_key`` is its last history row."""
    rows = [row for row in storage.history(instance.key) if row.key <= last_key]
    return views.each_event(instance, rows, whole=False)


def chunks(events: Iterable[pb.HistoryEvent]) -> Iterator[pb.HistoryChunk]:
    """The events in messages of moderate size."""
    chunk = pb.HistoryChunk()
    size = 0
    for event in events:
        event_size = event.ByteSize()
        if size and size + event_size > HISTORY_CHUNK_BYTES:
            yield chunk
            chunk = pb.HistoryChunk()
            size = 0
        chunk.events.add().CopyFrom(event)
        size += event_size
    if size:
        yield chunk


@dataclass(frozen=True, slots=True)
class _Extra:
    name: str | None = None
    version: str | None = None
    tags: tuple[tuple[str, str], ...] = ()


def _extra_conditions(metadata: Mapping[str, str]) -> _Extra:
    """Conditions that the protocol has no field for."""
    text = metadata.get(QUERY_METADATA)
    if text is None:
        return _Extra()
    try:
        fields = given_json.parse(text)
    except ValueError as error:
        raise _bad_conditions(f"it is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise _bad_conditions(f"it is a {type(fields).__name__}")
    unknown = fields.keys() - {"name", "version", "tags"}
    if unknown:
        raise _bad_conditions(f"unknown: {', '.join(sorted(unknown))}")
    tags = fields.get("tags") or {}
    if not isinstance(tags, dict) or not all(isinstance(value, str) for value in tags.values()):
        raise _bad_conditions("the tags are not strings by name")
    for key in ("name", "version"):
        if not isinstance(fields.get(key), (str, type(None))):
            raise _bad_conditions(f"the {key} is not a string")
    return _Extra(fields.get("name"), fields.get("version"), tuple(sorted(tags.items())))


def _bad_conditions(problem: str) -> HubError:
    return HubError(
        "INVALID_ARGUMENT",
        f"metadata '{QUERY_METADATA}': expected a JSON object with any of name, version and tags; {problem}",
    )


def _token(query: str, at: int, key: int) -> StringValue:
    return StringValue(value=paging.encode(query, (at, key)))


def time_of(message: Message, name: str) -> int:
    """A field that is a Timestamp; 0 if it is not set."""
    timestamp: Timestamp = getattr(message, name)
    return from_timestamp(timestamp) if message.HasField(name) else 0
