"""Work items: what becomes one, who has it, and what their answers mean.

A work item is leased to the stream that it was sent on, under a completion token that is used
once. The lease ends with the answer, with an abandon, some time after its stream ended, or (turns)
at a maximum age; the next delivery has a new token. An answer under a token that no longer counts
is accepted and ignored.
"""

from __future__ import annotations

from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto import warm
from google.protobuf.message import Message

from durabletask_scheduler import undeliverable
from durabletask_scheduler.dispatch import Dispatcher, Kind, Lease, Route, Stream, Work, WorkOf
from durabletask_scheduler.entitydesk import EntityDesk
from durabletask_scheduler.group import logger
from durabletask_scheduler.hub import activities, turns, views
from durabletask_scheduler.hub.model import Commit, HistoryRow, HubError, Instance, OpenTask, TaskKind
from durabletask_scheduler.hub.times import SECOND
from durabletask_scheduler.instances import Entry
from durabletask_scheduler.leases import Leases, put_together
from durabletask_scheduler.limits import USUAL_RECEIVE_BYTES
from durabletask_scheduler.rpc import Sink
from durabletask_scheduler.storage import StorageError

if TYPE_CHECKING:
    from durabletask_scheduler.engine import Engine

_FIRST_BACK_OFF = SECOND
_LONGEST_BACK_OFF = 60 * SECOND
_TURN_AGE = "turn age"
_CHEAP_REPLAY = 50
"""Events of a history that is sent rather than being asked for: to send it in vain costs less than to be asked."""


