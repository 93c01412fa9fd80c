"""What goes into a run besides events, and what comes out of a turn."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, NamedTuple

from durabletask_proto import orchestrator_service_pb2 as pb

from durabletask.exception_properties import ExceptionPropertiesProvider
from durabletask.features import EventHandler, Feature, installed_features
from durabletask.serialization import DEFAULT_DATA_CONVERTER, DataConverter
from durabletask.versioning import VersioningOptions

STARTED: Final = "started"
COMPLETED: Final = "completed"
FAILED: Final = "failed"
FIRED: Final = "fired"
RETRYING: Final = "retrying"
IGNORED: Final = "ignored"
WARNING: Final = "warning"
FINISHED: Final = "finished"


class VersionRejected(Exception):
    """The worker must not run this instance's version and hands the work item back."""


class Observation(NamedTuple):
    """Something of this turn that the shell may log or trace; nothing of a replayed past is observed.

    ``kind`` is one of the constants of this module: a run ``started`` or ``finished``, a call ``completed``,
    ``failed`` or ``retrying``, a timer ``fired``, an event was ``ignored``, or a ``warning``. ``message`` is a
    text for people, ``method`` the context method that made the call, ``name`` what it called, ``event`` the
    event that caused the observation, ``action`` that of the call, ``scheduled_at`` the time of its turn in
    nanoseconds since 1970.
    """

    kind: str
    message: str = ""
    task_id: int = 0
    method: str = ""
    name: str = ""
    event: pb.HistoryEvent | None = None
    action: pb.OrchestratorAction | None = None
    scheduled_at: int | None = None


@dataclass(slots=True)
class TurnResult:
    """What a turn decided: actions in the order in which they were made, and the custom status as text."""

    actions: list[pb.OrchestratorAction]
    custom_status: str | None
    observations: list[Observation]


@dataclass(frozen=True)
class RunOptions:
    """How a worker runs orchestrations.

    ``versioning`` None checks no versions; ``maximum_timer_interval`` None leaves long timers whole.
    ``features`` defaults to the installed ones.
    """

    versioning: VersioningOptions | None = None
    maximum_timer_interval: timedelta | None = None
    data_converter: DataConverter = DEFAULT_DATA_CONVERTER
    exception_properties_provider: ExceptionPropertiesProvider | None = None
    features: Mapping[str, Feature] = field(default_factory=installed_features)
    event_handlers: Mapping[str, EventHandler] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        from durabletask.replay.handlers import CORE_HANDLERS

        merged: dict[str, EventHandler] = dict(CORE_HANDLERS)
        for feature in self.features.values():
            merged.update(feature.event_handlers)
        object.__setattr__(self, "event_handlers", merged)

    @property
    def default_version(self) -> str | None:
        """The version of sub-orchestrations that are started without one."""
        return self.versioning.default_version if self.versioning is not None else None
