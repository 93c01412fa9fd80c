"""Does a step cost the same at the end of a long chain as at its beginning?

One orchestration calls N activities one after the other, scheduler, worker and client in this process, data in a
SQLite file at synchronous=FULL. Prints the median CPU time of a step in two windows and their ratio; a flat system
prints about 1.0.

    python benchmarks/chain.py [N]        default 3,000
"""

from __future__ import annotations

import itertools
import os
import statistics
import sys
import tempfile
import time
from typing import Any

from durabletask import task
from durabletask.client import TaskHubGrpcClient
from durabletask.worker import TaskHubGrpcWorker
from durabletask_scheduler import Scheduler

LENGTH = 3_000
LIMIT = 1.5
moments: list[float] = []


def tick(_: task.ActivityContext, number: int) -> int:
    moments.append(time.process_time())
    return number


def chain(ctx: task.OrchestrationContext, length: int) -> Any:
    for number in range(length):
        yield ctx.call_activity(tick, input=number)
    return length


def windows(length: int, clock: list[float]) -> tuple[float, float]:
    """Median CPU microseconds a step in an early and in the last window of 100 steps."""
    steps = [(after - before) * 1e6 for before, after in itertools.pairwise(clock)]
    return statistics.median(steps[100:200]), statistics.median(steps[length - 101 :])


def main(length: int) -> int:
    """Measure one chain and print the result; the exit code is 1 if it did not complete or is not flat."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Scheduler(os.path.join(folder, "chain.db")) as scheduler,
        TaskHubGrpcWorker(channel=scheduler.channel()) as worker,
    ):
        worker.add_orchestrator(chain)
        worker.add_activity(tick)
        worker.start()
        client = TaskHubGrpcClient(channel=scheduler.channel())
        started, burned = time.perf_counter(), time.process_time()
        instance_id = client.schedule_new_orchestration(chain, input=length)
        state = client.wait_for_orchestration_completion(instance_id, timeout=600)
        elapsed, burned = time.perf_counter() - started, time.process_time() - burned
    if state is None or state.get_output(int) != length:
        print(f"chain of {length}: did not complete: {state}", file=sys.stderr)
        return 1
    early, late = windows(length, moments)
    print(f"chain of {length}, in process, SQLite synchronous=FULL")
    print(f"whole run        {elapsed / length * 1e6:8.0f} us a step wall, {burned / length * 1e6:8.0f} us CPU")
    print(f"steps 100-200    {early:8.0f} us CPU, median")
    print(f"last 100 steps   {late:8.0f} us CPU, median")
    print(f"late / early     {late / early:8.2f}   (limit {LIMIT})")
    return 0 if late / early <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else LENGTH))
