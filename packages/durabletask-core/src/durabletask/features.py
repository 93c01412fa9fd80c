"""How an add-on package, such as durabletask-entities, plugs into the engine, the worker and the clients.

A package offers a feature through an entry point of the group ``durabletask.features``: the entry point's
name is the feature's name, and it loads to a ``Feature``. All parts but the name are optional.
"""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from importlib.metadata import entry_points
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, Protocol

from durabletask_proto import orchestrator_service_pb2 as pb
from google.protobuf.message import Message

if TYPE_CHECKING:
    import logging

    from durabletask.registry import Registry
    from durabletask.replay import OrchestrationRun, RunOptions
    from durabletask.serialization import DataConverter
    from durabletask.task import CompletableTask

GROUP: Final = "durabletask.features"
ENTITIES: Final = "entities"

_PACKAGES: Mapping[str, str] = {ENTITIES: "durabletask-entities"}


class FeatureMissingError(RuntimeError):
    """A call needs a package that is not installed; the message names it."""


class RunExtension(Protocol):
    """What a feature keeps for one orchestration run; it also has the calls that the context delegates to."""

    def before_completion(self) -> None:
        """Called when the run completes in whatever way, before its completion action is numbered.

        Called once more when that completion turns out not to fit history, or something around the code fails, and a
        failure takes its place: then ``run.is_broken``, and nothing that the code did without a confirmation is sent.
        """


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


@dataclass(frozen=True)
class WorkItemHost:
    """What a worker lends to the handlers of its work items.

    * ``logger``: the worker's own.
    * ``run_coroutine``: runs a coroutine on the event loop of the worker's ``async def`` code, and returns its
      result or raises what it raises; the calling thread waits. Called on that loop, it would wait for ever.
    """

    logger: "logging.Logger"
    run_coroutine: Callable[[Coroutine[Any, Any, Any]], Any]


class WorkItemHandler(Protocol):
    """Runs one work item and returns its result message; the worker adds the completion token and sends it.

    It never raises for what user code did.
    """

    def __call__(
        self, registry: "Registry", request: Message, options: "RunOptions", host: WorkItemHost, /
    ) -> Message: ...


class EntityReader(Protocol):
    """Makes what the clients return of the protocol's entity messages; the class EntityMetadata is one."""

    def from_entity_response(
        self, response: pb.GetEntityResponse, includes_state: bool, data_converter: "DataConverter", /
    ) -> Any:
        """What the clients return for one entity that exists."""
        ...

    def from_entity_metadata(
        self, metadata: pb.EntityMetadata, includes_state: bool, data_converter: "DataConverter", /
    ) -> Any:
        """What the clients return for one entity of a query."""
        ...


@dataclass(frozen=True)
class AwaitedCall:
    """A kind of call that history answers: the types of its events, and the fields that tie them together.

    * ``confirmation``: records the call; ``completed`` and ``failed`` answer it; "" if it cannot fail.
    * ``answer_field``: names the call in its answers; ``name_field`` names it in its confirmation, "" for the
      event's id.
    * ``is_made_again``: whether the code calls anew after a rewind; if not, the task hub sees to an answer.
    """

    confirmation: str
    completed: str
    failed: str = ""
    answer_field: str = ""
    name_field: str = ""
    is_made_again: bool = True


@dataclass(frozen=True)
class RewindRules:
    """What a feature's history events mean when a failed instance is rewound.

    * ``calls``: what orchestrators await.
    * ``sends``: event types that record what orchestrators send and no event answers.
    * ``refusal``: is shown what would be kept of the history, and says why it must not be rewound, or None.
    """

    calls: Sequence[AwaitedCall] = ()
    sends: frozenset[str] = frozenset()
    refusal: Callable[[Sequence[pb.HistoryEvent]], str | None] | None = None


@dataclass(frozen=True)
class Feature:
    """One add-on.

    * ``event_handlers``: rows of the engine's table, by the name in ``HistoryEvent.eventType``. One that takes
      the place of a core row passes on what is not its own to ``durabletask.replay.handlers.CORE_HANDLERS``.
    * ``extension``: makes the feature's state of a run, on its first use; found with ``run.extension(name)``.
    * ``work_items``: handlers by the name in ``WorkItem.request``.
    * ``register``: adds ``(registry, function or class, name or None)`` and returns the registered name.
    * ``filter_names``: the names that a worker's automatic work-item filters list for this feature.
    * ``entity_metadata``: reads the answers to the entity calls of the clients.
    * ``rewinding``: what its history events mean when a failed instance is rewound.
    """

    name: str
    event_handlers: Mapping[str, EventHandler] = field(default_factory=dict)
    extension: "Callable[[OrchestrationRun], Any] | None" = None
    work_items: Mapping[str, WorkItemHandler] = field(default_factory=dict)
    register: "Callable[[Registry, Any, str | None], str] | None" = None
    filter_names: "Callable[[Registry], list[str]] | None" = None
    entity_metadata: EntityReader | None = None
    rewinding: RewindRules = field(default_factory=RewindRules)


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


def require_entity_reader() -> EntityReader:
    """The reader of the feature ``entities``; raises FeatureMissingError when there is none."""
    reader = require_feature(ENTITIES).entity_metadata
    if reader is None:
        raise FeatureMissingError(f"The installed feature {ENTITIES!r} offers no entity calls of clients.")
    return reader


def require_extension(feature: Feature, run: "OrchestrationRun") -> Any:
    """A new extension of ``feature`` for ``run``; raises FeatureMissingError if it offers none."""
    if feature.extension is None:
        raise FeatureMissingError(f"The installed feature {feature.name!r} offers no orchestrator calls.")
    return feature.extension(run)
