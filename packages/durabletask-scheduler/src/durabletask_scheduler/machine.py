"""Which cores the machine has, and who works on them."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from typing import Final, Protocol

_FIRST_SECONDS: Final = 0.05
_NEIGHBOURS_SECONDS: Final = 1.0
_WORTH_A_MOVE: Final = 0.3


class Machine(Protocol):
    """What the rules ask of the machine."""

    def clock(self) -> float:
        """Seconds; the start does not matter."""

    def used(self) -> float:
        """CPU seconds of this process so far."""

    def busy(self) -> Mapping[int, float]:
        """Seconds that each core has worked so far, for whomever."""

    def own(self) -> Mapping[int, float]:
        """Seconds of these for this process."""

    def run_on(self, cores: Set[int]) -> None:
        """Every thread of this process runs on these cores only, and so do those that they start.

        Raises:
            OSError: the system refuses.
        """


class Neighbours:
    """What other processes have of each core.

    Args:
        machine: the machine.
        allowed: the cores that are of interest.
    """

    def __init__(self, machine: Machine, allowed: Iterable[int]) -> None:
        self._machine = machine
        self._allowed = tuple(allowed)
        self._seconds = _FIRST_SECONDS
        self._since = machine.clock()
        self._others = self._count()

    def see(self) -> Mapping[int, float] | None:
        """How much of each core others have had since the last answer, from 0 to 1.

        Returns:
            None if that is less than a second ago.

        Raises:
            OSError: the system does not say.
        """
        now = self._machine.clock()
        passed = now - self._since
        if passed < self._seconds:
            return None
        before, self._others = self._others, self._count()
        self._since, self._seconds = now, _NEIGHBOURS_SECONDS
        return {core: (self._others[core] - before[core]) / passed for core in self._allowed}

    def _count(self) -> dict[int, float]:
        busy, own = self._machine.busy(), self._machine.own()
        return {core: busy.get(core, 0.0) - own.get(core, 0.0) for core in self._allowed}


def better_core(held: int, shares: Mapping[int, float], chance: Callable[[], float]) -> int:
    """The core to be on: the one that is held, unless others have much more of it than of another one.

    Args:
        held: the core so far.
        shares: what others have of each, from 0 to 1.
        chance: returns a random number from 0 to 1.
    """
    quietest = min(shares, key=lambda core: shares[core])
    return quietest if shares[held] - shares[quietest] > _WORTH_A_MOVE and chance() < 0.5 else held


class LinuxMachine:
    """This machine and this process, by way of ``/proc``; OSError is raised also if that says what nobody expects."""

    clock = staticmethod(time.monotonic)
    used = staticmethod(time.process_time)

    def __init__(self) -> None:
        self._tick = 1.0 / os.sysconf("SC_CLK_TCK")
        self._own: Counter[int] = Counter()
        self._threads: dict[str, int] = {}

    def busy(self) -> dict[int, float]:
        """From ``/proc/stat``: user, nice, system, irq, softirq and steal; idle and waiting for a disk do not count."""
        found: dict[int, float] = {}
        with _understood("/proc/stat"), open("/proc/stat", encoding="ascii") as lines:
            for line in lines:
                name, *ticks = line.split()
                if name.startswith("cpu") and name[3:].isdigit() and len(ticks) >= 8:
                    found[int(name[3:])] = sum(int(ticks[kind]) for kind in (0, 1, 2, 5, 6, 7)) * self._tick
        return found

    def own(self) -> dict[int, float]:
        """What a thread has used since it was last asked counts for the core that it is on now."""
        threads: dict[str, int] = {}
        for thread in os.listdir("/proc/self/task"):
            # It may have ended meanwhile.
            path = f"/proc/self/task/{thread}/stat"
            with contextlib.suppress(FileNotFoundError, ProcessLookupError), _understood(path):
                with open(path, encoding="utf-8", errors="replace") as line:
                    # The name may hold anything; from the state on, utime, stime and processor: see proc(5).
                    fields = line.read().rpartition(")")[2].split()
                threads[thread] = ticks = int(fields[11]) + int(fields[12])
                self._own[int(fields[36])] += max(0, ticks - self._threads.get(thread, 0))
        self._threads = threads
        return {core: ticks * self._tick for core, ticks in self._own.items()}

    def run_on(self, cores: Set[int]) -> None:
        """For every thread; a new one takes over the cores of the thread that starts it."""
        done: set[str] = set()
        while threads := set(os.listdir("/proc/self/task")) - done:
            for thread in threads:
                with contextlib.suppress(ProcessLookupError):  # It may have ended meanwhile.
                    os.sched_setaffinity(int(thread), cores)
            done |= threads


@contextlib.contextmanager
def _understood(path: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, IndexError) as error:
        raise OSError(f"{path} is not what Linux writes there: {error}") from error


def one_core_is_faster() -> bool:
    """Whether this process has several cores, can choose among them, and runs Python on one at a time."""
    has_lock: bool = getattr(sys, "_is_gil_enabled", lambda: True)()
    return sys.platform == "linux" and has_lock and len(os.sched_getaffinity(0)) > 1
