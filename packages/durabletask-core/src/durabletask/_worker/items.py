"""A work item on its way through the worker, and the RPCs that answer each kind."""

import enum
from collections.abc import Callable
from dataclasses import dataclass, field

from durabletask_proto import orchestrator_service_pb2 as pb
from google.protobuf.message import Message


class Kind(enum.Enum):
    """The kinds of work items, each with its own permits."""

    ORCHESTRATION = "orchestration"
    ACTIVITY = "activity"
    ENTITY = "entity"


@dataclass(frozen=True)
class Rpcs:
    """The two ways to be rid of a work item."""

    complete: str
    abandon: str
    abandon_request: Callable[[str], Message]


RPCS = {
    Kind.ORCHESTRATION: Rpcs(
        "CompleteOrchestratorTask",
        "AbandonTaskOrchestratorWorkItem",
        lambda token: pb.AbandonOrchestrationTaskRequest(completionToken=token),
    ),
    Kind.ACTIVITY: Rpcs(
        "CompleteActivityTask",
        "AbandonTaskActivityWorkItem",
        lambda token: pb.AbandonActivityTaskRequest(completionToken=token),
    ),
    Kind.ENTITY: Rpcs(
        "CompleteEntityTask",
        "AbandonTaskEntityWorkItem",
        lambda token: pb.AbandonEntityTaskRequest(completionToken=token),
    ),
}


@dataclass(slots=True, eq=False)
class Item:
    """One work item.

    Args:
        kind: What it is.
        message: As it was received; never changed, since it may be shared with a server in this process.
        subject: What logs call it.
        lost: Called if it is answered in vain or abandoned.
    """

    kind: Kind
    message: pb.WorkItem
    subject: str
    lost: Callable[[], None] | None = field(default=None)

    @property
    def token(self) -> str:
        """The completion token to echo."""
        return self.message.completionToken
