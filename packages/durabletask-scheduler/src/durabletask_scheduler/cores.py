"""Keeping this process on one core of the machine, for as long as that is faster.

One thread of a Python process runs Python at a time. When it hands over to a thread on another core, that core has to
be woken by an interrupt, and finds nothing in its caches. On one core the same costs a tenth. What can use more than
one core all the same, such as code that computes outside the interpreter lock, gets them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Mapping, Set
from functools import partial
from types import TracebackType
from typing import Final, Protocol

BUSY_SECONDS: Final = 0.1
"""Time between two looks at a process that does something."""

IDLE_SECONDS: Final = 0.5
"""Time between two looks at a process that does not."""

PROGRAM: Final = 1.3
"""Cores that a whole program must use to be given more than one. Its Python is faster on one even when that is full."""

SERVER: Final = 0.93
"""The same for a gRPC server: gRPC's own threads need no interpreter lock, so when one core is full others help."""

_IDLE: Final = 0.05
_FULL: Final = 0.93
_CLEARLY: Final = 0.05
_TRIES_AGAIN_SECONDS: Final = 2.0
_NEIGHBOURS_SECONDS: Final = 1.0
_WORTH_A_MOVE: Final = 0.3
_STOP_SECONDS: Final = 5.0

logger = logging.getLogger("durabletask_scheduler.cores")


class Machine(Protocol):
    """What the rules ask of the machine."""

    def clock(self) -> float:
        """Seconds; the start does not matter."""

    def used(self) -> float:
        """CPU seconds of this process so far."""

    def busy(self) -> Mapping[int, float]:
        """Seconds that each core has worked so far, for whomever."""

    def run_on(self, cores: Set[int]) -> None:
        """Every thread of this process runs on these cores only, and so do those that they start.

        Raises:
            OSError: the system refuses.
        """


class CoreRules:
    """Decides which cores the process runs on.

    Args:
        machine: the machine.
        allowed: the cores that the process may use; at least one.
        enough: how many of them it must use to keep them: :data:`PROGRAM` or :data:`SERVER`.
        chance: returns a random number from 0 to 1: two processes that disturb each other must not both go elsewhere.

    Attributes:
        held: the core that the process is kept on; None while it may use all, as in the beginning.
    """

    def __init__(
        self, machine: Machine, allowed: Set[int], enough: float, chance: Callable[[], float] = random.random
    ) -> None:
        self.held: int | None = None
        self._machine = machine
        self._allowed = allowed
        self._enough = enough
        self._chance = chance
        self._next_try = machine.clock()
        self._since = self._neighbours_since = machine.clock()
        self._used = self._neighbours_used = machine.used()
        self._busy = machine.busy()
        self._neighbours: dict[int, float] = {}

    def look(self) -> float:
        """See what has passed since the last look, and act on it.

        Returns:
            seconds until the next one.

        Raises:
            OSError: as :meth:`Machine.run_on` does.
        """
        now, used = self._machine.clock(), self._machine.used()
        load = (used - self._used) / max(now - self._since, 1e-9)
        self._since, self._used = now, used
        has_news = self._see_neighbours(now, used)
        if self.held is None:
            if load < self._enough - _CLEARLY:
                self._run_on(self._quietest())
        elif load > _FULL and now >= self._next_try:
            self._run_on(None)
            self._next_try = now + _TRIES_AGAIN_SECONDS
        elif has_news:
            self._consider_leaving(self.held)
        return IDLE_SECONDS if load < _IDLE else BUSY_SECONDS

    def end(self) -> None:
        """All cores again. Raises OSError as :meth:`Machine.run_on` does."""
        self._run_on(None)

    def _quietest(self) -> int:
        return min(self._neighbours, key=lambda core: self._neighbours[core])

    def _consider_leaving(self, held: int) -> None:
        quietest = self._quietest()
        if self._neighbours[held] - self._neighbours[quietest] > _WORTH_A_MOVE and self._chance() < 0.5:
            self._run_on(quietest)

    def _see_neighbours(self, now: float, used: float) -> bool:
        """Find out how much of each core others have had of late, if it is time to."""
        passed = max(now - self._neighbours_since, 1e-9)
        if self._neighbours and passed < _NEIGHBOURS_SECONDS:
            return False
        busy = self._machine.busy()
        own = (used - self._neighbours_used) / passed
        for core in self._allowed:
            mine = own / len(self._allowed) if self.held is None else own * (core == self.held)
            self._neighbours[core] = (busy.get(core, 0.0) - self._busy.get(core, 0.0)) / passed - mine
        self._busy, self._neighbours_since, self._neighbours_used = busy, now, used
        return True

    def _run_on(self, core: int | None) -> None:
        if core != self.held:
            self._machine.run_on(self._allowed if core is None else {core})
            # What others have had is counted for one place at a time.
            self._neighbours_since, self._neighbours_used = self._machine.clock(), self._machine.used()
            self._busy = self._machine.busy()
        self.held = core


