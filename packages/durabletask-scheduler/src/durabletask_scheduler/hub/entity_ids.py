"""Names of entities and of what is sent to them (backend semantics, identity of entities).

An entity's id is ``@name@key``. The name is in lower case and has no '@'; the key is kept as it is,
may be empty and may contain '@'.
"""

from __future__ import annotations

from durabletask_scheduler.hub import checks
from durabletask_scheduler.hub.model import HubError, Limits

_HEX = frozenset("0123456789abcdefABCDEF")


def is_entity(instance_id: str) -> bool:
    """Whether the id belongs to entities; orchestration ids never begin with '@'."""
    return instance_id.startswith(checks.ENTITY_PREFIX)


def normalise(instance_id: str) -> str:
    """The id with its name in lower case: the one under which the entity is stored."""
    name, mark, key = instance_id[1:].partition("@")
    return f"@{name.lower()}{mark}{key}"


def check_entity_id(instance_id: str, limits: Limits) -> None:
    """An entity's id: ``@name@key`` with a name, no control characters, not too long.

    Raises:
        HubError: INVALID_ARGUMENT.
    """
    checks.check_text("the entity id", instance_id, limits.id_bytes)
    name, mark, _ = instance_id[1:].partition("@")
    if not (is_entity(instance_id) and name and mark):
        raise HubError(checks.INVALID_ARGUMENT, f"the entity id {instance_id!r} is not of the form '@name@key'")


def is_guid(text: str) -> bool:
    """Whether it is a GUID in one of its two usual forms: 32 hexadecimal digits, or with hyphens."""
    if len(text) == 36 and text[8] == text[13] == text[18] == text[23] == "-":
        text = text.replace("-", "")
    return len(text) == 32 and _HEX.issuperset(text)


def check_request_id(request_id: str) -> None:
    """A request id must be a GUID: a worker of the family that cannot parse one loses its connection.

    Raises:
        HubError: INVALID_ARGUMENT.
    """
    if not is_guid(request_id):
        raise HubError(
            checks.INVALID_ARGUMENT,
            f"the request id {request_id!r} is not a GUID; use one such as 6f9619ff-8b86-d011-b42d-00c04fc964ff",
        )


def guid(digits: str) -> str:
    """A GUID with hyphens from 32 hexadecimal digits."""
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
