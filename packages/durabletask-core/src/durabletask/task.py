"""What orchestrators and activities are written with: the orchestration context, tasks, and retries.

An orchestrator is a function of a context and an input. It awaits tasks, with ``yield`` in a generator
or with ``await`` in an ``async def``; between two awaits it must compute the same from the same inputs.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Generator
from datetime import datetime, timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar, overload

from durabletask.awaitables import CancellableTask as CancellableTask
from durabletask.awaitables import CompletableTask as CompletableTask
from durabletask.awaitables import CompositeTask as CompositeTask
from durabletask.awaitables import RetryableTask as RetryableTask
from durabletask.awaitables import Task as Task
from durabletask.awaitables import TaskCancelledError as TaskCancelledError
from durabletask.awaitables import TaskFailedError as TaskFailedError
from durabletask.awaitables import TimerTask as TimerTask
from durabletask.awaitables import WhenAllTask as WhenAllTask
from durabletask.awaitables import WhenAnyTask as WhenAnyTask
from durabletask.awaitables import when_all as when_all
from durabletask.awaitables import when_any as when_any
from durabletask.failures import FailureDetails as FailureDetails
from durabletask.retry_policy import RetryPolicy as RetryPolicy
from durabletask.versioning import VersionInfo

if TYPE_CHECKING:
    from durabletask.entities import EntityInstanceId, EntityLock

T = TypeVar("T")
TInput = TypeVar("TInput")
TOutput = TypeVar("TOutput")
# What a generator or coroutine yields and is sent. As Any they would make mypy infer Any for the result of a function
# whose own annotation has an Any in it: its overloads would then differ in more than what they return.
_Y = TypeVar("_Y")
_S = TypeVar("_S")


class NonDeterminismError(Exception):
    """The orchestrator's code does not repeat what its history says it did."""


class OrchestrationStateError(Exception):
    """The history that arrived cannot be the history of an orchestration."""


