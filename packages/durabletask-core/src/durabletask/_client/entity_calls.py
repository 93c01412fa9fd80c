"""The entity operations of a client. The values they return come from the entities add-on."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from durabletask_proto import orchestrator_service_pb2 as pb

from durabletask._client import requests
from durabletask._client.calls import Call, CallBuilder, Conversation, all_pages, nothing
from durabletask._client.models import CleanEntityStorageResult, EntityQuery
from durabletask._client.requests import RequestBuilder
from durabletask.features import ENTITIES, require_entity_reader, require_feature

if TYPE_CHECKING:
    from durabletask.entities import EntityInstanceId, EntityMetadata


class EntityCallBuilder:
    """Makes the entity calls of a client; each raises FeatureMissingError if the add-on is not installed."""

    def __init__(self, calls: CallBuilder) -> None:
        self._converter = calls.data_converter
        self._logger = calls.logger
        self._requests = RequestBuilder(calls.data_converter)
        self._span = calls.span

    def signal(
        self, entity_instance_id: EntityInstanceId, operation_name: str, input: Any, signal_time: datetime | None
    ) -> Call[None]:
        require_feature(ENTITIES)
        self._logger.debug("Signaling operation '%s' of entity '%s'.", operation_name, entity_instance_id)
        request = self._requests.signal_entity(str(entity_instance_id), operation_name, input, signal_time)
        return Call("SignalEntity", request, nothing, uploads_for=request.instanceId, span=self._span(request))

    def get(self, entity_instance_id: EntityInstanceId, include_state: bool) -> Call[EntityMetadata | None]:
        reader = require_entity_reader()

        def parse(response: pb.GetEntityResponse) -> EntityMetadata | None:
            if not response.exists:
                return None
            metadata: EntityMetadata = reader.from_entity_response(response, include_state, self._converter)
            return metadata

        request = pb.GetEntityRequest(instanceId=str(entity_instance_id), includeState=include_state)
        return Call("GetEntity", request, parse, downloads=True)

    def get_all(self, entity_query: EntityQuery | None) -> Conversation[list[EntityMetadata]]:
        reader = require_entity_reader()
        query = entity_query or EntityQuery()

        def page_call(token: str | None) -> Call[pb.QueryEntitiesResponse]:
            return Call("QueryEntities", requests.query_entities(query, token), lambda page: page, downloads=True)

        pages = yield from all_pages(page_call, self._logger)
        return [
            reader.from_entity_metadata(entity, query.include_state, self._converter)
            for page in pages
            for entity in page.entities
        ]

    def clean_storage(
        self, remove_empty_entities: bool, release_orphaned_locks: bool
    ) -> Conversation[CleanEntityStorageResult]:
        require_feature(ENTITIES)

        def page_call(token: str | None) -> Call[pb.CleanEntityStorageResponse]:
            request = pb.CleanEntityStorageRequest(
                continuationToken=requests.optional_string(token),
                removeEmptyEntities=remove_empty_entities,
                releaseOrphanedLocks=release_orphaned_locks,
            )
            return Call("CleanEntityStorage", request, lambda page: page)

        pages = yield from all_pages(page_call, self._logger)
        return CleanEntityStorageResult(
            empty_entities_removed=sum(page.emptyEntitiesRemoved for page in pages),
            orphaned_locks_released=sum(page.orphanedLocksReleased for page in pages),
        )
