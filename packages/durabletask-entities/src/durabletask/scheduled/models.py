"""Schedules as data: what is asked for, what is kept, and what is told of them."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final

from durabletask.scheduled import recurrence, texts
from durabletask.scheduled.schedule_status import ScheduleStatus
from durabletask.serialization import DataConverter

MINIMUM_INTERVAL: Final = timedelta(seconds=1)


def _require_interval(interval: timedelta) -> None:
    if interval <= timedelta(0):
        raise ValueError("Interval must be positive.")
    if interval < MINIMUM_INTERVAL:
        raise ValueError("Interval must be at least 1 second.")


def _require_rhythm(interval: timedelta | None, cron: str | None, time_zone: str | None) -> None:
    if (interval is None) == (cron is None):
        raise ValueError("A schedule has either an interval or a cron expression.")
    if time_zone is not None and cron is None:
        raise ValueError("A time zone is for cron expressions; an interval has none.")
    if interval is not None:
        _require_interval(interval)


def _require_text(name: str, value: str) -> None:
    if not value:
        raise ValueError(f"{name} cannot be empty.")


def _require_instance_id(instance_id: str | None) -> None:
    if instance_id is not None and instance_id.startswith("@"):
        raise ValueError(
            f"orchestration_instance_id must not begin with '@', which is for entities; got {instance_id!r}."
        )


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _seconds(interval: timedelta | None) -> float | None:
    return None if interval is None else interval.total_seconds()


@dataclass
class ScheduleCreationOptions:
    """A schedule to create.

    Args:
        schedule_id: Its id.
        orchestration_name: Name of the orchestrator that it starts.
        interval: Time between two starts, at least a second; None for a cron expression.
        orchestration_input: Input of every start.
        orchestration_instance_id: Id of the instances; by default ``{schedule_id}-{time of the start}``. With a
            fixed id, no start happens while the last instance still runs.
        start_at: The first start; by default one interval after the creation. A naive time is in UTC.
        end_at: No start happens after this; the schedule then deletes itself. None for no end.
        start_immediately_if_late: Whether a schedule whose first start has passed starts at once.
        cron: Cron expression of five fields, or of six with seconds first, in place of the interval; it needs the
            extra ``cron`` of this package, for the client and for the worker. Where the clock is put forward, a start
            in the hour that is left out happens right after it; where it is put back, a start at a certain hour
            happens once, and one of every hour or minute in both hours.
        time_zone: Time zone of the expression, such as ``Europe/Berlin``; by default UTC.

    Raises:
        ValueError: A name is empty, the interval is too short, there is not one of interval and expression, or the
            id of the instances begins with ``@``, which is for entities.
    """

    schedule_id: str
    orchestration_name: str
    interval: timedelta | None = None
    orchestration_input: Any | None = None
    orchestration_instance_id: str | None = None
    start_at: datetime | None = None
    end_at: datetime | None = None
    start_immediately_if_late: bool = False
    cron: str | None = field(default=None, kw_only=True)
    time_zone: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        _require_text("schedule_id", self.schedule_id)
        _require_text("orchestration_name", self.orchestration_name)
        _require_instance_id(self.orchestration_instance_id)
        _require_rhythm(self.interval, self.cron, self.time_zone)

    def to_json(self) -> dict[str, Any]:
        """The options as JSON data."""
        return {
            "schedule_id": self.schedule_id,
            "orchestration_name": self.orchestration_name,
            "interval_seconds": _seconds(self.interval),
            "orchestration_input": self.orchestration_input,
            "orchestration_instance_id": self.orchestration_instance_id,
            "start_at": _iso(self.start_at),
            "end_at": _iso(self.end_at),
            "start_immediately_if_late": self.start_immediately_if_late,
            **_present(cron=self.cron, time_zone=self.time_zone),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ScheduleCreationOptions":
        """The options of JSON data; raises ValueError for options that the constructor refuses."""
        return cls(
            schedule_id=data.get("schedule_id") or "",
            orchestration_name=data.get("orchestration_name") or "",
            interval=_interval(data.get("interval_seconds")),
            orchestration_input=data.get("orchestration_input"),
            orchestration_instance_id=data.get("orchestration_instance_id"),
            start_at=texts.time_of(data.get("start_at")),
            end_at=texts.time_of(data.get("end_at")),
            start_immediately_if_late=bool(data.get("start_immediately_if_late")),
            cron=data.get("cron"),
            time_zone=data.get("time_zone"),
        )


@dataclass
class ScheduleUpdateOptions:
    """What to change of a schedule; None leaves a value as it is. See ScheduleCreationOptions.

    A cron expression takes the place of an interval, and an interval that of a cron expression with its time zone.
    Raises ValueError when the name is empty, the interval is too short, both are given, or the id of the instances
    begins with ``@``.
    """

    orchestration_name: str | None = None
    orchestration_input: Any | None = None
    orchestration_instance_id: str | None = None
    start_at: datetime | None = None
    end_at: datetime | None = None
    interval: timedelta | None = None
    start_immediately_if_late: bool | None = None
    cron: str | None = field(default=None, kw_only=True)
    time_zone: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.orchestration_name is not None:
            _require_text("orchestration_name", self.orchestration_name)
        _require_instance_id(self.orchestration_instance_id)
        if self.interval is not None:
            _require_rhythm(self.interval, self.cron, self.time_zone)

    def to_json(self) -> dict[str, Any]:
        """The options as JSON data."""
        return {
            "orchestration_name": self.orchestration_name,
            "orchestration_input": self.orchestration_input,
            "orchestration_instance_id": self.orchestration_instance_id,
            "start_at": _iso(self.start_at),
            "end_at": _iso(self.end_at),
            "interval_seconds": _seconds(self.interval),
            "start_immediately_if_late": self.start_immediately_if_late,
            **_present(cron=self.cron, time_zone=self.time_zone),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ScheduleUpdateOptions":
        """The options of JSON data; raises ValueError for options that the constructor refuses."""
        return cls(
            orchestration_name=data.get("orchestration_name"),
            orchestration_input=data.get("orchestration_input"),
            orchestration_instance_id=data.get("orchestration_instance_id"),
            start_at=texts.time_of(data.get("start_at")),
            end_at=texts.time_of(data.get("end_at")),
            interval=_interval(data.get("interval_seconds")),
            start_immediately_if_late=data.get("start_immediately_if_late"),
            cron=data.get("cron"),
            time_zone=data.get("time_zone"),
        )


@dataclass
class ScheduleBackfillRequest:
    """A time for which to make up what a schedule would have started; a naive time is in UTC."""

    first: datetime
    last: datetime


@dataclass
class ScheduleQuery:
    """Which schedules to list; every filter that is set must hold.

    Args:
        status: Those of this status.
        schedule_id_prefix: Those whose id begins with this.
        created_from: Those created after this; a naive time is in UTC.
        created_to: Those created before this.
        page_size: How many the server returns at a time.
    """

    DEFAULT_PAGE_SIZE: ClassVar[int] = 100

    status: ScheduleStatus | None = None
    schedule_id_prefix: str | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    page_size: int | None = None

    def __post_init__(self) -> None:
        self.created_from = None if self.created_from is None else texts.utc(self.created_from)
        self.created_to = None if self.created_to is None else texts.utc(self.created_to)


@dataclass
class ScheduleDescription:
    """A schedule as clients see it; ``last_run_at`` and ``next_run_at`` are None where there is none."""

    schedule_id: str
    orchestration_name: str | None = None
    orchestration_input: Any | None = None
    orchestration_instance_id: str | None = None
    start_at: datetime | None = None
    end_at: datetime | None = None
    interval: timedelta | None = None
    start_immediately_if_late: bool | None = None
    status: ScheduleStatus = ScheduleStatus.UNINITIALIZED
    execution_token: str = ""
    last_run_at: datetime | None = None
    next_run_at: datetime | None = None
    cron: str | None = field(default=None, kw_only=True)
    time_zone: str | None = field(default=None, kw_only=True)


class ScheduleConfiguration:
    """What a schedule does; see ScheduleCreationOptions for the attributes.

    Raises ValueError when a name is empty, the interval is too short, or there is not one of interval and expression.
    """

    def __init__(
        self,
        schedule_id: str,
        orchestration_name: str,
        interval: timedelta | None = None,
        *,
        cron: str | None = None,
        time_zone: str | None = None,
    ) -> None:
        _require_text("schedule_id", schedule_id)
        _require_text("orchestration_name", orchestration_name)
        _require_rhythm(interval, cron, time_zone)
        self.schedule_id = schedule_id
        self.orchestration_name = orchestration_name
        self.interval = interval
        self.orchestration_input: Any | None = None
        self.orchestration_instance_id: str | None = None
        self.start_at: datetime | None = None
        self.end_at: datetime | None = None
        self.start_immediately_if_late = False
        self.cron = cron
        self.time_zone = time_zone

    @classmethod
    def from_create_options(cls, options: ScheduleCreationOptions) -> "ScheduleConfiguration":
        """The configuration that is asked for.

        Raises ValueError when it ends before it starts, or the cron expression or its time zone is not one, and
        RuntimeError when the package that knows cron expressions is not installed.
        """
        configuration = cls(
            options.schedule_id,
            options.orchestration_name,
            options.interval,
            cron=options.cron,
            time_zone=options.time_zone,
        )
        configuration.orchestration_input = options.orchestration_input
        configuration.orchestration_instance_id = options.orchestration_instance_id
        configuration.start_at = options.start_at
        configuration.end_at = options.end_at
        configuration.start_immediately_if_late = options.start_immediately_if_late
        _require_order(configuration.start_at, configuration.end_at)
        if configuration.cron is not None:
            recurrence.check_cron(configuration.cron, configuration.time_zone)
        return configuration

    def update(self, options: ScheduleUpdateOptions) -> set[str]:
        """Apply what is asked for and return the names of what has changed.

        Raises what ``from_create_options`` raises, and then changes nothing.
        """
        asked = {field.name: getattr(options, field.name) for field in fields(options)}
        wanted = {name: value for name, value in asked.items() if value is not None}
        if "interval" in wanted:
            wanted.update(cron=None, time_zone=None)
        elif "cron" in wanted:
            wanted["interval"] = None
        cron, time_zone = wanted.get("cron", self.cron), wanted.get("time_zone", self.time_zone)
        _require_rhythm(wanted.get("interval", self.interval), cron, time_zone)
        if cron is not None:
            recurrence.check_cron(cron, time_zone)
        _require_order(wanted.get("start_at", self.start_at), wanted.get("end_at", self.end_at))
        changed = {name for name, value in wanted.items() if not _same(getattr(self, name), value)}
        for name in changed:
            setattr(self, name, wanted[name])
        return changed

    def to_json(self) -> dict[str, Any]:
        """The configuration as the .NET SDK writes it."""
        return {
            "ScheduleId": self.schedule_id,
            "OrchestrationName": self.orchestration_name,
            "Interval": texts.span_text(self.interval),
            "OrchestrationInput": texts.input_text(self.orchestration_input),
            "OrchestrationInstanceId": self.orchestration_instance_id,
            "StartAt": texts.time_text(self.start_at),
            "EndAt": texts.time_text(self.end_at),
            "StartImmediatelyIfLate": self.start_immediately_if_late,
            **_present(Cron=self.cron, TimeZone=self.time_zone),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ScheduleConfiguration":
        """The configuration of JSON data, also of the older form with names in lower case."""
        found = _reader(data)
        span = found("Interval", "interval")
        configuration = cls(
            found("ScheduleId", "schedule_id"),
            found("OrchestrationName", "orchestration_name"),
            texts.span_of(span) if isinstance(span, str) else _interval(found("interval_seconds")),
            cron=found("Cron"),
            time_zone=found("TimeZone"),
        )
        configuration.orchestration_input = texts.input_of(found("OrchestrationInput", "orchestration_input"))
        configuration.orchestration_instance_id = found("OrchestrationInstanceId", "orchestration_instance_id")
        configuration.start_at = texts.time_of(found("StartAt", "start_at"))
        configuration.end_at = texts.time_of(found("EndAt", "end_at"))
        configuration.start_immediately_if_late = bool(found("StartImmediatelyIfLate", "start_immediately_if_late"))
        return configuration


class ScheduleState:
    """The state of a schedule's entity; its JSON form is that of the .NET SDK and its dashboard."""

    def __init__(self) -> None:
        self.status = ScheduleStatus.UNINITIALIZED
        self.execution_token = uuid.uuid4().hex
        self.last_run_at: datetime | None = None
        self.next_run_at: datetime | None = None
        self.schedule_created_at: datetime | None = None
        self.schedule_last_modified_at: datetime | None = None
        self.schedule_configuration: ScheduleConfiguration | None = None

    def refresh_execution_token(self) -> None:
        """Make the runs that were planned so far void."""
        self.execution_token = uuid.uuid4().hex

    def to_json(self) -> dict[str, Any]:
        """The state as the .NET SDK writes it."""
        configuration = self.schedule_configuration
        return {
            "Status": self.status.to_dotnet_ordinal(),
            "ExecutionToken": self.execution_token,
            "LastRunAt": texts.time_text(self.last_run_at),
            "NextRunAt": texts.time_text(self.next_run_at),
            "ScheduleCreatedAt": texts.time_text(self.schedule_created_at),
            "ScheduleLastModifiedAt": texts.time_text(self.schedule_last_modified_at),
            "ScheduleConfiguration": None if configuration is None else configuration.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], converter: DataConverter | None = None) -> "ScheduleState":
        """The state of JSON data, also of the older form with names in lower case."""
        found = _reader(data)
        state = cls()
        state.status = ScheduleStatus.from_dotnet(found("Status", "status"))
        state.execution_token = found("ExecutionToken", "execution_token") or ""
        state.last_run_at = texts.time_of(found("LastRunAt", "last_run_at"))
        state.next_run_at = texts.time_of(found("NextRunAt", "next_run_at"))
        state.schedule_created_at = texts.time_of(found("ScheduleCreatedAt", "schedule_created_at"))
        state.schedule_last_modified_at = texts.time_of(found("ScheduleLastModifiedAt", "schedule_last_modified_at"))
        configuration = found("ScheduleConfiguration", "schedule_configuration")
        if configuration is not None:
            state.schedule_configuration = ScheduleConfiguration.from_json(configuration)
        return state

    def to_description(self) -> ScheduleDescription:
        """What clients see of it."""
        configuration = self.schedule_configuration
        return ScheduleDescription(
            **({"schedule_id": ""} if configuration is None else vars(configuration)),
            status=self.status,
            execution_token=self.execution_token,
            last_run_at=self.last_run_at,
            next_run_at=self.next_run_at,
        )


def _interval(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)


def _present(**values: Any) -> dict[str, Any]:
    """Only what is set: the forms that other SDKs know do not have these."""
    return {name: value for name, value in values.items() if value is not None}


def _require_order(start_at: datetime | None, end_at: datetime | None) -> None:
    if start_at is not None and end_at is not None and texts.utc(start_at) > texts.utc(end_at):
        raise ValueError("start_at cannot be later than end_at.")


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, datetime) and isinstance(other, datetime):
        return texts.utc(one) == texts.utc(other)
    return bool(one == other)


def _reader(data: Mapping[str, Any]) -> Any:
    """A function that returns the first value present under some names, or None."""
    return lambda *names: next((data[name] for name in names if data.get(name) is not None), None)
