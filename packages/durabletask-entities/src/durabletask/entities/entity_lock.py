"""The lock of a critical section, for use in a ``with`` statement."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from durabletask.task import OrchestrationContext


class EntityLock:
    """Holds the entities of a critical section until the ``with`` block ends, in whatever way.

    It is what ``ctx.lock_entities([...])`` gives::

        with (yield ctx.lock_entities([source, target])):
            ...

    A lock that is not used in a ``with`` statement is held until the orchestration completes.
    """

    def __init__(self, context: "OrchestrationContext") -> None:
        self._context = context
        self._released = False

    def __enter__(self) -> "EntityLock":
        return self

    def __exit__(self, *_: object) -> None:
        if not self._released:
            # Once only: a later critical section of the same orchestration is not this lock's to end.
            self._released = True
            self._context._exit_critical_section()
