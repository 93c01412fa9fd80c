"""The engine: it owns the state of the hub and the writing side of the store; one thread at a time works on it.

Which one that is, ``shifts`` decides.

One tick: run the commands that have gathered (client requests, workers' answers), fire what is due,
hand out orchestrator turns, write all commits as one group, and only then answer, wake waiters and
hand out activities. Turns may leave before the write because a turn has no effect until its answer
is committed, and that commit comes later. While the group is being written, workers already run
the next turns; what they answer meanwhile is the next group.

If the write fails, nothing of the group has happened: its callers are told UNAVAILABLE, the
instances it changed are forgotten and loaded again, and their leases are void.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from durabletask_proto.ids import random_id
from google.protobuf.message import Message as ProtoMessage

from durabletask_scheduler.alarms import Alarms
from durabletask_scheduler.chances import Chances
from durabletask_scheduler.clock import UnderWay
from durabletask_scheduler.group import SMALL_GROUP, AfterWrite, Group, logger, send_reply
from durabletask_scheduler.hub import delivery, views
from durabletask_scheduler.hub.entity_ids import is_entity
from durabletask_scheduler.hub.model import Commit, Context, HubError, Message
from durabletask_scheduler.hub.times import MILLISECOND, SECOND
from durabletask_scheduler.instances import Entry, Instances, Name
from durabletask_scheduler.limits import ServiceOptions
from durabletask_scheduler.linger import Linger
from durabletask_scheduler.loading import Loading
from durabletask_scheduler.rpc import Reply
from durabletask_scheduler.shared_core import NO_CORE, SHARED_CORE
from durabletask_scheduler.shifts import Shifts
from durabletask_scheduler.storage import Storage, StorageError, StorageLost
from durabletask_scheduler.waiters import Waiters
from durabletask_scheduler.workdesk import WorkDesk

# Fewer than so many take hardly more statements one by one.
_LONGEST_WAIT = 2 * MILLISECOND
_CONFIRM = "confirm"

Run = Callable[[], "ProtoMessage | None"]


# Made for every call and never changed. Not frozen: that makes making one three times as dear.
@dataclass(slots=True)
class Command:
    """Something to be done in the engine.

    Attributes:
        run: returns the response, which leaves after the write; None if it sees to the answer itself.
        reply: who asked; None for what nobody waits for.
        patient: whoever asked does not mind if the write, and so the answer, comes a few milliseconds later.
        concerns: the instance that it is about, if any: those of several commands are loaded together.
    """

    run: Run
    reply: Reply | None = None
    patient: bool = False
    concerns: Name | None = None


class Engine:
    """One engine over one store. Everything but :meth:`submit` belongs to whoever has the baton of its shifts."""

    def __init__(self, storage: Storage, options: ServiceOptions) -> None:
        self.storage = storage
        self.options = options
        self.alarms = Alarms()
        self.waiters = Waiters(options.parked_waits)
        self.instances = Instances(
            storage, max_idle=options.idle_instances, max_history_bytes=options.history_cache_bytes
        )
        self.shifts = Shifts(self, options.clock, SHARED_CORE if options.shares_core else NO_CORE)
        self.desk = WorkDesk(self)
        self.loading = Loading(self)
        self._group = Group()
        self._touched: dict[Entry, None] = {}
        self._in_command: dict[Entry, None] = {}
        # Commands that the tick has not come to yet.
        self._taken: deque[Command] = deque()
        self._last_key = 0
        # Entities may do I/O, turns may not: whether it pays to wait for the ones says nothing about the others.
        self._turn_linger, self._batch_linger = Linger(), Linger()
        self._company = Chances()
        self._hand_out_turns = Command(self.desk.hand_out_turns)
        self._hand_out_after_write = Command(self.desk.hand_out_after_write)
        self.now = 0
        self.context = Context(now=0, new_key=self._new_key, new_id=random_id, limits=options.limits)

    # -- life cycle ---------------------------------------------------------------------------

    def start(self) -> None:
        """Take up the work of the store and begin to tick.

        Raises:
            StorageError: the store could not be read.
        """
        self._last_key = self.storage.last_key()
        self._advance_clock()
        self.loading.expect_stored_work()
        self._expect_confirmation()
        self.shifts.start()

    def stop(self, timeout: float) -> bool:
        """Finish the current group, then answer UNAVAILABLE to whoever is left; True once done."""
        return self.shifts.stop(timeout)

    def submit(self, command: Command) -> None:
        """Any thread: have it run soon and in order of submission."""
        if not self.shifts.submit(command) and command.reply is not None:
            send_reply(command.reply, None, _stopped())

    # -- what commands may use ----------------------------------------------------------------

    def find(self, task_hub: str, instance_id: str) -> Entry | None:
        """The instance, from memory or storage.

        Raises:
            StorageError: it is not in memory and could not be read.
        """
        name = (task_hub, instance_id)
        entry = self.instances.cached(name)
        if entry is not None:
            self.touch(entry)
            return entry
        return self.adopt(self.instances.load(name))

    def adopt(self, entry: Entry | None) -> Entry | None:
        """Take up the work of an instance that has just been loaded.

        Raises:
            StorageError: its activities could not be read.
        """
        if entry is not None:
            self.touch(entry)
            self.desk.adopt(entry)
        return entry

    def touch(self, entry: Entry) -> None:
        """Something about the entry may change, so that it may leave memory or has to stay."""
        self._touched[entry] = None
        self._in_command[entry] = None

    def commit(self, commit: Commit, *, no_hurry: bool = False) -> None:
        """Take a commit into the group and deliver its messages, and theirs, into the same group.

        Args:
            no_hurry: a client asks for it: what it makes possible may be handed out together with more of that kind.
        """
        self._apply(commit, no_hurry=no_hurry and self.desk.burst.goes_on(self.now))
        if not commit.messages:
            return
        pending = deque(commit.messages)
        while pending:
            # Each takes effect, with all that it brings about, before the next is judged: two of them may make the same
            # target, and a lock request that is passed on must not be overtaken by the end of its owner.
            delivered = self._deliver(pending.popleft())
            self._apply(delivered)
            pending.extendleft(reversed(delivered.messages))

    def answer(self, reply: Reply, response: ProtoMessage | None, error: HubError | None = None) -> None:
        """Answer once the group is durable."""
        self._group.answers.append((reply, response, error))

    def after_write(self, reply: Reply, action: AfterWrite) -> None:
        """Do it once the group is written or given up, when memory and storage agree.

        Args:
            reply: who is told if it raises.
        """
        self._group.after.append((reply, action))
        self._is_missed(by_a_change=False)

    # -- the tick -----------------------------------------------------------------------------

    def begin(self) -> None:
        """Run the commands that have gathered, fire what is due, hand out turns."""
        self._advance_clock()
        self.run_commands()
        if self.alarms.may_be_due(self.now):
            self._fire_due()
        if self.loading.is_due:
            self.loading.load_some()
        if self.desk.has_turns:
            self.hand_out_turns()

    def run_commands(self) -> None:
        taken = self._taken
        taken.extend(self.shifts.gathered(self.options.commands_per_tick))
        self.loading.load_concerned(taken)
        while taken:
            self._execute(taken.popleft())
        self.instances.forget_absent()

    def hand_out_turns(self) -> None:
        self._execute(self._hand_out_turns)

    def finish(self) -> None:
        """Write the group, answer, hand out activities."""
        self._write()
        self._execute(self._hand_out_after_write)
        self._settle()
        if self.loading.is_due:
            self.shifts.call_own()

    def due(self) -> int | None:
        """When the next alarm goes off."""
        return self.alarms.next_at()

    def patience(self) -> float:
        """For how many seconds nothing is to be done but what comes."""
        if self.loading.is_due:
            return 0.0
        return self.options.clock.patience(self.alarms.next_at(), self._under_way)

    @property
    def has_work(self) -> bool:
        return self._group.has_work

    @property
    def gathers_few(self) -> bool:
        """Whether the group that is to be written is small so far."""
        return len(self._group.commits) <= SMALL_GROUP

    def puts_off_write(self) -> bool:
        """Leave the group for what comes next, if nobody misses it yet and that has paid of late.

        What it holds then is answers to work items that ended something for which nobody waits, or nobody yet. If the
        process dies before the write, they are executed again, as if it had died a moment earlier.
        """
        group = self._group
        if not (
            group.commits
            and not group.is_urgent
            and self.now - group.begun < _LONGEST_WAIT
            and self.shifts.borrows
            and not self.desk.waits_for_write
            and not any(map(self.waiters.wait_for, group.finished))
        ):
            return False
        group.is_put_off = group.is_put_off or self._company.worth_trying()
        return group.is_put_off

    def _is_missed(self, *, by_a_change: bool) -> None:
        """Somebody waits for the group: the next change, for which waiting has paid, or one who asks for a state."""
        group = self._group
        if group.is_put_off and not group.is_urgent:
            self._company.tried(paid=by_a_change)
        group.is_urgent = True

    @property
    def linger(self) -> Linger:
        return self._turn_linger if self.desk.turns_out else self._batch_linger

    @property
    def lingers_for(self) -> float:
        """For how many seconds it pays to wait for the answers to turns and batches before the group is written."""
        return self.linger.patience(len(self._group.commits), self.turns_out)

    @property
    def turns_out(self) -> int:
        """How many turns and batches have left since the last write and are not answered."""
        return self.desk.turns_out + self.desk.batches_out

    @property
    def answers_come_by_themselves(self) -> bool:
        return self.desk.answers_come_by_themselves

    def _under_way(self) -> UnderWay:
        turns, activities = self.desk.streams.in_flight()
        return UnderWay(turns, activities, len(self.waiters))

    def do(self, action: Run) -> None:
        """Do something that nobody waits for; what it raises is dealt with."""
        self._execute(Command(action))

    def _execute(self, command: Command) -> None:
        group, before = self._group, len(self._group.commits)
        self._in_command.clear()
        try:
            response = command.run()
        except HubError as error:
            self._refuse(command, before, error)
        except StorageLost:
            self._answer(command, None, _stopped())
            raise
        except StorageError as error:
            self._refuse(command, before, _unavailable(error))
        except Exception as error:
            logger.exception("An unexpected error in the scheduler; what was under way is undone")
            if command.reply is not None:
                send_reply(command.reply, None, _internal(error))
            group.changed.update(self._in_command)
            self._give_up(HubError("UNAVAILABLE", "the scheduler had to undo this because of an error; try again"))
        else:
            if response is not None:
                self._answer(command, response)

    def _answer(self, command: Command, response: ProtoMessage | None, error: HubError | None = None) -> None:
        if command.reply is None:
            return
        self.answer(command.reply, response, error)
        if not command.patient:
            self._is_missed(by_a_change=True)

    def _refuse(self, command: Command, commits_before: int, error: HubError) -> None:
        """A refusal changes nothing, unless it came after a commit of the same command."""
        # The traceback knows the group, which is to know the error.
        self._answer(command, None, error.with_traceback(None))
        if len(self._group.commits) != commits_before:
            self._give_up(_unavailable(error))

    def _fire_due(self) -> None:
        while (action := self.alarms.pop_due(self.now)) is not None:
            self.do(action)

    def _expect_confirmation(self) -> None:
        if self.storage.confirm_seconds:
            self.alarms.set(_CONFIRM, self.now + self.storage.confirm_seconds * SECOND, self._confirm)

    def _confirm(self) -> None:
        """See whether the store is still this scheduler's."""
        self._expect_confirmation()
        try:
            self.storage.confirm()
        except StorageLost:
            raise
        except StorageError as error:
            logger.warning("The store cannot be reached now: %s", error)

    def _write(self) -> None:
        group = self._group
        self.desk.turns_left_behind()
        if group.commits:
            begun = time.monotonic()
            try:
                self.storage.write(group.commits)
            except StorageLost:
                raise
            except Exception as error:
                # Whatever it was: storage is the truth, so look there again.
                logger.error("A group of %d commits could not be written: %s", len(group.commits), error)
                self._give_up(_unavailable(error))
                return
            taken = time.monotonic() - begun
            if self.storage.waits_for_disk:
                self.shifts.core.waited_for_disk()
            self._turn_linger.wrote(taken)
            self._batch_linger.wrote(taken)
            self.loading.store_works()
        self._group = Group()
        for entry in group.changed:
            self.instances.entry_written(entry)
        self.instances.group_ended()
        self.desk.entities.written()
        for reply, response, error_ in group.answers:
            send_reply(reply, response, error_)
        self._run_after(group)
        for instance in group.finished:
            self.waiters.wake(instance)

    def _run_after(self, group: Group) -> None:
        for reply, action in group.after:
            try:
                action()
            except HubError as error:
                send_reply(reply, None, error)
            except StorageError as error:
                send_reply(reply, None, _unavailable(error))
            except Exception as error:
                logger.exception("An unexpected error in the scheduler while reading for a caller")
                send_reply(reply, None, _internal(error))

    def _give_up(self, error: HubError) -> None:
        """Nothing of the group has happened: forget what it changed, take it up again from storage."""
        group, self._group = self._group, Group()
        self.instances.group_ended()
        for commit in group.commits:
            self.desk.tasks.undo(commit)
        for entry in group.changed:
            self.desk.forget(entry)
            self.instances.drop(entry)
        self.loading.load_later([*(entry.name for entry in group.changed), *self.desk.entities.given_up()])
        group.fail(error)
        self._run_after(group)

    def _settle(self) -> None:
        touched, self._touched = self._touched, {}
        for entry in touched:
            self.instances.settle(entry)
        self.instances.shrink()
        self.desk.entities.settle()

    def break_down(self) -> None:
        """Called for an exception that was not expected: what is in memory cannot be trusted any more."""
        error = sys.exc_info()[1]
        if isinstance(error, StorageLost):
            logger.critical("The engine stopped: %s", error)
        else:
            logger.critical("The engine stopped because of an unexpected error", exc_info=True)
        self.options.on_failure()

    def shut_down(self) -> None:
        """Nothing more will be done: answer whoever is left."""
        error = _stopped()
        # After an unexpected error there is a group that will never be written.
        self._group.fail(error)
        for reply, _ in self._group.after:
            send_reply(reply, None, error)
        self.waiters.fail_all(error)
        self.desk.streams.close()
        for command in (*self._taken, *self.shifts.gathered(sys.maxsize)):
            if command.reply is not None:
                send_reply(command.reply, None, error)

    # -- commits ------------------------------------------------------------------------------

    def _apply(self, commit: Commit, *, no_hurry: bool = False) -> None:
        group = self._group
        if not group.commits:
            group.begun = self.now
        group.commits.append(commit)
        if commit.deleted or commit.history_dropped:
            self._forget(commit)
        for instance in commit.created:
            self.instances.create(instance)
            self._change(instance.key)
        changed = set(commit.updated)
        if commit.inbox_added:
            changed.update([row.instance_key for row in commit.inbox_added])
        if commit.opened:
            changed.update([key for key, _ in commit.opened])
        for key in changed:
            self._change(key)
        for row in commit.history:
            self.instances.append_history(self._change(row.instance_key), row)
        if commit.entities is not None:
            self.desk.entities.take(commit.entities, no_hurry=no_hurry)
        self.desk.take(commit, no_hurry=no_hurry)
        group.finished += commit.finished

    def _forget(self, commit: Commit) -> None:
        """What of the instances in memory the commit takes back."""
        for key in commit.deleted:
            entry = self._change(key)
            self.desk.tasks.delete(entry)
            self.desk.forget(entry)
            self.instances.delete(entry)
        for key in commit.history_dropped:
            entry = self._change(key)
            entry.cool()
            entry.turn_route = None
            self.instances.restart_history(entry)

    def _change(self, key: int) -> Entry:
        entry = self.instances.by_key(key)
        if entry is None:
            raise LookupError(f"a commit changes instance {key}, which is not in memory")
        if entry.dirty:
            return entry
        entry.dirty = True
        self._group.changed[entry] = None
        self._touched[entry] = None
        return entry

    def _deliver(self, message: Message) -> Commit:
        if is_entity(message.target):
            return self.desk.entities.deliver(message)
        entry = self.find(message.task_hub, message.target)
        if entry is None:
            return delivery.deliver(None, message, self.context)
        instance = entry.instance
        if delivery.needs_history(instance, message):
            history = views.full_history(instance, self.instances.history(entry))
            return delivery.deliver(instance, message, self.context, history)
        return delivery.deliver(instance, message, self.context)

    def _new_key(self) -> int:
        self._last_key += 1
        return self._last_key

    def _advance_clock(self) -> None:
        self.now = self.context.now = self.options.clock.now()


def _unavailable(error: Exception) -> HubError:
    return HubError("UNAVAILABLE", f"the store could not do it now and nothing was changed; try again ({error})")


def _internal(error: Exception) -> HubError:
    return HubError("INTERNAL", f"unexpected error in the scheduler: {error!r}")


def _stopped() -> HubError:
    return HubError("UNAVAILABLE", "the scheduler is not running; try again when it is")
