"""What must not be in a store, whatever it is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from durabletask_scheduler.storage.rows import Row
from durabletask_scheduler.storage.statements import statements

MOST = 100
"""How many lines of a kind are given at most."""

_FINDINGS = {
    "unknown_hub": "instance row {0} belongs to task hub {1}, which does not exist",
    "orphan_started": "a started event belongs to instance row {1}, which does not exist",
    "orphan_history": "history row {0} belongs to instance row {1}, which does not exist",
    "orphan_task": "open task {0} belongs to instance row {1}, which does not exist",
    "orphan_inbox": "inbox row {0} belongs to instance row {1}, which does not exist",
    "unknown_hub_of_entity": "entity row {0} belongs to task hub {1}, which does not exist",
    "orphan_entity_inbox": "entity inbox row {0} belongs to entity row {1}, which does not exist",
    "half_a_lock": "entity {1!r} (row {0}) has the time of a lock without its owner, or the other way round",
    "dead_owner": "entity {1!r} (row {0}) is locked by an execution that is over",
    "no_started": "instance {1!r} (row {0}) is not finished and has no started event",
    "no_completed": "instance {1!r} (row {0}) is finished and lacks its completed event or its time",
    "completed_but_live": "instance {1!r} (row {0}) is not finished and has a completed event or its time",
    "open_at_end": "instance {1!r} is finished and has an open task (row {0})",
    "inbox_at_end": "instance {1!r} is finished and has an event waiting (inbox row {0})",
    "task_without_history": "open task {0} of instance {1!r} has no history row of its scheduling",
    "event_count": "instance row {0} counts its events wrongly: {1}",
}


class Found(Protocol):
    """A cursor."""

    def fetchmany(self, size: int, /) -> Sequence[Row]:
        """The next rows."""


def broken_rules(execute: Callable[[str], Found]) -> Iterator[str]:
    """What is wrong, one line each.

    Args:
        execute: runs a query.
    """
    for name, statement in statements("common", "check").items():
        for row in execute(statement).fetchmany(MOST):
            yield _FINDINGS[name].format(*row)
