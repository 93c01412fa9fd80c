"""The orchestration context of a run: each call becomes a numbered action."""

from collections.abc import Callable
from datetime import datetime, timedelta
from sys import _getframe
from types import FrameType
from typing import TYPE_CHECKING, Any

from durabletask_proto import orchestrator_service_pb2 as pb

from durabletask import features, type_discovery
from durabletask.failures import shown
from durabletask.internal.texts import require_tags, require_version
from durabletask.replay import retries
from durabletask.replay.times import later, naive_utc
from durabletask.retry_policy import RetryPolicy
from durabletask.serialization import encoded_text
from durabletask.task import (
    CancellableTask,
    CompletableTask,
    OrchestrationContext,
    RetryableTask,
    TimerTask,
    get_name,
)
from durabletask.versioning import DEFAULT, INHERIT

if TYPE_CHECKING:
    from durabletask.replay.run import OrchestrationRun


class RunContext(OrchestrationContext):
    """What an orchestrator of an OrchestrationRun is called with."""

    def __init__(self, run: "OrchestrationRun") -> None:
        self._run = run

    @property
    def instance_id(self) -> str:
        return self._run.instance_id

    @property
    def parent_instance_id(self) -> str | None:
        return self._run.parent_instance_id

    @property
    def version(self) -> str | None:
        return self._run.version

    @property
    def current_utc_datetime(self) -> datetime:
        return self._run.now

    @property
    def is_replaying(self) -> bool:
        return self._run.is_replaying

    def set_custom_status(self, custom_status: Any) -> None:
        self._run.custom_status = custom_status

    def create_timer(self, fire_at: datetime | timedelta) -> TimerTask:
        run = self._run
        if isinstance(fire_at, timedelta):
            moment = later(run.now, fire_at)
        elif isinstance(fire_at, datetime):
            moment = naive_utc(fire_at)
        else:
            raise TypeError(f"create_timer() needs a datetime or a timedelta, got {fire_at!r}.")
        return retries.start_timer(run, moment, _getframe(1))

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
        require_version(version)
        require_tags(tags)
        run = self._run
        name = activity
        if not isinstance(activity, str):
            known = run.registry.activity_of(activity)
            name = get_name(activity) if known is None else known.name
            version = version or (None if known is None else known.version)
            if return_type is None:
                declared = type_discovery.output_type(activity) if known is None else known.output_type
                return_type = None if declared is None else self._reconstructed(declared)
        if not version and run.version:
            version = self._inherited_version(name, run.version)
        action = pb.OrchestratorAction(id=run.ledger.next_id())
        call = action.scheduleTask
        call.name = name
        self._fill(call, input, version, tags)
        return self._called(action, "call_activity", name, retry_policy, return_type, _getframe(1))

    def call_sub_orchestrator(
        self,
        orchestrator: Callable[..., Any] | str,
        *,
        input: Any = None,
        instance_id: str | None = None,
        retry_policy: RetryPolicy | None = None,
        version: str | None = None,
        return_type: type | None = None,
        tags: dict[str, str] | None = None,
    ) -> CompletableTask[Any]:
        require_version(version)
        require_tags(tags)
        run = self._run
        name = orchestrator
        if not isinstance(name, str):
            known = run.registry.orchestrator_of(name)
            version = version or (None if known is None else known.version)
            name = get_name(name) if known is None else known.name
        action_id = run.ledger.next_id()
        action = pb.OrchestratorAction(id=action_id)
        call = action.createSubOrchestration
        call.name = name
        call.instanceId = instance_id or f"{run.instance_id}:{action_id:04x}"
        self._fill(call, input, self._child_version(version), tags)
        return self._called(action, "call_sub_orchestrator", name, retry_policy, return_type, _getframe(1))

    def wait_for_external_event(self, name: str, *, data_type: type | None = None) -> CancellableTask[Any]:
        events = self._run.events
        buffered = events.take_buffered(name)
        if buffered is None:
            return events.wait(name, data_type)
        task: CancellableTask[Any] = CancellableTask(data_type)
        self._run.deliver(task, buffered.eventRaised.input.value)
        return task

    def send_event(self, instance_id: str, event_name: str, *, data: Any | None = None) -> None:
        """Raise an event in another instance.

        Raises ValueError for a blank instance id or event name, and for an id that begins with '@', which
        is that of an entity.
        """
        if not instance_id or not instance_id.strip() or instance_id.startswith("@"):
            raise ValueError(f"send_event() needs the id of an orchestration instance, got {instance_id!r}.")
        if not event_name or not event_name.strip():
            raise ValueError(f"send_event() needs the name of an event, got {event_name!r}.")
        run = self._run
        action = pb.OrchestratorAction(id=run.ledger.next_id())
        sending = action.sendEvent
        sending.instance.instanceId = instance_id
        sending.name = event_name
        encoded = encoded_text(run.options.data_converter, data)
        if encoded is not None:
            sending.data.value = encoded
        run.ledger.add(action, "send_event", event_name, _getframe(1)).target = instance_id

    def continue_as_new(self, new_input: Any, *, save_events: bool = False, new_version: str | None = None) -> None:
        require_version(new_version, "new_version")
        encoded = encoded_text(self._run.options.data_converter, new_input)
        self._run.continue_as_new(encoded, save_events, new_version)

    def new_uuid(self) -> str:
        return self._run.new_uuid()

    def call_entity(
        self,
        entity: Any,
        operation: str | None = None,
        input: Any = None,
        *,
        return_type: type | None = None,
        operation_name: str | None = None,
    ) -> CompletableTask[Any]:
        chosen = _operation("call_entity", operation, operation_name)
        return self._entities.call_entity(entity, chosen, input, return_type, _getframe(1))

    def signal_entity(
        self,
        entity_id: Any,
        operation_name: str | None = None,
        input: Any = None,
        signal_time: datetime | None = None,
        *,
        operation: str | None = None,
    ) -> None:
        chosen = _operation("signal_entity", operation, operation_name)
        self._entities.signal_entity(entity_id, chosen, input, signal_time, _getframe(1))

    def lock_entities(self, entities: list[Any]) -> CompletableTask[Any]:
        return self._entities.lock_entities(entities, _getframe(1))

    def _exit_critical_section(self) -> None:
        self._entities.exit_critical_section()

    @property
    def _entities(self) -> features.EntityCalls:
        calls: features.EntityCalls = self._run.extension(features.ENTITIES)
        return calls

    def _fill(self, call: Any, input: Any, version: str | None, tags: dict[str, str] | None) -> None:
        """What activities and sub-orchestrations have in common on the wire."""
        run = self._run
        encoded = encoded_text(run.options.data_converter, input)
        if encoded is not None:
            call.input.value = encoded
        if version:
            call.version.value = version
        if tags:
            call.tags.update(tags)
        if run.trace_context is not None:
            call.parentTraceContext.CopyFrom(run.trace_context)

    def _called(
        self,
        action: pb.OrchestratorAction,
        method: str,
        name: str,
        retry_policy: RetryPolicy | None,
        return_type: Any | None,
        frame: FrameType,
    ) -> CompletableTask[Any]:
        task: CompletableTask[Any]
        if retry_policy is None:
            task = CompletableTask(return_type)
        elif not isinstance(retry_policy, RetryPolicy):
            # Not only when an attempt fails: then this code is no longer there to be told.
            raise TypeError(
                f"{method}() needs a RetryPolicy or None as its retry_policy, got {shown(retry_policy)} of type "
                f"{type(retry_policy).__name__}. Make one with task.RetryPolicy(...)."
            )
        else:
            is_child = method == "call_sub_orchestrator"
            task = RetryableTask(retry_policy, action, self._run.now, is_child, return_type)
        self._run.ledger.add(action, method, name, frame, task)
        return task

    def _reconstructed(self, declared: Any) -> Any | None:
        return declared if self._run.options.data_converter.can_reconstruct(declared) else None

    def _inherited_version(self, name: str, version: str) -> str | None:
        known = self._run.registry.activity(name, version)
        return None if known is None else known.version

    def _child_version(self, version: str | None) -> str | None:
        if version is None or version == DEFAULT:
            return self._run.options.default_version
        return self._run.version if version == INHERIT else version


def _operation(method: str, operation: str | None, operation_name: str | None) -> str:
    """What an entity is to do, by whichever of the two names it was given."""
    if operation is None:
        if operation_name is not None:
            return operation_name
    elif operation_name is None:
        return operation
    found = "neither" if operation is None else f"{operation!r} and {operation_name!r}"
    raise TypeError(
        f"{method}() needs the operation once, as operation or as operation_name, found {found}: "
        f'write ctx.{method}(entity_id, "get")'
    )
