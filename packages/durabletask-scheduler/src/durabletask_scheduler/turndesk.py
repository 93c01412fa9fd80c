"""Turns: when an instance has one, who executes it, and what the answers mean.

A turn may leave before the group is written: it has no effect until its answer is committed. It has a lease
that ends at a maximum age at the latest; the next delivery has a new token.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto import warm
from google.protobuf.message import Message

from durabletask_scheduler import undeliverable
from durabletask_scheduler.burst import Burst
from durabletask_scheduler.dispatch import Dispatcher, Kind, Lease, Route, Stream, Work, WorkOf
from durabletask_scheduler.group import logger
from durabletask_scheduler.hub import turns, views
from durabletask_scheduler.hub.model import HistoryRow, HubError, Instance
from durabletask_scheduler.instances import Entry
from durabletask_scheduler.leases import Leases, put_together, with_part
from durabletask_scheduler.storage import StorageError

if TYPE_CHECKING:
    from durabletask_scheduler.engine import Engine

_TURN_AGE = "turn age"
_CHEAP_REPLAY = 50
"""Events of a history that is sent rather than being asked for: to send it in vain costs less than to be asked."""


class TurnDesk:
    """Belongs to the engine.

    Args:
        leases: those on turns.
        send: sends a work item on a stream; does not raise.
        burst: holds the turns for which there is no hurry.
    """

    def __init__(
        self,
        engine: Engine,
        dispatcher: Dispatcher,
        leases: Leases[Entry],
        send: Callable[[Stream, Message], None],
        burst: Burst,
    ) -> None:
        self._engine = engine
        self._dispatcher = dispatcher
        self._send = send
        self._leases = leases
        self._burst = burst
        # Whether there is no hurry.
        self._ready: dict[Entry, bool] = {}
        self._late: list[Work] = []
        self._expiry_at = 0

    # -- what is to be handed out -------------------------------------------------------------

    def consider_soon(self, entry: Entry, *, no_hurry: bool = False) -> None:
        """Something has happened to the instance: :meth:`consider` it when turns are handed out next.

        Args:
            no_hurry: its turn may be held, unless there is a hurry for another reason.
        """
        self._ready[entry] = no_hurry and self._ready.get(entry, True)

    def consider(self, entry: Entry, *, no_hurry: bool = False) -> None:
        """Queue the instance's next turn, or see to it that this happens when its time has come."""
        self._engine.touch(entry)
        if entry.gone or entry.turn is not None:
            if not no_hurry and self._burst.holds(entry.turn):
                self._burst.end()
            return
        instance = entry.instance
        at = turns.next_turn_at(instance, self._engine.now)
        if at is None:
            return
        if at > self._engine.now:
            self._wake_at(at, entry)
            return
        route = entry.turn_route
        if route is None:
            route = Route(Kind.TURN, instance.task_hub, instance.name, instance.version or "")
            route = entry.turn_route = self._dispatcher.known(route)
            # The same text, but the one that all instances of this name share.
            instance.name = route.name
        begins = not (instance.event_count or instance.parent_instance_id)
        work: Work = WorkOf(route, entry, None, entry.avoid, begins=begins)
        entry.turn = work
        if no_hurry:
            self._burst.hold(work, self._engine.now)
        else:
            self._dispatcher.queue(work)

    def void_stale(self, entry: Entry) -> None:
        """A commit has changed the instance: drop its turn if that is no longer to be executed."""
        if entry.turn is not None and _is_stale(entry.turn, entry.instance):
            self._drop(entry)

    def ended(self, instance: Instance) -> None:
        """It is not to be woken any more."""
        self._engine.alarms.cancel(instance.key)

    def forget(self, entry: Entry) -> None:
        """No turn of the instance is wanted any more."""
        self._drop(entry)
        self._ready.pop(entry, None)
        self._engine.alarms.cancel(entry.instance.key)

    def _drop(self, entry: Entry) -> None:
        work, entry.turn = entry.turn, None
        if work is None:
            return
        entry.cool()
        work.wanted = False
        if work.lease is not None:
            work.lease.void = True

    def _wake_at(self, at: int, entry: Entry) -> None:
        self._engine.alarms.set(entry.instance.key, at, partial(self._wake, *entry.name))

    def _wake(self, task_hub: str, instance_id: str) -> None:
        entry = self._engine.loading.find(task_hub, instance_id)
        if entry is not None:
            self._ready[entry] = False

    # -- handing out --------------------------------------------------------------------------

    @property
    def has_ready(self) -> bool:
        """Whether there are instances to be considered."""
        return bool(self._ready)

    @property
    def waits_for_write(self) -> bool:
        """Whether :meth:`requeue` has anything to do."""
        return bool(self._late or self._ready)

    def requeue(self) -> bool:
        """The group is written: queue what had to wait for it. Whether :meth:`hand_out` has something new to do."""
        late, self._late = self._late, []
        for work in late:
            self._dispatcher.queue(work)
        return bool(late or self._ready)

    def hand_out(self) -> None:
        """Consider the instances that something has happened to; hand out what streams have permits for."""
        if self._ready:
            ready, self._ready = self._ready, {}
            for entry, no_hurry in ready.items():
                self.consider(entry, no_hurry=no_hurry)
        self._dispatcher.pump(Kind.TURN, self._begin)

    def _begin(self, work: Work, stream: Stream) -> None:
        entry = work.entry
        if turns.next_turn_at(entry.instance, self._engine.now) != self._engine.now:
            entry.turn = None
            self.consider(entry)
            return
        is_warm = entry.warm_stream is stream and not _is_forgotten(entry.instance, stream)
        if is_warm and entry.turn_in_group:
            # The worker continues a run only after a turn whose commit it has been told of.
            self._late.append(work)
            return
        try:
            rows = None if is_warm else self._engine.instances.history(entry)
        except StorageError as error:
            logger.warning("The history of %s could not be read: %s", entry.instance.instance_id, error)
            entry.turn = None
            self._wake_at(self._engine.now + self._engine.options.retry_delay, entry)
            return
        fetched = rows is not None and self._is_fetched(entry, stream)
        if fetched and entry.dirty:
            self._late.append(work)
            return
        self._deliver(work, stream, rows, fetched=fetched)

    def _is_fetched(self, entry: Entry, stream: Stream) -> bool:
        """Whether the worker is to fetch the past by itself."""
        return stream.takes_history_stream and entry.past_bytes > self._engine.options.history_stream_bytes

    def _deliver(self, work: Work, stream: Stream, rows: list[HistoryRow] | None, *, fetched: bool) -> None:
        entry = work.entry
        self._engine.touch(entry)
        kept_since = entry.instance.clock
        turn = turns.begin_turn(entry.instance, self._engine.context)
        item = pb.WorkItem(completionToken=turn.token)
        request = views.turn_request(entry.instance, turn, None if fetched else rows, item.orchestratorRequest)
        if rows is None:
            request.properties[warm.BASE].string_value = entry.warm_token
        if fetched:
            request.requiresHistoryStreaming = True
        lease = self._leases.grant(work, stream, turn.token, self._engine.now + self._engine.options.turn_max_age)
        lease.warm, lease.kept_since = rows is None, kept_since
        lease.history_key = rows[-1].key if rows else 0
        if not self._expiry_at:
            self._expect_expiry(lease)
        # Whatever the worker keeps stands before this turn; it is warm again once the turn is committed.
        entry.cool()
        self._send(stream, item)

    # -- in flight ----------------------------------------------------------------------------

    def lease_of(self, task_hub: str, instance_id: str) -> Lease | None:
        """The lease of the instance's turn in flight."""
        entry = self._engine.instances.cached((task_hub, instance_id))
        return None if entry is None or entry.turn is None else entry.turn.lease

    def lose(self, lease: Lease) -> None:
        """The worker is gone or silent: deliver again, to another one if possible."""
        if self._end(lease):
            entry = lease.work.entry
            turns.release_turn(entry.instance)
            entry.avoid = lease.stream
            self._over(entry)

    def lose_with_stream(self, lease: Lease) -> None:
        """The stream broke. What is lost with every stream that it is sent on fails; see ``undeliverable``."""
        entry = lease.work.entry
        size = 0 if lease.void else self._sent_bytes(lease)
        if not undeliverable.lost_too_often(entry, size, self._engine.options.worker_losses):
            self.lose(lease)
        elif self._end(lease):
            self._commit(lease, undeliverable.turn_failed(size, entry.losses))

    def _sent_bytes(self, lease: Lease) -> int:
        entry, turn = lease.work.entry, lease.work.entry.instance.turn
        try:
            rows = None if lease.warm else self._engine.instances.history(entry)
        except StorageError as error:
            logger.warning("The history of %s could not be read: %s", entry.instance.instance_id, error)
            return 0
        sent = None if self._is_fetched(entry, lease.stream) else rows
        return 0 if turn is None else views.turn_request(entry.instance, turn, sent).ByteSize()

    def _end(self, lease: Lease) -> bool:
        """The worker has it no longer; whether its answer counts."""
        self._leases.end(lease)
        self._engine.touch(lease.work.entry)
        return not lease.void

    def _over(self, entry: Entry) -> None:
        entry.turn = None
        self._ready[entry] = False

    def _expect_expiry(self, lease: Lease) -> None:
        """See to the oldest turn in time; when the alarm goes off it is set anew for the one that is oldest then."""
        self._expiry_at = lease.deadline
        self._engine.alarms.set(_TURN_AGE, lease.deadline, self._expire)

    def _expire(self) -> None:
        self._expiry_at = 0
        while (lease := self._leases.oldest_turn()) is not None:
            if lease.deadline > self._engine.now:
                self._expect_expiry(lease)
                return
            logger.warning("A turn of %s was not answered in time", lease.work.entry.instance.instance_id)
            self.lose(lease)

    # -- answers ------------------------------------------------------------------------------

    def complete(self, task_hub: str, response: pb.OrchestratorResponse) -> None:
        """Commit the answer to a turn; one that no longer counts is ignored.

        Raises:
            HubError: the answer makes no sense; the turn is delivered again after a pause.
        """
        token = response.completionToken
        # Some workers never send a token: theirs is the answer to what is outstanding now.
        lease = self._leases.find(task_hub, token) if token else self.lease_of(task_hub, response.instanceId)
        if lease is None:
            return
        if response.isPartial:
            lease.chunks = with_part(lease.chunks, response)
        elif not self._end(lease):
            return
        elif response.requiresHistory:
            self._send_again(lease)
        else:
            self._commit(lease, put_together(lease.chunks, response) if lease.chunks else response)

    def abandon(self, task_hub: str, token: str) -> None:
        """The worker gives a turn back. It is delivered again after a pause, elsewhere if possible."""
        lease = self._leases.find(task_hub, token)
        if lease is None:
            return
        if not lease.stream.open:
            # A worker that shuts down gives back what it could not finish: no reason to wait.
            self.lose(lease)
        elif self._end(lease):
            self._pause(lease)

    def _send_again(self, lease: Lease) -> None:
        """The worker does not have what it needs for the turn."""
        if lease.warm:
            lease.stream.forgotten_until = max(lease.stream.forgotten_until, lease.kept_since)
            turns.release_turn(lease.work.entry.instance)
            self._over(lease.work.entry)
        else:
            # It had the whole history: sending that again at once would go on for ever.
            self._pause(lease)

    def _commit(self, lease: Lease, response: pb.OrchestratorResponse) -> None:
        entry, instance = lease.work.entry, lease.work.entry.instance
        generation = instance.execution_id
        events_before = instance.event_count
        try:
            commit = turns.complete_turn(instance, response, self._engine.context)
        except HubError:
            self._pause(lease)
            raise
        entry.turn = None
        entry.avoid = None
        entry.losses = 0
        entry.turn_in_group = True
        self._engine.commit(commit)
        self._warn_of_length(instance, events_before)
        self._ready[entry] = False
        stream = lease.stream
        if stream.takes_warm and stream.open and not instance.is_terminal and instance.execution_id == generation:
            entry.warm_stream = stream
            entry.warm_token = lease.token

    def _pause(self, lease: Lease) -> None:
        entry = lease.work.entry
        turns.abandon_turn(entry.instance, self._engine.context)
        entry.avoid = lease.stream
        self._over(entry)

    def _warn_of_length(self, instance: Instance, events_before: int) -> None:
        if events_before < self._engine.options.history_warning <= instance.event_count:
            logger.warning(
                "The history of %s has %d events; at %d it fails: use continue-as-new to begin a new generation",
                instance.instance_id,
                instance.event_count,
                self._engine.options.limits.history_events,
            )


def _is_stale(work: Work, instance: Instance) -> bool:
    """In flight while the instance knows of none, or of another; or waiting while the instance has ended."""
    if work.lease is None:
        return instance.is_terminal
    return instance.turn is None or instance.turn.token != work.lease.token


def _is_forgotten(instance: Instance, stream: Stream) -> bool:
    """Whether the worker most likely has let the run go that it kept, and sending the history costs little."""
    return instance.clock <= stream.forgotten_until and instance.event_count <= _CHEAP_REPLAY
