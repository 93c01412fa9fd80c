"""Guards against slow regressions with numbers that do not depend on the machine's speed.

    python benchmarks/guard.py

Scheduler (in memory), worker and client run in this process. What is checked: Python calls for each operation, which
are nearly the same on every machine; memory that stays after an operation, and that an orchestration takes which
waits; and the CPU of the late steps of a long chain as a multiple of that of its early ones. The exit code is 1 if a
limit is not kept.

The limits of counts are about a third above what was counted when they were set, since threads meet a little
differently every time. Lower them when the program gets leaner; raise them only with a reason.
"""

from __future__ import annotations

import gc
import itertools
import sys
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from types import FrameType
from typing import Any

from drivers import programs
from drivers.hosts import QUIET
from durabletask import task
from durabletask.client import NewOrchestration, TaskHubGrpcClient
from durabletask.worker import ConcurrencyOptions, TaskHubGrpcWorker
from durabletask_scheduler import Scheduler

SECONDS = 60.0
SHORT, LONG, WIDTH, SINGLES, WAITING = 40, 240, 100, 40, 400
CPU_LENGTH, CPU_WINDOW, CPU_WINDOWS = 2_000, 100, 5
CPU_TRIES = 8

moments: list[float] = []
"""CPU seconds of this process at every ``CPU_WINDOW`` th activity of a chain."""


@dataclass(frozen=True)
class Check:
    """A number and the limit that it must keep."""

    title: str
    measure: Callable[[], float]
    limit: float
    at_least: bool = False

    def line(self, value: float) -> str:
        sign = ">=" if self.at_least else "<="
        return f"{'ok  ' if self.kept(value) else 'FAIL'} {self.title:<64} {value:10,.2f} {sign} {self.limit:,g}"

    def kept(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit


class Calls:
    """Counts the calls of Python functions on all threads that start inside the block."""

    def __init__(self) -> None:
        self._of_thread: Counter[int] = Counter()

    @property
    def total(self) -> int:
        return sum(self._of_thread.copy().values())

    def __enter__(self) -> Calls:
        threading.setprofile(self._note)
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    def _note(self, _: FrameType, event: str, __: object) -> None:
        if event == "call":
            self._of_thread[threading.get_ident()] += 1


@contextmanager
def task_hub(*, warm: bool = True) -> Iterator[TaskHubGrpcClient]:
    """A client of a task hub whose worker keeps runs warm, or replays the history at every turn."""
    options = ConcurrencyOptions(maximum_cached_orchestrations=None if warm else 0)
    with (
        Scheduler() as scheduler,
        TaskHubGrpcWorker(channel=scheduler.channel(), logger=QUIET, concurrency_options=options) as worker,
    ):
        for orchestrator in programs.ORCHESTRATORS:
            worker.add_orchestrator(orchestrator)
        worker.add_activity(echo)
        worker.start()
        client = TaskHubGrpcClient(channel=scheduler.channel(), logger=QUIET)
        run(client, programs.single, 1)
        yield client


def run(client: TaskHubGrpcClient, orchestrator: Callable[..., object], argument: object) -> None:
    instance_id = client.schedule_new_orchestration(orchestrator, input=argument)
    state = client.wait_for_orchestration_completion(instance_id, timeout=SECONDS)
    if state is None or state.runtime_status.name != "COMPLETED":
        raise RuntimeError(f"{orchestrator.__name__} did not complete: {state}")


def calls_of(orchestrator: Callable[..., object], argument: object, *, warm: bool = True, times: int = 1) -> int:
    """Python calls of one orchestration, the start and the wait included."""
    with Calls() as calls, task_hub(warm=warm) as client:
        before = calls.total
        for _ in range(times):
            run(client, orchestrator, argument)
        return (calls.total - before) // times


def calls_of_a_step(early: int, late: int, *, warm: bool = True) -> float:
    """Python calls of one step between the two lengths."""
    difference = calls_of(programs.chain, late, warm=warm) - calls_of(programs.chain, early, warm=warm)
    return difference / (late - early)


def growth_of_calls() -> float:
    return calls_of_a_step(LONG, 2 * LONG) / calls_of_a_step(SHORT, LONG)


def cold_to_warm() -> float:
    return calls_of_a_step(SHORT, LONG, warm=False) / calls_of_a_step(SHORT, LONG)


def growth_of_cpu() -> float:
    """CPU of the late steps of a long chain, as a multiple of that of its early ones.

    Other work on the machine only ever adds, so the least of as many windows at the end as at the beginning is
    compared.
    """
    early: list[float] = []
    late: list[float] = []
    with task_hub() as client:
        for _ in range(CPU_TRIES):
            moments.clear()
            run(client, programs.chain, CPU_LENGTH)
            windows = [after - before for before, after in itertools.pairwise(moments)]
            early += windows[1 : 1 + CPU_WINDOWS]
            late += windows[-CPU_WINDOWS:]
    return min(late) / min(early)


def echo(_: task.ActivityContext, value: Any) -> Any:
    """The activity of the programs, which also notes the CPU time now and then."""
    if isinstance(value, int) and value % CPU_WINDOW == 0:
        moments.append(time.process_time())
    return value


def kept_by_a_step() -> float:
    """Bytes of Python objects that stay for each step of a chain that has completed."""
    with task_hub() as client:
        run(client, programs.chain, LONG)
        gc.collect()
        tracemalloc.start()
        try:
            run(client, programs.chain, LONG)
            gc.collect()
            return tracemalloc.get_traced_memory()[0] / LONG
        finally:
            tracemalloc.stop()


@cache
def kept_by_a_waiting_instance() -> tuple[float, float]:
    """Bytes of Python objects, and objects that the garbage collector looks at, of an orchestration that waits."""
    with task_hub() as client:
        # The first ones bring what all of them share.
        _let_wait(client)
        gc.collect()
        before = len(gc.get_objects())
        tracemalloc.start()
        try:
            _let_wait(client)
            gc.collect()
            traced = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        return traced / WAITING, (len(gc.get_objects()) - before) / WAITING


def _let_wait(client: TaskHubGrpcClient) -> None:
    reached = programs.waiters.value + WAITING
    client.schedule_new_orchestrations([NewOrchestration(programs.waiting, 0)] * WAITING)
    programs.waiters.wait_for(reached, SECONDS)
    # Once another one has completed, the answers of those before it have been taken.
    run(client, programs.single, 1)


CHECKS = (
    Check(
        "Python calls of an orchestration of one activity", lambda: calls_of(programs.single, 1, times=SINGLES), 1_000
    ),
    Check("Python calls of a step of a chain", lambda: calls_of_a_step(SHORT, LONG), 460),
    Check("Python calls of an activity of a fan-out", lambda: calls_of(programs.fan, WIDTH) / WIDTH, 215),
    Check("Python calls of a late step / of an early step", growth_of_calls, 1.2),
    Check("Python calls of a step, replayed / warm", cold_to_warm, 5, at_least=True),
    Check("CPU of late steps of a long chain / of early ones", growth_of_cpu, 1.4),
    Check("bytes kept by a step after its chain", kept_by_a_step, 1_400),
    Check("bytes kept by an orchestration that waits", lambda: kept_by_a_waiting_instance()[0], 4_100),
    Check("tracked objects of an orchestration that waits", lambda: kept_by_a_waiting_instance()[1], 14.5),
)


def main() -> int:
    failed = False
    for check in CHECKS:
        value = check.measure()
        failed = failed or not check.kept(value)
        sys.stdout.write(check.line(value) + "\n")
        sys.stdout.flush()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
