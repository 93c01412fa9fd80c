"""What the scheduler asks of a store about entities."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from durabletask_scheduler.hub.entity_model import Lock


class EntitySelection(enum.Enum):
    """Which kind of entities a query wants."""

    ALL = "all"
    WITH_STATE = "with_state"
    LOCKED = "locked"
    STATELESS = "stateless"


@dataclass(frozen=True, slots=True)
class EntityFilter:
    """Which entities of a task hub; every condition that is set must hold.

    Attributes:
        id_prefix: of normalised ids; empty for any.
        modified_from, modified_to: ``from <= modified_at <= to``; 0 for open.
    """

    selection: EntitySelection = EntitySelection.ALL
    id_prefix: str = ""
    modified_from: int = 0
    modified_to: int = 0


@dataclass(frozen=True, slots=True)
class EntitySummary:
    """One row of a query.

    Attributes:
        backlog: how much waits at the entity.
        has_state: whether it has one; ``state`` is None unless it was asked for.
    """

    instance_id: str
    modified_at: int
    backlog: int
    has_state: bool
    state: str | None
    lock: Lock | None


@dataclass(frozen=True, slots=True)
class WaitingEntity:
    """What a restart must know about an entity at which something waits.

    Attributes:
        wake_at: when the earliest of it may run; 0 for at once.
    """

    task_hub: str
    instance_id: str
    wake_at: int
