"""What the history events of entities do to an orchestration run: rows of the engine's table."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from durabletask.entities.entity_instance_id import EntityInstanceId
from durabletask.entities.entity_operation_failed_exception import EntityOperationFailedException
from durabletask.entities.orchestration import CALL, LOCK, SIGNAL, UNLOCK, EntityRun, lock_text
from durabletask.failures import plain_failure, qualified_name
from durabletask.features import ENTITIES, EventHandler
from durabletask.replay.determinism import confirm
from durabletask.replay.ledger import ActionRecord
from durabletask.replay.options import COMPLETED, FAILED, IGNORED
from durabletask.replay.times import nanoseconds
from durabletask_proto import orchestrator_service_pb2 as pb

if TYPE_CHECKING:
    from durabletask.replay import OrchestrationRun


def _operation_called(run: "OrchestrationRun", event: pb.HistoryEvent) -> None:
    called = event.entityOperationCalled
    target = called.targetInstanceId.value if called.HasField("targetInstanceId") else None
    record = confirm(run, event.eventId, CALL, called.operation, target)
    record.scheduled_at = nanoseconds(event.timestamp)
    _entities(run).call_confirmed(record, called.requestId)


def _operation_signaled(run: "OrchestrationRun", event: pb.HistoryEvent) -> None:
    signaled = event.entityOperationSignaled
    target = signaled.targetInstanceId.value if signaled.HasField("targetInstanceId") else None
    confirm(run, event.eventId, SIGNAL, signaled.operation, target)


def _operation_completed(run: "OrchestrationRun", event: pb.HistoryEvent) -> None:
    completed = event.entityOperationCompleted
    record = _entities(run).take_call(completed.requestId)
    if record is None:
        _ignored(run, event, f"no open entity call waits for the result of request {completed.requestId}")
        return
    run.observe(COMPLETED, "", record, event)
    run.deliver(record.task, completed.output.value)


def _operation_failed(run: "OrchestrationRun", event: pb.HistoryEvent) -> None:
    failed = event.entityOperationFailed
    record = _entities(run).take_call(failed.requestId)
    if record is None:
        _ignored(run, event, f"no open entity call waits for the failure of request {failed.requestId}")
    elif run.is_complete:
        _ignored(run, event, f"the orchestration is complete; the failure of call #{record.action.id} changes nothing")
    else:
        failure = _operation_failure(record, failed.failureDetails)
        run.observe(FAILED, failed.failureDetails.errorMessage, record, event)
        run.fail_task(record.task, failure.errorMessage, failure)


def _operation_failure(record: ActionRecord, original: pb.TaskFailureDetails) -> pb.TaskFailureDetails:
    error = EntityOperationFailedException(EntityInstanceId.from_wire(record.target or ""), record.name, original)
    failure = plain_failure(
        qualified_name(EntityOperationFailedException), str(error), stack_trace=original.stackTrace.value
    )
    failure.innerFailure.CopyFrom(original)
    return failure


def _lock_requested(run: "OrchestrationRun", event: pb.HistoryEvent) -> None:
    requested = event.entityLockRequested
    lock_set = list(requested.lockSet)
    entities = _entities(run)
    # First of all, so that the locks are given back if the code turns out not to ask for them any more.
    entities.lock_recorded(requested.criticalSectionId, lock_set)
    record = confirm(run, event.eventId, LOCK, lock_text(lock_set))
    record.scheduled_at = nanoseconds(event.timestamp)
    entities.lock_confirmed(requested.criticalSectionId)


def _lock_granted(run: "OrchestrationRun", event: pb.HistoryEvent) -> None:
    section_id = event.entityLockGranted.criticalSectionId
    if not _entities(run).lock_granted(section_id):
        _ignored(run, event, f"no critical section waits for the locks {section_id}")


def _unlock_sent(run: "OrchestrationRun", event: pb.HistoryEvent) -> None:
    sent = event.entityUnlockSent
    entities = _entities(run)
    own = entities.pending_unlock(sent.targetInstanceId.value)
    confirm(run, event.eventId if own is None else own, UNLOCK, sent.targetInstanceId.value)
    entities.unlock_confirmed(sent.criticalSectionId, sent.targetInstanceId.value)


def _ignored(run: "OrchestrationRun", event: pb.HistoryEvent, why: str) -> None:
    run.observe(IGNORED, why, None, event)


def _entities(run: "OrchestrationRun") -> EntityRun:
    return cast(EntityRun, run.extension(ENTITIES))


EVENT_HANDLERS: Mapping[str, EventHandler] = {
    "entityOperationCalled": _operation_called,
    "entityOperationSignaled": _operation_signaled,
    "entityOperationCompleted": _operation_completed,
    "entityOperationFailed": _operation_failed,
    "entityLockRequested": _lock_requested,
    "entityLockGranted": _lock_granted,
    "entityUnlockSent": _unlock_sent,
}
