"""Which operation may change the status of a schedule how."""

from typing import Final

from durabletask.scheduled.schedule_status import ScheduleStatus

CREATE_SCHEDULE: Final = "create_schedule"
UPDATE_SCHEDULE: Final = "update_schedule"
PAUSE_SCHEDULE: Final = "pause_schedule"
RESUME_SCHEDULE: Final = "resume_schedule"

_ACTIVE, _PAUSED = ScheduleStatus.ACTIVE, ScheduleStatus.PAUSED
_VALID: Final = {
    CREATE_SCHEDULE: {(status, _ACTIVE) for status in ScheduleStatus},
    UPDATE_SCHEDULE: {(_ACTIVE, _ACTIVE), (_PAUSED, _PAUSED)},
    PAUSE_SCHEDULE: {(_ACTIVE, _PAUSED)},
    RESUME_SCHEDULE: {(_PAUSED, _ACTIVE)},
}


def is_valid_transition(operation: str, from_status: ScheduleStatus, target_status: ScheduleStatus) -> bool:
    """Whether the operation may change ``from_status`` into ``target_status``."""
    return (from_status, target_status) in _VALID.get(operation, set())
