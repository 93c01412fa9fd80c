"""What an entity operation may do."""

import uuid
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any, TypeVar, overload

from durabletask.entities.entity_instance_id import EntityInstanceId
from durabletask.entities.entity_state import EntityState
from durabletask.entities.targets import target_of
from durabletask.internal.texts import require_version
from durabletask.replay.times import naive_utc, to_timestamp
from durabletask.serialization import DEFAULT_DATA_CONVERTER, DataConverter, encoded_text
from durabletask.task import get_name
from google.protobuf.timestamp_pb2 import Timestamp

T = TypeVar("T")


class EntityContext:
    """The state of an entity during one operation, and what the operation sends.

    All of it takes effect when the operation returns, and none of it when the operation raises.
    """

    def __init__(
        self,
        orchestration_id: str,
        operation: str,
        state: EntityState,
        entity_id: EntityInstanceId,
        data_converter: DataConverter = DEFAULT_DATA_CONVERTER,
        *,
        default_version: str | None = None,
    ) -> None:
        self._orchestration_id = orchestration_id
        self._operation = operation
        self._state = state
        self._entity_id = entity_id
        self._converter = data_converter
        self._default_version = default_version

    @property
    def orchestration_id(self) -> str:
        """The entity's own id as text; the name is historical. See ``entity_id``."""
        return self._orchestration_id

    @property
    def operation(self) -> str:
        """The name of the operation that is asked for, in the letter case of the caller."""
        return self._operation

    @property
    def entity_id(self) -> EntityInstanceId:
        """The id of this entity."""
        return self._entity_id

    @property
    def has_state(self) -> bool:
        """Whether the entity has a state now."""
        return self._state.text is not None

    @overload
    def get_state(self, intended_type: type[T], default: T) -> T: ...

    @overload
    def get_state(self, intended_type: type[T], default: None = None) -> T | None: ...

    @overload
    def get_state(self, intended_type: None = None, default: Any = None) -> Any: ...

    def get_state(self, intended_type: type[Any] | None = None, default: Any = None) -> Any:
        """The state, or ``default`` if there is none.

        Every call returns a new value: to change the state, hand the changed value to ``set_state``.

        Args:
            intended_type: Type that the state is to have; without it, plain JSON data.
            default: What to return if the entity has no state.

        Raises:
            TypeError: The state does not have the form of ``intended_type``.
        """
        value = self._converter.deserialize(self._state.text, intended_type)
        if value is None:
            return default
        require_type(value, intended_type, f"The state of entity '{self._entity_id}'")
        return value

    def set_state(self, new_state: Any) -> None:
        """Replace the state; None deletes it. Raises TypeError or ValueError when it cannot be encoded."""
        self._state.text = encoded_text(self._converter, new_state)

    def signal_entity(
        self,
        entity_instance_id: EntityInstanceId,
        operation: str,
        input: Any = None,
        signal_time: datetime | None = None,
    ) -> None:
        """Start an operation of an entity, this one or another, without waiting for it.

        Args:
            entity_instance_id: The entity.
            operation: Name of the operation.
            input: Its input.
            signal_time: When to start it; a naive time is in UTC. Without it, or in the past: at once.

        Raises:
            TypeError: ``entity_instance_id`` is neither an EntityInstanceId nor the text of one, or the input
                cannot be encoded.
            ValueError: It is not the text of one, there is no name of an operation, or the input cannot be encoded.
        """
        # All that can fail comes first: what is caught by the operation must leave no part of a signal behind.
        target = target_of(entity_instance_id, operation, "signal_entity")
        due = None if signal_time is None else to_timestamp(naive_utc(signal_time))
        encoded = encoded_text(self._converter, input)
        signal = self._state.add_action().sendSignal
        signal.instanceId = target
        signal.name = operation
        signal.requestTime.CopyFrom(_now())
        if encoded is not None:
            signal.input.value = encoded
        if due is not None:
            signal.scheduledTime.CopyFrom(due)

    def schedule_new_orchestration(
        self,
        orchestration_name: str | Callable[..., Any],
        input: Any = None,
        instance_id: str | None = None,
        *,
        version: str | None = None,
    ) -> str:
        """Start an orchestration and return its instance id.

        Args:
            orchestration_name: Name of the orchestrator, or its function.
            input: Its input.
            instance_id: Id of the instance; by default 32 random hexadecimal digits.
            version: Version of the orchestration; by default the worker's ``default_version``. An empty
                text starts it without a version.

        Raises:
            TypeError: ``version`` is neither a text nor None.
            ValueError: The name is empty, or ``instance_id`` begins with ``@``, which is for entities.
        """
        require_version(version)
        name = orchestration_name if isinstance(orchestration_name, str) else get_name(orchestration_name)
        if not name:
            raise ValueError("schedule_new_orchestration() needs the name of an orchestrator, got ''.")
        if instance_id is not None and instance_id.startswith("@"):
            raise ValueError(f"The id of an orchestration must not begin with '@', got {instance_id!r}.")
        encoded = encoded_text(self._converter, input)
        start = self._state.add_action().startNewOrchestration
        start.instanceId = instance_id or uuid.uuid4().hex
        start.name = name
        start.requestTime.CopyFrom(_now())
        version = self._default_version if version is None else version
        if version:
            start.version.value = version
        if encoded is not None:
            start.input.value = encoded
        return start.instanceId


def require_type(value: Any, intended_type: Any | None, subject: str) -> None:
    """Raise TypeError unless ``value`` is of ``intended_type``, as far as that type can tell."""
    if not isinstance(intended_type, type):
        return
    try:
        fits = isinstance(value, intended_type)
    except TypeError:
        # Typed dictionaries, protocols and generic aliases do not tell.
        return
    if not fits:
        raise TypeError(
            f"{subject} is {value!r:.200} of type {type(value).__name__}, which cannot become {intended_type.__name__}."
        )


def _now() -> Timestamp:
    return to_timestamp(naive_utc(datetime.now(timezone.utc)))
