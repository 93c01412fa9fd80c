"""The entities' side of the engine: what they receive, their batches, and the answers to these.

Batches are leased like turns, and like turns they may leave before the group is written: a batch has no
effect until its answer is committed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from durabletask_proto import orchestrator_service_pb2 as pb
from google.protobuf.message import Message as ProtoMessage

from durabletask_scheduler import undeliverable
from durabletask_scheduler.burst import Burst
from durabletask_scheduler.dispatch import Dispatcher, Kind, LeaseOf, Route, Stream, WorkOf
from durabletask_scheduler.entities import Entities, EntityEntry
from durabletask_scheduler.group import logger
from durabletask_scheduler.hub import entity_batches, entity_delivery
from durabletask_scheduler.hub.entity_model import EntityChanges, GivenUp
from durabletask_scheduler.hub.model import Commit, Message
from durabletask_scheduler.instances import Name
from durabletask_scheduler.leases import Leases
from durabletask_scheduler.storage import StorageError

if TYPE_CHECKING:
    from durabletask_scheduler.engine import Engine

BatchWork = WorkOf[EntityEntry]
BatchLease = LeaseOf[EntityEntry]

_BATCH_AGE = "batch age"
_LONG_STATE = 4_096
"""Characters of a state above which it pays to wait for a write so as not to send it."""


class EntityDesk:
    """Belongs to the engine.

    Args:
        leases: those on batches.
        send: sends a work item on a stream; does not raise.
        burst: holds the batches for which there is no hurry.
    """

    def __init__(
        self,
        engine: Engine,
        dispatcher: Dispatcher,
        leases: Leases[EntityEntry],
        send: Callable[[Stream, ProtoMessage], None],
        burst: Burst,
    ) -> None:
        self._engine = engine
        self._dispatcher = dispatcher
        self._leases = leases
        self._send = send
        self._burst = burst
        self._entities = Entities(engine.storage, max_idle=engine.options.idle_instances)
        self._touched: dict[EntityEntry, None] = {}
        # Whether there is no hurry.
        self._ready: dict[EntityEntry, bool] = {}
        self._late: list[BatchWork] = []
        self._held_back = False
        self._expiry_at = 0

    # -- entities -----------------------------------------------------------------------------

    def find(self, task_hub: str, instance_id: str) -> EntityEntry | None:
        """The entity of a normalised id, from memory or storage.

        Raises:
            StorageError: it is not in memory and could not be read.
        """
        name = (task_hub, instance_id)
        entry = self._entities.cached(name)
        if entry is None:
            entry = self._entities.load(name)
            if entry is not None:
                self._ready[entry] = False
        if entry is not None:
            self._touched[entry] = None
        return entry

    def deliver(self, message: Message) -> Commit:
        """Apply a message to its entity."""
        entry = self.find(message.task_hub, message.target)
        return entity_delivery.deliver(None if entry is None else entry.entity, message, self._engine.context)

    def take_up(self, name: Name) -> None:
        """Something waits at the entity since before a restart or a failed write, or has become due."""
        try:
            entry = self.find(*name)
        except StorageError as error:
            logger.warning("An entity could not be loaded and is tried again later: %s", error)
            self._engine.loading.load_later([name])
            return
        if entry is not None:
            self._ready[entry] = False

    # -- groups -------------------------------------------------------------------------------

    def take(self, changes: EntityChanges, *, no_hurry: bool = False) -> None:
        """Note what a commit changes and makes possible; it is acted upon later in the tick.

        Args:
            no_hurry: the batches that it makes possible may be held.
        """
        for key in changes.deleted:
            entry = self._change(key)
            self._forget(entry)
            self._entities.delete(entry)
        for entity in changes.created:
            self._entities.add(entity)
            self._change(entity.key)
        for key in changes.updated:
            self._void_stale_batch(self._change(key))
        for row in changes.inbox_added:
            self._change(row.entity_key)
        for entity in changes.ready:
            entry = self._change(entity.key)
            self._ready[entry] = no_hurry and self._ready.get(entry, True)

    def written(self) -> None:
        """The group is in storage."""
        if not self._touched:
            return
        self._entities.group_ended()
        for entry in self._touched:
            entry.dirty = entry.batch_in_group = False

    def given_up(self) -> Iterable[Name]:
        """Nothing of the group has happened: forget what this tick has touched; returns what to load again."""
        self._entities.group_ended()
        touched, self._touched = self._touched, {}
        for entry in touched:
            self._forget(entry)
            self._entities.drop(entry)
        return [entry.name for entry in touched]

    def settle(self) -> None:
        """The tick ends."""
        if not self._touched:
            return
        touched, self._touched = self._touched, {}
        for entry in touched:
            self._entities.settle(entry)
        self._entities.shrink()

    def _change(self, key: int) -> EntityEntry:
        entry = self._entities.by_key(key)
        if entry is None:
            raise LookupError(f"a commit changes entity {key}, which is not in memory")
        entry.dirty = True
        self._touched[entry] = None
        return entry

    def _forget(self, entry: EntityEntry) -> None:
        self._drop_work(entry)
        self._ready.pop(entry, None)
        self._engine.alarms.cancel(entry.entity.key)

    def _void_stale_batch(self, entry: EntityEntry) -> None:
        """Whoever changes the state of an entity voids the batch in flight."""
        lease = None if entry.work is None else entry.work.lease
        batch = entry.entity.batch
        if lease is not None and (batch is None or batch.token != lease.token):
            self._drop_work(entry)

    def _drop_work(self, entry: EntityEntry) -> None:
        work, entry.work = entry.work, None
        if work is None:
            return
        entry.cool()
        work.wanted = False
        if work.lease is not None:
            work.lease.void = True

    # -- handing out --------------------------------------------------------------------------

    @property
    def has_late(self) -> bool:
        """Whether batches wait for the write that has just happened."""
        return bool(self._late or self._ready or self._held_back)

    def hand_out(self) -> None:
        """Batches may leave before the group is written, while that is small.

        To share the write of a large group would save little. What arrives until it is written joins the batches,
        each of which costs as much as several operations.
        """
        if self._late or self._ready:
            self._requeue()
        queued = self._dispatcher.has_queued(Kind.BATCH)
        self._held_back = queued and not self._engine.gathers_few
        if queued and not self._held_back:
            self._dispatcher.pump(Kind.BATCH, self._begin)

    def _requeue(self) -> None:
        late, self._late = self._late, []
        for work in late:
            self._dispatcher.queue(work)
        ready, self._ready = self._ready, {}
        for entry, no_hurry in ready.items():
            self._consider(entry, no_hurry=no_hurry)

    def _consider(self, entry: EntityEntry, *, no_hurry: bool = False) -> None:
        """Queue the entity's next batch, or see to it that this happens when its time has come."""
        self._touched[entry] = None
        if entry.gone or entry.work is not None:
            if not no_hurry and self._burst.holds(entry.work):
                self._burst.end()
            return
        entity = entry.entity
        at = entity_batches.next_batch_at(entity, self._engine.now)
        if at is None:
            return
        if at > self._engine.now:
            self._engine.alarms.set(entity.key, at, partial(self.take_up, entry.name))
            return
        route = entry.route
        if route is None:
            route = entry.route = self._dispatcher.known(Route(Kind.BATCH, entity.task_hub, entity.name, ""))
        entry.work = WorkOf(route, entry, avoid=entry.avoid)
        if no_hurry:
            self._burst.hold(entry.work, self._engine.now)
        else:
            self._dispatcher.queue(entry.work)

    def _begin(self, work: BatchWork, stream: Stream) -> None:
        entry = work.entry
        entity = entry.entity
        if entity_batches.next_batch_at(entity, self._engine.now) != self._engine.now:
            entry.work = None
            self._consider(entry)
            return
        is_warm = entry.warm_stream is stream and entity.state is not None
        if is_warm and entry.batch_in_group:
            # The worker keeps a state only once it has been told of its commit. Sending a short one beats waiting.
            if len(entity.state or "") > _LONG_STATE:
                self._late.append(work)
                return
            is_warm = False
        batch = entity_batches.begin_batch(entity, self._engine.context)
        item = pb.WorkItem(completionToken=batch.token)
        entity_batches.batch_request(entity, batch, entry.warm_token if is_warm else None, item.entityRequestV2)
        lease = self._leases.grant(work, stream, batch.token, self._engine.now + self._engine.options.turn_max_age)
        lease.warm = is_warm
        if not self._expiry_at:
            self._expect_expiry(lease)
        # Whatever the worker keeps stands before this batch; it is warm again once the batch is committed.
        entry.cool()
        self._touched[entry] = None
        self._send(stream, item)

    # -- leases -------------------------------------------------------------------------------

    def lose(self, lease: BatchLease) -> None:
        """The worker is gone or silent: deliver again, to another one if possible."""
        if self._end(lease):
            entity_batches.release_batch(lease.work.entry.entity)
            lease.work.entry.avoid = lease.stream
            self._over(lease)

    def lose_with_stream(self, lease: BatchLease) -> None:
        """The stream broke. What is lost with every stream that it is sent on fails; see ``undeliverable``."""
        entry = lease.work.entry
        entity, batch = entry.entity, entry.entity.batch
        size = 0 if lease.void or batch is None else entity_batches.batch_request(entity, batch).ByteSize()
        if lease.warm and entity.state is not None:
            size -= len(entity.state.encode())
        if batch is None or not undeliverable.lost_too_often(entry, size, self._engine.options.worker_losses):
            self.lose(lease)
        elif self._end(lease):
            self._commit(lease, undeliverable.batch_failed(entity, batch, size, entry.losses))

    def abandon(self, task_hub: str, token: str) -> None:
        """The worker gives a batch back. It is delivered again after a pause, elsewhere if possible."""
        lease = self._leases.find(task_hub, token)
        if lease is None:
            return
        if not lease.stream.open:
            # A worker that shuts down gives back what it could not finish: no reason to wait.
            self.lose(lease)
        elif self._end(lease):
            self._pause(lease)

    def complete(self, task_hub: str, result: pb.EntityBatchResult) -> None:
        """Commit the answer to a batch; one that no longer counts is ignored."""
        lease = self._leases.find(task_hub, result.completionToken)
        if lease is None or not self._end(lease):
            return
        if not result.requiresState:
            self._commit(lease, result)
        elif lease.warm:
            entity_batches.release_batch(lease.work.entry.entity)
            self._over(lease)
        else:
            # It had the state: sending that again at once would go on for ever.
            self._pause(lease)

    def _commit(self, lease: BatchLease, result: pb.EntityBatchResult) -> None:
        entry, entity, stream = lease.work.entry, lease.work.entry.entity, lease.stream
        commit = entity_batches.complete_batch(entity, result, self._engine.context)
        if commit.entities is not None and commit.entities.given_up is not None:
            _report(entity.instance_id, commit.entities.given_up)
        entry.avoid = None
        entry.losses = 0
        entry.batch_in_group = True
        self._over(lease)
        self._engine.commit(commit)
        keeps = stream.takes_warm_entities and stream.open and not entry.gone
        if keeps and result.HasField("entityState") and entity.state == result.entityState.value:
            entry.warm_stream = stream
            entry.warm_token = lease.token

    def _pause(self, lease: BatchLease) -> None:
        entity_batches.abandon_batch(lease.work.entry.entity, self._engine.context)
        lease.work.entry.avoid = lease.stream
        self._over(lease)

    def _over(self, lease: BatchLease) -> None:
        entry = lease.work.entry
        entry.work = None
        self._ready[entry] = False

    def _end(self, lease: BatchLease) -> bool:
        """The worker has it no longer; whether its answer counts."""
        self._leases.end(lease)
        self._touched[lease.work.entry] = None
        return not lease.void

    def _expect_expiry(self, lease: BatchLease) -> None:
        """As with turns, an alarm that goes off is set anew for the batch that is oldest then."""
        self._expiry_at = lease.deadline
        self._engine.alarms.set(_BATCH_AGE, lease.deadline, self._expire)

    def _expire(self) -> None:
        self._expiry_at = 0
        while (lease := self._leases.oldest_turn()) is not None:
            if lease.deadline > self._engine.now:
                self._expect_expiry(lease)
                return
            logger.warning("A batch of %s was not answered in time", lease.work.entry.entity.instance_id)
            self.lose(lease)


def _report(instance_id: str, lost: GivenUp) -> None:
    """Callers get the failure; of a signal nobody else would learn."""
    names = ", ".join(dict.fromkeys(lost.operations))
    why = (lost.why.errorType, lost.why.errorMessage)
    logger.warning("Entity %s has lost signals (%s): %s, %r", instance_id, names, *why)
