"""Which entity, and which of its operations, a message is for, as user code names them."""

from typing import Any

from durabletask.entities.entity_instance_id import EntityInstanceId


def target_of(entity: Any, operation: Any, method: str) -> str:
    """The text of the entity's id, once both it and the operation can be meant.

    Raises TypeError or ValueError, naming the method that was given them, when one of them cannot.
    """
    if not isinstance(operation, str) or not operation:
        raise ValueError(f"{method}() needs the name of an operation, got {operation!r}.")
    return str(entity_of(entity, method))


def entity_of(entity: Any, method: str) -> EntityInstanceId:
    """The entity's id, which may be given as its text.

    Raises TypeError or ValueError, naming the method that was given it, when it is none.
    """
    if isinstance(entity, EntityInstanceId):
        return entity
    if isinstance(entity, str):
        return EntityInstanceId.parse(entity)
    raise TypeError(f"{method}() needs an EntityInstanceId, got {entity!r} of type {type(entity).__name__}.")
