"""When a schedule starts: every interval from its beginning, or by a cron expression in a time zone."""

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from itertools import count, takewhile
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from durabletask.scheduled.texts import utc

if TYPE_CHECKING:
    from durabletask.scheduled.models import ScheduleConfiguration

_MINUTE = timedelta(minutes=1)
_LAST = datetime.max.replace(tzinfo=timezone.utc)


def next_start(configuration: "ScheduleConfiguration", begin: datetime, after: datetime) -> datetime:
    """The first start later than ``after`` and not before ``begin``, in UTC.

    Raises ValueError when there never is one.
    """
    if begin > after:
        return next(_starts(configuration, begin, begin))
    return next(start for start in _starts(configuration, begin, after) if start > after)


def starts_between(
    configuration: "ScheduleConfiguration", begin: datetime, first: datetime, last: datetime
) -> Iterator[datetime]:
    """The starts from ``first`` to ``last``, both included, in UTC; ``begin`` is one of an interval's starts."""
    return takewhile(lambda start: start <= last, _starts(configuration, begin, first))


def check_cron(expression: str, time_zone: str | None) -> None:
    """Raise ValueError unless this is a cron expression that has a next time, in a time zone that is known.

    Raises RuntimeError when the package that knows cron expressions is not installed.
    """
    next(_cron_starts(expression, time_zone, datetime.now(timezone.utc)))


def _starts(configuration: "ScheduleConfiguration", begin: datetime, first: datetime) -> Iterator[datetime]:
    """The starts at or after ``first``."""
    if configuration.cron is not None:
        return _cron_starts(configuration.cron, configuration.time_zone, first)
    if configuration.interval is None:
        raise ValueError(f"The schedule '{configuration.schedule_id}' has neither an interval nor a cron expression.")
    interval = configuration.interval
    # The number of intervals up to the first of them, rounded up.
    number = -((begin - first) // interval)
    return (_later(begin, interval, n) for n in count(number))


def _later(begin: datetime, interval: timedelta, times: int) -> datetime:
    """``begin + interval * times``, or the last moment there is: the start before that one must still happen."""
    try:
        return begin + interval * times
    except OverflowError:
        return _LAST


def _cron_starts(expression: str, time_zone: str | None, first: datetime) -> Iterator[datetime]:
    try:
        from cronsim import CronSim, CronSimError  # type: ignore[import-not-found,unused-ignore]  # an extra
    except ModuleNotFoundError as error:
        raise RuntimeError(
            "Schedules with a cron expression need another package: pip install durabletask-entities[cron]"
        ) from error
    zone = _zone(time_zone)
    try:
        # It gives times later than its own, and expressions have whole minutes or seconds.
        times = CronSim(expression, (first - _MINUTE).astimezone(zone))
    except CronSimError as error:
        raise ValueError(f"{expression!r} is not a cron expression: {error}.") from error
    for moment in times:
        if utc(moment) >= first:
            yield utc(moment)
    raise ValueError(f"The cron expression {expression!r} never comes again.")


def _zone(name: str | None) -> ZoneInfo:
    try:
        return ZoneInfo(name or "UTC")
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(
            f"The time zone {name!r} is not known; use a name such as 'Europe/Berlin', and install 'tzdata' where the "
            "system has no time zones."
        ) from error
