"""What ids, names and times must look like. Each check raises :class:`HubError` INVALID_ARGUMENT."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.timestamp_pb2 import Timestamp

from durabletask_scheduler.hub import times
from durabletask_scheduler.hub.model import HubError, Limits

ENTITY_PREFIX = "@"

INVALID_ARGUMENT = "INVALID_ARGUMENT"


def check_text(what: str, text: str, max_bytes: int) -> None:
    """A text: not empty, no control characters, not too long."""
    if not text:
        raise HubError(INVALID_ARGUMENT, f"{what} is empty; give it at least one character")
    if not text.isprintable() and any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 for char in text):
        raise HubError(INVALID_ARGUMENT, f"{what} {text!r} has control characters; leave them out")
    if len(text) * 4 > max_bytes:
        size = len(text.encode("utf-8", "replace"))
        if size > max_bytes:
            raise HubError(INVALID_ARGUMENT, f"{what} has {size} bytes in UTF-8; at most {max_bytes} are allowed")


def check_instance_id(instance_id: str, limits: Limits) -> None:
    """An orchestration's id: not empty, no control characters, no leading '@', not too long."""
    check_text("the instance id", instance_id, limits.id_bytes)
    if instance_id.startswith(ENTITY_PREFIX):
        raise HubError(
            INVALID_ARGUMENT,
            f"the instance id {instance_id!r} begins with '@', which is reserved for entities; choose another id",
        )


def check_execution_id(execution_id: str, limits: Limits) -> None:
    """An execution's id: not empty, no control characters, no leading '@', not too long."""
    check_text("the execution id", execution_id, limits.id_bytes)
    # The ids of children are made of it, and those would be taken for entities.
    if execution_id.startswith(ENTITY_PREFIX):
        raise HubError(
            INVALID_ARGUMENT,
            f"the execution id {execution_id!r} begins with '@', which is reserved for entities; choose another id",
        )


def check_name(what: str, name: str, limits: Limits) -> None:
    """A name of ``what``: not empty, no control characters, not too long."""
    check_text(f"the name of {what}", name, limits.name_bytes)


def check_tags(tags: Mapping[str, str], limits: Limits) -> None:
    """Not too many, and not too long."""
    if not tags:
        return
    if len(tags) > limits.tags:
        raise HubError(INVALID_ARGUMENT, f"there are {len(tags)} tags; at most {limits.tags} are allowed")
    size = sum(len(name.encode("utf-8", "replace")) + len(tags[name].encode("utf-8", "replace")) for name in tags)
    if size > limits.tag_bytes:
        raise HubError(
            INVALID_ARGUMENT,
            f"the tags have {size} bytes in UTF-8; at most {limits.tag_bytes} are allowed: pass data as input instead",
        )


def check_timestamp(what: str, timestamp: Timestamp) -> None:
    if not times.in_range(timestamp):
        raise HubError(
            INVALID_ARGUMENT,
            f"{what} is out of range (seconds={timestamp.seconds}, nanos={timestamp.nanos}); "
            "expected a time between the years 1 and 9999",
        )
