"""The engine: it owns the state of the hub and the writing side of the store; one thread at a time works on it.

That is the engine's own thread, or one that a worker of this process lends (:meth:`Engine.help`): waking a thread
costs more than most ticks do. Whoever holds the baton works; nobody waits for it except the engine's own thread.

One tick: run the commands that have gathered (client requests, workers' answers), fire what is due,
hand out orchestrator turns, write all commits as one group, and only then answer, wake waiters and
hand out activities. Turns may leave before the write because a turn has no effect until its answer
is committed, and that commit comes later. While the group is being written, workers already run
the next turns; what they answer meanwhile is the next group.

If the write fails, nothing of the group has happened: its callers are told UNAVAILABLE, the
instances it changed are forgotten and loaded again, and their leases are void.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from google.protobuf.message import Message as ProtoMessage

from durabletask_scheduler.alarms import Alarms
from durabletask_scheduler.clock import SystemClock, UnderWay
from durabletask_scheduler.group import AfterWrite, Group, logger, send_reply
from durabletask_scheduler.hub import delivery, views
from durabletask_scheduler.hub.entity_ids import is_entity
from durabletask_scheduler.hub.model import Commit, Context, HubError, Message
from durabletask_scheduler.hub.times import LATEST, SECOND
from durabletask_scheduler.ids import Ids
from durabletask_scheduler.inbox import Inbox
from durabletask_scheduler.instances import Entry, Instances, Name
from durabletask_scheduler.limits import ServiceOptions
from durabletask_scheduler.linger import Linger
from durabletask_scheduler.rpc import Reply
from durabletask_scheduler.storage import Storage, StorageError
from durabletask_scheduler.waiters import Waiters
from durabletask_scheduler.watch import WATCH_SECONDS, Watch
from durabletask_scheduler.workdesk import WorkDesk

_LONGEST_SLEEP = 60
_LOADS_PER_TICK = 256
_LONGEST_RETRY = 30 * SECOND
_MOST_ROUNDS = 64

Run = Callable[[], "ProtoMessage | None"]
Result = TypeVar("Result")


class _Lent(threading.local):
    """Attributes: quiet: what this thread submits does not wake the engine's."""

    quiet = False


# Made for every call and never changed. Not frozen: that makes making one three times as dear.
@dataclass(slots=True)
class Command:
    """Something to be done on the engine thread.

    Attributes:
        run: returns the response, which leaves after the write; None if it sees to the answer itself.
        reply: who asked; None for what nobody waits for.
    """

    run: Run
    reply: Reply | None = None


