"""Pages of instances: a filter becomes SQL whose every part walks an index in the order of the page. And counts."""

from __future__ import annotations

import json
from typing import Any

from durabletask_scheduler.hub.model import TERMINAL
from durabletask_scheduler.storage import InstanceFilter
from durabletask_scheduler.storage.statements import statements

_SQL = statements("sqlite", "page")
_STATUSES = frozenset(range(8))
_BY_CREATION = ("created_to", "completed_from", "completed_to", "id_from", "id_to", "name", "version", "tags")
_BY_COMPLETION = ("created_from", "created_to", "completed_to", "id_from", "id_to", "name", "version", "tags")
_OF_COUNTS = ("created_from", *_BY_CREATION)

Query = tuple[str, dict[str, Any]]


def created_page(
    hub: int, where: InstanceFilter, *, limit: int, after: tuple[int, int] | None, payloads: bool
) -> Query | None:
    """Statement and parameters of a page in the order of (created_at, key); None if nothing can match."""
    statuses = where.statuses or _STATUSES
    if where.completed_from or where.completed_to:
        statuses &= TERMINAL
    if not statuses:
        return None
    parameters = _parameters(hub, where, limit, _start(where.created_from, after))
    conditions = _conditions(_BY_CREATION, parameters)
    one = f"{_SQL['page_of_created']} {conditions}"
    parameters.update((f"status_{status}", status) for status in statuses)
    page = " UNION ALL ".join(one.replace("{status}", str(status)) for status in sorted(statuses))
    return _SQL["page_rows_with_payloads" if payloads else "page_rows"].replace("{page}", page), parameters


def completed_page(hub: int, where: InstanceFilter, *, limit: int, after: tuple[int, int] | None) -> Query | None:
    """The same for terminal instances in the order of (completed_at, key)."""
    statuses = (where.statuses or TERMINAL) & TERMINAL
    if not statuses:
        return None
    parameters = _parameters(hub, where, limit, _start(where.completed_from, after))
    conditions = _conditions(_BY_COMPLETION, parameters)
    parameters.update((f"status_{status}", status) for status in statuses)
    names = ", ".join(f":status_{status}" for status in sorted(statuses))
    conditions += " " + _SQL["where_statuses"].replace("{statuses}", names)
    page = f"{_SQL['page_of_completed']} {conditions}"
    return _SQL["page_rows"].replace("{page}", page), parameters


def counted(hub: int, where: InstanceFilter, *, by_name: bool, by_version: bool) -> Query | None:
    """Statement and parameters of a count by status, name and version; None if nothing can match."""
    statuses = where.statuses or _STATUSES
    if where.completed_from or where.completed_to:
        statuses &= TERMINAL
    if not statuses:
        return None
    parameters = _parameters(hub, where, 0, (0, 0))
    parameters.update((f"status_{status}", status) for status in statuses)
    parts = {
        "{statuses}": ", ".join(f":status_{status}" for status in sorted(statuses)),
        "{name}": "name" if by_name else "''",
        "{version}": "coalesce(version, '')" if by_version else "''",
    }
    statement = f"{_SQL['counted']} {_conditions(_OF_COUNTS, parameters)} GROUP BY 1, 2, 3"
    for placeholder, text in parts.items():
        statement = statement.replace(placeholder, text)
    return statement, parameters


def _start(lower: int, after: tuple[int, int] | None) -> tuple[int, int]:
    # Keys begin at 1, so (t, 0) stands before every row of time t.
    return max((lower, 0), after or (0, 0))


def _parameters(hub: int, where: InstanceFilter, limit: int, start: tuple[int, int]) -> dict[str, Any]:
    wanted = {
        "created_from": where.created_from or None,
        "created_to": where.created_to or None,
        "completed_from": where.completed_from or None,
        "completed_to": where.completed_to or None,
        "id_from": where.id_prefix or None,
        "id_to": after_prefix(where.id_prefix),
        "name": where.name,
        "version": where.version,
        "tags": json.dumps(dict(where.tags)) if where.tags else None,
    }
    given = {name: value for name, value in wanted.items() if value is not None}
    return {"hub": hub, "limit": limit, "after_at": start[0], "after_key": start[1], **given}


def _conditions(names: tuple[str, ...], parameters: dict[str, Any]) -> str:
    return " ".join(_SQL[f"where_{name}"] for name in names if name in parameters)


def after_prefix(prefix: str) -> str | None:
    """The smallest text behind all texts with this prefix, in the order of code points."""
    stem = prefix.rstrip("\U0010ffff")
    if not stem:
        return None
    following = ord(stem[-1]) + 1
    if 0xD800 <= following <= 0xDFFF:
        following = 0xE000
    return stem[:-1] + chr(following)