class LinuxMachine:
    """This machine and this process, by way of ``/proc``."""

    clock = staticmethod(time.monotonic)
    used = staticmethod(time.process_time)

    def __init__(self) -> None:
        self._tick = 1.0 / os.sysconf("SC_CLK_TCK")

    def busy(self) -> dict[int, float]:
        """From ``/proc/stat``: user, nice, system, irq, softirq and steal; idle and waiting for a disk do not count."""
        found: dict[int, float] = {}
        with open("/proc/stat", encoding="ascii") as lines:
            for line in lines:
                name, *ticks = line.split()
                if name.startswith("cpu") and name[3:].isdigit() and len(ticks) >= 8:
                    found[int(name[3:])] = sum(int(ticks[kind]) for kind in (0, 1, 2, 5, 6, 7)) * self._tick
        return found

    def run_on(self, cores: Set[int]) -> None:
        """For every thread; a new one takes over the cores of the thread that starts it."""
        done: set[str] = set()
        while threads := set(os.listdir("/proc/self/task")) - done:
            for thread in threads:
                with contextlib.suppress(ProcessLookupError):  # It may have ended meanwhile.
                    os.sched_setaffinity(int(thread), cores)
            done |= threads


class OneCore:
    """Keeps this process on one core for as long as that is faster, and lets go of it on :meth:`stop`.

    For programs that run a scheduler with its workers and clients, and whose activities mostly wait::

        with OneCore(), Scheduler("orders.db") as scheduler:
            ...

    A process that fills its core is given all of them for a moment every two seconds, and keeps them for as long as it
    uses enough: code that computes outside the interpreter lock runs in parallel. **Child processes** that are started
    meanwhile inherit the one core, and keep it. What single threads were given by ``os.sched_setaffinity`` is lost.

    Args:
        enough: how many cores it must use to keep them: :data:`PROGRAM` (1.3, the default) or :data:`SERVER`.

    It has an effect on Linux, with more than one core, and with Python's interpreter lock; elsewhere none. A system
    that refuses (some sandboxes) is reported once, as a warning.
    """

    def __init__(self, enough: float = PROGRAM) -> None:
        self._enough = enough
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> bool:
        """Begin; does nothing if already started.

        Returns:
            whether it has an effect here.
        """
        if self._thread is None and _is_useful():
            try:
                rules = CoreRules(LinuxMachine(), os.sched_getaffinity(0), self._enough)
            except OSError as error:
                logger.info("this process cannot be kept on one core: %s", error)
                return False
            self._stopping.clear()
            self._thread = threading.Thread(target=self._run, args=(rules,), name="durabletask-cores", daemon=True)
            self._thread.start()
        return self._thread is not None

    def stop(self) -> None:
        """Give the process back the cores that it had before :meth:`start`; does nothing if not started."""
        if self._thread is not None:
            self._stopping.set()
            self._thread.join(_STOP_SECONDS)
            self._thread = None

    def __enter__(self) -> OneCore:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self, rules: CoreRules) -> None:
        # Whatever ends the looking, nobody would let go of the core later.
        for work in (partial(self._look_on, rules), rules.end):
            try:
                work()
            except OSError as error:
                logger.warning("the system refuses to say or set which cores this process runs on: %s", error)

    def _look_on(self, rules: CoreRules) -> None:
        seconds = BUSY_SECONDS
        while not self._stopping.wait(seconds):
            seconds = rules.look()


def _is_useful() -> bool:
    has_lock: bool = getattr(sys, "_is_gil_enabled", lambda: True)()
    return sys.platform == "linux" and has_lock and len(os.sched_getaffinity(0)) > 1
