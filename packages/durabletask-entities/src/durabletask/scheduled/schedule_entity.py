"""The entity behind a schedule: it signals itself for every start, with a token that later changes make void."""

import logging
from datetime import datetime, timezone
from itertools import islice
from typing import Any, Final

from durabletask.entities import DurableEntity
from durabletask.scheduled import recurrence, texts
from durabletask.scheduled.exceptions import ScheduleInvalidTransitionError
from durabletask.scheduled.models import (
    ScheduleBackfillRequest,
    ScheduleConfiguration,
    ScheduleCreationOptions,
    ScheduleState,
    ScheduleUpdateOptions,
)
from durabletask.scheduled.schedule_status import ScheduleStatus
from durabletask.scheduled.transitions import (
    CREATE_SCHEDULE,
    PAUSE_SCHEDULE,
    RESUME_SCHEDULE,
    UPDATE_SCHEDULE,
    is_valid_transition,
)

ENTITY_NAME: Final = "schedule"
DELETE_OPERATION: Final = "delete"
RUN_SCHEDULE_OPERATION: Final = "run_schedule"
TRIGGER_OPERATION: Final = "trigger_schedule"
BACKFILL_OPERATION: Final = "backfill_schedule"

_logger = logging.getLogger("durabletask.scheduled")
_REPLANNED: Final = frozenset({"interval", "start_at", "cron", "time_zone"})
_MOST_BACKFILLED: Final = 1000


class Schedule(DurableEntity):
    """One schedule; its key is the schedule's id. Register it with ``worker.configure_scheduled_tasks()``."""

    def create_schedule(self, options: ScheduleCreationOptions) -> None:
        """Create the schedule and activate it, or give one that exists another configuration."""
        state = self._state()
        self._enter(state, CREATE_SCHEDULE, ScheduleStatus.ACTIVE)
        now = _now()
        state.schedule_configuration = ScheduleConfiguration.from_create_options(options)
        state.schedule_created_at = state.schedule_created_at or now
        state.schedule_last_modified_at = now
        self._plan_anew(state)

    def update_schedule(self, options: ScheduleUpdateOptions) -> None:
        """Change the schedule; does nothing when that changes nothing."""
        state = self._state()
        self._enter(state, UPDATE_SCHEDULE, state.status)
        changed = _configuration(state).update(options)
        if not changed:
            return
        state.schedule_last_modified_at = _now()
        self._plan_anew(state, keeps_time=not changed & _REPLANNED)

    def pause_schedule(self, _: Any = None) -> None:
        """Start nothing until the schedule is resumed."""
        state = self._state()
        self._enter(state, PAUSE_SCHEDULE, ScheduleStatus.PAUSED)
        self._plan_anew(state)

    def resume_schedule(self, _: Any = None) -> None:
        """Go on after a pause; what was missed is not made up for."""
        state = self._state()
        self._enter(state, RESUME_SCHEDULE, ScheduleStatus.ACTIVE)
        self._plan_anew(state)

    def trigger_schedule(self, _: Any = None) -> str:
        """Start the orchestration now, paused or not, and return its id; the planned starts stay as they are."""
        return self._start(_configuration(self._state()), _now())

    def backfill_schedule(self, request: ScheduleBackfillRequest) -> list[str]:
        """Start what the schedule would have started in a time that has passed, and return the ids, oldest first.

        Raises ValueError for a time that has not passed, for more than 1,000 starts, and for a schedule with a
        fixed instance id, whose starts would replace one another.
        """
        state, now = self._state(), _now()
        configuration = _configuration(state)
        first, last = texts.utc(request.first), texts.utc(request.last)
        if last > now:
            raise ValueError(f"A backfill is for a time that has passed, got one up to {last.isoformat()}.")
        if configuration.orchestration_instance_id is not None:
            raise ValueError("A schedule with a fixed instance id cannot be backfilled: its starts share that id.")
        if configuration.start_at is not None:
            first = max(first, texts.utc(configuration.start_at))
        if configuration.end_at is not None:
            last = min(last, texts.utc(configuration.end_at))
        starts = recurrence.starts_between(configuration, _begin(state, configuration, now), first, last)
        found = list(islice(starts, _MOST_BACKFILLED + 1))
        if len(found) > _MOST_BACKFILLED:
            raise ValueError(f"A backfill starts at most {_MOST_BACKFILLED:,} instances; ask for a shorter time.")
        return [self._start(configuration, due) for due in found]

    def run_schedule(self, execution_token: str) -> None:
        """Start the orchestration if it is time to, and plan the next start; void tokens are ignored."""
        state = self._state()
        if state.status is not ScheduleStatus.ACTIVE or execution_token != state.execution_token:
            _logger.debug("Schedule '%s' ignores a run that is void.", self.entity_context.entity_id.key)
            return
        configuration = _configuration(state)
        # A planned run comes when the task hub's clock says so, even if this machine's is behind. Nor is it earlier
        # than the last start, which would otherwise happen again once a change has the next one planned anew.
        now = max(filter(None, (_now(), state.next_run_at, state.last_run_at)))
        due = state.next_run_at or _first_run(state, configuration, now)
        if due <= now and not _is_over(configuration, due):
            self._start(configuration, due)
            state.last_run_at = due
            due = recurrence.next_start(configuration, _begin(state, configuration, now), now)
        if _is_over(configuration, due):
            self.delete()
            return
        state.next_run_at = due
        self._plan(state)

    def _state(self) -> ScheduleState:
        return self.get_state(ScheduleState) or ScheduleState()

    def _enter(self, state: ScheduleState, operation: str, target: ScheduleStatus) -> None:
        if not is_valid_transition(operation, state.status, target):
            raise ScheduleInvalidTransitionError(self.entity_context.entity_id.key, state.status, target, operation)
        state.status = target

    def _plan_anew(self, state: ScheduleState, *, keeps_time: bool = False) -> None:
        state.refresh_execution_token()
        if not keeps_time:
            state.next_run_at = None
        self._plan(state)

    def _plan(self, state: ScheduleState) -> None:
        """Keep the state and, while active, have a run at its next time, or at once to find that time."""
        self.set_state(state)
        if state.status is ScheduleStatus.ACTIVE:
            entity_id = self.entity_context.entity_id
            self.signal_entity(entity_id, RUN_SCHEDULE_OPERATION, state.execution_token, state.next_run_at)

    def _start(self, configuration: ScheduleConfiguration, due: datetime) -> str:
        instance_id = configuration.orchestration_instance_id or f"{configuration.schedule_id}-{due.isoformat()}"
        return self.schedule_new_orchestration(
            configuration.orchestration_name, configuration.orchestration_input, instance_id
        )


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _configuration(state: ScheduleState) -> ScheduleConfiguration:
    if state.schedule_configuration is None:
        raise ValueError("There is no such schedule; create it first.")
    return state.schedule_configuration


def _begin(state: ScheduleState, configuration: ScheduleConfiguration, now: datetime) -> datetime:
    return texts.utc(configuration.start_at or state.schedule_created_at or now)


def _first_run(state: ScheduleState, configuration: ScheduleConfiguration, now: datetime) -> datetime:
    is_late = _begin(state, configuration, now) <= now
    if is_late and configuration.start_immediately_if_late and state.last_run_at is None:
        return now
    return recurrence.next_start(configuration, _begin(state, configuration, now), now)


def _is_over(configuration: ScheduleConfiguration, due: datetime) -> bool:
    return configuration.end_at is not None and due > texts.utc(configuration.end_at)
