"""A work item on its way through the worker, and the RPCs that answer each kind."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from durabletask_proto import orchestrator_service_pb2 as pb
from google.protobuf.message import Message


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of work item, with its own permits.

    Args:
        complete: The RPC that answers one.
        abandon: The RPC that gives one back.
        abandon_request: The request of the latter, for a completion token.
        describe: What logs call a work item of this kind.
    """

    complete: str
    abandon: str
    abandon_request: Callable[[str], Message]
    describe: Callable[[pb.WorkItem], str]


def _turn(work_item: pb.WorkItem) -> str:
    return f"a turn of orchestration instance '{work_item.orchestratorRequest.instanceId}'"


def _activity(work_item: pb.WorkItem) -> str:
    request = work_item.activityRequest
    instance_id = request.orchestrationInstance.instanceId
    return f"activity '{request.name}' (task {request.taskId} of instance '{instance_id}')"


def _batch(work_item: pb.WorkItem) -> str:
    return f"a batch of entity '{entity_id_of(work_item)}'"


def entity_id_of(work_item: pb.WorkItem) -> str:
    """The entity for which a batch is, in either form of the request."""
    if work_item.HasField("entityRequestV2"):
        return work_item.entityRequestV2.instanceId
    return work_item.entityRequest.instanceId


ORCHESTRATION = Kind(
    "CompleteOrchestratorTask",
    "AbandonTaskOrchestratorWorkItem",
    lambda token: pb.AbandonOrchestrationTaskRequest(completionToken=token),
    _turn,
)
ACTIVITY = Kind(
    "CompleteActivityTask",
    "AbandonTaskActivityWorkItem",
    lambda token: pb.AbandonActivityTaskRequest(completionToken=token),
    _activity,
)
ENTITY = Kind(
    "CompleteEntityTask",
    "AbandonTaskEntityWorkItem",
    lambda token: pb.AbandonEntityTaskRequest(completionToken=token),
    _batch,
)


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "orchestratorRequest": ORCHESTRATION,
        "activityRequest": ACTIVITY,
        "entityRequest": ENTITY,
        "entityRequestV2": ENTITY,
    }
)
"""By the names of the requests in work items."""


class Item:
    """One work item.

    Args:
        kind: What it is.
        message: As it was received; never changed, since it may be shared with a server in this process.
        lost: Called with the item if it is answered in vain or abandoned.
        code: What runs it, as far as whoever takes it knows already.
    """

    __slots__ = ("code", "kind", "lost", "message")

    def __init__(
        self,
        kind: Kind,
        message: pb.WorkItem,
        lost: "Callable[[Item], None] | None" = None,
        code: Any = None,
    ) -> None:
        self.kind = kind
        self.message = message
        self.lost = lost
        self.code = code

    @property
    def token(self) -> str:
        """The completion token to echo."""
        return self.message.completionToken

    @property
    def subject(self) -> str:
        """What logs call it."""
        return self.kind.describe(self.message)
