"""When an instance id may be used again (backend semantics, instance-id reuse)."""

from __future__ import annotations

import enum

from durabletask_proto import orchestrator_service_pb2 as pb
from google.protobuf.unknown_fields import UnknownFieldSet

from durabletask_scheduler.hub.model import PENDING, RUNNING, SUSPENDED, TERMINATED, HubError, Instance

_LIVE = frozenset({RUNNING, PENDING, SUSPENDED})
_OLD_ACTION_FIELD = 2
_OLD_IGNORE = 1
_OLD_TERMINATE = 2


class Reuse(enum.Enum):
    """What to do with the instance that already has the id."""

    REPLACE = "replace"
    IGNORE = "ignore"


def decide(existing: Instance | None, request: pb.CreateInstanceRequest) -> Reuse:
    """What a start request wants done with an existing instance of its id.

    Without a policy a terminal instance is replaced and a live one is not. A policy names the
    statuses in which the existing instance may be replaced; the older generation of clients adds an
    action in field 2, of which IGNORE keeps the existing instance and reports success.

    Raises:
        HubError: INVALID_ARGUMENT for a contradictory policy, ALREADY_EXISTS.
    """
    if not request.HasField("orchestrationIdReusePolicy"):
        if existing is None or existing.is_terminal:
            return Reuse.REPLACE
        raise _already_exists(existing)
    policy = request.orchestrationIdReusePolicy
    statuses = frozenset(policy.replaceableStatus)
    action = _old_action(policy)
    if action not in (_OLD_IGNORE, _OLD_TERMINATE) and statuses & _LIVE and TERMINATED not in statuses:
        raise HubError(
            "INVALID_ARGUMENT",
            "Invalid reusable statuses: cannot exclude 'Terminated' while also allowing reuse of running instances",
        )
    if existing is None:
        return Reuse.REPLACE
    if existing.status not in statuses:
        raise _already_exists(existing)
    return Reuse.IGNORE if action == _OLD_IGNORE else Reuse.REPLACE


def _old_action(policy: pb.OrchestrationIdReusePolicy) -> int:
    unknown = UnknownFieldSet(policy)
    action = 0
    for index in range(len(unknown)):
        entry = unknown[index]
        if entry.field_number == _OLD_ACTION_FIELD and isinstance(entry.data, int):
            action = entry.data
    return action


def _already_exists(existing: Instance) -> HubError:
    return HubError(
        "ALREADY_EXISTS",
        f"An orchestration instance with the id '{existing.instance_id}' already exists and is {existing.status_name}; "
        "use another id, or a reuse policy that allows replacing it in this status",
    )
