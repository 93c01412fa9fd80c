"""The tracing of a worker, put together from that of its three kinds of work items."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Generic, ParamSpec, TypeVar

from durabletask._tracing import spans
from durabletask._tracing.activities import ActivityTracing
from durabletask._tracing.chosen_ids import present_maker
from durabletask._tracing.entities import EntityTracing
from durabletask._tracing.turns import TurnTracing

P = ParamSpec("P")
T = TypeVar("T")


class WorkerTracing:
    """What a worker calls at its work items, as the program is set up when the worker starts.

    Args:
        emit: Whether spans are made, if there is a tracer provider; else trace contexts are only passed on.
        logger: Where faults of samplers and span processors are reported; no turn or batch fails for them.
    """

    def __init__(self, emit: bool, logger: logging.Logger) -> None:
        emit = emit and spans.is_active()
        maker = present_maker() if emit else None
        self.activities = ActivityTracing(emit)
        self.turn = None if maker is None else Guarded(TurnTracing(maker).turn, logger)
        """Traces a turn; see :meth:`durabletask._tracing.turns.TurnTracing.turn`. None to make no spans of turns."""
        self.batch = Guarded(EntityTracing().ran, logger) if emit else None
        """Traces a batch of entity operations that has been run. None to make no spans of them."""


class Guarded(Generic[P, T]):
    """Calls what makes spans, so that the worker goes on if that fails."""

    def __init__(self, trace: Callable[P, T], logger: logging.Logger) -> None:
        self._trace = trace
        self._logger = logger

    def __call__(self, *args: P.args, **keywords: P.kwargs) -> T | None:
        try:
            return self._trace(*args, **keywords)
        except Exception:
            self._logger.exception("A work item could not be traced; it goes on without spans")
            return None
