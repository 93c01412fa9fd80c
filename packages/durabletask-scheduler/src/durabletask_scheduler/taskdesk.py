"""The open tasks of instances: activities, which workers execute, and timers, which fire by themselves.

An activity leaves only once the commit that schedules it is in storage. Its lease has no maximum age.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from durabletask_proto import orchestrator_service_pb2 as pb
from google.protobuf.message import Message

from durabletask_scheduler import undeliverable
from durabletask_scheduler.dispatch import Dispatcher, Kind, Lease, Route, Stream, Work, WorkOf
from durabletask_scheduler.group import logger
from durabletask_scheduler.hub import activities, turns
from durabletask_scheduler.hub.model import Commit, HistoryRow, OpenTask, TaskKind
from durabletask_scheduler.hub.times import SECOND
from durabletask_scheduler.instances import Entry
from durabletask_scheduler.leases import Leases

if TYPE_CHECKING:
    from durabletask_scheduler.engine import Engine

_FIRST_BACK_OFF = SECOND
_LONGEST_BACK_OFF = 60 * SECOND


class TaskDesk:
    """Belongs to the engine.

    Args:
        send: sends a work item on a stream; does not raise.
        fired: called with the instance of a timer that has fired.
    """

    def __init__(
        self,
        engine: Engine,
        dispatcher: Dispatcher,
        send: Callable[[Stream, Message], None],
        fired: Callable[[Entry], None],
    ) -> None:
        self._engine = engine
        self._dispatcher = dispatcher
        self._send = send
        self._fired = fired
        self._leases: Leases[Entry] = Leases()
        self._activities: dict[int, Work] = {}
        self._new: list[Work] = []

    # -- open tasks ---------------------------------------------------------------------------

    def expect_activity(self, entry: Entry, task: OpenTask) -> None:
        """Hand the activity out after the next write."""
        assert task.event is not None
        scheduled = task.event.taskScheduled
        route = Route(Kind.ACTIVITY, entry.instance.task_hub, scheduled.name, scheduled.version.value)
        work: Work = WorkOf(route, entry, task)
        if entry.activities is None:
            entry.activities = {}
        entry.activities[task.key] = work
        self._activities[task.key] = work
        self._new.append(work)

    def expect_timer(self, task_hub: str, instance_id: str, task: OpenTask) -> None:
        """Fire the timer when it is due."""
        self._engine.alarms.set(task.key, task.due_at, partial(self._timer_due, task_hub, instance_id, task.key))

    def adopt(self, entry: Entry) -> None:
        """Expect the activities and timers of an instance that has just been loaded.

        Raises:
            StorageError: its activities could not be read.
        """
        rows: dict[int, HistoryRow | None] = {}
        for task in list(entry.instance.open_tasks.values()):
            if task.kind is TaskKind.TIMER:
                self.expect_timer(*entry.name, task)
            elif task.kind is TaskKind.ACTIVITY:
                if task.event is None:
                    task.event = self._read_event(task, rows)
                if task.event is not None:
                    self.expect_activity(entry, task)

    def close(self, task_key: int) -> None:
        """The task is over, or nobody needs its result any more."""
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

    def forget(self, entry: Entry) -> None:
        """The entry leaves memory: its activities are no longer wanted from it. Timers load the instance when due."""
        for key in list(entry.activities or ()):
            self.close(key)

    def delete(self, entry: Entry) -> None:
        """The instance is deleted: its timers are pointless, too."""
        self._cancel_timers(entry.instance.open_tasks.values())

    def undo(self, commit: Commit) -> None:
        """The commit will never be written."""
        self._cancel_timers([task for _, task in commit.opened])

    def _cancel_timers(self, tasks: Iterable[OpenTask]) -> None:
        for task in tasks:
            if task.kind is TaskKind.TIMER:
                self._engine.alarms.cancel(task.key)

    def _read_event(self, task: OpenTask, rows: dict[int, HistoryRow | None]) -> pb.HistoryEvent | None:
        if task.history_key not in rows:
            rows[task.history_key] = self._engine.storage.history_row(task.history_key)
        row = rows[task.history_key]
        for event in pb.HistoryChunk.FromString(row.events).events if row is not None else ():
            if event.eventId == task.task_id and event.HasField("taskScheduled"):
                return event
        logger.error("The store has open task %d but not its history event; the activity cannot run", task.key)
        return None

    def _timer_due(self, task_hub: str, instance_id: str, task_key: int) -> None:
        entry = self._engine.loading.find(task_hub, instance_id)
        if entry is not None:
            turns.fire_timer(entry.instance, task_key, self._engine.context)
            self._fired(entry)

    # -- handing out activities ---------------------------------------------------------------

    @property
    def waits_for_write(self) -> bool:
        """Whether :meth:`hand_out` has anything to do once the group is written."""
        return bool(self._new) or self._dispatcher.has_queued(Kind.ACTIVITY)

    def hand_out(self) -> None:
        """Hand out the activities of what has just become durable, and those that waited for a worker."""
        for work in self._new:
            self._dispatcher.queue(work)
        self._new.clear()
        self._dispatcher.pump(Kind.ACTIVITY, self._begin)

    def _begin(self, work: Work, stream: Stream) -> None:
        assert work.task is not None
        self._engine.touch(work.entry)
        token = self._engine.context.new_id()
        item = pb.WorkItem(completionToken=token)
        activities.activity_request(work.entry.instance, work.task, item.activityRequest)
        self._leases.grant(work, stream, token)
        self._send(stream, item)

    # -- activities in flight -----------------------------------------------------------------

    def lose(self, lease: Lease) -> None:
        """The worker is gone: deliver again, to another one if possible."""
        if self._end(lease):
            lease.work.avoid = lease.stream
            self._dispatcher.queue(lease.work)

    def lose_with_stream(self, lease: Lease) -> None:
        """The stream broke. What is lost with every stream that it is sent on fails; see ``undeliverable``."""
        work = lease.work
        assert work.task is not None
        size = 0 if lease.void else activities.activity_request(work.entry.instance, work.task).ByteSize()
        if not undeliverable.lost_too_often(work, size, self._engine.options.worker_losses):
            self.lose(lease)
        elif self._end(lease):
            self._commit(work, undeliverable.activity_failed(size, work.losses))

    def complete(self, task_hub: str, response: pb.ActivityResponse) -> None:
        """Commit the result of an activity; one that no longer counts is ignored."""
        token = response.completionToken
        # Some workers never send a token: theirs is the answer to what is outstanding now.
        lease = self._leases.find(task_hub, token) if token else self._outstanding(task_hub, response)
        if lease is not None and self._end(lease):
            self._commit(lease.work, response)

    def abandon(self, task_hub: str, token: str) -> None:
        """The worker gives an activity back. It is delivered again after a pause, elsewhere if possible."""
        lease = self._leases.find(task_hub, token)
        if lease is None:
            return
        if not lease.stream.open:
            # A worker that shuts down gives back what it could not finish: no reason to wait.
            self.lose(lease)
        elif self._end(lease):
            self._pause(lease)

    def _commit(self, work: Work, response: pb.ActivityResponse) -> None:
        assert work.task is not None
        commit = activities.complete_activity(work.entry.instance, work.task.key, response, self._engine.context)
        self._engine.commit(commit)

    def _pause(self, lease: Lease) -> None:
        work = lease.work
        assert work.task is not None
        pause = min(_FIRST_BACK_OFF << min(work.abandoned, 6), _LONGEST_BACK_OFF)
        work.abandoned += 1
        work.avoid = lease.stream
        self._engine.alarms.set(work.task.key, self._engine.now + pause, partial(self._dispatcher.queue, work))

    def _outstanding(self, task_hub: str, response: pb.ActivityResponse) -> Lease | None:
        entry = self._engine.instances.cached((task_hub, response.instanceId))
        held = None if entry is None else entry.activities
        for work in held.values() if held else ():
            if work.task is not None and work.task.task_id == response.taskId and work.lease is not None:
                return work.lease
        return None

    def _end(self, lease: Lease) -> bool:
        """The worker has it no longer; whether its answer counts."""
        self._leases.end(lease)
        self._engine.touch(lease.work.entry)
        return not lease.void
