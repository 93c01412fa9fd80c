"""Times, durations and inputs as the state of a schedule has them: the forms of the .NET SDK."""

import re
from datetime import datetime, timedelta, timezone
from typing import Any

from durabletask.serialization import DEFAULT_DATA_CONVERTER

_TICKS_PER_MICROSECOND = 10
_MICROSECONDS = timedelta(microseconds=1)
_TIME_SPAN = re.compile(r"(-)?(?:(\d+)\.)?(\d{1,2}):(\d{2}):(\d{2})(?:\.(\d{1,7}))?")
_FRACTION = re.compile(r"\.(\d+)")


def utc(moment: datetime) -> datetime:
    """An aware datetime in UTC; a naive one is in UTC already."""
    return moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)


def time_text(moment: datetime | None) -> str | None:
    """A time in ISO 8601, in UTC."""
    return None if moment is None else utc(moment).isoformat()


def time_of(text: str | None) -> datetime | None:
    """The time that ``text`` says, aware in UTC. Raises ValueError when it says none.

    .NET writes up to seven digits of a second's fraction, of which six are kept.
    """
    if not text:
        return None
    # Before Python 3.11 only three or six digits are understood, and no Z.
    with_six_digits = _FRACTION.sub(lambda found: f".{found[1][:6]:0<6}", text)
    return utc(datetime.fromisoformat(with_six_digits.replace("Z", "+00:00")))


def span_text(duration: timedelta | None) -> str | None:
    """A duration as .NET writes it: ``[-][d.]hh:mm:ss[.fffffff]``."""
    if duration is None:
        return None
    seconds, micros = divmod(abs(duration) // _MICROSECONDS, 1_000_000)
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    day, hour = divmod(hours, 24)
    fraction = f".{micros * _TICKS_PER_MICROSECOND:07d}" if micros else ""
    sign = "-" if duration < timedelta(0) else ""
    return f"{sign}{f'{day}.' if day else ''}{hour:02d}:{minute:02d}:{second:02d}{fraction}"


def span_of(text: str) -> timedelta:
    """The duration that ``text`` says, to the microsecond. Raises ValueError when it says none."""
    found = _TIME_SPAN.fullmatch(text)
    if found is None:
        raise ValueError(f"A duration has the form [-][d.]hh:mm:ss[.fffffff], got {text!r}.")
    sign, days, hours, minutes, seconds, fraction = found.groups()
    micros = int((fraction or "").ljust(7, "0")) // _TICKS_PER_MICROSECOND
    duration = timedelta(
        days=int(days or 0), hours=int(hours), minutes=int(minutes), seconds=int(seconds), microseconds=micros
    )
    return -duration if sign else duration


def input_text(value: Any) -> str | None:
    """The input of an orchestration as a text of JSON."""
    return DEFAULT_DATA_CONVERTER.serialize(value)


def input_of(value: Any) -> Any:
    """The input that a text of JSON says; other values, and texts that are not JSON, are the input themselves."""
    if not isinstance(value, str):
        return value
    try:
        return DEFAULT_DATA_CONVERTER.deserialize(value)
    except ValueError:
        return value
