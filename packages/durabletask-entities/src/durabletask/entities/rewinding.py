"""What the history events of entities mean when a failed instance is rewound."""

from collections.abc import Sequence
from typing import Final

from durabletask.features import AwaitedCall, RewindRules
from durabletask_proto import orchestrator_service_pb2 as pb


def _still_locked(kept: Sequence[pb.HistoryEvent]) -> str | None:
    """Why a history that ends inside a critical section must not be rewound; None for any other.

    The failure gave the locks back. A worker cannot ask for them again on behalf of code that has them already, and
    that code would go on without them.
    """
    asked: dict[str, list[str]] = {}
    held: dict[str, set[str]] = {}
    for event in kept:
        kind = event.WhichOneof("eventType")
        if kind == "entityLockRequested":
            asked[event.entityLockRequested.criticalSectionId] = list(event.entityLockRequested.lockSet)
        elif kind == "entityLockGranted":
            section_id = event.entityLockGranted.criticalSectionId
            held[section_id] = set(asked.get(section_id, ()))
        elif kind == "entityUnlockSent":
            sent = event.entityUnlockSent
            held.get(sent.criticalSectionId, set()).discard(sent.targetInstanceId.value)
    locked = sorted(entity for entities in held.values() for entity in entities)
    if not locked:
        return None
    return (
        f"it failed while it held the locks of {', '.join(locked)}, which the failure has given back, and going on "
        "without them is not safe. Restart it, or start a new instance."
    )


REWINDING: Final = RewindRules(
    calls=(
        AwaitedCall(
            "entityOperationCalled",
            "entityOperationCompleted",
            "entityOperationFailed",
            answer_field="requestId",
            name_field="requestId",
        ),
        AwaitedCall(
            "entityLockRequested",
            "entityLockGranted",
            answer_field="criticalSectionId",
            name_field="criticalSectionId",
        ),
    ),
    sends=frozenset({"entityOperationSignaled", "entityUnlockSent"}),
    refusal=_still_locked,
)
