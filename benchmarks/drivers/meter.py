"""Wall time, CPU time and memory of this process and of those that serve it."""

from __future__ import annotations

import gc
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path

KIB = 1024


class Meter:
    """Measures a ``with`` block; garbage of what came before is collected first.

    Args:
        pids: other processes whose CPU counts too, with that of their children, living and ended (read from
            ``/proc``; where there is none they count as 0).

    Attributes:
        wall: seconds.
        cpu: CPU seconds of all processes.
    """

    def __init__(self, pids: Sequence[int] = ()) -> None:
        self._pids = pids
        self.wall = 0.0
        self.cpu = 0.0

    def __enter__(self) -> Meter:
        gc.collect()
        self.wall, self.cpu = -time.perf_counter(), -self._cpu()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall += time.perf_counter()
        self.cpu += self._cpu()

    def _cpu(self) -> float:
        return time.process_time() + sum(_cpu_of(pid) for pid in self._pids)

    def per(self, count: int, suffix: str = "") -> dict[str, float]:
        """Rate and CPU of ``count`` operations in this block."""
        return {f"per_s{suffix}": count / self.wall, f"cpu_us{suffix}": self.cpu / count * 1e6}

    def per_step(self, count: int, suffix: str) -> dict[str, float]:
        """Time and CPU of each of ``count`` steps in this block."""
        return {f"us{suffix}": self.wall / count * 1e6, f"cpu_us{suffix}": self.cpu / count * 1e6}


def _cpu_of(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    # User and system time, its own and those of its children that have ended.
    ticks = sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK") + sum(map(_cpu_of, _children_of(pid)))


def _children_of(pid: int) -> list[int]:
    children = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children += [int(child) for child in file.read_text().split()]
        except OSError:
            continue
    return children


def resident(pids: Sequence[int] = (), *, collect: bool = True) -> float:
    """Resident memory of this process and ``pids`` in KiB, after a garbage collection; 0 without ``/proc``."""
    if collect:
        gc.collect()
    return _memory("VmRSS", pids)


def peak(pids: Sequence[int] = ()) -> float:
    """The most resident memory that this process and ``pids`` ever had, in KiB; 0 without ``/proc``."""
    return _memory("VmHWM", pids)


def _memory(field: str, pids: Sequence[int]) -> float:
    total = 0.0
    for pid in (os.getpid(), *pids):
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            continue
        total += sum(float(line.split()[1]) for line in lines if line.startswith(field + ":"))
    return total


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def latencies(seconds: Sequence[float]) -> dict[str, float]:
    """p50 and p99 in milliseconds."""
    return {"p50_ms": percentile(seconds, 50) * 1e3, "p99_ms": percentile(seconds, 99) * 1e3}
