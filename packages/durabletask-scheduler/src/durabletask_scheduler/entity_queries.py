"""Queries of entities, and cleaning up among them: on reader threads, straight from storage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from durabletask_proto import orchestrator_service_pb2 as pb
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import StringValue

from durabletask_scheduler import entity_calls, given_json, paging
from durabletask_scheduler.engine import Engine
from durabletask_scheduler.hub import times
from durabletask_scheduler.hub.entity_ids import is_entity, normalise
from durabletask_scheduler.hub.entity_requests import metadata
from durabletask_scheduler.hub.model import HubError
from durabletask_scheduler.limits import page_size
from durabletask_scheduler.queries import Query, on_engine
from durabletask_scheduler.storage.entities import EntityFilter, EntitySelection, EntitySummary

UNLOCK_METADATA = "durabletask-unlock"
"""Metadata key of CleanEntityStorage: JSON with "entity" (its id) and "reason". Releases just that one by force."""

_PAGE = 200


def query_entities(call: Query) -> pb.QueryEntitiesResponse:
    query: pb.EntityQuery = call.request.query
    limit = page_size(query.pageSize.value)
    where = EntityFilter(
        selection=EntitySelection.ALL if query.includeTransient else EntitySelection.WITH_STATE,
        id_prefix=_prefix(query.instanceIdStartsWith.value),
        modified_from=times.from_timestamp(query.lastModifiedFrom) if query.HasField("lastModifiedFrom") else 0,
        modified_to=times.from_timestamp(query.lastModifiedTo) if query.HasField("lastModifiedTo") else 0,
    )
    after = paging.decode_name("QueryEntities", query.continuationToken.value)
    rows = call.storage.query_entities(call.task_hub, where, limit=limit + 1, after=after, states=query.includeState)
    page = rows[:limit]
    token = paging.encode_name("QueryEntities", page[-1].instance_id) if len(rows) > limit else None
    return pb.QueryEntitiesResponse(
        entities=[metadata(row, state=True) for row in page],
        continuationToken=None if token is None else StringValue(value=token),
    )


def clean_entity_storage(call: Query) -> pb.CleanEntityStorageResponse:
    """Everything is cleaned in one call, so there is never a continuation token."""
    unlock = call.metadata.get(UNLOCK_METADATA)
    if unlock is not None:
        return pb.CleanEntityStorageResponse(orphanedLocksReleased=_unlock(call, unlock))
    request: pb.CleanEntityStorageRequest = call.request
    released = removed = 0
    if request.releaseOrphanedLocks:
        released = _clean(call, EntitySelection.LOCKED, entity_calls.release_if_orphaned)
    if request.removeEmptyEntities:
        removed = _clean(call, EntitySelection.STATELESS, entity_calls.remove_if_empty)
    return pb.CleanEntityStorageResponse(emptyEntitiesRemoved=removed, orphanedLocksReleased=released)


HANDLERS: Mapping[str, Callable[[Query], Message]] = {
    "QueryEntities": query_entities,
    "CleanEntityStorage": clean_entity_storage,
}


def _clean(call: Query, selection: EntitySelection, clean: Callable[[Engine, str, str], int]) -> int:
    count = 0
    for page in _pages(call, selection):
        count += on_engine(call.engine, partial(_clean_page, call, page, clean))
    return count


def _clean_page(call: Query, page: list[EntitySummary], clean: Callable[[Engine, str, str], int]) -> int:
    return sum(clean(call.engine, call.task_hub, row.instance_id) for row in page)


def _pages(call: Query, selection: EntitySelection) -> Iterator[list[EntitySummary]]:
    where, after = EntityFilter(selection), ""
    while page := call.storage.query_entities(call.task_hub, where, limit=_PAGE, after=after, states=False):
        yield page
        after = page[-1].instance_id


def _unlock(call: Query, text: str) -> int:
    try:
        fields = given_json.parse(text)
        entity, reason = fields["entity"], fields["reason"]
    except (ValueError, KeyError, TypeError) as error:
        raise _bad_unlock() from error
    if not (isinstance(entity, str) and isinstance(reason, str) and is_entity(entity) and reason.strip()):
        raise _bad_unlock()
    unlock = partial(entity_calls.force_unlock, call.engine, call.task_hub, entity, reason)
    return on_engine(call.engine, unlock)


def _bad_unlock() -> HubError:
    return HubError(
        "INVALID_ARGUMENT",
        f"metadata '{UNLOCK_METADATA}': expected a JSON object with the id of an entity, such as "
        '"entity": "@counter@a", and a "reason"',
    )


def _prefix(text: str) -> str:
    """Clients may leave out the '@', and write the name as they like."""
    if not text:
        return ""
    return normalise(text if is_entity(text) else f"@{text}")
