"""Calling an entity from a client, by way of a small orchestration that makes the call.

Clients can only signal entities. Where a result is wanted, register the orchestrator with a worker::

    worker.add_orchestrator(call_entity_orchestrator)

and call from anywhere::

    total = call_entity(client, EntityInstanceId("counter", "total"), "get", return_type=int)

Each call is an orchestration instance of its own, which the task hub keeps until it is purged.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from durabletask.client import AsyncTaskHubGrpcClient, OrchestrationState, OrchestrationStatus, TaskHubGrpcClient
from durabletask.entities.entity_instance_id import EntityInstanceId
from durabletask.entities.entity_operation_failed_exception import EntityOperationFailedException
from durabletask.failures import FailureDetails, details_failure, qualified_name
from durabletask.task import OrchestrationContext, Task

__all__ = ["EntityCallRequest", "call_entity", "call_entity_async", "call_entity_orchestrator"]


@dataclass
class EntityCallRequest:
    """The input of ``call_entity_orchestrator``: ``entity_id`` is the text of an EntityInstanceId."""

    entity_id: str
    operation: str
    input: Any = None


def call_entity_orchestrator(
    ctx: OrchestrationContext, request: EntityCallRequest
) -> Generator[Task[Any], Any, Any]:  # fmt: skip
    """Call one operation of an entity and return its result."""
    entity_id = EntityInstanceId.from_wire(request.entity_id)
    return (yield ctx.call_entity(entity_id, request.operation, request.input))


def call_entity(
    client: TaskHubGrpcClient,
    entity_id: EntityInstanceId,
    operation: str,
    input: Any = None,
    *,
    return_type: type[Any] | None = None,
    timeout: float = 60,
    version: str | None = None,
) -> Any:
    """Call an operation of an entity and return its result.

    Args:
        client: The client to start the orchestration with.
        entity_id: The entity.
        operation: Name of the operation.
        input: Its input.
        return_type: Type of the result; without it, plain JSON data.
        timeout: Seconds to wait. When they are over, the call itself still goes on.
        version: Version to start the orchestration with, for workers that insist on one.

    Raises:
        EntityOperationFailedException: The operation failed.
        OrchestrationFailedError: The call could not be made, for example because no worker has the orchestrator.
        TimeoutError: There was no result in time.
        RuntimeError: The orchestration was terminated or purged.
    """
    request = EntityCallRequest(str(entity_id), operation, input)
    instance_id = client.schedule_new_orchestration(call_entity_orchestrator, input=request, version=version)
    state = client.wait_for_orchestration_completion(instance_id, timeout=timeout)
    return _result(state, entity_id, operation, return_type)


async def call_entity_async(
    client: AsyncTaskHubGrpcClient,
    entity_id: EntityInstanceId,
    operation: str,
    input: Any = None,
    *,
    return_type: type[Any] | None = None,
    timeout: float = 60,
    version: str | None = None,
) -> Any:
    """The same as ``call_entity`` for the asynchronous client."""
    request = EntityCallRequest(str(entity_id), operation, input)
    instance_id = await client.schedule_new_orchestration(call_entity_orchestrator, input=request, version=version)
    state = await client.wait_for_orchestration_completion(instance_id, timeout=timeout)
    return _result(state, entity_id, operation, return_type)


def _result(
    state: OrchestrationState | None, entity_id: EntityInstanceId, operation: str, return_type: type[Any] | None
) -> Any:
    if state is None:
        raise RuntimeError(f"The orchestration that calls '{operation}' of entity '{entity_id}' no longer exists.")
    failure = _operation_failure(state.failure_details)
    if failure is not None:
        raise EntityOperationFailedException(entity_id, operation, details_failure(failure))
    state.raise_if_failed()
    if state.runtime_status is not OrchestrationStatus.COMPLETED:
        raise RuntimeError(
            f"The orchestration {state.instance_id!r} that calls '{operation}' of entity '{entity_id}' ended as "
            f"{state.runtime_status}."
        )
    return state.get_output(return_type)


def _operation_failure(failure: FailureDetails | None) -> FailureDetails | None:
    """What the operation itself raised, out of a failure that tells of it."""
    operation_failed = qualified_name(EntityOperationFailedException)
    while failure is not None and failure.error_type != operation_failed:
        failure = failure.inner_failure
    return None if failure is None else failure.inner_failure
