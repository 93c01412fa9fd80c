"""What goes wrong with schedules."""

from durabletask.scheduled.schedule_status import ScheduleStatus


class ScheduleError(Exception):
    """The base class of what goes wrong with schedules."""


class ScheduleNotFoundError(ScheduleError):
    """There is no schedule of that id."""

    def __init__(self, schedule_id: str) -> None:
        super().__init__(f"Schedule with ID '{schedule_id}' was not found.")
        self.schedule_id = schedule_id


class ScheduleClientValidationError(ScheduleError):
    """A request for a schedule makes no sense."""

    def __init__(self, schedule_id: str, message: str) -> None:
        super().__init__(f"Validation failed for schedule '{schedule_id}': {message}")
        self.schedule_id = schedule_id


class ScheduleInvalidTransitionError(ScheduleError):
    """An operation does not fit the status of a schedule, such as pausing one that is paused."""

    def __init__(
        self, schedule_id: str, from_status: ScheduleStatus, to_status: ScheduleStatus, operation_name: str
    ) -> None:
        super().__init__(
            f"Invalid state transition for schedule '{schedule_id}': operation '{operation_name}' cannot transition "
            f"from 'ScheduleStatus.{from_status.name}' to 'ScheduleStatus.{to_status.name}'."
        )
        self.schedule_id = schedule_id
        self.from_status = from_status
        self.to_status = to_status
        self.operation_name = operation_name
