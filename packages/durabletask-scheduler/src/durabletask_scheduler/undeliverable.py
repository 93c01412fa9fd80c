"""Work items that their workers cannot receive.

A worker refuses a message beyond its own limit by ending the stream that it came on, and says nothing. It
would get the same work item again, for ever. What a worker's limit is, the protocol does not tell; what
can be seen is that a large work item is lost together with its stream again and again. Workers without
such a limit (in process, or so configured) never lose one that way.
"""

from __future__ import annotations

from typing import Protocol

from durabletask_proto import orchestrator_service_pb2 as pb
from google.protobuf.wrappers_pb2 import StringValue

from durabletask_scheduler.hub import actions, events
from durabletask_scheduler.hub.entity_model import Batch, Entity
from durabletask_scheduler.limits import USUAL_RECEIVE_BYTES

ERROR_TYPE = "WorkItemTooLarge"


class Losable(Protocol):
    """An instance, an activity or an entity. ``losses``: how often in a row it was lost, although large."""

    losses: int


def lost_too_often(lost: Losable, size: int, most_losses: int) -> bool:
    """Count that a work item was lost together with its stream; whether it was once too often.

    Args:
        size: how many bytes it had that were sent. A small one, which any worker can receive, does not count.
    """
    if size <= USUAL_RECEIVE_BYTES:
        return False
    lost.losses += 1
    return lost.losses >= most_losses


def turn_failed(size: int, losses: int) -> pb.OrchestratorResponse:
    """What stands in for the answer that never comes."""
    return pb.OrchestratorResponse(
        actions=[actions.failed_completion(ERROR_TYPE, _text("orchestration", size, losses))]
    )


def activity_failed(size: int, losses: int) -> pb.ActivityResponse:
    details = events.failure(ERROR_TYPE, _text("activity", size, losses))
    details.isNonRetriable = True
    return pb.ActivityResponse(failureDetails=details)


def batch_failed(entity: Entity, batch: Batch, size: int, losses: int) -> pb.EntityBatchResult:
    """All of its operations fail, and the state stays what it is."""
    details = events.failure(ERROR_TYPE, _text("entity", size, losses))
    details.isNonRetriable = True
    failed = pb.OperationResult(failure=pb.OperationResultFailure(failureDetails=details))
    state = None if entity.state is None else StringValue(value=entity.state)
    return pb.EntityBatchResult(
        results=[failed] * len(batch.operations), entityState=state, completionToken=batch.token
    )


def _text(what: str, size: int, losses: int) -> str:
    return (
        f"A work item of this {what} has {size} bytes, and {losses} times in a row the worker's stream broke when it "
        f"was sent; most workers accept {USUAL_RECEIVE_BYTES} bytes. Raise the worker's limit "
        "(max_receive_message_length), keep large payloads outside, or keep the history short with continue-as-new"
    )
