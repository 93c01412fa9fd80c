"""Running entity operations: a batch of requests in, results, actions and the new state out."""

import inspect
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from durabletask.entities.entity_context import EntityContext
from durabletask.entities.entity_instance_id import EntityInstanceId
from durabletask.entities.entity_state import EntityState
from durabletask.entities.registration import entity_named, entity_names
from durabletask.failures import failure_of
from durabletask.features import WorkItemHost
from durabletask.registry import EntityNotRegisteredError, Registry
from durabletask.replay import RunOptions
from durabletask.serialization import encoded_text
from durabletask_proto import orchestrator_service_pb2 as pb
from google.protobuf.timestamp_pb2 import Timestamp


@dataclass(frozen=True, slots=True)
class Operation:
    """One request: ``input`` is JSON text, empty for none; nobody waits for the result of a signal."""

    name: str
    input: str
    is_signal: bool


class BatchRunner:
    """Runs the operations of one entity, one after another.

    Never raises for what user code does: every operation has a result. One that fails takes back its own
    changes and actions, and the others are not touched by it.

    Args:
        instance_id: The entity's id, as on the wire.
        state: Its state as JSON text, or None.
        registry: What is registered.
        options: How the worker is set up.
        host: Awaits the operations that are ``async def``; logs the failures that nobody else is told of.

    Raises:
        ValueError: ``instance_id`` is not that of an entity.
    """

    def __init__(
        self, instance_id: str, state: str | None, registry: Registry, options: RunOptions, host: WorkItemHost
    ) -> None:
        self._instance_id = instance_id
        self._entity_id = EntityInstanceId.from_wire(instance_id)
        self._state = EntityState(state)
        self._registry = registry
        self._code = entity_named(registry, self._entity_id.entity)
        self._options = options
        self._host = host

    @property
    def state(self) -> EntityState:
        """The entity's state and actions after what has run so far."""
        return self._state

    def run(self, operations: Iterable[Operation]) -> pb.EntityBatchResult:
        """Run all operations; the result lacks only the completion token and the operation infos."""
        results = [self._result(operation) for operation in operations]
        batch = pb.EntityBatchResult(results=results, actions=self._state.actions)
        if self._state.text is not None:
            batch.entityState.value = self._state.text
        return batch

    def perform(self, operation: Operation) -> str | None:
        """Run one operation and return its result as JSON text, None for none.

        Raises what the operation raises, after taking back what it did, and EntityNotRegisteredError when this
        worker does not have the entity.
        """
        try:
            output = self._called(operation)
        except BaseException as error:
            self._state.rollback()
            self._report(operation, error)
            raise
        self._state.commit()
        return output

    def _result(self, operation: Operation) -> pb.OperationResult:
        began = time.time_ns()
        result = pb.OperationResult()
        ended: pb.OperationResultSuccess | pb.OperationResultFailure
        try:
            # No result is an empty text, which every SDK takes for none.
            result.success.result.value = self.perform(operation) or ""
            ended = result.success
        except BaseException as error:
            # SystemExit and the like from user code fail this operation, never the worker.
            ended = result.failure
            ended.failureDetails.CopyFrom(failure_of(error, self._options.exception_properties_provider))
            ended.failureDetails.isNonRetriable = isinstance(error, EntityNotRegisteredError)
        ended.startTimeUtc.CopyFrom(_timestamp(began))
        ended.endTimeUtc.CopyFrom(_timestamp(time.time_ns()))
        return result

    def _called(self, operation: Operation) -> str | None:
        if self._code is None:
            raise EntityNotRegisteredError(
                f"The entity {self._entity_id.entity!r} is not registered with this worker. Registered: "
                f"{', '.join(entity_names(self._registry)) or 'none'}. Register it with add_entity()."
            )
        converter = self._options.data_converter
        context = EntityContext(
            self._instance_id,
            operation.name,
            self._state,
            self._entity_id,
            converter,
            default_version=self._options.default_version,
        )
        value = self._code.call(context, operation.input, converter)
        if inspect.isawaitable(value):
            value = self._host.run_coroutine(_awaited(value))
        return encoded_text(converter, value)

    def _report(self, operation: Operation, error: BaseException) -> None:
        """Log a failure that nobody is told of otherwise."""
        if operation.is_signal:
            message = "Operation '%s' on entity '%s', which was signalled, failed"
            self._host.logger.warning(message, operation.name, self._entity_id, exc_info=error)


async def _awaited(value: Any) -> Any:
    return await value


def _timestamp(nanoseconds: int) -> Timestamp:
    seconds, nanos = divmod(nanoseconds, 1_000_000_000)
    return Timestamp(seconds=seconds, nanos=nanos)
