"""What a task hub knows of an entity."""

from datetime import datetime, timezone
from typing import Any, TypeVar, overload

from durabletask.entities.entity_context import require_type
from durabletask.entities.entity_instance_id import EntityInstanceId
from durabletask.replay.times import to_datetime
from durabletask.serialization import DEFAULT_DATA_CONVERTER, DataConverter
from durabletask_proto import orchestrator_service_pb2 as pb

T = TypeVar("T")


class EntityMetadata:
    """What a task hub knows of an entity.

    Args:
        id: The entity.
        last_modified: When it last changed, aware, in UTC.
        backlog_queue_size: How many operations wait.
        locked_by: Instance id of the orchestration that holds its lock; empty for none.
        includes_state: Whether the state was asked for.
        state: The state as JSON text; None for none, or if it was not asked for.
        data_converter: Decodes the state.
    """

    def __init__(
        self,
        id: EntityInstanceId,
        last_modified: datetime,
        backlog_queue_size: int,
        locked_by: str,
        includes_state: bool,
        state: Any | None,
        data_converter: DataConverter = DEFAULT_DATA_CONVERTER,
    ) -> None:
        self.id = id
        self.last_modified = last_modified
        self.backlog_queue_size = backlog_queue_size
        self.includes_state = includes_state
        self._locked_by = locked_by
        self._state = state
        self._converter = data_converter

    def __repr__(self) -> str:
        return (
            f"EntityMetadata(id='{self.id}', last_modified={self.last_modified.isoformat()}, "
            f"backlog_queue_size={self.backlog_queue_size}, locked_by={self._locked_by!r}, state={self._state!r:.200})"
        )

    @property
    def locked_by(self) -> str:
        """The instance id of the orchestration that holds the lock; empty for none."""
        return self._locked_by

    @staticmethod
    def from_entity_response(
        entity_response: pb.GetEntityResponse,
        includes_state: bool,
        data_converter: DataConverter = DEFAULT_DATA_CONVERTER,
    ) -> "EntityMetadata":
        """What the answer to a GetEntity call says."""
        return EntityMetadata.from_entity_metadata(entity_response.entity, includes_state, data_converter)

    @staticmethod
    def from_entity_metadata(
        entity: pb.EntityMetadata, includes_state: bool, data_converter: DataConverter = DEFAULT_DATA_CONVERTER
    ) -> "EntityMetadata":
        """What the protocol's form of it says."""
        has_state = includes_state and entity.HasField("serializedState")
        return EntityMetadata(
            id=EntityInstanceId.from_wire(entity.instanceId),
            last_modified=to_datetime(entity.lastModifiedTime).replace(tzinfo=timezone.utc),
            backlog_queue_size=entity.backlogQueueSize,
            locked_by=entity.lockedBy.value,
            includes_state=includes_state,
            state=(entity.serializedState.value or None) if has_state else None,
            data_converter=data_converter,
        )

    @overload
    def get_state(self, intended_type: type[T]) -> T | None: ...

    @overload
    def get_state(self, intended_type: None = None) -> Any: ...

    def get_state(self, intended_type: type[Any] | None = None) -> Any:
        """The state as JSON text, or, with a type, as a value of that type; None if there is none.

        Raises TypeError when it cannot become that type.
        """
        if intended_type is None or intended_type is str:
            return self._state
        return self.get_typed_state(intended_type)

    @overload
    def get_typed_state(self, intended_type: type[T]) -> T | None: ...

    @overload
    def get_typed_state(self, intended_type: None = None) -> Any: ...

    def get_typed_state(self, intended_type: type[Any] | None = None) -> Any:
        """The state decoded from JSON, as a value of ``intended_type`` if one is given; None if there is none.

        Raises TypeError when it cannot become that type.
        """
        value = self._converter.deserialize(self._state, intended_type)
        if value is not None:
            require_type(value, intended_type, f"The state of entity '{self.id}'")
        return value

    def get_locked_by(self) -> EntityInstanceId | None:
        """The entity that holds the lock, or None; locks are held by orchestrations, see ``locked_by``."""
        return EntityInstanceId.from_wire(self._locked_by) if self._locked_by.startswith("@") else None
