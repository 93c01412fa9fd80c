"""One core of the machine for the threads of this process that hand over to each other; user code has all of them.

One thread of a Python process runs Python at a time. Waking the next one on another core costs an interrupt and cold
caches, on the same core a tenth of that. So a thread that is about to wait for another one, or to wake it, keeps itself
to the core that all of these share, and takes back the cores that it had before any user code runs on it. What such
code starts, a child process or a library's own threads, never inherits the one core.
"""

from __future__ import annotations

import logging
import os
import random
import threading
from collections.abc import Callable, Mapping, Set
from typing import Final

from durabletask_scheduler.machine import (
    ENOUGH_WAITS,
    Disk,
    LinuxMachine,
    Machine,
    Neighbours,
    better_core,
    one_core_is_faster,
)

logger = logging.getLogger("durabletask_scheduler.cores")


class _Mine(threading.local):
    """The calling thread.

    Attributes:
        core: the one that it keeps to; None while it does not.
        cores: those that it may use otherwise, if it does.
    """

    core: int | None = None
    cores: Set[int] = frozenset()


class SharedCore:
    """The core that is shared. Everything is for any thread, and does nothing before :meth:`use`.

    It has an effect on Linux, with more than one core, and with Python's interpreter lock. A system that refuses (some
    sandboxes) is reported once, and from then on nothing is done. A thread that its owner keeps away from the shared
    core, with ``os.sched_setaffinity``, stays away from it.

    Args:
        off: :meth:`use` does nothing.
        machine: makes what tells how busy the cores are.
        chance: returns a random number from 0 to 1: two programs that disturb each other must not both go elsewhere.

    Attributes:
        core: which one it is; None while none is shared.
        is_to_look: it may be time to :meth:`look`, which the engine's own thread may not do soon.
    """

    def __init__(
        self,
        *,
        off: bool = False,
        machine: Callable[[], Machine] = LinuxMachine,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.core: int | None = None
        self.is_to_look = False
        self._mine = _Mine()
        self._new_machine = machine
        self._chance = chance
        self._gate = threading.Lock()
        self._asked = off
        self._neighbours: Neighbours | None = None
        self._shares: Mapping[int, float] = {}
        self._disk: Disk | None = None
        self._disk_waits = 0

    def use(self) -> None:
        """From now on a core is shared, if that is faster here."""
        # Not under the lock: a process that was forked while somebody had it would wait for ever.
        if self._asked:
            return
        with self._gate:
            if self._asked:
                return
            self._asked = True
            if not one_core_is_faster():
                return
            try:
                allowed = sorted(os.sched_getaffinity(0))
                self._neighbours = Neighbours(self._new_machine(), allowed)
                self._shares = dict.fromkeys(allowed, 0.0)
            except OSError as error:
                logger.info("no core is shared: %s", error)
            else:
                self.core = allowed[int(self._chance() * len(allowed)) % len(allowed)]

    def enter(self) -> None:
        """The calling thread keeps to the shared core until it calls :meth:`leave`."""
        mine, core = self._mine, self.core
        if mine.core == core:
            return
        if core is None:
            self.leave()
            return
        try:
            if mine.core is None:
                mine.cores = os.sched_getaffinity(0)
            if core in mine.cores:
                # Noted first: if the thread is interrupted in between, it leaves all the same.
                mine.core = core
                os.sched_setaffinity(0, {core})
        except OSError as error:
            self._give_up(error)

    def leave(self) -> None:
        """The calling thread may use all its cores again."""
        mine = self._mine
        if mine.core is not None:
            try:
                os.sched_setaffinity(0, mine.cores)
            except OSError as error:
                self._give_up(error)
            mine.core = None

    def waited_for_disk(self) -> None:
        """A thread of this process has waited for the disk: the core that this comes back to is the one to share."""
        if self.core is None:
            return
        if self._disk_waits == 0:
            try:
                self._disk = Disk(self._new_machine())
            except OSError as error:
                self._give_up_disk(error)
        # Several schedulers may count the same one: that is near enough.
        self._disk_waits += 1
        self.is_to_look = self.is_to_look or self._disk_waits % ENOUGH_WAITS == 0

    def look(self) -> None:
        """Another core is shared from now on if other processes take this one, or the disk comes back to another one.

        Looks at each at most once a second.
        """
        self.is_to_look = False
        neighbours = self._neighbours
        if self.core is None or neighbours is None or not self._gate.acquire(blocking=False):
            return
        try:
            news = neighbours.see()
            disk = self._core_of_disk()
            self._shares = news or self._shares
            if news is not None or disk is not None:
                self.core = better_core(self.core, self._shares, self._chance, disk)
        except OSError as error:
            self._give_up(error)
        finally:
            self._gate.release()

    def _core_of_disk(self) -> int | None:
        if self._disk is None:
            return None
        try:
            return self._disk.core(self._disk_waits)
        except OSError as error:
            self._give_up_disk(error)
            return None

    def _give_up_disk(self, error: OSError) -> None:
        """Without the disk the shared core is as good as any."""
        self._disk = None
        logger.info("the shared core is not chosen by the disk: %s", error)

    def _give_up(self, error: OSError) -> None:
        if self.core is not None:
            logger.warning("the system refuses to say or set which core a thread runs on: %s", error)
        self.core = None


SHARED_CORE: Final = SharedCore()
"""That of this process."""

NO_CORE: Final = SharedCore(off=True)
"""For what must not share one."""


def start_elsewhere(thread: threading.Thread) -> None:
    """Start a thread that is not to keep to the shared core, as it would if the one that starts it does.

    Raises:
        RuntimeError: as ``thread.start()`` does.
    """
    SHARED_CORE.leave()
    thread.start()
