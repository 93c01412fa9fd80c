"""Parts of a request that are refused while the others are carried out."""

from __future__ import annotations

import grpc
from durabletask_proto import scheduler_additions_pb2 as additions_pb

from durabletask_scheduler.hub.model import HubError


def refusal(index: int, error: HubError) -> additions_pb.Refusal:
    """What the response says of the part with this index: the status that a call of its own would have had."""
    return additions_pb.Refusal(index=index, code=grpc.StatusCode[error.code].value[0], message=error.message)
