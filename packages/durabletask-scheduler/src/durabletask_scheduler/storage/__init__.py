"""What the scheduler asks of a store, in the vocabulary of the hub.

Every implementation passes the same conformance suite. All methods may be called from any thread,
except :meth:`Storage.write` and :meth:`Storage.close`, which belong to the one thread that owns the
store. Readers see what was last written, never half of a group.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from durabletask_scheduler.hub.entity_model import Entity
from durabletask_scheduler.hub.model import Commit, HistoryRow, Instance
from durabletask_scheduler.storage.entities import EntityFilter, EntitySummary, WaitingEntity

SYNCHRONOUS = ("FULL", "NORMAL", "OFF")
"""When a write may count as done: what each means is the store's."""


def check_synchronous(level: str) -> None:
    """Raise ValueError for what is none of these."""
    if level not in SYNCHRONOUS:
        raise ValueError(f"synchronous must be one of {', '.join(SYNCHRONOUS)}, found {level!r}")


class StorageError(Exception):
    """The store could not do it now (disk full, file gone, connection lost).

    Nothing was written. Only if a connection was lost in the midst of a write is that not known; it is known, and seen
    by every reader, as soon as the store can be read again.
    """


class StorageLost(StorageError):
    """The store is no longer this scheduler's, and never will be again; whoever gets this has to end.

    Another scheduler has taken over, or the store has lost writes that it had acknowledged. What this scheduler has in
    memory is no longer what is stored. A scheduler that is started anew loads what is there.
    """


