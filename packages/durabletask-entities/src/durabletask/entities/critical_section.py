"""The rules of a critical section, by themselves: what an orchestrator may do while it holds locks."""

from collections.abc import Sequence

from durabletask.entities.entity_instance_id import EntityInstanceId


class CriticalSection:
    """The entities that one orchestration has asked to lock, from the request to the release.

    The set of locks and the set of calls under way are kept apart, so that an unfinished call can
    never take an entity out of those that are to be released.

    Args:
        section_id: Names the section on the wire.
        lock_set: The ids of the entities, as text, sorted and distinct.
    """

    def __init__(self, section_id: str, lock_set: Sequence[str]) -> None:
        self.section_id = section_id
        self.lock_set = tuple(lock_set)
        self.is_held = False
        self._busy: dict[str, int] = {}

    def check_call(self, entity_id: str) -> None:
        """Raise RuntimeError if the entity must not be called now."""
        if not self.is_held:
            return
        if entity_id not in self.lock_set:
            raise RuntimeError(
                "Must not call an entity from a critical section if it is not one of the locked entities: "
                f"{entity_id!r} is not among {', '.join(self.lock_set)}."
            )
        if entity_id in self._busy:
            raise RuntimeError(
                f"Must not call the entity {entity_id!r} from a critical section while another call to it is under "
                "way: await that call first."
            )

    def check_signal(self, entity_id: str) -> None:
        """Raise RuntimeError if the entity must not be signalled now."""
        if self.is_held and entity_id in self.lock_set:
            raise RuntimeError(
                f"Must not signal a locked entity from a critical section: call {entity_id!r}, or signal it afterwards."
            )

    def call_began(self, entity_id: str, action_id: int) -> None:
        """Note that a call to the entity is under way."""
        if self.is_held:
            self._busy[entity_id] = action_id

    def call_ended(self, entity_id: str, action_id: int) -> None:
        """Note that a call to the entity has a result."""
        if self._busy.get(entity_id) == action_id:
            del self._busy[entity_id]


def lock_set_of(entities: Sequence[EntityInstanceId]) -> list[str]:
    """The ids to lock, sorted and distinct, in the one order that prevents deadlocks among orchestrations."""
    return sorted({str(entity) for entity in entities})
