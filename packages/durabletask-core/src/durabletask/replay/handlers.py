"""What each history event does to a run: one short handler per event type, found by table."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from durabletask_proto import orchestrator_service_pb2 as pb

from durabletask.features import EventHandler
from durabletask.replay import retries
from durabletask.replay.determinism import confirm
from durabletask.replay.ledger import ActionRecord
from durabletask.replay.options import COMPLETED, FAILED, FIRED, IGNORED
from durabletask.replay.times import nanoseconds

if TYPE_CHECKING:
    from durabletask.replay.run import OrchestrationRun


def _orchestrator_started(run: "OrchestrationRun", event: pb.HistoryEvent) -> None:
    run.ledger.now = nanoseconds(event.timestamp)


def _execution_started(run: "OrchestrationRun", event: pb.HistoryEvent) -> None:
    run.start(event)


def _execution_terminated(run: "OrchestrationRun", event: pb.HistoryEvent) -> None:
    terminated = event.executionTerminated
    output = terminated.input.value if terminated.HasField("input") else None
    run.complete(pb.ORCHESTRATION_STATUS_TERMINATED, result=output)


def _execution_suspended(run: "OrchestrationRun", event: pb.HistoryEvent) -> None:
    run.suspend()


def _execution_resumed(run: "OrchestrationRun", event: pb.HistoryEvent) -> None:
    run.resume()


def _task_scheduled(run: "OrchestrationRun", event: pb.HistoryEvent) -> None:
    scheduled = event.taskScheduled
    record = confirm(run, event.eventId, "call_activity", scheduled.name)
    _confirmed(record, event)
    _recorded_trace(record.action.scheduleTask, scheduled)


def _sub_orchestration_created(run: "OrchestrationRun", event: pb.HistoryEvent) -> None:
    created = event.subOrchestrationInstanceCreated
    record = confirm(run, event.eventId, "call_sub_orchestrator", created.name)
    _confirmed(record, event)
    _recorded_trace(record.action.createSubOrchestration, created)


def _timer_created(run: "OrchestrationRun", event: pb.HistoryEvent) -> None:
    _confirmed(confirm(run, event.eventId, "create_timer"), event)


def _event_sent(run: "OrchestrationRun", event: pb.HistoryEvent) -> None:
    sent = event.eventSent
    confirm(run, event.eventId, "send_event", sent.name, sent.instanceId)


def _confirmed(record: ActionRecord, event: pb.HistoryEvent) -> None:
    record.scheduled_at = nanoseconds(event.timestamp)


def _recorded_trace(call: Any, recorded: Any) -> None:
    """The call was made in this trace context, whatever the worker would give it that replays it."""
    if recorded.HasField("parentTraceContext"):
        call.parentTraceContext.CopyFrom(recorded.parentTraceContext)


def _task_completed(run: "OrchestrationRun", event: pb.HistoryEvent) -> None:
    done = event.taskCompleted
    _complete(run, event, run.ledger.take(done.taskScheduledId, "call_activity"), done)


def _sub_orchestration_completed(run: "OrchestrationRun", event: pb.HistoryEvent) -> None:
    done = event.subOrchestrationInstanceCompleted
    _complete(run, event, run.ledger.take(done.taskScheduledId, "call_sub_orchestrator"), done)


def _complete(run: "OrchestrationRun", event: pb.HistoryEvent, record: ActionRecord | None, done: Any) -> None:
    if record is None:
        _ignored(run, event, f"no open call #{done.taskScheduledId} waits for this result")
        return
    if run.observes:
        run.observe(COMPLETED, "", record, event)
    run.deliver(record.task, done.result.value)


def _task_failed(run: "OrchestrationRun", event: pb.HistoryEvent) -> None:
    failed = event.taskFailed
    record = run.ledger.take(failed.taskScheduledId, "call_activity")
    _fail(run, event, record, failed, f"{run.instance_id}: Activity task #")


def _sub_orchestration_failed(run: "OrchestrationRun", event: pb.HistoryEvent) -> None:
    failed = event.subOrchestrationInstanceFailed
    record = run.ledger.take(failed.taskScheduledId, "call_sub_orchestrator")
    _fail(run, event, record, failed, "Sub-orchestration task #")


def _fail(
    run: "OrchestrationRun", event: pb.HistoryEvent, record: ActionRecord | None, failed: Any, subject: str
) -> None:
    task_id, failure = failed.taskScheduledId, failed.failureDetails
    if record is None:
        _ignored(run, event, f"no open call #{task_id} waits for this failure")
    elif run.is_complete:
        _ignored(run, event, f"the orchestration is complete; the failure of call #{task_id} changes nothing")
    elif not retries.retry(run, record, event):
        run.observe(FAILED, failure.errorMessage, record, event)
        run.fail_task(record.task, f"{subject}{task_id} failed: {failure.errorMessage}", failure)


def _timer_fired(run: "OrchestrationRun", event: pb.HistoryEvent) -> None:
    fired = event.timerFired
    record = run.ledger.take(fired.timerId, "create_timer")
    if record is None:
        _ignored(run, event, f"timer #{fired.timerId} was cancelled or never set")
    elif not run.is_complete:
        run.observe(FIRED, "", record, event)
        retries.timer_fired(run, record)


def _event_raised(run: "OrchestrationRun", event: pb.HistoryEvent) -> None:
    waiter = None if run.is_complete else run.events.take_waiter(event.eventRaised.name)
    if waiter is None:
        run.events.buffer(event)
    else:
        run.deliver(waiter, event.eventRaised.input.value)


def _nothing(run: "OrchestrationRun", event: pb.HistoryEvent) -> None:
    """Bookkeeping of backends that says nothing to the orchestrator."""


def _ignored(run: "OrchestrationRun", event: pb.HistoryEvent, why: str) -> None:
    run.observe(IGNORED, why, None, event)


CORE_HANDLERS: Mapping[str, EventHandler] = {
    "orchestratorStarted": _orchestrator_started,
    "executionStarted": _execution_started,
    "executionTerminated": _execution_terminated,
    "executionSuspended": _execution_suspended,
    "executionResumed": _execution_resumed,
    "taskScheduled": _task_scheduled,
    "taskCompleted": _task_completed,
    "taskFailed": _task_failed,
    "subOrchestrationInstanceCreated": _sub_orchestration_created,
    "subOrchestrationInstanceCompleted": _sub_orchestration_completed,
    "subOrchestrationInstanceFailed": _sub_orchestration_failed,
    "timerCreated": _timer_created,
    "timerFired": _timer_fired,
    "eventSent": _event_sent,
    "eventRaised": _event_raised,
    "executionCompleted": _nothing,
    "executionRewound": _nothing,
    "orchestratorCompleted": _nothing,
    "genericEvent": _nothing,
    "historyState": _nothing,
    "continueAsNew": _nothing,
}

UNDELAYED = frozenset(
    {
        "executionResumed",
        "executionTerminated",
        "executionSuspended",
        "executionCompleted",
        "taskScheduled",
        "subOrchestrationInstanceCreated",
        "timerCreated",
        "eventSent",
        "entityOperationCalled",
        "entityOperationSignaled",
        "entityLockRequested",
        "entityUnlockSent",
    }
)
"""Events that also a suspended run applies at once: what ends the suspension, and confirmations of what was
done before it (were they held back, their actions would be sent again)."""
