"""The two forms of an entity work item: each becomes a batch of operations, and its result an answer."""

from collections.abc import Callable, Mapping

from durabletask.entities.operations import BatchRunner, Operation
from durabletask.features import WorkItemHost
from durabletask.registry import Registry
from durabletask.replay import RunOptions
from durabletask_proto import orchestrator_service_pb2 as pb
from google.protobuf.message import Message


def run_first_form(
    registry: Registry, request: Message, options: RunOptions, host: WorkItemHost
) -> pb.EntityBatchResult:
    """Run an ``entityRequest``. Raises ValueError when its instance id is not that of an entity."""
    assert isinstance(request, pb.EntityBatchRequest)
    state = request.entityState.value if request.HasField("entityState") else None
    runner = BatchRunner(request.instanceId, state, registry, options, host)
    # This form does not tell calls from signals; a call's failure is told to its caller in any case.
    return runner.run(Operation(o.operation, o.input.value, is_signal=False) for o in request.operations)


def run_second_form(
    registry: Registry, request: Message, options: RunOptions, host: WorkItemHost
) -> pb.EntityBatchResult:
    """Run an ``entityRequestV2``, whose result says where the result of each operation goes.

    Raises ValueError when its instance id is not that of an entity, or an event is not an operation.
    """
    assert isinstance(request, pb.EntityRequest)
    state = request.entityState.value if request.HasField("entityState") else None
    runner = BatchRunner(request.instanceId, state, registry, options, host)
    operations = [_read(event) for event in request.operationRequests]
    result = runner.run(operation for operation, _ in operations)
    result.operationInfos.extend(info for _, info in operations)
    return result


Read = tuple[Operation, pb.OperationInfo]


def _read(event: pb.HistoryEvent) -> Read:
    kind = event.WhichOneof("eventType")
    reader = _READERS.get(kind or "")
    if reader is None:
        raise ValueError(f"An entity batch consists of calls and signals, got an event of type {kind or 'unknown'!r}.")
    return reader(event)


def _read_call(event: pb.HistoryEvent) -> Read:
    called = event.entityOperationCalled
    info = pb.OperationInfo(requestId=called.requestId)
    info.responseDestination.instanceId = called.parentInstanceId.value
    if called.HasField("parentExecutionId"):
        info.responseDestination.executionId.value = called.parentExecutionId.value
    return Operation(called.operation, called.input.value, is_signal=False), info


def _read_signal(event: pb.HistoryEvent) -> Read:
    signaled = event.entityOperationSignaled
    info = pb.OperationInfo(requestId=signaled.requestId)
    return Operation(signaled.operation, signaled.input.value, is_signal=True), info


_READERS: Mapping[str, Callable[[pb.HistoryEvent], Read]] = {
    "entityOperationCalled": _read_call,
    "entityOperationSignaled": _read_signal,
}
