"""Entities as classes: every public method is an operation."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar, overload

from durabletask.entities.entity_context import EntityContext
from durabletask.entities.entity_instance_id import EntityInstanceId

T = TypeVar("T")
E = TypeVar("E", bound="DurableEntity")


class DurableEntity:
    """The base class of class-based entities.

    An operation is a method, called with the caller's input::

        class Counter(DurableEntity):
            def __init__(self):
                self.set_state(0)

            def add(self, amount: int):
                self.set_state(self.get_state(int) + amount)

            def get(self):
                return self.get_state(int)

    A new object is made for every operation, without arguments, so only the state lasts. What
    ``__init__`` sets is the initial state: it counts only while the entity has none.
    """

    entity_context: EntityContext
    """The context of the operation; present from before ``__init__`` on."""

    _keeps_state = False

    @overload
    def get_state(self, intended_type: type[T], default: T) -> T: ...

    @overload
    def get_state(self, intended_type: type[T], default: None = None) -> T | None: ...

    @overload
    def get_state(self, intended_type: None = None, default: Any = None) -> Any: ...

    def get_state(self, intended_type: type[Any] | None = None, default: Any = None) -> Any:
        """The state, a new value on every call; see ``EntityContext.get_state``."""
        return self._context.get_state(intended_type, default)

    def set_state(self, state: Any) -> None:
        """Replace the state; None deletes it. In ``__init__``, set the initial state."""
        context = self._context
        if not self._keeps_state:
            context.set_state(state)

    def signal_entity(
        self,
        entity_instance_id: EntityInstanceId,
        operation: str,
        input: Any = None,
        signal_time: datetime | None = None,
    ) -> None:
        """Start an operation of an entity without waiting for it; see ``EntityContext.signal_entity``."""
        self._context.signal_entity(entity_instance_id, operation, input, signal_time)

    def schedule_new_orchestration(
        self,
        orchestration_name: str | Callable[..., Any],
        input: Any = None,
        instance_id: str | None = None,
        *,
        version: str | None = None,
    ) -> str:
        """Start an orchestration and return its id; see ``EntityContext.schedule_new_orchestration``."""
        return self._context.schedule_new_orchestration(orchestration_name, input, instance_id, version=version)

    def delete(self, input: Any = None) -> None:
        """The operation that deletes the state, and with it the entity; override it to do more."""
        self.set_state(None)

    @property
    def _context(self) -> EntityContext:
        context: EntityContext | None = getattr(self, "entity_context", None)
        if context is None:
            raise RuntimeError(
                f"{type(self).__name__} has no state outside of an operation: workers make the objects of an entity. "
                "To try one in a test, use durabletask.entities.testing.EntityFixture."
            )
        return context


def new_entity(entity_class: type[E], context: EntityContext) -> E:
    """An object for one operation, with its context in place while ``__init__`` runs."""
    entity = entity_class.__new__(entity_class)
    # Not by plain assignment: the class may be a frozen dataclass.
    object.__setattr__(entity, "entity_context", context)
    object.__setattr__(entity, "_keeps_state", context.has_state)
    entity.__init__()  # type: ignore[misc]  # the object was made without it on purpose
    object.__setattr__(entity, "_keeps_state", False)
    return entity