class Engine:
    """One engine over one store. Everything but :meth:`submit` and the lending belongs to whoever has the baton."""

    def __init__(self, storage: Storage, options: ServiceOptions) -> None:
        self.storage = storage
        self.options = options
        self.alarms = Alarms()
        self.waiters = Waiters(options.parked_waits)
        self.instances = Instances(
            storage, max_idle=options.idle_instances, max_history_bytes=options.history_cache_bytes
        )
        self.desk = WorkDesk(self)
        self._commands: Inbox[Command] = Inbox()
        # Reentrant, because a collection of garbage in the midst of it may end a call, which submits a command.
        self._gate = threading.RLock()
        self._accepting = False
        self._baton = threading.Lock()
        self._ended = False
        self._thread: threading.Thread | None = None
        self._lent = _Lent()
        self._standby: list[Callable[[], None]] = []
        self._watch = Watch()
        self._wakes_at = 0
        self._rest = 0.0
        self._lingers_for = 0.0
        self._progress = 0
        self._group = Group()
        self._touched: dict[Entry, None] = {}
        self._in_command: dict[Entry, None] = {}
        self._to_load: deque[Name] = deque()
        self._failures = 0
        self._last_key = 0
        self._linger = Linger()
        self._ids = Ids()
        self._hand_out_turns = Command(self.desk.hand_out_turns)
        self._hand_out_after_write = Command(self.desk.hand_out_after_write)
        self.now = 0
        self.context = Context(now=0, new_key=self._new_key, new_id=self._ids.next, limits=options.limits)

    # -- life cycle ---------------------------------------------------------------------------

    def start(self) -> None:
        """Take up the work of the store and begin to tick.

        Raises:
            StorageError: the store could not be read.
        """
        self._last_key = self.storage.last_key()
        self._advance_clock()
        for live in self.storage.live():
            name = (live.task_hub, live.instance_id)
            if live.wake_at == 0:
                self._to_load.append(name)
            elif live.wake_at > 0:
                self.alarms.set(live.key, live.wake_at, partial(self._to_load.append, name))
        for waiting in self.storage.waiting_entities():
            name = (waiting.task_hub, waiting.instance_id)
            self.alarms.set(name, waiting.wake_at, partial(self._to_load.append, name))
        self._accepting = True
        self.options.clock.attach(self._commands.ring)
        self._thread = threading.Thread(target=self._loop, name="durabletask-engine", daemon=True)
        self._thread.start()

    def stop(self, timeout: float) -> bool:
        """Finish the current group, then answer UNAVAILABLE to whoever is left; True once done."""
        with self._gate:
            self._accepting = False
        self._commands.ring()
        if self._thread is None:
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def submit(self, command: Command) -> None:
        """Any thread: have it run on the engine thread, soon and in order of submission."""
        with self._gate:
            if self._accepting:
                self._commands.put_quietly(command)
                if not self._lent.quiet:
                    self._call_for_work()
                return
        if command.reply is not None:
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
        return self._adopt(self.instances.load(name))

    def load_later(self, name: Name) -> None:
        """Take the instance up when the store can be read again."""
        self._to_load.append(name)
        self._pause_loading()

    def touch(self, entry: Entry) -> None:
        """Something about the entry may change, so that it may leave memory or has to stay."""
        self._touched[entry] = None
        self._in_command[entry] = None

    def commit(self, commit: Commit) -> None:
        """Take a commit into the group and deliver its messages, and theirs, into the same group."""
        self._apply(commit)
        pending = deque(commit.messages)
        while pending:
            # Each takes effect before the next is judged: two of them may make the same target.
            delivered = self._deliver(pending.popleft())
            self._apply(delivered)
            pending.extend(delivered.messages)

    def answer(self, reply: Reply, response: ProtoMessage | None, error: HubError | None = None) -> None:
        """Answer once the group is durable."""
        self._group.answers.append((reply, response, error))

    def after_write(self, reply: Reply, action: AfterWrite) -> None:
        """Do it once the group is written or given up, when memory and storage agree.

        Args:
            reply: who is told if it raises.
        """
        self._group.after.append((reply, action))

    # -- lent threads -------------------------------------------------------------------------

    @property
    def borrows(self) -> bool:
        """Whether lent threads are of use: with a clock that is not the system's, only the engine's thread moves it."""
        return isinstance(self.options.clock, SystemClock)

    def quietly(self, call: Callable[[], Result]) -> Result:
        """Make a call whose commands do not wake the engine's thread: the caller helps soon, or leaves them."""
        self._lent.quiet = True
        try:
            return call()
        finally:
            self._lent.quiet = False

    def stand_by(self, call: Callable[[], None], *, on: bool) -> None:
        """A thread that can be called to :meth:`help` instead of the engine's own; ``call`` must not block.

        Args:
            on: whether it can be called from now on.
        """
        with self._gate:
            self._standby = [other for other in self._standby if other != call] + [call] * on

    def _call_for_work(self) -> None:
        # Whoever has the baton looks for commands after letting it go.
        if self._baton.locked():
            return
        if not self._standby:
            self._commands.ring()
            return
        self._standby[-1]()
        self.leave()

    def help(self, between: Callable[[], bool]) -> None:
        """Work on what has gathered, on the caller's thread, unless another thread is at it: then that one sees to it.

        Args:
            between: called between handing out turns and writing, without the baton: what it answers shares the
                write. Returns whether there was anything to do.
        """
        for _ in range(_MOST_ROUNDS):
            if self._commands.empty() or not self._take(self._begin, blocking=False):
                return
            self.leave()
            while between() and self._take(self._begin, blocking=False):
                continue
            if not self._take(self._finish, blocking=False):
                return
        self._commands.ring()

    def leave(self) -> None:
        """Something is left undone, for the caller to come back to or, if that takes long, for the engine's thread."""
        if self._watch.leave():
            self._commands.ring()

    # -- the tick -----------------------------------------------------------------------------

    def _take(self, step: Callable[[], None], *, blocking: bool = True) -> bool:
        """Take the baton for one step. Whoever lets it go looks for new commands then: others may have left some.

        Returns:
            False if somebody else has it, or the engine has ended.
        """
        if not self._baton.acquire(blocking=blocking):
            return False
        try:
            if self._ended:
                return False
            step()
            return True
        except BaseException:
            self._break_down()
            return False
        finally:
            self._baton.release()

    def _loop(self) -> None:
        try:
            while not self._ended:
                # What was left while this thread had the baton is not called for by anybody.
                patience = self._rest if self._commands.empty() else 0.0
                if self._commands.wait(patience) or not self._others_see_to_it():
                    self._round()
        except BaseException:
            self._take(self._break_down)

    def _others_see_to_it(self) -> bool:
        """The wait was over without a call: whether lent threads go on with what they have left."""
        if not self._watch.on or self.options.clock.now() >= self._wakes_at:
            return False
        return self._watch.is_well(self._progress, at_rest=self._commands.empty() and not self._group.has_work)

    def _round(self) -> None:
        """One tick on the engine's own thread."""
        self._rest = 0.0
        self._take(self._begin_round)
        if self._rest > 0:
            return
        if self._lingers_for > 0:
            self._linger_for_answers(self._lingers_for)
        self._take(self._end_round)

    def _begin_round(self) -> None:
        self._wakes_at = 0
        self._watch.begin()
        self._begin()
        self._lingers_for = self._linger.patience(len(self._group.commits), self.desk.turns_out)
        if self._lingers_for > 0 and self._accepting and self.desk.answers_come_by_themselves:
            # Those threads will write the group, unless they are held up.
            self._watch.leave()
            self._watch.begin()
            self._rest = self._patience()

    def _end_round(self) -> None:
        self._finish()
        if not self._accepting and self._commands.empty():
            self._shut_down()
            return
        self._rest = self._patience()

    def _patience(self) -> float:
        """For how many seconds this thread may sleep."""
        if self._to_load or not self._commands.empty():
            self._wakes_at = 0
            return 0.0
        due = self.alarms.next_at()
        patience = min(self.options.clock.patience(due, self._under_way), _LONGEST_SLEEP)
        self._wakes_at = min(due or LATEST, self.now + _LONGEST_SLEEP * SECOND)
        return min(patience, WATCH_SECONDS) if self._watch.on else patience

    def _under_way(self) -> UnderWay:
        turns, activities = self.desk.in_flight()
        return UnderWay(turns, activities, len(self.waiters))

    def _begin(self) -> None:
        self._progress += 1
        self._advance_clock()
        self._run_gathered()
        self._fire_due()
        self._load_some()
        self._execute(self._hand_out_turns)

    def _finish(self) -> None:
        self._progress += 1
        self._write()
        self._execute(self._hand_out_after_write)
        self._settle()
        if self._to_load or (self.alarms.next_at() or LATEST) < self._wakes_at:
            self._commands.ring()

    def _run_gathered(self) -> None:
        for _ in range(self.options.commands_per_tick):
            if self._commands.empty():
                return
            self._execute(self._commands.get_nowait())

    def _linger_for_answers(self, patience: float) -> None:
        """Let the answers to the turns that have just left share the write; see ``linger``."""
        turns_out = self.desk.turns_out
        end = time.monotonic() + patience
        while self.desk.turns_out and self._accepting and (left := end - time.monotonic()) > 0:
            self._commands.wait(left)
            self._take(self._run_gathered)
        self._linger.waited(answered=self.desk.turns_out < turns_out)
        self._take(partial(self._execute, self._hand_out_turns))

    def _execute(self, command: Command) -> None:
        group, before = self._group, len(self._group.commits)
        self._in_command.clear()
        try:
            response = command.run()
        except HubError as error:
            self._refuse(command, before, error)
        except StorageError as error:
            self._refuse(command, before, _unavailable(error))
        except Exception as error:
            logger.exception("An unexpected error in the scheduler; what was under way is undone")
            if command.reply is not None:
                send_reply(command.reply, None, _internal(error))
            group.changed.update(self._in_command)
            self._give_up(HubError("UNAVAILABLE", "the scheduler had to undo this because of an error; try again"))
        else:
            if command.reply is not None and response is not None:
                self.answer(command.reply, response)

    def _refuse(self, command: Command, commits_before: int, error: HubError) -> None:
        """A refusal changes nothing, unless it came after a commit of the same command."""
        if command.reply is not None:
            self.answer(command.reply, None, error)
        if len(self._group.commits) != commits_before:
            self._give_up(_unavailable(error))

    def _fire_due(self) -> None:
        while (action := self.alarms.pop_due(self.now)) is not None:
            self._execute(Command(action))

    def _load_some(self) -> None:
        """Take up instances that have work since before a restart or a failed write."""
        for _ in range(min(len(self._to_load), _LOADS_PER_TICK)):
            if self._to_load:
                self._execute(Command(partial(self._take_up, self._to_load.popleft())))

    def _take_up(self, name: Name) -> None:
        if is_entity(name[1]):
            self.desk.entities.take_up(name)
            return
        entry = self.instances.cached(name)
        if entry is not None:
            self.desk.consider(entry)
            return
        try:
            self._adopt(self.instances.load(name))
        except StorageError as error:
            logger.warning("An instance could not be loaded and is tried again later: %s", error)
            self.load_later(name)

    def _adopt(self, entry: Entry | None) -> Entry | None:
        if entry is not None:
            self.touch(entry)
            self.desk.adopt(entry)
        return entry

    def _pause_loading(self) -> None:
        waiting = tuple(self._to_load)
        self._to_load.clear()
        delay = min(self.options.retry_delay << min(self._failures, 10), _LONGEST_RETRY)
        self._failures += 1
        self.alarms.set(object(), self.now + delay, partial(self._to_load.extend, waiting))

    def _write(self) -> None:
        group = self._group
        self.desk.turns_left_behind()
        if group.commits:
            begun = time.monotonic()
            try:
                self.storage.write(group.commits)
            except Exception as error:
                # Whatever it was: storage is the truth, so look there again.
                logger.error("A group of %d commits could not be written: %s", len(group.commits), error)
                self._give_up(_unavailable(error))
                return
            self._linger.wrote(time.monotonic() - begun)
            self._failures = 0
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
        for entry in group.changed:
            self.desk.forget(entry)
            self.instances.drop(entry)
            self._to_load.append(entry.name)
        self._to_load.extend(self.desk.entities.given_up())
        if self._to_load:
            self._pause_loading()
        group.fail(error)
        self._run_after(group)

    def _settle(self) -> None:
        touched, self._touched = self._touched, {}
        for entry in touched:
            self.instances.settle(entry)
        self.instances.shrink()
        self.desk.entities.settle()

    def _break_down(self) -> None:
        """An unexpected error: what is in memory cannot be trusted any more."""
        logger.critical("The engine stopped because of an unexpected error", exc_info=True)
        with self._gate:
            self._accepting = False
        self.options.on_failure()
        self._shut_down()
        self._commands.ring()

    def _shut_down(self) -> None:
        if self._ended:
            return
        self._ended = True
        error = _stopped()
        # After an unexpected error there is a group that will never be written.
        self._group.fail(error)
        for reply, _ in self._group.after:
            send_reply(reply, None, error)
        self.waiters.fail_all(error)
        self.desk.close_streams()
        try:
            while True:
                command = self._commands.get_nowait()
                if command.reply is not None:
                    send_reply(command.reply, None, error)
        except queue.Empty:
            pass

    # -- commits ------------------------------------------------------------------------------

    def _apply(self, commit: Commit) -> None:
        self._group.commits.append(commit)
        for key in commit.deleted:
            entry = self._change(key)
            self.desk.forget(entry)
            self.instances.delete(entry)
        for key in commit.history_dropped:
            entry = self._change(key)
            entry.cool()
            self.instances.restart_history(entry)
        for instance in commit.created:
            self.instances.create(instance)
            self._change(instance.key)
        for key in commit.updated:
            self._change(key)
        for row in commit.history:
            self.instances.append_history(self._change(row.instance_key), row)
        for inbound in commit.inbox_added:
            self._change(inbound.instance_key)
        for instance_key, _ in commit.opened:
            self._change(instance_key)
        if commit.entities is not None:
            self.desk.entities.take(commit.entities)
        self.desk.take(commit)
        self._group.finished.extend(commit.finished)

    def _change(self, key: int) -> Entry:
        entry = self.instances.by_key(key)
        if entry is None:
            raise LookupError(f"a commit changes instance {key}, which is not in memory")
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
        self.now = self.options.clock.now()
        self.context = Context(self.now, self._new_key, self._ids.next, self.options.limits)


def _unavailable(error: Exception) -> HubError:
    return HubError("UNAVAILABLE", f"the store could not do it now and nothing was changed; try again ({error})")


def _internal(error: Exception) -> HubError:
    return HubError("INTERNAL", f"unexpected error in the scheduler: {error!r}")


def _stopped() -> HubError:
    return HubError("UNAVAILABLE", "the scheduler is not running; try again when it is")