class StorageUnusable(Exception):
    """The store cannot be opened at all; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class InstanceSummary:
    """One row of a query: the stored columns of an instance and, if asked for, its payloads.

    Attributes:
        started, completed: the serialized events, empty unless payloads were fetched.
    """

    key: int
    instance_id: str
    execution_id: str
    name: str
    version: str | None
    status: int
    created_at: int
    updated_at: int
    scheduled_at: int
    completed_at: int
    custom_status: str | None
    tags: dict[str, str]
    parent_instance_id: str
    started: bytes = b""
    completed: bytes = b""


@dataclass(frozen=True, slots=True)
class InstanceFilter:
    """Which instances of a task hub; every condition that is set must hold.

    Attributes:
        statuses: any of these; empty for all.
        created_from, created_to: ``from <= created_at < to``; 0 for open.
        completed_from, completed_to: the same for completed_at; either excludes live instances.
        id_prefix, name, version, tags: equal to; None or empty for any. ``version=""`` means
            unversioned.
    """

    statuses: frozenset[int] = frozenset()
    created_from: int = 0
    created_to: int = 0
    completed_from: int = 0
    completed_to: int = 0
    id_prefix: str = ""
    name: str | None = None
    version: str | None = None
    tags: tuple[tuple[str, str], ...] = ()


EVERY_INSTANCE = InstanceFilter()


@dataclass(frozen=True, slots=True)
class LiveInstance:
    """What a restart must know about an instance that is not terminal, without loading it.

    Attributes:
        wake_at: when it next has work: 0 for now (an inbox, an open activity), else before its first
            turn (no committed events) its scheduled start, 0 for at once, else its earliest timer,
            or -1 for none until something arrives.
    """

    key: int
    task_hub: str
    instance_id: str
    wake_at: int


# Many are made at a time and never changed. Not frozen: that makes making one three times as dear.
@dataclass(slots=True)
class LoadedInstance:
    """An instance that was loaded among others.

    Attributes:
        history: its history rows, oldest first; None if it has more events than were wanted with it.
    """

    instance: Instance
    history: list[HistoryRow] | None


class Storage(ABC):
    """One store of one scheduler.

    Attributes:
        confirm_seconds: how often :meth:`confirm` is to be called; 0 for never.
        waits_for_disk: whether :meth:`write` waits for a disk of this machine.
    """

    confirm_seconds: ClassVar[int] = 0
    waits_for_disk: bool = False

    @abstractmethod
    def confirm(self) -> None:
        """Find out whether the store is still this scheduler's: without a write nothing else does.

        Raises:
            StorageLost: it is not.
            StorageError: that cannot be found out now.
        """

    @abstractmethod
    def last_key(self) -> int:
        """The highest key in use in any table; 0 in an empty store."""

    @abstractmethod
    def write(self, commits: Sequence[Commit]) -> None:
        """Write a group of commits in one transaction and make it durable before returning.

        The commits take effect in order. Rows that one commit adds and a later one of the same
        group removes need never be written. The task hub, the instance id and the parent's id of
        a key never change; every other field of an updated instance is written.

        Raises:
            StorageError: nothing of the group was written. The store is usable again as soon as
                the cause is gone; an unknown task hub is such a cause.
        """

    @abstractmethod
    def load(self, task_hub: str, instance_id: str) -> Instance | None:
        """The instance with its open tasks and inbox, as after its last commit; None if there is none."""

    def load_many(self, task_hub: str, instance_ids: Sequence[str], *, short: int) -> list[LoadedInstance]:
        """Those of the instances that there are, in any order, each as :meth:`load` gives it.

        A store whose statements cost more than their rows does this with a few statements for all of them.

        Args:
            instance_ids: each at most once.
            short: instances with at most so many events (``event_count``) come with their history.
        """
        found = [self.load(task_hub, instance_id) for instance_id in instance_ids]
        return [
            LoadedInstance(one, self.history(one.key) if one.event_count <= short else None)
            for one in found
            if one is not None
        ]

    @abstractmethod
    def load_key(self, key: int) -> Instance | None:
        """The same by key."""

    @abstractmethod
    def live(self) -> Iterator[LiveInstance]:
        """Every instance that is not terminal, by key."""

    @abstractmethod
    def existing(self, task_hub: str, instance_ids: Sequence[str]) -> set[str]:
        """Those of the ids that orchestration instances of the task hub have."""

    @abstractmethod
    def history(self, key: int) -> list[HistoryRow]:
        """The history rows of an instance's current generation, oldest first."""

    @abstractmethod
    def history_row(self, history_key: int) -> HistoryRow | None:
        """One history row."""

    @abstractmethod
    def children(self, task_hub: str, parent_instance_id: str) -> list[str]:
        """Ids of the instances whose parent is this one, by key."""

    @abstractmethod
    def query(
        self, task_hub: str, where: InstanceFilter, *, limit: int, after: tuple[int, int] | None, payloads: bool
    ) -> list[InstanceSummary]:
        """A page in the order of (created_at, key), beginning after that pair; keyset paging."""

    @abstractmethod
    def query_completed(
        self, task_hub: str, where: InstanceFilter, *, limit: int, after: tuple[int, int] | None
    ) -> list[InstanceSummary]:
        """A page of terminal instances (those with a completed_at) in the order of (completed_at, key)."""

    @abstractmethod
    def counts(
        self, task_hub: str, where: InstanceFilter = EVERY_INSTANCE, *, by_name: bool = False, by_version: bool = False
    ) -> dict[tuple[int, str, str], int]:
        """How many instances a filter selects, by status, name and version.

        A name or version that is not counted by is empty, as is the version of unversioned instances.
        """

    @abstractmethod
    def load_entity(self, task_hub: str, instance_id: str) -> Entity | None:
        """The entity of a normalised id with all that waits at it, as after its last commit; None if there is none."""

    @abstractmethod
    def waiting_entities(self) -> Iterator[WaitingEntity]:
        """Every entity at which something waits, by key."""

    @abstractmethod
    def query_entities(
        self, task_hub: str, where: EntityFilter, *, limit: int, after: str, states: bool
    ) -> list[EntitySummary]:
        """A page in the order of ids (code points), beginning after that id; with their states if asked for."""

    @abstractmethod
    def task_hubs(self) -> list[str]:
        """Names of the task hubs, sorted."""

    @abstractmethod
    def add_task_hub(self, task_hub: str) -> None:
        """Create a task hub if there is none of that name."""

    @abstractmethod
    def close(self) -> None:
        """Give up the store; idempotent."""
