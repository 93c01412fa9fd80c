"""What is answered instead of a response that cannot be delivered."""

from collections.abc import Callable
from typing import Any

from durabletask_proto import orchestrator_service_pb2 as pb
from google.protobuf.message import Message

from durabletask.failures import failure_of
from durabletask.transport.completions import Refusal

_NOT_FROM_CODE = -1


class PayloadTooLargeError(ValueError):
    """A result, or what an orchestration schedules, is larger than the task hub accepts; or its history holds
    something larger than the worker accepts."""


PayloadTooLargeError.__module__ = "durabletask.worker"


def too_large(response: Message, refusal: Refusal) -> Message | None:
    """The failure to send in place of a response that was refused for its size, or None if there is none.

    The failure names what was too large, its size in bytes and the limit as the refusal states it.
    """
    substitute = _SUBSTITUTES.get(type(response))
    if substitute is None:
        return None
    size = response.ByteSize()
    error = PayloadTooLargeError(
        f"{_SUBJECTS[type(response)]} takes {size} bytes, which is more than one message to the task hub may have "
        f"({refusal.details}). Return or pass a reference to the data instead, or give client and worker a "
        "payload_store."
    )
    return substitute(response, error)


def history_too_large(refusal: Refusal) -> PayloadTooLargeError:
    """The failure of an orchestration with a past that this worker cannot receive, in whatever parts it is sent."""
    return PayloadTooLargeError(
        f"the history holds an event that is larger than one message may be ({refusal.details}). Raise "
        "GrpcChannelOptions.max_receive_message_length of the workers, pass a reference to the data instead, or give "
        "client and worker a payload_store."
    )


def failed_activity(error: BaseException, *, instance_id: str, task_id: int, token: str) -> pb.ActivityResponse:
    """An activity's failure that its code did not cause."""
    return pb.ActivityResponse(
        instanceId=instance_id, taskId=task_id, completionToken=token, failureDetails=_details(error)
    )


def failed_turn(error: BaseException, *, instance_id: str, token: str) -> pb.OrchestratorResponse:
    """An orchestration's failure, decided by the worker rather than by the orchestrator's code."""
    action = pb.OrchestratorAction(
        id=_NOT_FROM_CODE,
        completeOrchestration=pb.CompleteOrchestrationAction(
            orchestrationStatus=pb.ORCHESTRATION_STATUS_FAILED, failureDetails=_details(error)
        ),
    )
    return pb.OrchestratorResponse(instanceId=instance_id, actions=[action], completionToken=token)


def failed_batch(error: BaseException, *, token: str) -> pb.EntityBatchResult:
    """The failure of a batch of entity operations whose state and results cannot be kept."""
    return pb.EntityBatchResult(failureDetails=_details(error), completionToken=token)


def _details(error: BaseException) -> pb.TaskFailureDetails:
    details = failure_of(error)
    # Trying again with the same data would end the same way.
    details.isNonRetriable = isinstance(error, PayloadTooLargeError)
    return details


_SUBSTITUTES: dict[type[Message], Callable[[Any, BaseException], Message]] = {
    pb.ActivityResponse: lambda response, error: failed_activity(
        error, instance_id=response.instanceId, task_id=response.taskId, token=response.completionToken
    ),
    pb.OrchestratorResponse: lambda response, error: failed_turn(
        error, instance_id=response.instanceId, token=response.completionToken
    ),
    pb.EntityBatchResult: lambda response, error: failed_batch(error, token=response.completionToken),
}
_SUBJECTS: dict[type[Message], str] = {
    pb.ActivityResponse: "the result of the activity",
    pb.OrchestratorResponse: "what this turn of the orchestration produced (results, inputs, custom status)",
    pb.EntityBatchResult: "the state and the results of the entity's operations",
}
