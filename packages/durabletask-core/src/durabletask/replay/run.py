"""One generation of an orchestration instance, advanced by history events.

The run keeps the suspended generator or coroutine of the orchestrator. Replaying a full history and
going on with a warm run are the same: events are applied one at a time, and after each one user code
moves for as long as what it awaits is complete. Nothing here waits, logs, or asks for time or chance.
"""

import uuid
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterable, Sequence
from datetime import datetime
from types import CodeType
from typing import Any, cast

from durabletask_proto import orchestrator_service_pb2 as pb

from durabletask import features
from durabletask.failures import failure_of, plain_failure, safe_text, shown
from durabletask.internal.json_encode_output_exception import JsonEncodeOutputException
from durabletask.registry import OrchestratorNotRegisteredError, Registration, Registry
from durabletask.replay import rewind, starting
from durabletask.replay.context import RunContext
from durabletask.replay.external_events import ExternalEvents
from durabletask.replay.handlers import UNDELAYED
from durabletask.replay.ledger import ActionLedger, ActionRecord, place_of
from durabletask.replay.options import (
    FINISHED,
    IGNORED,
    STARTED,
    WARNING,
    Observation,
    RunOptions,
    TurnResult,
    VersionRejected,
)
from durabletask.replay.times import datetime_at
from durabletask.serialization import encoded_text
from durabletask.task import NonDeterminismError, OrchestrationStateError, Task, TaskCancelledError, TaskFailedError

_BEFORE_TIME = datetime(1000, 1, 1)
# The name space of deterministic UUIDs that the SDKs of the protocol share.
_UUID_SPACE = uuid.uuid5(uuid.NAMESPACE_OID, "9e952958-5e33-4daf-827f-2fa12937b875")


