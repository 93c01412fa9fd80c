"""Schedules: orchestrations that are started again and again, at a fixed interval or by a cron
expression.

Call ``worker.configure_scheduled_tasks()`` before the worker starts, and manage schedules with
``ScheduledTaskClient``. A schedule is an entity, so it needs nothing running but a worker.
"""

from durabletask.scheduled.client import (
    AsyncScheduleClient,
    AsyncScheduledTaskClient,
    ScheduleClient,
    ScheduledTaskClient,
)
from durabletask.scheduled.exceptions import (
    ScheduleClientValidationError,
    ScheduleError,
    ScheduleInvalidTransitionError,
    ScheduleNotFoundError,
)
from durabletask.scheduled.models import (
    ScheduleCreationOptions,
    ScheduleDescription,
    ScheduleQuery,
    ScheduleUpdateOptions,
)
from durabletask.scheduled.schedule_status import ScheduleStatus

__all__ = [
    "AsyncScheduleClient",
    "AsyncScheduledTaskClient",
    "ScheduleClient",
    "ScheduleClientValidationError",
    "ScheduleCreationOptions",
    "ScheduleDescription",
    "ScheduleError",
    "ScheduleInvalidTransitionError",
    "ScheduleNotFoundError",
    "ScheduleQuery",
    "ScheduleStatus",
    "ScheduleUpdateOptions",
    "ScheduledTaskClient",
]

PACKAGE_NAME = "durabletask.scheduled"
