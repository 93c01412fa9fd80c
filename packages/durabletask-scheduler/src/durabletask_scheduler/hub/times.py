"""Times of the hub (integer nanoseconds) and times of the protocol (``Timestamp``)."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

MICROSECOND = 1_000
MILLISECOND = 1_000_000
SECOND = 1_000_000_000

# Stores keep 64-bit integers. What is due after the year 2262 is due "never" either way.
LATEST = 2**63 - 1

_MIN_SECONDS = -62_135_596_800
_MAX_SECONDS = 253_402_300_799


def to_timestamp(time: int) -> Timestamp:
    seconds, nanos = divmod(time, SECOND)
    return Timestamp(seconds=seconds, nanos=nanos)


def from_timestamp(timestamp: Timestamp) -> int:
    """Nanoseconds since the epoch, brought into 1..:data:`LATEST` (0 would mean "not set")."""
    return min(max(timestamp.seconds * SECOND + timestamp.nanos, 1), LATEST)


def in_range(timestamp: Timestamp) -> bool:
    """Whether it is a valid protobuf Timestamp: year 1 to 9999, nanoseconds below one second."""
    return _MIN_SECONDS <= timestamp.seconds <= _MAX_SECONDS and 0 <= timestamp.nanos < SECOND


def back_off(earlier: int) -> int:
    """How long to wait after ``earlier`` attempts in a row and one more have come to nothing: 1 s, doubling to 60 s."""
    return min(SECOND << min(earlier, 6), 60 * SECOND)