class OrchestrationRun:
    """One run; its attributes are for the handlers and extensions that move it, not for user code.

    The life of a cold run: ``replay(past)``, then ``advance(new)``. A warm run goes on with ``confirm()``
    once the server has committed the turn, and ``advance(more)``.

    ``observes`` False notes warnings only, for a shell that neither traces nor logs the rest.
    """

    # A worker keeps many runs, and this many attributes would cost each a table of their names. For the same reason
    # containers that many have no use for are made when they are needed.
    __slots__ = (
        "_awaiting",
        "_broken",
        "_code",
        "_completion",
        "_extensions",
        "_function_code",
        "_has_no_code",
        "_now",
        "_now_of",
        "_observations",
        "_past",
        "_rejection",
        "_save_events",
        "_suspended",
        "_uuids",
        "custom_status",
        "events",
        "execution_id",
        "instance_id",
        "is_replaying",
        "ledger",
        "name",
        "observes",
        "options",
        "parent_instance_id",
        "registry",
        "trace_context",
        "version",
        "waiting_retries",
    )

    def __init__(self, instance_id: str, registry: Registry, options: RunOptions, *, observes: bool = True) -> None:
        self.instance_id = instance_id
        self.registry = registry
        self.options = options
        self.name = ""
        self.version: str | None = None
        self.execution_id: str | None = None
        self.parent_instance_id: str | None = None
        self.trace_context: pb.TraceContext | None = None
        self.is_replaying = False
        self.custom_status: Any = None
        self.ledger = ActionLedger()
        self.events = ExternalEvents()
        self.waiting_retries: dict[int, ActionRecord] = {}
        self.observes = observes
        self._uuids = 0
        self._extensions: dict[str, Any] | None = None
        self._observations: list[Observation] | None = None
        self._past: Sequence[pb.HistoryEvent] = ()
        self._now_of: int | None = None
        self._now = _BEFORE_TIME
        self._code: Generator[Any, Any, Any] | Coroutine[Any, Any, Any] | None = None
        self._function_code: CodeType | None = None
        self._awaiting: Task[Any] | None = None
        self._suspended: list[pb.HistoryEvent] | None = None
        self._completion: pb.OrchestratorAction | None = None
        self._save_events = False
        self._broken = False
        self._rejection: str | None = None
        self._has_no_code = False

    # The calls of the worker.

    def replay(self, past_events: Iterable[pb.HistoryEvent]) -> None:
        """Apply the recorded past of this generation; what goes wrong is told by the next ``advance``."""
        past = past_events if isinstance(past_events, Sequence) else list(past_events)
        if rewind.has_ended(past):
            # Only a rewind turn shows an ended past; whether it is one, the new events say.
            self._past = past
            return
        self.is_replaying = True
        self._apply(past)
        self.is_replaying = False

    def advance(self, new_events: Iterable[pb.HistoryEvent]) -> TurnResult:
        """Apply the events of one turn and return what it decided.

        Raises VersionRejected when this worker must not run the instance's version, and MemoryError; everything
        else that goes wrong becomes a failed completion.
        """
        events = list(new_events)
        if self._past:
            if rewind.is_asked(events):
                return TurnResult([rewind.rewind_action(self, self._past, events)], None, [])
            past, self._past = self._past, ()
            self.is_replaying = True
            self._apply(past)
            self.is_replaying = False
        if not events:
            self._break(OrchestrationStateError(f"The turn of instance {self.instance_id!r} has no new events."))
        self._apply(events)
        if self._rejection is not None and not self.is_complete:
            raise VersionRejected(self._rejection)
        return self._result()

    def confirm(self) -> None:
        """The server has committed the last turn, so that its actions count as confirmed by history."""
        self.ledger.pending.clear()

    def close(self) -> BaseException | None:
        """End the run: drop the suspended code, running only its own clean-up; return what that raised, for a log."""
        code, self._code = self._code, None
        try:
            if code is not None:
                code.close()
        except BaseException as error:
            return error
        finally:
            # Whatever knows the run, or itself, only the garbage collector could free.
            self._extensions = None
            self.ledger.close()
            self.events.close()
        return None

    @property
    def is_complete(self) -> bool:
        """Whether the run has made its completion action."""
        return self._completion is not None

    @property
    def is_broken(self) -> bool:
        """Whether history and code did not fit, or something around the code failed; the completion says which."""
        return self._broken

    @property
    def outcome(self) -> str:
        """The status of the completion, for example ``COMPLETED``; empty while there is none."""
        if self._completion is None:
            return ""
        status = self._completion.completeOrchestration.orchestrationStatus
        return pb.OrchestrationStatus.Name(status).removeprefix("ORCHESTRATION_STATUS_")

    @property
    def where(self) -> str:
        """The place in user code where the run stands, or where its function begins."""
        frame = getattr(self._code, "gi_frame", None) or getattr(self._code, "cr_frame", None)
        if frame is not None:
            return place_of(frame.f_code, frame.f_lasti)
        return "the engine" if self._function_code is None else place_of(self._function_code, -1)

    # The calls of handlers, of the context and of extensions.

    @property
    def context(self) -> RunContext:
        """What user code gets; all contexts of a run are alike.

        It is not kept, because it knows the run: only the garbage collector could free the two.
        """
        return RunContext(self)

    @property
    def now(self) -> datetime:
        """The time of the turn, naive in UTC; the year 1000 before the first turn."""
        time = self.ledger.now
        if time is not None and time != self._now_of:
            self._now_of, self._now = time, datetime_at(time)
        return self._now

    def new_uuid(self) -> str:
        """The next deterministic UUID; entity calls and locks take theirs from the same row."""
        name = f"{self.instance_id}_{self.now:%Y-%m-%dT%H:%M:%S.%fZ}_{self._uuids}"
        self._uuids += 1
        return str(uuid.uuid5(_UUID_SPACE, name))

    def extension(self, name: str) -> Any:
        """The state that feature ``name`` keeps for this run; raises FeatureMissingError without the feature."""
        if self._extensions is None:
            self._extensions = {}
        found = self._extensions.get(name)
        if found is None:
            feature = features.require_feature(name, self.options.features)
            found = self._extensions[name] = features.require_extension(feature, self)
        return found

    def observe(
        self, kind: str, message: str, record: ActionRecord | None = None, event: pb.HistoryEvent | None = None
    ) -> None:
        """Note something of this turn for the shell; nothing is noted of a replayed past."""
        if self.is_replaying or not (self.observes or kind == WARNING):
            return
        if self._observations is None:
            self._observations = []
        if record is None:
            self._observations.append(Observation(kind, message, event=event))
            return
        action = record.action
        self._observations.append(
            Observation(kind, message, action.id, record.method, record.name, event, action, record.scheduled_at)
        )

    def start(self, event: pb.HistoryEvent) -> None:
        """Begin the generation that an executionStarted event describes, and run its code to the first wait."""
        if self.name:
            self.observe(IGNORED, "the generation has already started", None, event)
            return
        starting.read_start(self, event.executionStarted)
        if self.observes:
            self.observe(STARTED, f"orchestrator {self.name!r}", None, event)
        registration = self.registry.orchestrator(self.name, self.version)
        if registration is not None:
            # The same text, but the one that all runs of it share.
            self.name = registration.name
        refusal = starting.version_refusal(self, registration)
        if refusal is not None:
            self._refuse(refusal)
        elif registration is None:
            self._has_no_code = True
            self.fail(OrchestratorNotRegisteredError(starting.unregistered_text(self)))
        else:
            self._call(registration, event.executionStarted.input.value)

    def suspend(self) -> None:
        """Hold back what arrives until ``resume``; a second suspension changes nothing."""
        if self._suspended is None:
            self._suspended = []

    def resume(self) -> None:
        """Apply what was held back, in order."""
        held, self._suspended = self._suspended, None
        for event in held or ():
            self._apply_one(event)

    def deliver(self, task: Task[Any] | None, data: str) -> None:
        """Complete ``task`` with JSON text, as the type it expects; what cannot be decoded fails it."""
        if task is None or task.is_complete:
            return
        completable: Any = task
        try:
            value = self.options.data_converter.deserialize(data, completable.expected_type)
        except Exception as error:
            # The converter is the user's: what it raises belongs to the code that awaits the value.
            completable.fail(f"The result could not be decoded: {safe_text(error)}", error)
            return
        completable.complete(value)

    def fail_task(self, task: Task[Any] | None, message: str, failure: pb.TaskFailureDetails) -> None:
        """Fail ``task`` with the failure of what it stands for."""
        if task is not None and not task.is_complete:
            cast(Any, task).fail(message, failure)

    def complete(
        self,
        status: "pb.OrchestrationStatus.ValueType",
        result: str | None = None,
        failure: pb.TaskFailureDetails | None = None,
    ) -> bool:
        """Make the completion action; False if there is one already, which then stands."""
        if self._completion is not None:
            return False
        for extension in (self._extensions or {}).values():
            extension.before_completion()
        action = pb.OrchestratorAction(id=self.ledger.next_id())
        completion = action.completeOrchestration
        completion.orchestrationStatus = status
        if result is not None:
            completion.result.value = result
        if failure is not None:
            completion.failureDetails.CopyFrom(failure)
        self._completion = action
        if self.observes:
            self.observe(FINISHED, self.outcome)
        return True

    def continue_as_new(self, new_input: str | None, save_events: bool, new_version: str | None) -> None:
        """Complete this generation in favour of the next."""
        if self.complete(pb.ORCHESTRATION_STATUS_CONTINUED_AS_NEW, new_input) and self._completion is not None:
            self._save_events = save_events
            if new_version is not None:
                self._completion.completeOrchestration.newVersion.value = new_version

    def fail(self, error: BaseException) -> None:
        """Complete the run as failed by ``error``."""
        if self.is_complete:
            self.observe(WARNING, f"raised after completion: {type(error).__name__}: {safe_text(error)}")
        else:
            self.complete(pb.ORCHESTRATION_STATUS_FAILED, failure=self._failure(error))

    # The driver.

    def _apply(self, events: Iterable[pb.HistoryEvent]) -> None:
        for event in events:
            if self._broken:
                return
            try:
                self._apply_one(event)
            except (NonDeterminismError, OrchestrationStateError, features.FeatureMissingError) as error:
                self._break(error)
            except MemoryError:
                # The lack is this machine's and of this moment: the turn is for another try.
                raise
            except Exception as error:
                # Nothing here reads or waits, so that the same events would raise the same again, for ever.
                kind = type(error).__name__
                self.observe(WARNING, f"failed between the steps of its code: {kind}: {safe_text(error)}", None, event)
                self._break(error)

    def _apply_one(self, event: pb.HistoryEvent) -> None:
        kind: str | None = event.WhichOneof("eventType")
        if self._has_no_code and kind != "executionTerminated":
            # No code of this worker made the calls that the history confirms: there is nothing to compare.
            return
        if self._suspended is not None and kind not in UNDELAYED and self._completion is None:
            self._suspended.append(event)
            return
        handler = self.options.event_handlers.get(kind or "")
        if handler is None:
            raise OrchestrationStateError(starting.unknown_event_text(self, kind))
        handler(self, event)
        while self._completion is None:
            task = self._awaiting
            if task is None or not task.is_complete:
                return
            self._resume_code(task)

    def _call(self, registration: Registration, data: str) -> None:
        function = registration.function
        self._function_code = getattr(function, "__code__", None)
        converter = self.options.data_converter
        declared = registration.input_type
        try:
            expected = declared if declared is not None and converter.can_reconstruct(declared) else None
            outcome = function(self.context, converter.deserialize(data, expected))
        except BaseException as error:
            # SystemExit and the like from user code end the orchestration, never the worker.
            self.fail(error)
            return
        if isinstance(outcome, (Generator, Coroutine)):
            self._code = outcome
            self._step(outcome.send, None)
        elif isinstance(outcome, AsyncGenerator):
            self.fail(
                TypeError(f"The orchestrator {self.name!r} is an async generator: await tasks, do not yield them.")
            )
        else:
            self._finish(outcome)

    def _resume_code(self, task: Task[Any]) -> None:
        code = self._code
        if code is None:
            self._awaiting = None
            return
        try:
            value = task.get_result()
        except (TaskFailedError, TaskCancelledError) as error:
            # The traceback knows all frames around this one, and they the task that knows the error.
            failure = error.with_traceback(None)
        else:
            self._step(code.send, value)
            return
        self._step(code.throw, failure)
        if self.is_complete:
            # Since Python 3.12 the frame of code that has ended knows the one that it came back to.
            failure.__traceback__ = None

    def _step(self, move: Callable[[Any], Any], value: Any) -> None:
        """Move user code to its next wait or its end."""
        self._awaiting = None
        try:
            awaited = move(value)
        except StopIteration as stop:
            self._finish(stop.value)
        except BaseException as error:
            self.fail(error)
            # It has been told as text; as above. An exception may refuse the attribute, as a frozen dataclass does.
            BaseException.with_traceback(error, None)
        else:
            if isinstance(awaited, Task):
                self._awaiting = awaited
            elif not self.is_complete:
                self._fail_wait(awaited)

    def _fail_wait(self, awaited: Any) -> None:
        kind = type(awaited).__name__
        message = (
            f"The orchestrator {self.name!r} awaited {shown(awaited)} of type {kind} at {self.where}, which is not "
            "a task. Yield or await only what the calls of the orchestration context, when_all() and when_any() return."
        )
        stack = f"  at {self.where}\n"
        self.complete(
            pb.ORCHESTRATION_STATUS_FAILED, failure=plain_failure("builtins.TypeError", message, stack_trace=stack)
        )

    def _finish(self, value: Any) -> None:
        if self.is_complete:
            return
        try:
            result = encoded_text(self.options.data_converter, value)
        except Exception as error:
            refusal = JsonEncodeOutputException(value)
            refusal.__cause__ = error
            self.fail(refusal)
            return
        self.complete(pb.ORCHESTRATION_STATUS_COMPLETED, result)

    def _refuse(self, refusal: starting.Refusal) -> None:
        self._has_no_code = True
        if refusal.reject:
            self._rejection = refusal.message
        else:
            failure = plain_failure("VersionMismatch", refusal.message, non_retriable=True)
            self.complete(pb.ORCHESTRATION_STATUS_FAILED, failure=failure)

    def _break(self, error: Exception) -> None:
        """Fail for what no step of the code raised; what the code did meanwhile must not be sent."""
        self._broken = True
        self.ledger.pending.clear()
        self._completion = None
        self.complete(pb.ORCHESTRATION_STATUS_FAILED, failure=self._failure(error))

    def _failure(self, error: BaseException) -> pb.TaskFailureDetails:
        return failure_of(error, self.options.exception_properties_provider, lambda text: self.observe(WARNING, text))

    def _result(self) -> TurnResult:
        status = None if self.custom_status is None else self._encoded_status()
        actions = [record.action for record in self.ledger.pending.values()]
        if self._completion is not None:
            if self._save_events:
                carried = self._completion.completeOrchestration.carryoverEvents
                del carried[:]  # a run that is advanced after its end is asked again
                carried.extend(self.events.unconsumed())
            actions.append(self._completion)
        observations, self._observations = self._observations, None
        return TurnResult(actions, status, observations or [])

    def _encoded_status(self) -> str | None:
        try:
            return encoded_text(self.options.data_converter, self.custom_status)
        except Exception as error:
            self.custom_status = None
            self.fail(error)
            return None
