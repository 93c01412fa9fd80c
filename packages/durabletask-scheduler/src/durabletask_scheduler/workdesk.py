"""The workers' side of the engine: what becomes a work item, and when it leaves.

A work item is leased to the stream that it was sent on, under a completion token that is used
once. The lease ends with the answer, with an abandon, some time after its stream ended, or (turns and
batches) at a maximum age; the next delivery has a new token. An answer under a token that no longer
counts is accepted and ignored.

There is a desk for each kind of work, and one place for the streams that all of it is sent on. Here is
what concerns several of them: what a commit means to each, and the order in which they hand out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from durabletask_scheduler.burst import Burst
from durabletask_scheduler.dispatch import Dispatcher, Kind, LeaseOf, WorkOf
from durabletask_scheduler.entities import EntityEntry
from durabletask_scheduler.entitydesk import EntityDesk
from durabletask_scheduler.hub.model import Commit, Instance
from durabletask_scheduler.instances import Entry
from durabletask_scheduler.leases import Leases
from durabletask_scheduler.storage import StorageError
from durabletask_scheduler.streams import Streams
from durabletask_scheduler.taskdesk import TaskDesk
from durabletask_scheduler.turndesk import TurnDesk

if TYPE_CHECKING:
    from durabletask_scheduler.engine import Engine


class WorkDesk:
    """Belongs to the engine.

    Attributes:
        streams: the streams of all workers.
        turns: the turns of instances.
        tasks: their activities and timers.
        entities: entities and their batches of operations.
        burst: what of these is held.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._dispatcher = dispatcher = Dispatcher()
        # A virtual clock says nothing about how closely calls follow each other.
        hold = engine.options.burst_hold if engine.shifts.borrows else 0
        self.burst = Burst(engine.alarms, dispatcher.queue, hold)
        self.streams = Streams(engine, dispatcher, self._lose_with_stream)
        send = self.streams.send
        self._turn_leases: Leases[Entry] = Leases()
        self._batch_leases: Leases[EntityEntry] = Leases()
        self.turns = TurnDesk(engine, dispatcher, self._turn_leases, send, self.burst)
        self.tasks = TaskDesk(engine, dispatcher, send, self.turns.consider_soon)
        self.entities = EntityDesk(engine, dispatcher, self._batch_leases, send, self.burst)
        self._losers: Mapping[Kind, Callable[[LeaseOf[Any]], None]] = {
            Kind.TURN: self.turns.lose_with_stream,
            Kind.ACTIVITY: self.tasks.lose_with_stream,
            Kind.BATCH: self.entities.lose_with_stream,
        }

    # -- what is to be handed out -------------------------------------------------------------

    def take(self, commit: Commit, *, no_hurry: bool = False) -> None:
        """Note what a commit makes possible or pointless; it is acted upon later in the tick.

        Args:
            no_hurry: the turns that it makes possible may be held, but for those that somebody waits for.
        """
        by_key, turns, tasks = self._engine.instances.by_key, self.turns, self.tasks
        for key in commit.closed:
            tasks.close(key)
        for key in commit.updated:
            entry = by_key(key)
            if entry is not None and entry.turn is not None:
                turns.void_stale(entry)
        for instance, task in commit.activities:
            entry = by_key(instance.key)
            if entry is not None:
                tasks.expect_activity(entry, task)
        for instance, task in commit.timers:
            tasks.expect_timer(instance.task_hub, instance.instance_id, task)
        for instance in commit.finished:
            if instance.is_terminal:
                turns.ended(instance)
        for instance in commit.runnable:
            entry = by_key(instance.key)
            if entry is not None:
                turns.consider_soon(entry, no_hurry=no_hurry and not self._is_awaited(instance))

    def _is_awaited(self, instance: Instance) -> bool:
        return bool(instance.parent_instance_id) or self._engine.waiters.wait_for(instance)

    def is_missed(self, work: WorkOf[Any] | None) -> None:
        """After a write: somebody wants to know what becomes of it."""
        if self.burst.holds(work):
            self.burst.end()

    def adopt(self, entry: Entry) -> None:
        """Take up the open work of an instance that has just been loaded.

        Raises:
            StorageError: its activities could not be read; the entry is dropped again.
        """
        try:
            self.tasks.adopt(entry)
        except StorageError:
            self.forget(entry)
            self._engine.instances.drop(entry)
            raise
        self.turns.consider_soon(entry)

    def forget(self, entry: Entry) -> None:
        """The entry leaves memory or its instance is deleted: nothing of it is wanted any more."""
        self.tasks.forget(entry)
        self.turns.forget(entry)

    # -- handing out --------------------------------------------------------------------------

    @property
    def has_turns(self) -> bool:
        """Whether :meth:`hand_out_turns` has anything to look at."""
        return self.turns.has_ready or self._dispatcher.has_turns or self.entities.has_late

    def hand_out_turns(self) -> None:
        """Turns may leave before the group is written."""
        self.turns.hand_out()
        self.entities.hand_out()
        if self.burst.has_ended:
            # A batch for which there is a hurry has let turns go, too.
            self.burst.has_ended = False
            self.turns.hand_out()

    @property
    def waits_for_write(self) -> bool:
        """Whether :meth:`hand_out_after_write` has anything to do."""
        return self.tasks.waits_for_write or self.turns.waits_for_write or self.entities.has_late

    def hand_out_after_write(self) -> None:
        """Activities of what has just become durable, and turns that had to wait for it."""
        if self.turns.requeue() or self.entities.has_late or self.burst.has_ended:
            self.hand_out_turns()
        self.tasks.hand_out()

    # -- what is out --------------------------------------------------------------------------

    @property
    def turns_out(self) -> int:
        """How many turns have left since the last write and are not answered."""
        return self._turn_leases.turns_out

    @property
    def batches_out(self) -> int:
        """The same of batches."""
        return self._batch_leases.turns_out

    @property
    def answers_come_by_themselves(self) -> bool:
        """Whether all of these are with workers that lend their threads."""
        return self._turn_leases.answers_come_by_themselves and self._batch_leases.answers_come_by_themselves

    def turns_left_behind(self) -> None:
        """A write begins."""
        self._turn_leases.turns_left_behind()
        self._batch_leases.turns_left_behind()

    def _lose_with_stream(self, lease: LeaseOf[Any]) -> None:
        self._losers[lease.work.route.kind](lease)
