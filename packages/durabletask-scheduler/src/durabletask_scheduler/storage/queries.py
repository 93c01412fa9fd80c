"""What stores that are asked in SQL answer in the same way: pages and counts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from durabletask_scheduler.storage import EVERY_INSTANCE, InstanceFilter, InstanceSummary, Storage
from durabletask_scheduler.storage.changes import Hubs
from durabletask_scheduler.storage.entities import EntityFilter, EntitySummary
from durabletask_scheduler.storage.entity_rows import entity_page, entity_summary_from
from durabletask_scheduler.storage.pages import Pages, Query
from durabletask_scheduler.storage.rows import Row

FEW = 10_000
"""If at most so many ids begin as a filter wants it, all of them are looked at, 1 or 2 microseconds each. Of more, a
page in its own order is soon full, unless what they name stands together far behind its beginning."""


class QueriedStorage(Storage):
    """A store that is asked in SQL.

    Attributes:
        pages: builds its queries of instances.
        entity_sql: its statements about entities.
    """

    pages: ClassVar[Pages]
    entity_sql: ClassVar[Mapping[str, str]]
    _hubs: Hubs

    @abstractmethod
    def _answer(self, query: Query) -> list[Row]:
        """The rows of a query, as of one moment."""

    def query(
        self, task_hub: str, where: InstanceFilter, *, limit: int, after: tuple[int, int] | None, payloads: bool
    ) -> list[InstanceSummary]:
        hub = self._hubs.get(task_hub, 0)
        by_id = self._few_are_named(hub, where)
        return self._summaries(self.pages.created(hub, where, limit=limit, after=after, payloads=payloads, by_id=by_id))

    def query_completed(
        self, task_hub: str, where: InstanceFilter, *, limit: int, after: tuple[int, int] | None
    ) -> list[InstanceSummary]:
        hub = self._hubs.get(task_hub, 0)
        by_id = self._few_are_named(hub, where)
        return self._summaries(self.pages.completed(hub, where, limit=limit, after=after, by_id=by_id))

    def counts(
        self, task_hub: str, where: InstanceFilter = EVERY_INSTANCE, *, by_name: bool = False, by_version: bool = False
    ) -> dict[tuple[int, str, str], int]:
        hub = self._hubs.get(task_hub, 0)
        by_id = self._few_are_named(hub, where)
        query = self.pages.counted(hub, where, by_name=by_name, by_version=by_version, by_id=by_id)
        rows = self._answer(query) if query else []
        return {(status, name, version): count for status, name, version, count in rows}

    def query_entities(
        self, task_hub: str, where: EntityFilter, *, limit: int, after: str, states: bool
    ) -> list[EntitySummary]:
        hub = self._hubs.get(task_hub, 0)
        query = entity_page(self.entity_sql, hub, where, limit=limit, after=after, states=states)
        return [entity_summary_from(row) for row in self._answer(query)]

    def _few_are_named(self, hub: int, where: InstanceFilter) -> bool:
        """Whether a filter wants a prefix that few ids have."""
        # What changes before the page is read may make the other way the quicker one, never the page a wrong one.
        query = self.pages.named(hub, where, limit=FEW + 1)
        return query is not None and self._answer(query)[0][0] <= FEW

    def _summaries(self, query: Query | None) -> list[InstanceSummary]:
        return [self.pages.summary_from(row) for row in self._answer(query)] if query else []
