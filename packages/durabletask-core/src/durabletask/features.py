"""How an add-on package, such as durabletask-entities, plugs into the engine, the worker and the clients.

A package offers a feature through an entry point of the group ``durabletask.features``: the entry point's
name is the feature's name, and it loads to a ``Feature``. All parts but the name are optional.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from importlib.metadata import entry_points
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, Protocol

from durabletask_proto import orchestrator_service_pb2 as pb
from google.protobuf.message import Message

if TYPE_CHECKING:
    from durabletask.registry import Registry
    from durabletask.replay import OrchestrationRun, RunOptions
    from durabletask.task import CompletableTask

GROUP: Final = "durabletask.features"
ENTITIES: Final = "entities"

_PACKAGES: Mapping[str, str] = {ENTITIES: "durabletask-entities"}


class FeatureMissingError(RuntimeError):
    """A call needs a package that is not installed; the message names it."""


class RunExtension(Protocol):
    """What a feature keeps for one orchestration run; it also has the calls that the context delegates to."""

    def before_completion(self) -> None:
        """Called once when the run completes in whatever way, before its completion action is numbered."""


class EntityCalls(RunExtension, Protocol):
    """The extension of the feature ``entities``; ``frame`` is that of the user's call, for messages."""

    def call_entity(
        self, entity: Any, operation: str, input: Any, return_type: Any | None, frame: FrameType, /
    ) -> "CompletableTask[Any]":
        """Schedule a call and return its task."""
        ...

    def signal_entity(
        self, entity: Any, operation: str, input: Any, signal_time: datetime | None, frame: FrameType, /
    ) -> None:
        """Schedule a signal."""
        ...

    def lock_entities(self, entities: list[Any], frame: FrameType, /) -> "CompletableTask[Any]":
        """Ask for locks and return the task of their being granted."""
        ...

    def exit_critical_section(self) -> None:
        """Release the locks that are held; does nothing when none are."""
        ...


class EventHandler(Protocol):
    """Applies one history event to a run; raises NonDeterminismError when code and history disagree."""

    def __call__(self, run: "OrchestrationRun", event: pb.HistoryEvent, /) -> None: ...


class WorkItemHandler(Protocol):
    """Runs one work item and returns its result message; the worker adds the completion token and sends it.

    It never raises for what user code did.
    """

    def __call__(self, registry: "Registry", request: Message, options: "RunOptions", /) -> Message: ...


@dataclass(frozen=True)
class Feature:
    """One add-on.

    * ``event_handlers``: rows of the engine's table, by the name in ``HistoryEvent.eventType``. One that takes
      the place of a core row passes on what is not its own to ``durabletask.replay.handlers.CORE_HANDLERS``.
    * ``extension``: makes the feature's state of a run, on its first use; found with ``run.extension(name)``.
    * ``work_items``: handlers by the name in ``WorkItem.request``.
    * ``register``: adds ``(registry, function or class, name or None)`` and returns the registered name.
    * ``filter_names``: the names that a worker's automatic work-item filters list for this feature.
    * ``client`` and ``async_client``: make the object whose methods the clients' calls delegate to.
    """

    name: str
    event_handlers: Mapping[str, EventHandler] = field(default_factory=dict)
    extension: "Callable[[OrchestrationRun], Any] | None" = None
    work_items: Mapping[str, WorkItemHandler] = field(default_factory=dict)
    register: "Callable[[Registry, Any, str | None], str] | None" = None
    filter_names: "Callable[[Registry], list[str]] | None" = None
    client: Callable[[Any], Any] | None = None
    async_client: Callable[[Any], Any] | None = None


@lru_cache(maxsize=1)
def installed_features() -> Mapping[str, Feature]:
    """The installed features by name; looked up once for the life of the interpreter.

    Raises TypeError when an entry point of the group does not load to a Feature.
    """
    features: dict[str, Feature] = {}
    for point in entry_points(group=GROUP):
        feature = point.load()
        if not isinstance(feature, Feature):
            raise TypeError(f"The entry point {point.name!r} of {GROUP} must load to a Feature, got {feature!r}.")
        features[feature.name] = feature
    return features


def require_feature(name: str, features: Mapping[str, Feature] | None = None) -> Feature:
    """The feature ``name``; raises FeatureMissingError naming the package to install."""
    feature = (installed_features() if features is None else features).get(name)
    if feature is None:
        raise FeatureMissingError(
            f"This needs the feature {name!r}, which is not installed: pip install {_PACKAGES.get(name, name)}"
        )
    return feature


def require_extension(feature: Feature, run: "OrchestrationRun") -> Any:
    """A new extension of ``feature`` for ``run``; raises FeatureMissingError if it offers none."""
    if feature.extension is None:
        raise FeatureMissingError(f"The installed feature {feature.name!r} offers no orchestrator calls.")
    return feature.extension(run)
