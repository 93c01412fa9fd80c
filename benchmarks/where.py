"""Where the CPU of one operation goes: by thread, by function.

    python benchmarks/where.py W2           one step of a chain; also W1, W3 and W4
    python benchmarks/where.py W2 --rows 20 --synchronous NORMAL

First the threads as the operating system counts them, undisturbed; then the functions as cProfile counts them in the
CPU time of each thread. The profiler makes Python calls about three times as dear and leaves time inside SQLite or
the kernel as it is: read its numbers as shares, not as times.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from drivers import programs
from drivers.hosts import Deployment, Host, open_host
from drivers.loads import run
from drivers.starts import check

STEPS, WIDTH, TIMES = 1_500, 1_000, 400
LEAST_MICROSECONDS = 20


def orchestrations(host: Host) -> int:
    instance_ids = [host.client.schedule_new_orchestration(programs.single, input=1) for _ in range(TIMES)]
    check([host.client.wait_for_orchestration_completion(one) for one in instance_ids])
    return TIMES


def chain(host: Host) -> int:
    run(host, programs.chain, STEPS)
    return STEPS


def fan(host: Host) -> int:
    run(host, programs.fan, WIDTH)
    return WIDTH


def one_at_a_time(host: Host) -> int:
    for _ in range(TIMES):
        run(host, programs.single, 1)
    return TIMES


WORKLOADS: dict[str, Callable[[Host], int]] = {"W1": orchestrations, "W2": chain, "W3": fan, "W4": one_at_a_time}


def without_number(name: str) -> str:
    """Threads of one pool count as one."""
    return name.rstrip("0123456789-_")


class Profiles:
    """A profiler for each thread that starts inside the block, and for the measured call."""

    def __init__(self) -> None:
        self._of_threads: dict[str, list[cProfile.Profile]] = {}

    def __enter__(self) -> Profiles:
        threading.setprofile(self._begin)
        return self

    def __exit__(self, *_: object) -> None:
        threading.setprofile(None)

    def _begin(self, *_: object) -> None:
        """The first event of a new thread: from now on its own profiler gets them."""
        self._new(without_number(threading.current_thread().name)).enable()

    def _new(self, name: str) -> cProfile.Profile:
        profile = cProfile.Profile(time.thread_time)
        self._of_threads.setdefault(name, []).append(profile)
        return profile

    def measure(self, function: Callable[[], int]) -> int:
        """Call it under a profiler too; returns what it returns."""
        return self._new("caller").runcall(function)

    def report(self, operations: int, rows: int) -> str:
        parts = [_report(name, profiles, operations, rows) for name, profiles in self._of_threads.items()]
        return "\n".join(part for part in parts if part)


def _report(name: str, profiles: list[cProfile.Profile], operations: int, rows: int) -> str:
    stats: Any = pstats.Stats(*profiles)
    total = stats.total_tt / operations * 1e6
    if total < LEAST_MICROSECONDS:
        return ""
    lines = [
        f"\n{name}: {total:,.0f} us, {stats.total_calls / operations:,.0f} calls",
        f"{'us':>8} {'own us':>8} {'calls':>7}",
    ]
    functions = sorted(stats.stats.items(), key=lambda item: -item[1][3])[:rows]
    for (file, line, function), (_, calls, own, cumulative, _) in functions:
        place = f"{Path(file).parent.name}/{Path(file).name}:{line} " if line else ""
        each = 1e6 / operations
        lines.append(f"{cumulative * each:8.1f} {own * each:8.1f} {calls / operations:7.2f}  {place}{function}")
    return "\n".join(lines)


def thread_times() -> dict[str, float]:
    """CPU seconds of each Python thread so far; none where there is no ``/proc``."""
    seconds: dict[str, float] = {}
    for thread in threading.enumerate():
        path = Path(f"/proc/self/task/{thread.native_id}/stat")
        if path.exists():
            fields = path.read_text().rpartition(")")[2].split()
            ticks = int(fields[11]) + int(fields[12])
            name = without_number(thread.name)
            seconds[name] = seconds.get(name, 0.0) + ticks / os.sysconf("SC_CLK_TCK")
    return seconds


def undisturbed(workload: Callable[[Host], int], deployment: Deployment) -> str:
    with tempfile.TemporaryDirectory() as folder, open_host(deployment, Path(folder)) as host:
        before = thread_times()
        with host.meter() as measured:
            operations = workload(host)
        after = thread_times()
    lines = [
        f"{measured.wall / operations * 1e6:,.0f} us wall, {measured.cpu / operations * 1e6:,.0f} us CPU, by thread:"
    ]
    spent = {name: (seconds - before.get(name, 0.0)) / operations * 1e6 for name, seconds in after.items()}
    lines += [f"{microseconds:8.0f} us  {name}" for name, microseconds in spent.items() if microseconds >= 1]
    return "\n".join(lines)


def profiled(workload: Callable[[Host], int], deployment: Deployment, rows: int) -> str:
    if sys.version_info >= (3, 12):
        return "\nThe functions need Python 3.10 or 3.11: later ones profile no more than one thread at a time."
    with (
        Profiles() as profiles,
        tempfile.TemporaryDirectory() as folder,
        open_host(deployment, Path(folder), warm_up=False) as host,
    ):
        operations = profiles.measure(lambda: workload(host))
    return profiles.report(operations, rows)


def main() -> None:
    parser = argparse.ArgumentParser("where", description="Where the CPU of one operation goes.")
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("--rows", type=int, default=40, help="functions for each thread")
    parser.add_argument("--synchronous", default="FULL", help="FULL, NORMAL or OFF")
    options = parser.parse_args()
    deployment = Deployment("embedded", synchronous=options.synchronous)
    workload = WORKLOADS[options.workload]
    sys.stdout.write(undisturbed(workload, deployment) + "\n")
    sys.stdout.write(profiled(workload, deployment, options.rows) + "\n")


if __name__ == "__main__":
    main()
