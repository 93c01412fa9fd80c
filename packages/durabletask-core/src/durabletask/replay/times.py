"""Protocol timestamps and the naive UTC datetimes of orchestrators, exact to the microsecond."""

from datetime import datetime, timedelta, timezone

from google.protobuf.timestamp_pb2 import Timestamp

_EPOCH = datetime(1970, 1, 1)
_SECONDS_PER_DAY = 86_400
_NANOSECONDS = 1_000_000_000


def to_datetime(timestamp: Timestamp) -> datetime:
    """A naive datetime in UTC."""
    return datetime_at(nanoseconds(timestamp))


def datetime_at(moment: int) -> datetime:
    """A naive datetime in UTC, of nanoseconds since 1970."""
    return _EPOCH + timedelta(microseconds=moment // 1000)


def nanoseconds(timestamp: Timestamp) -> int:
    """Nanoseconds since 1970: to be kept, for a message within another keeps the whole of it in memory."""
    return timestamp.seconds * _NANOSECONDS + timestamp.nanos


def to_timestamp(moment: datetime) -> Timestamp:
    """The protocol's form of a naive datetime in UTC."""
    since = moment - _EPOCH
    return Timestamp(seconds=since.days * _SECONDS_PER_DAY + since.seconds, nanos=since.microseconds * 1000)


def naive_utc(moment: datetime) -> datetime:
    """An aware datetime in UTC without its zone; a naive one is in UTC already."""
    return moment if moment.tzinfo is None else moment.astimezone(timezone.utc).replace(tzinfo=None)


def later(moment: datetime, delay: timedelta) -> datetime:
    """``moment + delay``, or the last moment there is."""
    return moment + delay if delay < datetime.max - moment else datetime.max
