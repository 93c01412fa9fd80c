"""Who works on the engine, and when: its own thread, or one that a worker of this process lends.

Waking a thread costs more than most ticks do. So whoever holds the baton works, and nobody waits for it except the
engine's own thread: who finds it taken leaves, because whoever lets it go looks for new commands afterwards. A thread
that is called to work is, if there is one, a thread that a worker keeps ready; the engine's own thread works when there
is none, when something is due, and when others are held up (see ``watch``).

Only threads that belong to a worker are lent, never those of clients: an exception that is raised in a thread from
outside, such as KeyboardInterrupt in the main thread, must not strike in the midst of a change.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

from durabletask_scheduler.clock import Clock, SystemClock
from durabletask_scheduler.hub.times import LATEST, SECOND
from durabletask_scheduler.inbox import Inbox
from durabletask_scheduler.linger import Linger
from durabletask_scheduler.outgoing import Outgoing
from durabletask_scheduler.shared_core import NO_CORE, SharedCore
from durabletask_scheduler.watch import WATCH_SECONDS, Watch

if TYPE_CHECKING:
    from durabletask_scheduler.engine import Command

_LONGEST_SLEEP = 60
_MOST_ROUNDS = 64
_MOST_SHARES = 4

Result = TypeVar("Result")


class Steps(Protocol):
    """The engine: what there is to do, each by whoever holds the baton."""

    def begin(self) -> None:
        """Run the commands that have gathered, fire what is due, hand out turns."""

    def run_commands(self) -> None:
        """Only the first of these."""

    def hand_out_turns(self) -> None:
        """Only the last of these."""

    def finish(self) -> None:
        """Write the group, answer, hand out activities."""

    def break_down(self) -> None:
        """A step has failed in a way that nothing is prepared for: what is in memory cannot be trusted any more."""

    def shut_down(self) -> None:
        """Answer whoever is left."""

    def patience(self) -> float:
        """For how many seconds nothing is to be done but what comes; asked at the end of a tick."""

    def due(self) -> int | None:
        """When something is due; None for never."""

    @property
    def has_work(self) -> bool:
        """Whether a group is waiting to be written, or something to be read."""

    def puts_off_write(self) -> bool:
        """Whether the group that is to be written is left for what comes next, because nobody misses it yet."""

    @property
    def lingers_for(self) -> float:
        """For how many seconds it pays to wait for the answers to turns before the group is written."""

    @property
    def linger(self) -> Linger:
        """What decides that, for the turns that are out."""

    @property
    def turns_out(self) -> int:
        """How many turns these are."""

    @property
    def answers_come_by_themselves(self) -> bool:
        """Whether the threads that have these turns come back with the answers and finish the tick."""


class _Lent(threading.local):
    """Attributes: quiet: what this thread submits calls nobody."""

    quiet = False


class Shifts:
    """The threads of one engine. :meth:`submit` and the lending are for any thread.

    Args:
        steps: the engine.
        clock: its time. One that is not the system's is moved by the engine's own thread, so that nothing is lent then.
        core: shared by the threads that are lent, their callers and the engine's own.

    Attributes:
        core: the same.
    """

    def __init__(self, steps: Steps, clock: Clock, core: SharedCore = NO_CORE) -> None:
        self._steps = steps
        self._clock = clock
        self.core = core if self.borrows else NO_CORE
        self._commands: Inbox[Command] = Inbox()
        # Reentrant, because a collection of garbage in the midst of it may end a call, which submits a command.
        self._gate = threading.RLock()
        self._accepting = False
        self._baton = threading.Lock()
        self._ended = False
        self._thread = threading.Thread(target=self._loop, name="durabletask-engine", daemon=True)
        self._lent = _Lent()
        self._standby: list[Callable[[], None]] = []
        self._watch = Watch()
        self._outgoing: Outgoing | None = None
        self._progress = 0
        # Of the engine's own thread: for how long it sleeps, until when, and whether it was called.
        self._rest = 0.0
        self._wakes_at = 0
        self._was_called = False

    # -- commands -----------------------------------------------------------------------------

    def start(self) -> None:
        self._accepting = True
        self._clock.attach(self._commands.ring)
        self._thread.start()

    def stop(self, timeout: float) -> bool:
        """Do what has been accepted and end; whether that took less than ``timeout`` seconds."""
        self.refuse()
        self._commands.ring()
        if self._thread.ident is None:
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def refuse(self) -> None:
        """Accept no more commands."""
        with self._gate:
            self._accepting = False

    def submit(self, command: Command) -> bool:
        """Have it run soon, in order of submission; False if none is accepted."""
        quiet = self._lent.quiet
        # Workers of this process go on without knowing whether what they have answered is written.
        command.patient = quiet
        with self._gate:
            if not self._accepting:
                return False
            self._commands.put_quietly(command)
        if quiet:
            self._progress += 1
            self.leave()
        elif not self._baton.locked():
            # Otherwise whoever has it looks for commands after letting it go.
            self._call()
        return True

    def gathered(self, most: int) -> list[Command]:
        """The commands that are there, at most so many; for whoever has the baton."""
        return self._commands.take(most)

    def between_steps(self, read: Callable[[], Result | None]) -> Result | None:
        """Any thread: read something while no step is under way; None if one is, or something waits for one.

        Args:
            read: changes nothing, so that an exception which strikes in it from outside does no harm.
        """
        if self._baton.locked() or not self._commands.empty():
            return None
        try:
            with self._baton:
                return None if self._ended else read()
        finally:
            if not self._commands.empty():
                self._call()

    def call_own(self) -> None:
        """The engine's own thread has something to do that is not a command."""
        self._commands.ring()

    def outgoing(self) -> Outgoing:
        """For event loops that write what the engine sends; while there are none, steps need not care."""
        with self._gate:
            self._outgoing = self._outgoing or Outgoing()
            return self._outgoing

    def _call(self) -> None:
        if self._standby:
            self._standby[-1]()
            self.leave()
        else:
            self._commands.ring()

    # -- lending ------------------------------------------------------------------------------

    @property
    def borrows(self) -> bool:
        """Whether lent threads are of use."""
        return isinstance(self._clock, SystemClock)

    def quietly(self, call: Callable[[], Result]) -> Result:
        """Make a call that calls nobody to work: the caller helps soon, or leaves what it has submitted."""
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

    def help(self, between: Callable[[], bool]) -> None:
        """Work on what has gathered, on the caller's thread, unless another thread is at it: then that one sees to it.

        Args:
            between: called between handing out turns and writing, without the baton: what it answers shares the
                write. Returns whether there was anything to do.
        """
        steps = self._steps
        for _ in range(_MOST_ROUNDS):
            if self._commands.empty() or not self._take(steps.begin, blocking=False):
                return
            self.leave()
            for _ in range(_MOST_SHARES):
                if not between() or not self._take(steps.begin, blocking=False):
                    break
            if not self._take(self._finish, blocking=False):
                return
            if self.core.is_to_look:
                self.core.look()
        self._commands.ring()

    def leave(self) -> None:
        """Something is left undone, for the caller to come back to or, if that takes long, for the engine's thread."""
        if self._watch.leave():
            self._commands.ring()

    def _finish(self) -> None:
        if self._steps.puts_off_write():
            # The engine's thread has been told that something is left.
            return
        self._steps.finish()
        if (self._steps.due() or LATEST) < self._wakes_at:
            self._commands.ring()

    # -- the baton ----------------------------------------------------------------------------

    def _take(self, step: Callable[[], None], *, blocking: bool = True) -> bool:
        """Take the baton for one step. Whoever lets it go looks for new commands then: others may have left some.

        Returns:
            False if somebody else has it, or the engine has ended.
        """
        if not self._baton.acquire(blocking=blocking):
            return False
        outgoing = self._outgoing
        if outgoing is not None:
            outgoing.hold()
        try:
            if self._ended:
                return False
            self._progress += 1
            step()
            return True
        except BaseException:
            self._break_down()
            return False
        finally:
            self._baton.release()
            if outgoing is not None:
                outgoing.release()

    def _break_down(self) -> None:
        self.refuse()
        try:
            self._steps.break_down()
        finally:
            self._end()

    def _end(self) -> None:
        self._ended = True
        self._steps.shut_down()
        self._commands.ring()

    # -- the engine's own thread --------------------------------------------------------------

    def _loop(self) -> None:
        try:
            while not self._ended:
                # What was left while this thread had the baton is not called for by anybody.
                left = not self._commands.empty()
                self.core.enter()
                self.core.look()
                self._was_called = self._commands.wait(0.0 if left else self._rest) or left
                if self._was_called or not self._others_see_to_it():
                    self._round()
        except BaseException:
            self._take(self._break_down)

    def _others_see_to_it(self) -> bool:
        """The wait was over without a call: whether lent threads go on with what they have left."""
        if not self._watch.on or self._clock.now() >= self._wakes_at:
            return False
        return self._watch.is_well(self._progress, at_rest=self._commands.empty() and not self._steps.has_work)

    def _round(self) -> None:
        self._rest = 0.0
        self._take(self._begin_round)
        if self._rest > 0:
            return
        self._linger()
        self._take(self._end_round)

    def _begin_round(self) -> None:
        self._wakes_at = 0
        self._watch.begin()
        self._steps.begin()
        if self._was_called and (self._steps.puts_off_write() or self._answers_come_soon()):
            # If nothing comes, this thread will be back without being called.
            self._watch.leave()
            self._watch.begin()
            self._set_rest()

    def _answers_come_soon(self) -> bool:
        return self._steps.lingers_for > 0 and self._steps.answers_come_by_themselves

    def _end_round(self) -> None:
        self._steps.finish()
        if not self._accepting and self._commands.empty():
            self._end()
        else:
            self._set_rest()

    def _set_rest(self) -> None:
        """For how long this thread may sleep; not at all if there is something to do."""
        if not self._commands.empty():
            self._rest = 0.0
            return
        due = self._steps.due()
        patience = min(self._steps.patience(), _LONGEST_SLEEP)
        self._wakes_at = min(due or LATEST, self._clock.now() + _LONGEST_SLEEP * SECOND)
        self._rest = min(patience, WATCH_SECONDS) if self._watch.on else patience

    def _linger(self) -> None:
        """Let the answers to the turns that have just left share the write; see ``linger``."""
        steps = self._steps
        linger, turns_out, patience = steps.linger, steps.turns_out, steps.lingers_for
        if patience <= 0:
            return
        end = time.monotonic() + patience
        while steps.turns_out and self._accepting and (left := end - time.monotonic()) > 0:
            if self._commands.empty():
                self._commands.wait(left)
            self._take(steps.run_commands)
        linger.waited(answered=steps.turns_out < turns_out)
        self._take(steps.hand_out_turns)
