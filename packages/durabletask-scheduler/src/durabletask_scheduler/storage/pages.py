"""Pages of instances, and counts: a filter becomes SQL.

Every part of a page walks an index in the order of the page. If few ids begin as the filter wants it, that could mean
to walk past all that is stored: then all of those ids are looked at instead, and what the filter selects is sorted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from durabletask_scheduler.hub.model import TERMINAL
from durabletask_scheduler.storage import InstanceFilter, InstanceSummary
from durabletask_scheduler.storage.rows import Row

# Where a row of a page has its tags.
_TAGS = 11
_STATUSES = frozenset(range(8))
_PREFIX = ("id_from", "id_to")
_BY_CREATION = ("created_to", "completed_from", "completed_to", "name", "version", "tags")
_BY_COMPLETION = ("created_from", "created_to", "completed_to", "name", "version", "tags")
_OF_COUNTS = ("created_from", *_BY_CREATION)

Query = tuple[str, dict[str, Any]]
Place = tuple[int, int]
"""Time and key of a row, after which a page begins."""


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

    def named(self, hub: int, where: InstanceFilter, *, limit: int) -> Query | None:
        """Statement and parameters for counting the ids with the filter's prefix, to a limit; None if it has none."""
        if not where.id_prefix:
            return None
        parameters = {**self._parameters(hub, where, (), None), "limit": limit}
        return self._filled("named", (), parameters, ()), parameters

    def created(
        self, hub: int, where: InstanceFilter, *, limit: int, after: Place | None, payloads: bool, by_id: bool = False
    ) -> Query | None:
        """Statement and parameters of a page in the order of (created_at, key); None if nothing can match.

        Args:
            by_id: look at every id with the filter's prefix.
        """
        statuses = _statuses_of(where)
        if not statuses:
            return None
        parameters = self._parameters(hub, where, statuses, _start(where.created_from, after))
        parameters["limit"] = limit
        if by_id:
            page = self._filled("page_by_id", _BY_CREATION, parameters, statuses).replace("{at}", "created_at")
        else:
            one = self._filled("page_of_created", _BY_CREATION, parameters, statuses)
            page = " UNION ALL ".join(one.replace("{status}", str(status)) for status in sorted(statuses))
        return self._sql["page_rows_with_payloads" if payloads else "page_rows"].replace("{page}", page), parameters

    def completed(
        self, hub: int, where: InstanceFilter, *, limit: int, after: Place | None, by_id: bool = False
    ) -> Query | None:
        """The same for terminal instances in the order of (completed_at, key)."""
        statuses = (where.statuses or TERMINAL) & TERMINAL
        if not statuses:
            return None
        parameters = self._parameters(hub, where, statuses, _start(where.completed_from, after))
        parameters["limit"] = limit
        page = self._filled("page_by_id" if by_id else "page_of_completed", _BY_COMPLETION, parameters, statuses)
        return self._sql["page_rows"].replace("{page}", page.replace("{at}", "completed_at")), parameters

    def counted(
        self, hub: int, where: InstanceFilter, *, by_name: bool, by_version: bool, by_id: bool = False
    ) -> Query | None:
        """Statement and parameters of a count by status, name and version; None if nothing can match."""
        statuses = _statuses_of(where)
        if not statuses:
            return None
        parameters = self._parameters(hub, where, statuses, None)
        statement = self._filled("counted_by_id" if by_id else "counted", _OF_COUNTS, parameters, statuses)
        statement = statement.replace("{name}", "name" if by_name else "''")
        return statement.replace("{version}", "coalesce(version, '')" if by_version else "''"), parameters

    def _filled(
        self, statement: str, names: tuple[str, ...], parameters: dict[str, Any], statuses: Iterable[int]
    ) -> str:
        """A statement with those of the conditions for which there are parameters."""
        parts = {
            "{prefix}": self._conditions(_PREFIX, parameters),
            "{conditions}": self._conditions(names, parameters),
            "{statuses}": self._list(statuses),
        }
        text = self._sql[statement]
        for placeholder, part in parts.items():
            text = text.replace(placeholder, part)
        return text

    def _parameters(
        self, hub: int, where: InstanceFilter, statuses: Iterable[int], start: Place | None
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
    # Callers may name any numbers; a statement has room for a few.
    statuses = where.statuses & _STATUSES if where.statuses else _STATUSES
    return statuses & TERMINAL if where.completed_from or where.completed_to else statuses


def _start(lower: int, after: Place | None) -> Place:
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
