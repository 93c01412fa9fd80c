"""Continuation tokens: where the next page of a query begins.

Opaque to callers. They carry their format's version and the query they belong to, so that a token of
another server, of another query or of a future format is refused instead of misread.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from durabletask_scheduler import given_json
from durabletask_scheduler.hub.model import HubError

_VERSION = 1

Position = tuple[int, int]
"""The sort key of the last row of a page: a time and a storage key."""


def encode(query: str, position: Position) -> str:
    data = json.dumps([_VERSION, query, *position], separators=(",", ":"))
    return base64.urlsafe_b64encode(data.encode()).decode()


def decode(query: str, token: str) -> Position | None:
    """The position after which to go on; None for the empty token, which is the beginning.

    Raises:
        HubError: INVALID_ARGUMENT if the token is not one of this scheduler for this query.
    """
    if not token:
        return None
    fields = _fields(query, token, 4)
    if not all(type(field) is int and 0 <= field < 2**63 for field in fields[2:]):
        raise _foreign(query)
    return fields[2], fields[3]


def encode_name(query: str, name: str) -> str:
    """A token for pages in the order of names."""
    data = json.dumps([_VERSION, query, name], separators=(",", ":"))
    return base64.urlsafe_b64encode(data.encode()).decode()


def decode_name(query: str, token: str) -> str:
    """The name after which to go on; empty for the empty token, which is the beginning.

    Raises:
        HubError: INVALID_ARGUMENT if the token is not one of this scheduler for this query.
    """
    if not token:
        return ""
    fields = _fields(query, token, 3)
    if not isinstance(fields[2], str):
        raise _foreign(query)
    return fields[2]


def _fields(query: str, token: str, count: int) -> list[Any]:
    try:
        fields = given_json.parse(base64.b64decode(token.encode(), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError) as error:
        raise _foreign(query) from error
    if not (isinstance(fields, list) and len(fields) == count and fields[:2] == [_VERSION, query]):
        raise _foreign(query)
    return fields


def _foreign(query: str) -> HubError:
    return HubError(
        "INVALID_ARGUMENT",
        f"the continuation token was not given out by {query} of this scheduler; pass the token of the last page "
        "unchanged, or none to begin again",
    )
