"""The engine: one thread that owns the state of the hub and the writing side of the store.

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

from google.protobuf.message import Message as ProtoMessage

from durabletask_scheduler.alarms import Alarms
from durabletask_scheduler.clock import UnderWay
from durabletask_scheduler.group import AfterWrite, Group, logger, send_reply
from durabletask_scheduler.hub import delivery, views
from durabletask_scheduler.hub.entity_ids import is_entity
from durabletask_scheduler.hub.model import Commit, Context, HubError, Message
from durabletask_scheduler.hub.times import SECOND
from durabletask_scheduler.ids import Ids
from durabletask_scheduler.inbox import Inbox
from durabletask_scheduler.instances import Entry, Instances, Name
from durabletask_scheduler.limits import ServiceOptions
from durabletask_scheduler.linger import Linger
from durabletask_scheduler.rpc import Reply
from durabletask_scheduler.storage import Storage, StorageError
from durabletask_scheduler.waiters import Waiters
from durabletask_scheduler.workdesk import WorkDesk

_LONGEST_SLEEP = 60.0
_LOADS_PER_TICK = 256
_LONGEST_RETRY = 30 * SECOND

Run = Callable[[], "ProtoMessage | None"]


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
    """One engine over one store. Everything but :meth:`submit` belongs to its thread."""

    def __init__(self, storage: Storage, options: ServiceOptions) -> None:
        self.storage = storage
        self.options = options
        self.alarms = Alarms()
        self.waiters = Waiters(options.parked_waits)
        self.instances = Instances(
            storage, max_idle=options.idle_instances, max_history_bytes=options.history_cache_bytes
        )
        self.desk = WorkDesk(self)
        self._commands: Inbox[Command | None] = Inbox()
        self._gate = threading.Lock()
        self._accepting = False
        self._thread: threading.Thread | None = None
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
        self.options.clock.attach(partial(self.submit, Command(_nothing)))
        self._thread = threading.Thread(target=self._loop, name="durabletask-engine", daemon=True)
        self._thread.start()

    def stop(self, timeout: float) -> bool:
        """Finish the current group, then answer UNAVAILABLE to whoever is left; True once done."""
        with self._gate:
            self._accepting = False
        self._commands.put(None)
        if self._thread is None:
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def submit(self, command: Command) -> None:
        """Any thread: have it run on the engine thread, soon and in order of submission."""
        with self._gate:
            if self._accepting:
                self._commands.put(command)
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

    # -- the tick -----------------------------------------------------------------------------

    def _loop(self) -> None:
        try:
            while self._tick(self._gather()):
                pass
        except BaseException:
            logger.critical("The engine stopped because of an unexpected error", exc_info=True)
            with self._gate:
                self._accepting = False
            self.options.on_failure()
            raise
        finally:
            self._shut_down()

    def _gather(self) -> list[Command | None]:
        """Wait for a command or until something is due; then take all that have gathered."""
        gathered: list[Command | None] = []
        try:
            gathered.append(self._commands.get(timeout=self._patience()))
        except queue.Empty:
            return gathered
        # Only this thread takes commands out, so what is there stays.
        while len(gathered) < self.options.commands_per_tick and not self._commands.empty():
            gathered.append(self._commands.get_nowait())
        return gathered

    def _patience(self) -> float:
        if self._to_load or not self._commands.empty():
            return 0.0
        return min(self.options.clock.patience(self.alarms.next_at(), self._under_way), _LONGEST_SLEEP)

    def _under_way(self) -> UnderWay:
        turns, activities = self.desk.in_flight()
        return UnderWay(turns, activities, len(self.waiters))

    def _tick(self, commands: list[Command | None]) -> bool:
        self._advance_clock()
        for command in commands:
            if command is not None:
                self._execute(command)
        self._fire_due()
        self._load_some()
        self._execute(self._hand_out_turns)
        commands.extend(self._linger_for_answers())
        self._write()
        self._execute(self._hand_out_after_write)
        self._settle()
        return None not in commands

    def _linger_for_answers(self) -> list[Command | None]:
        """Let the answers to the turns that have just left share the write; see ``linger``."""
        extra: list[Command | None] = []
        turns_out = self.desk.turns_out
        patience = self._linger.patience(len(self._group.commits), turns_out)
        if patience <= 0:
            return extra
        end = time.monotonic() + patience
        while self.desk.turns_out and None not in extra and (left := end - time.monotonic()) > 0:
            try:
                command = self._commands.get(timeout=left)
            except queue.Empty:
                break
            extra.append(command)
            if command is not None:
                self._execute(command)
        self._linger.waited(answered=self.desk.turns_out < turns_out)
        if extra:
            self._execute(self._hand_out_turns)
        return extra

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

    def _shut_down(self) -> None:
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
                if command is not None and command.reply is not None:
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


def _nothing() -> None:
    """A command that only ends the engine's wait."""
