"""Keeping this process on one core of the machine, for as long as that is faster.

One thread of a Python process runs Python at a time. When it hands over to a thread on another core, that core has to
be woken by an interrupt, and finds nothing in its caches. On one core the same costs a tenth. What can use more than
one core all the same, such as gRPC's own threads under load, gets them.
"""

from __future__ import annotations

import logging
import os
import random
import threading
from collections.abc import Callable, Mapping, Set
from functools import partial
from types import TracebackType
from typing import Final

from durabletask_scheduler.machine import LinuxMachine, Machine, Neighbours, better_core, one_core_is_faster

BUSY_SECONDS: Final = 0.1
"""Time between two looks at a process that does something."""

IDLE_SECONDS: Final = 0.5
"""Time between two looks at a process that does not."""

_IDLE: Final = 0.05
_FULL: Final = 0.93
# Of all cores, to keep them. gRPC's own threads need no interpreter lock, so when one core is full others help.
_ENOUGH: Final = 0.93
_CLEARLY: Final = 0.05
_TRIES_AGAIN_SECONDS: Final = 2.0
_STOP_SECONDS: Final = 5.0

logger = logging.getLogger("durabletask_scheduler.cores")


class CoreRules:
    """Decides which cores the process runs on.

    Args:
        machine: the machine.
        allowed: the cores that the process may use; at least one.
        chance: returns a random number from 0 to 1: two processes that disturb each other must not both go elsewhere.

    Attributes:
        held: the core that the process is kept on; None while it may use all, as in the beginning.
    """

    def __init__(self, machine: Machine, allowed: Set[int], chance: Callable[[], float] = random.random) -> None:
        self.held: int | None = None
        self._machine = machine
        self._allowed = allowed
        self._chance = chance
        self._next_try = self._since = machine.clock()
        self._used = machine.used()
        self._neighbours = Neighbours(machine, allowed)
        self._shares: Mapping[int, float] = dict.fromkeys(allowed, 0.0)

    def look(self) -> float:
        """See what has passed since the last look, and act on it.

        Returns:
            seconds until the next one.

        Raises:
            OSError: the system does not say, or as :meth:`Machine.run_on` does.
        """
        now, used = self._machine.clock(), self._machine.used()
        load = (used - self._used) / max(now - self._since, 1e-9)
        self._since, self._used = now, used
        news = self._neighbours.see()
        self._shares = news or self._shares
        if self.held is None:
            if load < _ENOUGH - _CLEARLY:
                self._run_on(min(self._shares, key=lambda core: self._shares[core]))
        elif load > _FULL and now >= self._next_try:
            self._run_on(None)
            self._next_try = now + _TRIES_AGAIN_SECONDS
        elif news:
            self._run_on(better_core(self.held, news, self._chance))
        return IDLE_SECONDS if load < _IDLE else BUSY_SECONDS

    def end(self) -> None:
        """All cores again. Raises OSError as :meth:`Machine.run_on` does."""
        self._run_on(None)

    def _run_on(self, core: int | None) -> None:
        if core != self.held:
            self._machine.run_on(self._allowed if core is None else {core})
        self.held = core


class OneCore:
    """Keeps this process on one core for as long as that is faster, and lets go of it on :meth:`stop`.

    For a process that does nothing but serve: child processes that it starts inherit the one core and keep it, and what
    single threads were given by ``os.sched_setaffinity`` is lost. A process that fills its core is given all of them
    for a moment every two seconds, and keeps them for as long as it uses enough.

    It has an effect on Linux, with more than one core, and with Python's interpreter lock; elsewhere none. A system
    that refuses (some sandboxes) is reported once, as a warning.
    """

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> bool:
        """Begin; does nothing if already started.

        Returns:
            whether it has an effect here.
        """
        if self._thread is None and one_core_is_faster():
            try:
                rules = CoreRules(LinuxMachine(), os.sched_getaffinity(0))
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
