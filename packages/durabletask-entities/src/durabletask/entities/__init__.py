"""Durable entities: small pieces of named, durable state whose operations run one at a time.

An entity is a function or a class, registered with ``worker.add_entity``. Clients and orchestrators
signal it, orchestrators also call and lock it. ``durabletask.entities.testing`` runs operations
without any task hub; ``durabletask.entities.calling`` calls an entity from a client.
"""

from durabletask.entities.durable_entity import DurableEntity
from durabletask.entities.entity_context import EntityContext
from durabletask.entities.entity_instance_id import EntityInstanceId
from durabletask.entities.entity_lock import EntityLock
from durabletask.entities.entity_metadata import EntityMetadata
from durabletask.entities.entity_operation_failed_exception import EntityOperationFailedException

__all__ = [
    "DurableEntity",
    "EntityContext",
    "EntityInstanceId",
    "EntityLock",
    "EntityMetadata",
    "EntityOperationFailedException",
]

PACKAGE_NAME = "durabletask.entities"