class WorkDesk:
    """The workers' side of the engine. Belongs to the engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._dispatcher = Dispatcher()
        self._numbers = count(1)
        self._leases: Leases[Entry] = Leases()
        self._activities: dict[int, Work] = {}
        self._ready: dict[Entry, None] = {}
        self._new_activities: list[Work] = []
        self._late_turns: list[Work] = []
        self._expiry_at = 0
        self.entities = EntityDesk(engine, self._dispatcher, self._send)

    # -- streams ------------------------------------------------------------------------------

    def open_stream(self, task_hub: str, request: pb.GetWorkItemsRequest, sink: Sink) -> Stream:
        stream = Stream(next(self._numbers), task_hub, request, sink, self._engine.now)
        self._dispatcher.add_stream(stream)
        self._expect_ping(stream)
        return stream

    def end_stream(self, stream: Stream) -> None:
        """The worker went away. What it has may still be answered for a short while."""
        if not stream.open:
            return
        self._dispatcher.remove_stream(stream)
        self._engine.alarms.cancel(("ping", stream.number))
        if stream.leases:
            end = self._engine.now + self._engine.options.stream_grace
            self._engine.alarms.set(("grace", stream.number), end, partial(self._release_all, stream))

    @property
    def turns_out(self) -> int:
        """How many turns have left since the last write and are not answered; not counting batches of entities."""
        return self._leases.turns_out

    @property
    def answers_come_by_themselves(self) -> bool:
        return self._leases.answers_come_by_themselves and self.entities.answers_come_by_themselves

    def in_flight(self) -> tuple[int, int]:
        """How many turns, and how many activities, workers have whose streams are open and whose answers count."""
        held = [
            lease.work.route.kind
            for stream in self._dispatcher.streams.values()
            for lease in stream.leases
            if not lease.void
        ]
        activities = held.count(Kind.ACTIVITY)
        return len(held) - activities, activities

    def turns_left_behind(self) -> None:
        """A write begins."""
        self._leases.turns_left_behind()
        self.entities.batches_left_behind()

    def close_streams(self) -> None:
        for stream in list(self._dispatcher.streams.values()):
            self._dispatcher.remove_stream(stream)
            stream.close()

    def lease_of_turn(self, task_hub: str, instance_id: str) -> Lease | None:
        """The lease of the instance's turn in flight."""
        entry = self._engine.instances.cached((task_hub, instance_id))
        return None if entry is None or entry.turn is None else entry.turn.lease

    def _expect_ping(self, stream: Stream) -> None:
        at = stream.last_sent + self._engine.options.ping_interval
        self._engine.alarms.set(("ping", stream.number), at, partial(self._ping, stream))

    def _ping(self, stream: Stream) -> None:
        if stream.last_sent + self._engine.options.ping_interval <= self._engine.now:
            self._send(stream, pb.WorkItem(healthPing=pb.HealthPing()))
        if stream.open:
            self._expect_ping(stream)

    def _send(self, stream: Stream, message: Message) -> None:
        try:
            stream.send(message, self._engine.now)
        except Exception:
            logger.exception("A transport failed to take a work item; its stream is given up")
            self.end_stream(stream)

    def _release_all(self, stream: Stream) -> None:
        for lease in list(stream.leases):
            if lease.work.route.kind is Kind.BATCH:
                self.entities.lose_with_stream(lease)
            elif not self._give_up_undeliverable(lease):
                self._lose(lease)

    def _give_up_undeliverable(self, lease: Lease) -> bool:
        """Fail what is lost with every stream that it is sent on; see ``undeliverable``."""
        size = 0 if lease.void else self._sent_bytes(lease)
        if size <= USUAL_RECEIVE_BYTES:
            return False
        work = lease.work
        counter = work.entry if work.task is None else work
        counter.losses += 1
        if counter.losses < self._engine.options.worker_losses:
            return False
        self._end(lease)
        if work.task is None:
            self._commit_turn(lease, work.entry, undeliverable.turn_failed(size, counter.losses))
        else:
            self._commit_activity(work, undeliverable.activity_failed(size, counter.losses))
        return True

    def _sent_bytes(self, lease: Lease) -> int:
        entry = lease.work.entry
        try:
            rows = None if lease.warm or lease.work.task is not None else self._engine.instances.history(entry)
        except StorageError as error:
            logger.warning("The history of %s could not be read: %s", entry.instance.instance_id, error)
            return 0
        return undeliverable.size_of(lease, None if self._is_fetched(entry, lease.stream) else rows)

    # -- what commits bring -------------------------------------------------------------------

    def take(self, commit: Commit) -> None:
        """Note what a commit makes possible or pointless; it is acted upon later in the tick."""
        by_key = self._engine.instances.by_key
        for key in commit.closed:
            self._close(key)
        for key in commit.updated:
            entry = by_key(key)
            if entry is not None and entry.turn is not None:
                self._void_stale_turn(entry)
        for instance, task in commit.activities:
            entry = by_key(instance.key)
            if entry is not None:
                self._new_activities.append(self._expect_activity(entry, task))
        for instance, task in commit.timers:
            self._expect_timer(instance.task_hub, instance.instance_id, task)
        for instance in commit.runnable:
            entry = by_key(instance.key)
            if entry is not None:
                self._ready[entry] = None

    def adopt(self, entry: Entry) -> None:
        """Take up the open work of an instance that has just been loaded.

        Raises:
            StorageError: its activities could not be read; the entry is dropped again.
        """
        try:
            self._adopt_tasks(entry)
        except StorageError:
            self.forget(entry)
            self._engine.instances.drop(entry)
            raise
        self._ready[entry] = None

    def consider(self, entry: Entry) -> None:
        """Queue the instance's next turn, or see to it that this happens when its time has come."""
        self._engine.touch(entry)
        if entry.gone or entry.turn is not None:
            return
        instance = entry.instance
        at = turns.next_turn_at(instance, self._engine.now)
        if at is None:
            return
        if at > self._engine.now:
            wake = partial(self._wake, instance.task_hub, instance.instance_id)
            self._engine.alarms.set(instance.key, at, wake)
            return
        route = entry.turn_route
        if route is None:
            route = Route(Kind.TURN, instance.task_hub, instance.name, instance.version or "")
            route = entry.turn_route = self._dispatcher.known(route)
            # The same text, but the one that all instances of this name share.
            instance.name = route.name
        work: Work = WorkOf(route, entry, None, entry.avoid)
        entry.turn = work
        self._dispatcher.queue(work)

    def forget(self, entry: Entry) -> None:
        """The entry leaves memory or its instance is deleted: nothing of it is wanted any more."""
        for key in list(entry.activities or ()):
            self._close(key)
        self._drop_turn(entry)
        self._ready.pop(entry, None)
        self._engine.alarms.cancel(entry.instance.key)

    def _adopt_tasks(self, entry: Entry) -> None:
        rows: dict[int, HistoryRow | None] = {}
        for task in list(entry.instance.open_tasks.values()):
            if task.kind is TaskKind.TIMER:
                self._expect_timer(*entry.name, task)
            elif task.kind is TaskKind.ACTIVITY:
                if task.event is None:
                    task.event = self._read_event(task, rows)
                if task.event is not None:
                    self._new_activities.append(self._expect_activity(entry, task))

    def _read_event(self, task: OpenTask, rows: dict[int, HistoryRow | None]) -> pb.HistoryEvent | None:
        if task.history_key not in rows:
            rows[task.history_key] = self._engine.storage.history_row(task.history_key)
        row = rows[task.history_key]
        for event in pb.HistoryChunk.FromString(row.events).events if row is not None else ():
            if event.eventId == task.task_id and event.HasField("taskScheduled"):
                return event
        logger.error("The store has open task %d but not its history event; the activity cannot run", task.key)
        return None

    def _expect_activity(self, entry: Entry, task: OpenTask) -> Work:
        assert task.event is not None
        scheduled = task.event.taskScheduled
        route = Route(Kind.ACTIVITY, entry.instance.task_hub, scheduled.name, scheduled.version.value)
        work: Work = WorkOf(route, entry, task)
        if entry.activities is None:
            entry.activities = {}
        entry.activities[task.key] = work
        self._activities[task.key] = work
        return work

    def _expect_timer(self, task_hub: str, instance_id: str, task: OpenTask) -> None:
        self._engine.alarms.set(task.key, task.due_at, partial(self._timer_due, task_hub, instance_id, task.key))

    def _timer_due(self, task_hub: str, instance_id: str, task_key: int) -> None:
        entry = self._find_later(task_hub, instance_id)
        if entry is not None:
            turns.fire_timer(entry.instance, task_key, self._engine.context)
            self._ready[entry] = None

    def _wake(self, task_hub: str, instance_id: str) -> None:
        entry = self._find_later(task_hub, instance_id)
        if entry is not None:
            self._ready[entry] = None

    def _find_later(self, task_hub: str, instance_id: str) -> Entry | None:
        """The instance; if the store cannot be read now, it is loaded with all that is due when it can."""
        try:
            return self._engine.find(task_hub, instance_id)
        except StorageError as error:
            logger.warning("An instance could not be loaded and is tried again later: %s", error)
            self._engine.loading.load_later([(task_hub, instance_id)])
            return None

    def _close(self, task_key: int) -> None:
        self._engine.alarms.cancel(task_key)
        work = self._activities.pop(task_key, None)
        if work is None:
            return
        work.wanted = False
        open_ones = work.entry.activities or {}
        open_ones.pop(task_key, None)
        if not open_ones:
            work.entry.activities = None
        self._engine.touch(work.entry)
        if work.lease is not None:
            work.lease.void = True

    def _void_stale_turn(self, entry: Entry) -> None:
        lease = None if entry.turn is None else entry.turn.lease
        turn = entry.instance.turn
        if lease is not None and (turn is None or turn.token != lease.token):
            self._drop_turn(entry)

    def _drop_turn(self, entry: Entry) -> None:
        work, entry.turn = entry.turn, None
        if work is None:
            return
        entry.cool()
        work.wanted = False
        if work.lease is not None:
            work.lease.void = True

    # -- handing out --------------------------------------------------------------------------

    @property
    def has_turns(self) -> bool:
        """Whether :meth:`hand_out_turns` has anything to look at."""
        return bool(self._ready) or self._dispatcher.has_turns or self.entities.has_late

    def hand_out_turns(self) -> None:
        """Turns may leave before the group is written."""
        if self._ready:
            ready, self._ready = self._ready, {}
            for entry in ready:
                self.consider(entry)
        if self._dispatcher.has_queued(Kind.TURN):
            self._dispatcher.pump(Kind.TURN, self._begin_turn)
        self.entities.hand_out()

    @property
    def waits_for_write(self) -> bool:
        """Whether :meth:`hand_out_after_write` has anything to do."""
        return bool(
            self._new_activities
            or self._late_turns
            or self._ready
            or self.entities.has_late
            or self._dispatcher.has_queued(Kind.ACTIVITY)
        )

    def hand_out_after_write(self) -> None:
        """Activities of what has just become durable, and turns that had to wait for it."""
        late, self._late_turns = self._late_turns, []
        for work in self._new_activities:
            self._dispatcher.queue(work)
        self._new_activities.clear()
        for work in late:
            self._dispatcher.queue(work)
        if late or self._ready or self.entities.has_late:
            self.hand_out_turns()
        if self._dispatcher.has_queued(Kind.ACTIVITY):
            self._dispatcher.pump(Kind.ACTIVITY, self._begin_activity)

    def _begin_turn(self, work: Work, stream: Stream) -> None:
        entry = work.entry
        if turns.next_turn_at(entry.instance, self._engine.now) != self._engine.now:
            entry.turn = None
            self.consider(entry)
            return
        is_warm = entry.warm_stream is stream and not _is_forgotten(entry.instance, stream)
        if is_warm and entry.turn_in_group:
            # The worker continues a run only after a turn whose commit it has been told of.
            self._late_turns.append(work)
            return
        try:
            rows = None if is_warm else self._engine.instances.history(entry)
        except StorageError as error:
            logger.warning("The history of %s could not be read: %s", entry.instance.instance_id, error)
            self._retry_turn(entry)
            return
        fetched = rows is not None and self._is_fetched(entry, stream)
        if fetched and entry.dirty:
            self._late_turns.append(work)
            return
        self._send_turn(work, stream, rows, fetched=fetched)

    def _is_fetched(self, entry: Entry, stream: Stream) -> bool:
        """Whether the worker is to fetch the past by itself."""
        return stream.takes_history_stream and entry.past_bytes > self._engine.options.history_stream_bytes

    def _retry_turn(self, entry: Entry) -> None:
        entry.turn = None
        at = self._engine.now + self._engine.options.retry_delay
        self._engine.alarms.set(entry.instance.key, at, partial(self._wake, *entry.name))

    def _send_turn(self, work: Work, stream: Stream, rows: list[HistoryRow] | None, *, fetched: bool) -> None:
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

    def _begin_activity(self, work: Work, stream: Stream) -> None:
        assert work.task is not None
        self._engine.touch(work.entry)
        token = self._engine.context.new_id()
        item = pb.WorkItem(completionToken=token)
        activities.activity_request(work.entry.instance, work.task, item.activityRequest)
        self._leases.grant(work, stream, token)
        self._send(stream, item)

    # -- leases -------------------------------------------------------------------------------

    def _end(self, lease: Lease) -> None:
        self._leases.end(lease)
        self._engine.touch(lease.work.entry)

    def _lose(self, lease: Lease) -> None:
        """The worker is gone or silent: deliver again, to another one if possible."""
        self._end(lease)
        if lease.void:
            return
        work = lease.work
        if work.task is None:
            self._release_turn(lease)
        else:
            work.avoid = lease.stream
            self._dispatcher.queue(work)

    def _release_turn(self, lease: Lease) -> None:
        entry = lease.work.entry
        turns.release_turn(entry.instance)
        entry.avoid = lease.stream
        self._turn_over(entry)

    def _turn_over(self, entry: Entry) -> None:
        entry.turn = None
        self._ready[entry] = None

    def _expect_expiry(self, lease: Lease) -> None:
        """See to the oldest turn in time; when the alarm goes off it is set anew for the one that is oldest then."""
        self._expiry_at = lease.deadline
        self._engine.alarms.set(_TURN_AGE, lease.deadline, self._expire_turns)

    def _expire_turns(self) -> None:
        self._expiry_at = 0
        while (lease := self._leases.oldest_turn()) is not None:
            if lease.deadline > self._engine.now:
                self._expect_expiry(lease)
                return
            logger.warning("A turn of %s was not answered in time", lease.work.entry.instance.instance_id)
            self._lose(lease)

    # -- answers ------------------------------------------------------------------------------

    def complete_turn(self, task_hub: str, response: pb.OrchestratorResponse) -> None:
        """Commit the answer to a turn; one that no longer counts is ignored.

        Raises:
            HubError: the answer makes no sense; the turn is delivered again after a pause.
        """
        lease = self._find_lease(Kind.TURN, task_hub, response)
        if lease is None:
            return
        if response.isPartial:
            lease.chunks += (response,)
            return
        self._end(lease)
        if lease.void:
            return
        entry = lease.work.entry
        if response.requiresHistory:
            self._send_again(lease)
            return
        self._commit_turn(lease, entry, put_together(lease.chunks, response))

    def _send_again(self, lease: Lease) -> None:
        """The worker does not have what it needs for the turn."""
        if lease.warm:
            lease.stream.forgotten_until = max(lease.stream.forgotten_until, lease.kept_since)
            turns.release_turn(lease.work.entry.instance)
            self._turn_over(lease.work.entry)
        else:
            # It had the whole history: sending that again at once would go on for ever.
            self._abandon_turn(lease)

    def _commit_turn(self, lease: Lease, entry: Entry, response: pb.OrchestratorResponse) -> None:
        instance = entry.instance
        generation = instance.execution_id
        events_before = instance.event_count
        try:
            commit = turns.complete_turn(instance, response, self._engine.context)
        except HubError:
            self._abandon_turn(lease)
            raise
        entry.turn = None
        entry.avoid = None
        entry.losses = 0
        entry.turn_in_group = True
        self._engine.commit(commit)
        self._warn_of_length(instance, events_before)
        self._ready[entry] = None
        stream = lease.stream
        if stream.takes_warm and stream.open and not instance.is_terminal and instance.execution_id == generation:
            entry.warm_stream = stream
            entry.warm_token = lease.token

    def complete_activity(self, task_hub: str, response: pb.ActivityResponse) -> None:
        """Commit the result of an activity; one that no longer counts is ignored."""
        lease = self._find_lease(Kind.ACTIVITY, task_hub, response)
        if lease is None:
            return
        self._end(lease)
        if lease.void:
            return
        self._commit_activity(lease.work, response)

    def _commit_activity(self, work: Work, response: pb.ActivityResponse) -> None:
        assert work.task is not None
        commit = activities.complete_activity(work.entry.instance, work.task.key, response, self._engine.context)
        self._engine.commit(commit)

    def _warn_of_length(self, instance: Instance, events_before: int) -> None:
        if events_before < self._engine.options.history_warning <= instance.event_count:
            logger.warning(
                "The history of %s has %d events; at %d it fails: use continue-as-new to begin a new generation",
                instance.instance_id,
                instance.event_count,
                self._engine.options.limits.history_events,
            )

    def abandon(self, kind: Kind, task_hub: str, token: str) -> None:
        """The worker gives a work item back. It is delivered again after a pause, elsewhere if possible."""
        lease = self._leases.find(kind, task_hub, token)
        if lease is None:
            return
        if not lease.stream.open:
            # A worker that shuts down gives back what it could not finish: no reason to wait.
            self._lose(lease)
            return
        self._end(lease)
        if lease.void:
            return
        if kind is Kind.TURN:
            self._abandon_turn(lease)
        else:
            self._abandon_activity(lease)

    def _abandon_turn(self, lease: Lease) -> None:
        entry = lease.work.entry
        turns.abandon_turn(entry.instance, self._engine.context)
        entry.avoid = lease.stream
        self._turn_over(entry)

    def _abandon_activity(self, lease: Lease) -> None:
        work = lease.work
        assert work.task is not None
        pause = min(_FIRST_BACK_OFF << min(work.abandoned, 6), _LONGEST_BACK_OFF)
        work.abandoned += 1
        work.avoid = lease.stream
        self._engine.alarms.set(work.task.key, self._engine.now + pause, partial(self._dispatcher.queue, work))

    def _find_lease(
        self, kind: Kind, task_hub: str, response: pb.OrchestratorResponse | pb.ActivityResponse
    ) -> Lease | None:
        """By token; some workers never send one, so an empty token means what is outstanding now."""
        if not response.completionToken:
            return self._outstanding(task_hub, response)
        return self._leases.find(kind, task_hub, response.completionToken)

    def _outstanding(self, task_hub: str, response: pb.OrchestratorResponse | pb.ActivityResponse) -> Lease | None:
        if isinstance(response, pb.OrchestratorResponse):
            return self.lease_of_turn(task_hub, response.instanceId)
        entry = self._engine.instances.cached((task_hub, response.instanceId))
        held = None if entry is None else entry.activities
        for work in held.values() if held else ():
            if work.task is not None and work.task.task_id == response.taskId and work.lease is not None:
                return work.lease
        return None


def _is_forgotten(instance: Instance, stream: Stream) -> bool:
    """Whether the worker most likely has let the run go that it kept, and sending the history costs little."""
    return instance.clock <= stream.forgotten_until and instance.event_count <= _CHEAP_REPLAY