class OrchestrationContext(ABC):
    """What an orchestrator may do, passed to it as its first argument.

    Its calls are numbered in the order in which they are made; a replay must make the same calls in the
    same order. Nothing here blocks: a call returns a task, which is then awaited.
    """

    @property
    @abstractmethod
    def instance_id(self) -> str:
        """The id of this orchestration instance."""

    @property
    @abstractmethod
    def parent_instance_id(self) -> str | None:
        """The id of the orchestration instance that started this one, or None."""

    @property
    @abstractmethod
    def version(self) -> str | None:
        """The version that this instance was started with, or None."""

    @property
    @abstractmethod
    def current_utc_datetime(self) -> datetime:
        """The time of this turn: naive, in UTC, the same in every replay."""

    @property
    @abstractmethod
    def is_replaying(self) -> bool:
        """Whether the code is repeating what it did in an earlier turn."""

    @property
    def version_info(self) -> VersionInfo:
        """The version as a value to compare: ``ctx.version_info < "2.0.0"``; an unversioned one sorts first.

        Comparing the texts of versions goes wrong at 1.10.0, and fails for an instance without a version.
        """
        return VersionInfo(self.version)

    def version_at_least(self, version: str) -> bool:
        """Whether this instance's version is ``version`` or a newer one; False for an unversioned instance.

        Raises durabletask.versioning.VersionOrderError when the two have no order.
        """
        return self.version_info >= version

    @abstractmethod
    def set_custom_status(self, custom_status: Any) -> None:
        """Set the status that clients see; None clears it."""

    @abstractmethod
    def create_timer(self, fire_at: datetime | timedelta) -> TimerTask:
        """A task that completes at a time (a naive one is in UTC) or after a duration."""

    @overload
    def call_activity(
        self,
        activity: Callable[..., Any] | str,
        *,
        input: Any = None,
        retry_policy: RetryPolicy | None = None,
        tags: dict[str, str] | None = None,
        return_type: type[T],
        version: str | None = None,
    ) -> CompletableTask[T]: ...

    @overload
    def call_activity(
        self,
        activity: str,
        *,
        input: Any = None,
        retry_policy: RetryPolicy | None = None,
        tags: dict[str, str] | None = None,
        return_type: None = None,
        version: str | None = None,
    ) -> CompletableTask[Any]: ...

    @overload
    def call_activity(
        self,
        activity: "Callable[[ActivityContext, TInput], Coroutine[_Y, _S, TOutput]]",
        *,
        input: Any = None,
        retry_policy: RetryPolicy | None = None,
        tags: dict[str, str] | None = None,
        return_type: None = None,
        version: str | None = None,
    ) -> CompletableTask[TOutput]: ...

    @overload
    def call_activity(
        self,
        activity: "Callable[[ActivityContext, TInput], TOutput]",
        *,
        input: Any = None,
        retry_policy: RetryPolicy | None = None,
        tags: dict[str, str] | None = None,
        return_type: None = None,
        version: str | None = None,
    ) -> CompletableTask[TOutput]: ...

    @abstractmethod
    def call_activity(
        self,
        activity: Any,
        *,
        input: Any = None,
        retry_policy: RetryPolicy | None = None,
        tags: dict[str, str] | None = None,
        return_type: type | None = None,
        version: str | None = None,
    ) -> CompletableTask[Any]:
        """Schedule an activity, given as its function or its name.

        The result has the type ``return_type``, by default the one the function declares. ``version``
        asks for a registration of that version; by default it is this instance's version if this worker
        registers the activity under it. A failure that outlasts ``retry_policy`` raises TaskFailedError. Raises
        TypeError for a version or tags that are not texts.
        """

    @overload
    def call_sub_orchestrator(
        self,
        orchestrator: Callable[..., Any] | str,
        *,
        input: Any = None,
        instance_id: str | None = None,
        retry_policy: RetryPolicy | None = None,
        version: str | None = None,
        return_type: type[T],
        tags: dict[str, str] | None = None,
    ) -> CompletableTask[T]: ...

    @overload
    def call_sub_orchestrator(
        self,
        orchestrator: str,
        *,
        input: Any = None,
        instance_id: str | None = None,
        retry_policy: RetryPolicy | None = None,
        version: str | None = None,
        return_type: None = None,
        tags: dict[str, str] | None = None,
    ) -> CompletableTask[Any]: ...

    @overload
    def call_sub_orchestrator(
        self,
        orchestrator: "Callable[[OrchestrationContext, TInput], Generator[_Y, _S, TOutput]]",
        *,
        input: Any = None,
        instance_id: str | None = None,
        retry_policy: RetryPolicy | None = None,
        version: str | None = None,
        return_type: None = None,
        tags: dict[str, str] | None = None,
    ) -> CompletableTask[TOutput]: ...

    @overload
    def call_sub_orchestrator(
        self,
        orchestrator: "Callable[[OrchestrationContext, TInput], Coroutine[_Y, _S, TOutput]]",
        *,
        input: Any = None,
        instance_id: str | None = None,
        retry_policy: RetryPolicy | None = None,
        version: str | None = None,
        return_type: None = None,
        tags: dict[str, str] | None = None,
    ) -> CompletableTask[TOutput]: ...

    @overload
    def call_sub_orchestrator(
        self,
        orchestrator: "Callable[[OrchestrationContext, TInput], TOutput]",
        *,
        input: Any = None,
        instance_id: str | None = None,
        retry_policy: RetryPolicy | None = None,
        version: str | None = None,
        return_type: None = None,
        tags: dict[str, str] | None = None,
    ) -> CompletableTask[TOutput]: ...

    @abstractmethod
    def call_sub_orchestrator(
        self,
        orchestrator: Any,
        *,
        input: Any = None,
        instance_id: str | None = None,
        retry_policy: RetryPolicy | None = None,
        version: str | None = None,
        return_type: type | None = None,
        tags: dict[str, str] | None = None,
    ) -> CompletableTask[Any]:
        """Start an orchestration as a child of this one, given as its function or its name.

        ``instance_id`` defaults to this instance's id and the number of the call. ``version`` is a version,
        ``"inherit"`` for that of this instance, or ``"default"`` (the same as None) for the worker's
        ``default_version``. Raises TypeError for a version or tags that are not texts.
        """

    @overload
    def wait_for_external_event(self, name: str, *, data_type: type[T]) -> CancellableTask[T]: ...

    @overload
    def wait_for_external_event(self, name: str, *, data_type: None = None) -> CancellableTask[Any]: ...

    @abstractmethod
    def wait_for_external_event(self, name: str, *, data_type: type | None = None) -> CancellableTask[Any]:
        """A task that completes with the data of the next event of this name, in whatever letter case.

        Events that arrive before anybody waits are kept; events and waits are matched in order.
        """

    def send_event(self, instance_id: str, event_name: str, *, data: Any | None = None) -> None:
        """Raise an event in another orchestration instance; if there is none, nothing happens."""
        raise NotImplementedError(f"{type(self).__name__} does not implement send_event()")

    @abstractmethod
    def continue_as_new(self, new_input: Any, *, save_events: bool = False, new_version: str | None = None) -> None:
        """Complete this generation and start the next with ``new_input`` and an empty history.

        ``save_events`` hands over the events that nobody has waited for. Of several calls the first counts.
        Raises TypeError for a ``new_version`` that is neither a text nor None.
        """

    @abstractmethod
    def new_uuid(self) -> str:
        """A random-looking UUID that is the same in every replay."""

    @overload
    def call_entity(
        self, entity: "EntityInstanceId", operation: str, input: Any = None, *, return_type: type[T]
    ) -> CompletableTask[T]: ...

    @overload
    def call_entity(
        self, entity: "EntityInstanceId", operation: str, input: Any = None, *, return_type: None = None
    ) -> CompletableTask[Any]: ...

    @overload
    def call_entity(
        self, entity: "EntityInstanceId", *, operation_name: str, input: Any = None, return_type: type[T]
    ) -> CompletableTask[T]: ...

    @overload
    def call_entity(
        self, entity: "EntityInstanceId", *, operation_name: str, input: Any = None, return_type: None = None
    ) -> CompletableTask[Any]: ...

    @abstractmethod
    def call_entity(
        self,
        entity: "EntityInstanceId",
        operation: str | None = None,
        input: Any = None,
        *,
        return_type: type | None = None,
        operation_name: str | None = None,
    ) -> CompletableTask[Any]:
        """Call an operation of an entity; needs the package durabletask-entities.

        ``operation_name`` is another name of ``operation``, the one that :meth:`signal_entity` has. Raises TypeError
        if both or neither are given.
        """

    @overload
    def signal_entity(
        self,
        entity_id: "EntityInstanceId",
        operation_name: str,
        input: Any = None,
        signal_time: datetime | None = None,
    ) -> None: ...

    @overload
    def signal_entity(
        self,
        entity_id: "EntityInstanceId",
        *,
        operation: str,
        input: Any = None,
        signal_time: datetime | None = None,
    ) -> None: ...

    @abstractmethod
    def signal_entity(
        self,
        entity_id: "EntityInstanceId",
        operation_name: str | None = None,
        input: Any = None,
        signal_time: datetime | None = None,
        *,
        operation: str | None = None,
    ) -> None:
        """Start an operation of an entity and do not wait for it; needs the package durabletask-entities.

        ``operation`` is another name of ``operation_name``, the one that :meth:`call_entity` has. Raises TypeError
        if both or neither are given.
        """

    @abstractmethod
    def lock_entities(self, entities: "list[EntityInstanceId]") -> "CompletableTask[EntityLock]":
        """Lock entities for a critical section; needs the package durabletask-entities."""

    @abstractmethod
    def _exit_critical_section(self) -> None:
        """Release the locks of the critical section; called by EntityLock."""

    def create_replay_safe_logger(self, logger: logging.Logger) -> "ReplaySafeLogger":
        """A logger that is silent while the orchestrator replays."""
        return ReplaySafeLogger(logger, lambda: self.is_replaying)


