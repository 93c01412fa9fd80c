"""Does a flood of slow activities hold up orchestrations?

Forty activities of six seconds each are in flight on one worker while trivial orchestrations are started, one after the
other. Prints their median time on the idle worker and during the flood, and the ratio. Scheduler, worker and client
are in this process; data in a SQLite file at synchronous=FULL.

    python benchmarks/flood.py
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import threading
import time
from typing import Any

from durabletask import task
from durabletask.client import TaskHubGrpcClient
from durabletask.worker import TaskHubGrpcWorker
from durabletask_scheduler import Scheduler

ACTIVITIES, SECONDS, SAMPLES = 40, 6.0, 100
LIMIT = 2.0
busy = threading.Semaphore(0)


def slow(_: task.ActivityContext, __: Any) -> None:
    busy.release()
    time.sleep(SECONDS)


def flood(ctx: task.OrchestrationContext, _: Any) -> Any:
    yield task.when_all([ctx.call_activity(slow) for _ in range(ACTIVITIES)])


def trivial(_: task.OrchestrationContext, number: int) -> int:
    return number


def median_milliseconds(client: TaskHubGrpcClient) -> float:
    """Start to completion of one trivial orchestration, as its client sees it."""
    samples = []
    for number in range(SAMPLES):
        began = time.perf_counter()
        instance_id = client.schedule_new_orchestration(trivial, input=number)
        client.wait_for_orchestration_completion(instance_id, timeout=60)
        samples.append((time.perf_counter() - began) * 1e3)
    return statistics.median(samples)


def main() -> int:
    with (
        tempfile.TemporaryDirectory() as folder,
        Scheduler(os.path.join(folder, "flood.db")) as scheduler,
        TaskHubGrpcWorker(channel=scheduler.channel()) as worker,
    ):
        worker.add_orchestrator(flood)
        worker.add_orchestrator(trivial)
        worker.add_activity(slow)
        worker.start()
        client = TaskHubGrpcClient(channel=scheduler.channel())
        median_milliseconds(client)
        idle = median_milliseconds(client)
        flooding = client.schedule_new_orchestration(flood)
        for _ in range(worker.concurrency_options.maximum_thread_pool_workers):
            busy.acquire()
        flooded = median_milliseconds(client)
        still_busy = client.get_orchestration_state(flooding)
        worker.stop(timeout=0)
    if still_busy is None or still_busy.runtime_status.name != "RUNNING":
        print(f"the flood ended before the measurement did: {still_busy}", file=sys.stderr)
        return 1
    print(f"{ACTIVITIES} activities of {SECONDS:g} s in flight, in process, SQLite synchronous=FULL")
    print(f"trivial orchestration, idle worker   {idle:8.2f} ms median")
    print(f"the same during the flood            {flooded:8.2f} ms median")
    print(f"ratio                                {flooded / idle:8.2f}   (limit {LIMIT})")
    return 0 if flooded / idle <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
