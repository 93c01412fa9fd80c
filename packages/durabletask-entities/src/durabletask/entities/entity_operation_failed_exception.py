"""The failure of an entity operation, as the one who called it sees it."""

from durabletask.entities.entity_instance_id import EntityInstanceId
from durabletask_proto import orchestrator_service_pb2 as pb


class EntityOperationFailedException(Exception):
    """An operation of an entity failed.

    Args:
        entity_instance_id: The entity.
        operation_name: The operation.
        failure_details: What the operation raised, in the protocol's form.
    """

    def __init__(
        self, entity_instance_id: EntityInstanceId, operation_name: str, failure_details: pb.TaskFailureDetails
    ) -> None:
        super().__init__(
            f"Operation '{operation_name}' on entity '{entity_instance_id}' failed with error: "
            f"{failure_details.errorMessage}"
        )
        self.entity_instance_id = entity_instance_id
        self.operation_name = operation_name
        self.failure_details = failure_details
