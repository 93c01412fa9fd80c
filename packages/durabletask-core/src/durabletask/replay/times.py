"""Protocol timestamps and the naive UTC datetimes of orchestrators, exact to the microsecond."""

from datetime import datetime, timedelta, timezone

from google.protobuf.timestamp_pb2 import Timestamp

_EPOCH = datetime(1970, 1, 1)
_SECONDS_PER_DAY = 86_400


def to_datetime(timestamp: Timestamp) -> datetime:
    """A naive datetime in UTC."""
    return _EPOCH + timedelta(seconds=timestamp.seconds, microseconds=timestamp.nanos // 1000)


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
