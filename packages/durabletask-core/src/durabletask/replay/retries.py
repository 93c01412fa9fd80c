"""Timers and the retries that wait for them."""

from datetime import datetime
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING

from durabletask_proto import orchestrator_service_pb2 as pb

from durabletask.replay.ledger import ActionRecord
from durabletask.replay.options import RETRYING
from durabletask.replay.times import later, to_datetime, to_timestamp
from durabletask.task import RetryableTask, TimerTask

if TYPE_CHECKING:
    from durabletask.replay.run import OrchestrationRun


def start_timer(run: "OrchestrationRun", fire_at: datetime, frame: FrameType | None) -> TimerTask:
    """Schedule a timer, or its first piece if it is longer than the run's maximum."""
    task = TimerTask(fire_at, run.options.maximum_timer_interval)
    first = task.next_piece(run.now)
    _add_piece(run, task, fire_at if first is None else first, frame)
    return task


def timer_fired(run: "OrchestrationRun", record: ActionRecord) -> None:
    """Go on to the timer's next piece, or complete what waits for it."""
    task = record.task
    if not isinstance(task, TimerTask):
        return
    # By the time that was asked for: a backend may give it back with less precision.
    following = task.next_piece(to_datetime(record.action.createTimer.fireAt))
    if following is not None:
        _continue_with(run, task, following, record)
        return
    retryable = task.retryable_parent
    task.complete(None)
    if retryable is not None:
        retryable.increment_attempt_count()
        run.ledger.repeat(run.waiting_retries.pop(retryable.action.id))


def retry(run: "OrchestrationRun", record: ActionRecord, event: pb.HistoryEvent) -> bool:
    """Start the delay before another attempt; False if the policy allows none."""
    task = record.task
    delay = task.compute_next_delay(now=run.now) if isinstance(task, RetryableTask) else None
    if delay is None or not isinstance(task, RetryableTask):
        return False
    run.waiting_retries[record.action.id] = record
    timer = start_timer(run, later(run.now, delay), None)
    timer.set_retryable_parent(task)
    run.observe(RETRYING, f"attempt {task.attempt_count} failed; the next starts in {delay}", record, event)
    return True


def _add_piece(run: "OrchestrationRun", task: TimerTask, fire_at: datetime, frame: FrameType | None) -> ActionRecord:
    action_id = run.ledger.next_id()
    action = pb.OrchestratorAction(id=action_id, createTimer=pb.CreateTimerAction(fireAt=to_timestamp(fire_at)))
    record = run.ledger.add(action, "create_timer", "", frame, task)
    task.set_cancel_handler(partial(run.ledger.drop, action_id))
    return record


def _continue_with(run: "OrchestrationRun", task: TimerTask, fire_at: datetime, record: ActionRecord) -> None:
    _add_piece(run, task, fire_at, None).same_place_as(record)