class ActivityContext:
    """What an activity knows of its call."""

    def __init__(self, orchestration_id: str, task_id: int) -> None:
        self._orchestration_id = orchestration_id
        self._task_id = task_id

    @property
    def orchestration_id(self) -> str:
        """The id of the orchestration instance that called the activity."""
        return self._orchestration_id

    @property
    def task_id(self) -> int:
        """The id of the activity task within its orchestration; all attempts of a retried task have the same."""
        return self._task_id


class ReplaySafeLogger(logging.LoggerAdapter):  # type: ignore[type-arg]  # not subscriptable before Python 3.11
    """Passes records on to its logger, but nothing while the orchestrator is replaying."""

    def __init__(self, logger: logging.Logger, is_replaying: Callable[[], bool]) -> None:
        super().__init__(logger, {})
        self._is_replaying = is_replaying

    def isEnabledFor(self, level: int) -> bool:
        """Whether a record of ``level`` would be logged now: never while replaying."""
        return not self._is_replaying() and bool(self.logger.isEnabledFor(level))


def get_name(fn: Callable[..., Any]) -> str:
    """The name under which ``fn`` is registered and called; raises ValueError for a lambda, which has none."""
    name: str = fn.__name__
    if name == "<lambda>":
        raise ValueError("A lambda has no name to register or call it by: use a function defined with def.")
    return name


def get_entity_name(fn: Any) -> str:
    """The name under which entity ``fn`` is registered, case kept."""
    declared = getattr(fn, "__durable_entity_name__", None)
    return declared if isinstance(declared, str) and declared else get_name(fn)


Orchestrator = Callable[
    [OrchestrationContext, TInput],
    Generator[Task[Any], Any, TOutput] | Coroutine[Any, Any, TOutput] | TOutput,
]
Activity = Callable[[ActivityContext, TInput], TOutput]
# A function of a context and an input, or a class; the entities package says of which.
Entity = Callable[..., Any] | type

_ENTITY_NAMES = frozenset({"DurableEntity", "EntityInstanceId", "EntityLock", "EntityContext"})


def __getattr__(name: str) -> Any:
    """Names of the entities package that are also found here, once it is installed."""
    if name not in _ENTITY_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module("durabletask.entities"), name)
    except ModuleNotFoundError as error:
        raise AttributeError(
            f"module {__name__!r} has {name!r} only with the entities package: pip install durabletask-entities"
        ) from error
