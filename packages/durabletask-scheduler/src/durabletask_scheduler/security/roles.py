"""Who may do what: every call has a kind, and every kind the roles that may use it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

READER = "reader"
OPERATOR = "operator"
WORKER = "worker"
ADMIN = "admin"
ROLES = (READER, OPERATOR, WORKER, ADMIN)

EVERY_HUB = "*"
"""Stands for all task hubs in a grant."""


class Kind(Enum):
    """What a call does, as far as permissions and the audit log care."""

    HELLO = "hello"
    READ = "read"
    HISTORY = "history"
    CHANGE = "change"
    WORK = "work"
    HUBS = "hubs"


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "Hello": Kind.HELLO,
        "GetInstance": Kind.READ,
        "WaitForInstanceStart": Kind.READ,
        "WaitForInstanceCompletion": Kind.READ,
        "QueryInstances": Kind.READ,
        "CountInstances": Kind.READ,
        "ListInstanceIds": Kind.READ,
        "GetEntity": Kind.READ,
        "QueryEntities": Kind.READ,
        "StreamInstanceHistory": Kind.HISTORY,
        "StartInstance": Kind.CHANGE,
        "StartInstances": Kind.CHANGE,
        "RestartInstance": Kind.CHANGE,
        "RewindInstance": Kind.CHANGE,
        "RaiseEvent": Kind.CHANGE,
        "TerminateInstance": Kind.CHANGE,
        "SuspendInstance": Kind.CHANGE,
        "ResumeInstance": Kind.CHANGE,
        "PurgeInstances": Kind.CHANGE,
        "SkipGracefulOrchestrationTerminations": Kind.CHANGE,
        "SignalEntity": Kind.CHANGE,
        "CleanEntityStorage": Kind.CHANGE,
        "GetWorkItems": Kind.WORK,
        "Work": Kind.WORK,
        "CompleteOrchestratorTask": Kind.WORK,
        "CompleteActivityTask": Kind.WORK,
        "CompleteEntityTask": Kind.WORK,
        "AbandonTaskOrchestratorWorkItem": Kind.WORK,
        "AbandonTaskActivityWorkItem": Kind.WORK,
        "AbandonTaskEntityWorkItem": Kind.WORK,
        "CreateTaskHub": Kind.HUBS,
        "DeleteTaskHub": Kind.HUBS,
    }
)
"""The kind of every call; one that is missing here is nobody's."""

ROLES_OF: Mapping[Kind, frozenset[str]] = MappingProxyType(
    {
        Kind.HELLO: frozenset(ROLES),
        Kind.READ: frozenset((READER, OPERATOR, ADMIN)),
        # Workers fetch long histories of the turns that they were given by this call.
        Kind.HISTORY: frozenset(ROLES),
        Kind.CHANGE: frozenset((OPERATOR, ADMIN)),
        Kind.WORK: frozenset((WORKER, ADMIN)),
        Kind.HUBS: frozenset((ADMIN,)),
    }
)


@dataclass(frozen=True, slots=True)
class Grant:
    """Roles in one task hub, or in all of them (:data:`EVERY_HUB`)."""

    roles: frozenset[str]
    task_hub: str


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody whose credentials were accepted.

    Attributes:
        name: for the audit log.
        grants: what they may do.
        digest: SHA-256 of the static token they showed, as hex; None if they showed something else.
    """

    name: str
    grants: tuple[Grant, ...]
    digest: str | None = None

    def may(self, rpc: str, task_hub: str) -> bool:
        """Whether one of the grants covers this call in this task hub."""
        kind = KINDS.get(rpc)
        if kind is None:
            return False
        allowed = ROLES_OF[kind]
        return any(
            grant.task_hub in (EVERY_HUB, task_hub) and not allowed.isdisjoint(grant.roles) for grant in self.grants
        )


def unknown_roles(names: Iterable[str]) -> list[str]:
    """Those that are not roles."""
    return [name for name in names if name not in ROLES]
