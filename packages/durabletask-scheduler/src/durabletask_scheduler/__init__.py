"""A durable scheduler for every Durable Task SDK: one process, one SQLite file or PostgreSQL database.

:class:`Scheduler` embeds it in a program; ``durabletask-scheduler serve`` runs it by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from durabletask_scheduler.scheduler import Scheduler

__all__ = ["Scheduler"]


def __getattr__(name: str) -> Any:
    if name == "Scheduler":
        from durabletask_scheduler.scheduler import Scheduler

        return Scheduler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
