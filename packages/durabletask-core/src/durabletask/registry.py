"""What a worker can run: orchestrators and activities by name and version, and what features add.

Several implementations of one name may be registered under different versions. The one that runs is
the one registered for exactly the version asked for; an unversioned registration answers for any
version, but only while the name has no versioned registration, so that adding a version never
silently re-routes instances of another.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import MethodType
from typing import Any

from durabletask import type_discovery
from durabletask.internal.texts import require_version
from durabletask.task import get_name


class OrchestratorNotRegisteredError(ValueError):
    """No orchestrator of that name is registered with this worker."""


class ActivityNotRegisteredError(ValueError):
    """No activity of that name (and version) is registered with this worker."""


class EntityNotRegisteredError(ValueError):
    """No entity of that name is registered with this worker."""


for _class in (OrchestratorNotRegisteredError, ActivityNotRegisteredError, EntityNotRegisteredError):
    # Their qualified names cross the wire as error types.
    _class.__module__ = "durabletask.worker"


@dataclass(frozen=True, slots=True)
class Registration:
    """One implementation of a name; ``version`` None is an unversioned one.

    ``input_type`` and ``output_type`` are the declared annotations, None where there are none. ``in_process``
    asks for an activity to be run in a process of its own.
    """

    function: Callable[..., Any]
    name: str
    version: str | None
    input_type: Any | None
    output_type: Any | None
    is_async: bool
    in_process: bool = False


class Registry:
    """Orchestrators, activities and the registrations of features.

    ``features`` has a slot per feature name in which the feature keeps its own kind of registrations.
    """

    def __init__(self) -> None:
        self._orchestrators = _Table("orchestrator")
        self._activities = _Table("activity")
        self.features: dict[str, Any] = {}

    def add_orchestrator(self, fn: Callable[..., Any], name: str | None = None, version: str | None = None) -> str:
        """Register ``fn`` under ``name`` (default: its own name) and return that name.

        Raises ValueError when ``fn`` is None, the name is empty, or this name and version is taken, and TypeError
        for a version that is neither a text nor None.
        """
        return self._orchestrators.add(fn, name, version)

    def add_activity(
        self, fn: Callable[..., Any], name: str | None = None, version: str | None = None, in_process: bool = False
    ) -> str:
        """Register ``fn`` under ``name`` (default: its own name) and return that name.

        Raises ValueError when ``fn`` is None, the name is empty, or this name and version is taken, and, with
        ``in_process``, when ``fn`` is an ``async def`` or cannot be imported by name. Raises TypeError for a
        version that is neither a text nor None.
        """
        if in_process:
            _check_importable(fn)
        return self._activities.add(fn, name, version, in_process)

    def orchestrator(self, name: str, version: str | None = None) -> Registration | None:
        """The orchestrator that runs ``name`` at ``version``, or None."""
        return self._orchestrators.find(name, version)

    def activity(self, name: str, version: str | None = None) -> Registration | None:
        """The activity that runs ``name`` at ``version``, or None."""
        return self._activities.find(name, version)

    def orchestrator_of(self, fn: Callable[..., Any]) -> Registration | None:
        """The first registration of this very function as an orchestrator, or None."""
        return self._orchestrators.by_function.get(id(fn))

    def activity_of(self, fn: Callable[..., Any]) -> Registration | None:
        """The first registration of this very function as an activity, or None."""
        return self._activities.by_function.get(id(fn))

    def orchestrator_versions(self, name: str) -> list[str | None]:
        """The versions under which orchestrator ``name`` is registered; None is an unversioned one."""
        return self._orchestrators.versions(name)

    def activity_versions(self, name: str) -> list[str | None]:
        """The versions under which activity ``name`` is registered; None is an unversioned one."""
        return self._activities.versions(name)

    def orchestrator_names(self) -> list[str]:
        """The names of all orchestrators, in order of registration."""
        return self._orchestrators.names()

    def activity_names(self) -> list[str]:
        """The names of all activities, in order of registration."""
        return self._activities.names()

    def orchestrators(self) -> Iterator[Registration]:
        """All registered orchestrators."""
        return iter(self._orchestrators)

    def activities(self) -> Iterator[Registration]:
        """All registered activities."""
        return iter(self._activities)


class _Table:
    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._by_name: dict[str, dict[str | None, Registration]] = {}
        # By identity, because a callable may be unhashable; the registration keeps it alive.
        self.by_function: dict[int, Registration] = {}

    def add(self, fn: Callable[..., Any], name: str | None, version: str | None, in_process: bool = False) -> str:
        if fn is None:
            raise ValueError(f"An {self._kind} function is required, got None.")
        name = get_name(fn) if name is None else name
        if not name:
            raise ValueError(f"The name of an {self._kind} must not be empty.")
        version = require_version(version) or None
        versions = self._by_name.setdefault(name, {})
        if version in versions:
            of_version = f" version {version!r}" if version else ""
            raise ValueError(f"The {self._kind} {name!r}{of_version} is already registered.")
        registration = Registration(
            function=fn,
            name=name,
            version=version,
            input_type=type_discovery.input_type(fn),
            output_type=type_discovery.output_type(fn),
            is_async=type_discovery.is_async(fn),
            in_process=in_process,
        )
        versions[version] = registration
        self.by_function.setdefault(id(fn), registration)
        return name

    def find(self, name: str, version: str | None) -> Registration | None:
        versions = self._by_name.get(name)
        if versions is None:
            return None
        exact = versions.get(version or None)
        if exact is not None or len(versions) > 1:
            return exact
        return versions.get(None)

    def versions(self, name: str) -> list[str | None]:
        return list(self._by_name.get(name, ()))

    def names(self) -> list[str]:
        return list(self._by_name)

    def __iter__(self) -> Iterator[Registration]:
        for versions in self._by_name.values():
            yield from versions.values()


def _check_importable(fn: Callable[..., Any]) -> None:
    if type_discovery.is_async(fn):
        raise ValueError(
            f"The activity {fn!r} is an 'async def', which runs on the worker's event loop: leave process=True out."
        )
    name = getattr(fn, "__qualname__", "")
    # A method's object stays behind: another process finds only the function of the class.
    is_bound = isinstance(fn, MethodType) and not isinstance(fn.__self__, type)
    if is_bound or not name or "<" in name or not getattr(fn, "__module__", None):
        raise ValueError(
            f"The activity {fn!r} cannot be imported by another process: define it with def at the top level of a "
            "module, or as a static or class method there, or leave process=True out."
        )
