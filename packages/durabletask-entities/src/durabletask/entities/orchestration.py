"""Entities in an orchestration run: its calls, its signals and its critical section."""

from datetime import datetime
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from durabletask.entities.critical_section import CriticalSection, lock_set_of
from durabletask.entities.entity_lock import EntityLock
from durabletask.entities.targets import entity_of, target_of
from durabletask.replay.ledger import ActionRecord
from durabletask.replay.times import naive_utc, to_timestamp
from durabletask.serialization import encoded_text
from durabletask.task import CompletableTask
from durabletask_proto import orchestrator_service_pb2 as pb

if TYPE_CHECKING:
    from durabletask.replay import OrchestrationRun

CALL: Final = "call_entity"
SIGNAL: Final = "signal_entity"
LOCK: Final = "lock_entities"
UNLOCK: Final = "unlock_entity"


class EntityRun:
    """What one orchestration run has to do with entities; the engine keeps one for each run that uses them."""

    def __init__(self, run: "OrchestrationRun") -> None:
        self._run = run
        self._calls: dict[str, ActionRecord] = {}
        self._section: CriticalSection | None = None
        self._lock_request: ActionRecord | None = None
        # What the server holds for this run as far as history tells, and the action that gives it back, if any.
        self._on_server: dict[tuple[str, str], int | None] = {}

    # The calls of the context.

    def call_entity(
        self, entity: Any, operation: str, input: Any, return_type: Any | None, frame: FrameType
    ) -> CompletableTask[Any]:
        """Schedule a call and return its task.

        Raises RuntimeError when the critical section forbids it, and TypeError or ValueError for arguments that
        name no entity or operation.
        """
        target = target_of(entity, operation, CALL)
        if self._section is not None:
            self._section.check_call(target)
        run = self._run
        encoded = encoded_text(run.options.data_converter, input)
        action = pb.OrchestratorAction(id=run.ledger.next_id())
        called = action.sendEntityMessage.entityOperationCalled
        called.requestId = run.new_uuid()
        called.operation = operation
        called.targetInstanceId.value = target
        called.parentInstanceId.value = run.instance_id
        if run.execution_id is not None:
            called.parentExecutionId.value = run.execution_id
        if encoded is not None:
            called.input.value = encoded
        task: CompletableTask[Any] = CompletableTask(return_type)
        record = run.ledger.add(action, CALL, operation, frame, task)
        record.target = target
        self._calls[called.requestId] = record
        if self._section is not None:
            self._section.call_began(target, action.id)
        return task

    def signal_entity(
        self, entity: Any, operation: str, input: Any, signal_time: datetime | None, frame: FrameType
    ) -> None:
        """Schedule a signal.

        Raises RuntimeError when the critical section forbids it, and TypeError or ValueError for arguments that
        name no entity or operation.
        """
        target = target_of(entity, operation, SIGNAL)
        if self._section is not None:
            self._section.check_signal(target)
        run = self._run
        encoded = encoded_text(run.options.data_converter, input)
        action = pb.OrchestratorAction(id=run.ledger.next_id())
        signaled = action.sendEntityMessage.entityOperationSignaled
        signaled.requestId = run.new_uuid()
        signaled.operation = operation
        signaled.targetInstanceId.value = target
        if signal_time is not None:
            signaled.scheduledTime.CopyFrom(to_timestamp(naive_utc(signal_time)))
        if encoded is not None:
            signaled.input.value = encoded
        run.ledger.add(action, SIGNAL, operation, frame).target = target

    def lock_entities(self, entities: list[Any], frame: FrameType) -> CompletableTask[Any]:
        """Ask for locks and return the task of their being granted.

        Raises RuntimeError for no entities, and while another critical section is held or asked for.
        """
        if self._section is not None:
            raise RuntimeError(
                "Must not enter another critical section from within a critical section: lock all entities at once, "
                f"now {', '.join(self._section.lock_set)} are locked or about to be."
            )
        lock_set = lock_set_of([entity_of(entity, LOCK) for entity in entities])
        if not lock_set:
            raise RuntimeError("lock_entities() needs at least one entity, got none.")
        run = self._run
        action = pb.OrchestratorAction(id=run.ledger.next_id())
        requested = action.sendEntityMessage.entityLockRequested
        requested.criticalSectionId = run.new_uuid()
        requested.lockSet.extend(lock_set)
        requested.parentInstanceId.value = run.instance_id
        task: CompletableTask[Any] = CompletableTask()
        self._lock_request = run.ledger.add(action, LOCK, lock_text(lock_set), frame, task)
        self._section = CriticalSection(requested.criticalSectionId, lock_set)
        return task

    def exit_critical_section(self) -> None:
        """Give back the locks that are held; does nothing when none are."""
        if self._section is not None and self._section.is_held:
            self._give_back()

    def before_completion(self) -> None:
        """Give back every lock, also those that are asked for and not granted: nobody will, once the run is over."""
        if self._run.is_broken:
            # What this code did does not count; the server knows only what history has.
            self._section = None
            for section_id, entity_id in list(self._on_server):
                self._unlock(section_id, entity_id)
        elif self._section is not None:
            self._give_back()

    # What the event handlers tell.

    def call_confirmed(self, record: ActionRecord, request_id: str) -> None:
        """History has the call under ``request_id``; its result will come under that id, whatever ours was."""
        own = record.action.sendEntityMessage.entityOperationCalled.requestId
        if request_id and request_id != own and own in self._calls:
            self._calls[request_id] = self._calls.pop(own)

    def take_call(self, request_id: str) -> ActionRecord | None:
        """End the call that waits for this result; None if none does."""
        record = self._calls.pop(request_id, None)
        if record is None:
            return None
        if self._section is not None and record.target is not None:
            self._section.call_ended(record.target, record.action.id)
        return self._run.ledger.take(record.action.id, CALL)

    def lock_recorded(self, section_id: str, lock_set: list[str]) -> None:
        """History has a request for locks, whether or not this code makes it."""
        self._on_server.update(((section_id, entity_id), None) for entity_id in lock_set)

    def lock_confirmed(self, section_id: str) -> None:
        """History has this code's request for locks under ``section_id``, whatever ours was."""
        if self._section is not None and section_id:
            self._section.section_id = section_id

    def lock_granted(self, section_id: str) -> bool:
        """Enter the critical section; False if no such one is asked for."""
        section, request = self._section, self._lock_request
        if section is None or request is None or section.is_held or section.section_id != section_id:
            return False
        section.is_held = True
        self._lock_request = None
        self._forget_given_back()
        self._on_server.update(((section_id, entity_id), None) for entity_id in section.lock_set)
        task = request.task
        if self._run.ledger.take(request.action.id, LOCK) is not None and isinstance(task, CompletableTask):
            task.complete(EntityLock(self._run.context))
        return True

    def pending_unlock(self, entity_id: str) -> int | None:
        """The number of the unlock action of this entity that history has not confirmed, or None.

        Looked up by entity, because SDKs differ in the order in which they give locks back.
        """
        pending = self._run.ledger.pending
        return next((n for n, record in pending.items() if record.method == UNLOCK and record.name == entity_id), None)

    def unlock_confirmed(self, section_id: str, entity_id: str) -> None:
        """History has the lock given back."""
        self._on_server.pop((section_id, entity_id), None)

    def _give_back(self) -> None:
        section, self._section, self._lock_request = self._section, None, None
        if section is not None:
            for entity_id in section.lock_set:
                self._unlock(section.section_id, entity_id)

    def _unlock(self, section_id: str, entity_id: str) -> None:
        run = self._run
        action = pb.OrchestratorAction(id=run.ledger.next_id())
        sent = action.sendEntityMessage.entityUnlockSent
        sent.criticalSectionId = section_id
        sent.targetInstanceId.value = entity_id
        sent.parentInstanceId.value = run.instance_id
        run.ledger.add(action, UNLOCK, entity_id)
        if (section_id, entity_id) in self._on_server:
            self._on_server[section_id, entity_id] = action.id

    def _forget_given_back(self) -> None:
        """In a warm run no event confirms an unlock; that it is no longer pending does."""
        pending = self._run.ledger.pending
        self._on_server = {
            lock: action_id
            for lock, action_id in self._on_server.items()
            if action_id is None or action_id in pending
        }  # fmt: skip


def lock_text(lock_set: list[str]) -> str:
    """A lock set as the name of its action, whatever order the SDK that wrote it uses."""
    return ", ".join(sorted(lock_set))
