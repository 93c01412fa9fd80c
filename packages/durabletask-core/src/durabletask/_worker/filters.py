"""Which work items a worker asks for."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from durabletask_proto import orchestrator_service_pb2 as pb

from durabletask.registry import Registry


@dataclass(frozen=True)
class OrchestrationWorkItemFilter:
    """Orchestrations of one name.

    Args:
        name: Name of the orchestrator, case-sensitive.
        versions: Versions to take; empty takes any, the element ``""`` stands for unversioned.
    """

    name: str
    versions: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ActivityWorkItemFilter:
    """Activities of one name.

    Args:
        name: Name of the activity, case-sensitive.
        versions: Versions to take; empty takes any, the element ``""`` stands for unversioned.
    """

    name: str
    versions: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class EntityWorkItemFilter:
    """Entities of one name.

    Args:
        name: Name of the entity; kept in lower case, as entity ids are.

    Raises:
        ValueError: The name is empty or contains ``@``.
    """

    name: str

    def __post_init__(self) -> None:
        if not self.name or "@" in self.name:
            raise ValueError(f"an entity name must not be empty nor contain '@', found {self.name!r}")
        object.__setattr__(self, "name", self.name.lower())


@dataclass(frozen=True)
class WorkItemFilters:
    """What a worker asks for; a kind with an empty list gets nothing of that kind.

    Args:
        orchestrations: Orchestrations to take.
        activities: Activities to take.
        entities: Entities to take.
    """

    orchestrations: list[OrchestrationWorkItemFilter] = field(default_factory=list)
    activities: list[ActivityWorkItemFilter] = field(default_factory=list)
    entities: list[EntityWorkItemFilter] = field(default_factory=list)


def to_message(filters: WorkItemFilters) -> pb.WorkItemFilters:
    """The filters as the protocol sends them."""
    return pb.WorkItemFilters(
        orchestrations=[pb.OrchestrationFilter(name=f.name, versions=f.versions) for f in filters.orchestrations],
        activities=[pb.ActivityFilter(name=f.name, versions=f.versions) for f in filters.activities],
        entities=[pb.EntityFilter(name=f.name) for f in filters.entities],
    )


def versions_served(registered: Iterable[str | None], only: str | None = None) -> list[str]:
    """The ``versions`` of a filter for one name.

    Args:
        registered: Versions under which the name is registered, None for the unversioned registration.
        only: The one version a strictly versioned worker runs.

    Returns:
        Empty (any version) if there is only an unversioned registration: it serves every version.
        With versioned registrations just those, since nothing else would find its code here.
    """
    if only is not None:
        return [only]
    versions = set(registered)
    if not versions - {None}:
        return []
    return sorted(version or "" for version in versions)


def from_registry(registry: Registry, entity_names: Iterable[str], strict_version: str | None) -> WorkItemFilters:
    """Filters for just what is registered.

    Args:
        registry: The worker's orchestrators and activities.
        entity_names: Names of its entities.
        strict_version: The version of a worker that runs no other; it concerns orchestrations only,
            because activities are usually scheduled without one.
    """
    return WorkItemFilters(
        orchestrations=[
            OrchestrationWorkItemFilter(name, versions_served(registry.orchestrator_versions(name), strict_version))
            for name in registry.orchestrator_names()
        ],
        activities=[
            ActivityWorkItemFilter(name, versions_served(registry.activity_versions(name)))
            for name in registry.activity_names()
        ],
        entities=[EntityWorkItemFilter(name) for name in entity_names],
    )


for _class in (OrchestrationWorkItemFilter, ActivityWorkItemFilter, EntityWorkItemFilter, WorkItemFilters):
    # User code finds these classes in durabletask.worker.
    _class.__module__ = "durabletask.worker"
