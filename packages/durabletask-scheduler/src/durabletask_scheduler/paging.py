"""Continuation tokens: where the next page of a query begins.

Opaque to callers. They carry their format's version and the query they belong to, so that a token of
another server, of another query or of a future format is refused instead of misread.
"""

from __future__ import annotations

import base64
import binascii
import json

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
    try:
        fields = json.loads(base64.b64decode(token.encode(), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError) as error:
        raise _foreign(query) from error
    match_ = isinstance(fields, list) and len(fields) == 4 and fields[:2] == [_VERSION, query]
    if not match_ or not all(type(field) is int and 0 <= field < 2**63 for field in fields[2:]):
        raise _foreign(query)
    return fields[2], fields[3]


def _foreign(query: str) -> HubError:
    return HubError(
        "INVALID_ARGUMENT",
        f"the continuation token was not given out by {query} of this scheduler; pass the token of the last page "
        "unchanged, or none to begin again",
    )
