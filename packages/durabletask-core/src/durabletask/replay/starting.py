"""The beginning of a run: what its first event says, and whether this worker may run it."""

from typing import TYPE_CHECKING, NamedTuple

from durabletask_proto import orchestrator_service_pb2 as pb

from durabletask.features import FeatureMissingError, require_feature
from durabletask.registry import Registration
from durabletask.versioning import VersionFailureStrategy, check_version

if TYPE_CHECKING:
    from durabletask.replay.run import OrchestrationRun


class Refusal(NamedTuple):
    """Why this worker must not run the instance; ``reject`` hands it back, otherwise it fails."""

    message: str
    reject: bool


def read_start(run: "OrchestrationRun", started: pb.ExecutionStartedEvent) -> None:
    """Take over the identity of the generation; an absent field is None, not an empty text."""
    run.name = started.name
    if started.HasField("version"):
        run.version = started.version.value
    if started.HasField("parentInstance"):
        run.parent_instance_id = started.parentInstance.orchestrationInstance.instanceId
    if started.orchestrationInstance.HasField("executionId"):
        run.execution_id = started.orchestrationInstance.executionId.value
    if started.HasField("parentTraceContext"):
        run.trace_context = started.parentTraceContext


def version_refusal(run: "OrchestrationRun", registration: Registration | None) -> Refusal | None:
    """Check the instance's version against the worker's options and against what is registered.

    ``registration`` is what is registered for this very version, or None.
    """
    versioning = run.options.versioning
    if versioning is not None:
        mismatch = check_version(versioning, run.version)
        if mismatch is not None:
            return Refusal(mismatch.message, mismatch.strategy is VersionFailureStrategy.REJECT)
    registered = run.registry.orchestrator_versions(run.name) if registration is None else ()
    if not registered:
        return None
    known = ", ".join(repr(version) if version else "unversioned" for version in registered)
    reject = versioning is None or versioning.failure_strategy is VersionFailureStrategy.REJECT
    asked = f"version {run.version!r}" if run.version else "no version"
    return Refusal(f"Orchestrator {run.name!r} is asked for with {asked}, but registered are: {known}.", reject)


def unregistered_text(run: "OrchestrationRun") -> str:
    """What to tell of an orchestrator that no registration has."""
    names = ", ".join(run.registry.orchestrator_names()) or "none"
    return (
        f"The orchestrator {run.name!r} is not registered with this worker. Registered: {names}. "
        "Names are case-sensitive; register it with add_orchestrator() before the worker starts."
    )


def unknown_event_text(run: "OrchestrationRun", kind: str | None) -> str:
    """What to tell of an event that nothing handles, naming the package that would."""
    text = f"The history of instance {run.instance_id!r} has an event of type {kind or 'unknown'!r}"
    if kind is not None and kind.startswith("entity"):
        try:
            require_feature("entities", run.options.features)
        except FeatureMissingError as error:
            return f"{text}. {error}"
    return f"{text}, which this version of durabletask does not know. Upgrade the worker."
