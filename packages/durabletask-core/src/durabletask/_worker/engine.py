"""Where the shell meets what runs user code: the replay engine, activities and features."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

from durabletask_proto import orchestrator_service_pb2 as pb

from durabletask._worker.activities import ActivityCode, Hook
from durabletask._worker.processes import check_sendable
from durabletask.activities import ActivityOptions
from durabletask.features import ENTITIES, WorkItemHost, require_feature
from durabletask.registry import Registry
from durabletask.replay import Observation, OrchestrationRun, RunOptions, TurnResult, VersionRejected
from durabletask.replay.options import WARNING


@dataclass(frozen=True)
class Hooks:
    """Called around every activity, on its thread; None for nothing."""

    started: Hook | None = None
    completed: Hook | None = None


class Engine:
    """The user code of one worker, in the shape the shell calls it.

    Args:
        registry: What is registered.
        options: How orchestrations run.
        logger: Where observations of turns are reported.
        traces_turns: Whether spans are made of what turns observe.
    """

    rejections: tuple[type[Exception], ...] = (VersionRejected,)

    def __init__(
        self, registry: Registry, options: RunOptions, logger: logging.Logger, *, traces_turns: bool = False
    ) -> None:
        self._registry = registry
        self._options = options
        self._logger = logger
        self._handlers = {
            kind: handler for feature in options.features.values() for kind, handler in feature.work_items.items()
        }
        self._verbose = _writes_debug(logger)
        self._observes = traces_turns or self._verbose

    def open_run(self, instance_id: str) -> OrchestrationRun:
        """A run that has seen no event yet."""
        return OrchestrationRun(instance_id, self._registry, self._options, observes=self._observes)

    def report(self, instance_id: str, result: TurnResult) -> None:
        """Log what a turn observed: warnings always, the rest for those who debug."""
        for observation in result.observations:
            if observation.kind == WARNING:
                self._logger.warning("%s: %s", instance_id, observation.message)
            elif self._verbose:
                self._logger.debug("%s: %s", instance_id, _text(observation))

    def activities(self, hooks: Hooks) -> ActivityCode:
        """The user's activities.

        Raises:
            TypeError: Some run in processes, which cannot be given the converter or the provider.
        """
        options = ActivityOptions(self._options.data_converter, self._options.exception_properties_provider)
        if any(registration.in_process for registration in self._registry.activities()):
            check_sendable(options)
        return ActivityCode(self._registry.activity, options, hooks.started, hooks.completed)

    def batch_kinds(self) -> frozenset[str]:
        """The names in ``WorkItem.request`` that a feature runs."""
        return frozenset(self._handlers)

    def run_batch(self, work_item: pb.WorkItem, host: WorkItemHost) -> pb.EntityBatchResult:
        """Run a work item of a feature's."""
        kind = cast(str, work_item.WhichOneof("request"))
        result = self._handlers[kind](self._registry, getattr(work_item, kind), self._options, host)
        return cast(pb.EntityBatchResult, result)


def add_entity(registry: Registry, fn: Callable[..., Any] | type, name: str | None) -> str:
    """Register an entity with the add-on.

    Raises:
        FeatureMissingError: It is not installed.
    """
    feature = require_feature(ENTITIES)
    if feature.register is None:
        raise TypeError(f"the installed feature {ENTITIES!r} registers no entities")
    return feature.register(registry, fn, name)


def feature_filter_names(registry: Registry, options: RunOptions) -> Iterable[str]:
    """The names of the entities that are registered."""
    for feature in options.features.values():
        if feature.filter_names is not None:
            yield from feature.filter_names(registry)


def _text(observation: Observation) -> str:
    subject = f"{observation.method or 'run'} '{observation.name}'" if observation.name else observation.method
    number = f" #{observation.task_id}" if observation.task_id else ""
    message = f": {observation.message}" if observation.message else ""
    return f"{subject}{number} {observation.kind}{message}".strip()


def _writes_debug(logger: logging.Logger) -> bool:
    """Whether a debug record would be written; a logger that lets it pass may have handlers that do not."""
    if not logger.isEnabledFor(logging.DEBUG):
        return False
    current: logging.Logger | None = logger
    while current is not None:
        if any(handler.level <= logging.DEBUG for handler in current.handlers):
            return True
        current = current.parent if current.propagate else None
    return False
