"""Pages of instances: a filter becomes SQL whose every part walks an index in the order of the page. And counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from durabletask_scheduler.hub.model import TERMINAL
from durabletask_scheduler.storage import InstanceFilter, InstanceSummary
from durabletask_scheduler.storage.rows import Row

# Where a row of a page has its tags.
_TAGS = 11
_STATUSES = frozenset(range(8))
_BY_CREATION = ("created_to", "completed_from", "completed_to", "id_from", "id_to", "name", "version", "tags")
_BY_COMPLETION = ("created_from", "created_to", "completed_to", "id_from", "id_to", "name", "version", "tags")
_OF_COUNTS = ("created_from", *_BY_CREATION)

Query = tuple[str, dict[str, Any]]


class Pages:
    """Builds the queries of one store.

    Args:
        sql: the statements of its ``page.sql``.
        tags: tags in the form in which its condition on them wants them.
        tags_from: tags as they are read, as a dict.
    """

    def __init__(
        self,
        sql: Mapping[str, str],
        tags: Callable[[dict[str, str]], object],
        tags_from: Callable[[Any], dict[str, str]],
    ) -> None:
        self._sql = sql
        self._tags = tags
        self._tags_from = tags_from

    def summary_from(self, row: Row) -> InstanceSummary:
        """One row of a page."""
        values = (*row[:_TAGS], self._tags_from(row[_TAGS]), *row[_TAGS + 1 :])
        return InstanceSummary(*values)

    def created(
        self, hub: int, where: InstanceFilter, *, limit: int, after: tuple[int, int] | None, payloads: bool
    ) -> Query | None:
        """Statement and parameters of a page in the order of (created_at, key); None if nothing can match."""
        statuses = _statuses_of(where)
        if not statuses:
            return None
        parameters = self._parameters(hub, where, statuses, _start(where.created_from, after))
        parameters["limit"] = limit
        one = self._sql["page_of_created"].replace("{conditions}", self._conditions(_BY_CREATION, parameters))
        page = " UNION ALL ".join(one.replace("{status}", str(status)) for status in sorted(statuses))
        return self._sql["page_rows_with_payloads" if payloads else "page_rows"].replace("{page}", page), parameters

    def completed(self, hub: int, where: InstanceFilter, *, limit: int, after: tuple[int, int] | None) -> Query | None:
        """The same for terminal instances in the order of (completed_at, key)."""
        statuses = (where.statuses or TERMINAL) & TERMINAL
        if not statuses:
            return None
        parameters = self._parameters(hub, where, statuses, _start(where.completed_from, after))
        parameters["limit"] = limit
        conditions = f"{self._conditions(_BY_COMPLETION, parameters)} {self._sql['where_statuses']}"
        page = self._sql["page_of_completed"].replace("{conditions}", conditions)
        page = page.replace("{statuses}", self._list(statuses))
        return self._sql["page_rows"].replace("{page}", page), parameters

    def counted(self, hub: int, where: InstanceFilter, *, by_name: bool, by_version: bool) -> Query | None:
        """Statement and parameters of a count by status, name and version; None if nothing can match."""
        statuses = _statuses_of(where)
        if not statuses:
            return None
        parameters = self._parameters(hub, where, statuses, None)
        parts = {
            "{statuses}": self._list(statuses),
            "{name}": "name" if by_name else "''",
            "{version}": "coalesce(version, '')" if by_version else "''",
            "{conditions}": self._conditions(_OF_COUNTS, parameters),
        }
        statement = self._sql["counted"]
        for placeholder, text in parts.items():
            statement = statement.replace(placeholder, text)
        return statement, parameters

    def _parameters(
        self, hub: int, where: InstanceFilter, statuses: Iterable[int], start: tuple[int, int] | None
    ) -> dict[str, Any]:
        wanted = {
            "after_at": start and start[0],
            "after_key": start and start[1],
            "created_from": where.created_from or None,
            "created_to": where.created_to or None,
            "completed_from": where.completed_from or None,
            "completed_to": where.completed_to or None,
            "id_from": where.id_prefix or None,
            "id_to": after_prefix(where.id_prefix),
            "name": where.name,
            "version": where.version,
            "tags": self._tags(dict(where.tags)) if where.tags else None,
        }
        given = {name: value for name, value in wanted.items() if value is not None}
        return {"hub": hub, **given, **{f"status_{status}": status for status in statuses}}

    def _conditions(self, names: tuple[str, ...], parameters: dict[str, Any]) -> str:
        return " ".join(self._sql[f"where_{name}"] for name in names if name in parameters)

    def _list(self, statuses: Iterable[int]) -> str:
        return ", ".join(self._sql["one_status"].replace("{status}", str(status)) for status in sorted(statuses))


def _statuses_of(where: InstanceFilter) -> frozenset[int]:
    statuses = where.statuses or _STATUSES
    return statuses & TERMINAL if where.completed_from or where.completed_to else statuses


def _start(lower: int, after: tuple[int, int] | None) -> tuple[int, int]:
    # Keys begin at 1, so (t, 0) stands before every row of time t.
    return max((lower, 0), after or (0, 0))


def after_prefix(prefix: str) -> str | None:
    """The smallest text behind all texts with this prefix, in the order of code points."""
    stem = prefix.rstrip("\U0010ffff")
    if not stem:
        return None
    following = ord(stem[-1]) + 1
    if 0xD800 <= following <= 0xDFFF:
        following = 0xE000
    return stem[:-1] + chr(following)
