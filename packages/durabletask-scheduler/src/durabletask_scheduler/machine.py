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
_NEWS_SECONDS: Final = 1.0
_WORTH_A_MOVE: Final = 0.3
ENOUGH_WAITS: Final = 32
"""How often a process has to have waited for the disk before it can be told where that comes back to."""

# A write to the disk and making it last are one to three interrupts, as a rule.
_PER_WAIT: Final = (0.9, 8.0)
_NEARLY_ALL: Final = 0.9


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

    def interrupts(self) -> Mapping[str, Mapping[int, int]]:
        """How many each device has sent to each core so far.

        Raises:
            OSError: the system does not say.
        """

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
            None if that is less than a second ago; the first times, after a start that says little, less than that.

        Raises:
            OSError: the system does not say.
        """
        now = self._machine.clock()
        passed = now - self._since
        if passed < self._seconds:
            return None
        before, self._others = self._others, self._count()
        self._since, self._seconds = now, _longer(self._seconds)
        shares = {core: (self._others[core] - before[core]) / passed for core in self._allowed}
        # What a thread of this process has done before it came to the core that it is on now counts there, and is then
        # missing where it was. On all cores together it is right.
        total = max(0.0, sum(shares.values()))
        return {core: min(max(0.0, share), total) for core, share in shares.items()}

    def _count(self) -> dict[int, float]:
        busy, own = self._machine.busy(), self._machine.own()
        return {core: busy.get(core, 0.0) - own.get(core, 0.0) for core in self._allowed}


class Disk:
    """Which core the disk tells that it has written.

    Many a disk tells the same one each time. A thread that waits there for the disk goes on at once; on another core it
    has to be woken from there.

    Args:
        machine: the machine.

    Raises:
        OSError: the system does not say.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._waits = 0
        self._before = machine.interrupts()
        self._next_look = machine.clock()
        self._seconds = _FIRST_SECONDS

    def core(self, waits: int) -> int | None:
        """The core; None if it is not clear, or was told less than a second ago (the first times, less than that).

        Args:
            waits: how often this process has waited for the disk since this object was made.

        Raises:
            OSError: the system does not say.
        """
        new = waits - self._waits
        if new < ENOUGH_WAITS or self._machine.clock() < self._next_look:
            return None
        self._next_look = self._machine.clock() + self._seconds
        self._seconds = _longer(self._seconds)
        before, self._before = self._before, self._machine.interrupts()
        self._waits = waits
        found = {
            most
            for device, counts in self._before.items()
            if (most := _told(counts, before.get(device, {}), new)) is not None
        }
        return found.pop() if len(found) == 1 else None


def _told(counts: Mapping[int, int], before: Mapping[int, int], waits: int) -> int | None:
    """The core to which a device has sent nearly all its interrupts, if these may be what so many waits ended with."""
    sent = {core: count - before.get(core, 0) for core, count in counts.items()}
    total = sum(sent.values())
    least, most = _PER_WAIT
    if not least * waits <= total <= most * waits:
        return None
    core = max(sent, key=lambda one: sent[one])
    return core if sent[core] >= _NEARLY_ALL * total else None


def _longer(seconds: float) -> float:
    return min(2 * seconds, _NEWS_SECONDS)


def better_core(held: int, shares: Mapping[int, float], chance: Callable[[], float], disk: int | None = None) -> int:
    """The core to be on: the one that is held, unless others have much more of it than of another one.

    Args:
        held: the core so far.
        shares: what others have of each, from 0 to 1.
        chance: returns a random number from 0 to 1.
        disk: the core that is best unless others have much of it.
    """
    quietest = min(shares, key=lambda core: shares[core])
    if disk is not None and disk in shares and shares[disk] - shares[quietest] <= _WORTH_A_MOVE:
        return disk
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

    def interrupts(self) -> dict[str, dict[int, int]]:
        """From ``/proc/interrupts``: of devices, which have numbers there."""
        with _understood("/proc/interrupts"), open("/proc/interrupts", encoding="utf-8", errors="replace") as lines:
            cores = [int(name.removeprefix("CPU")) for name in next(lines, "").split()]
            rows = (line.split() for line in lines)
            return {
                row[0]: {core: int(count) for core, count in zip(cores, row[1:])}
                for row in rows
                if cores and row and row[0].rstrip(":").isdigit()
            }

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
