"""Does it matter how much is stored? The same work beside an empty file, a tenth, and all of the stored instances.

The store is filled through its own interface, without running anything: finished instances, and ones that wait (half
for an event, half for a start time tomorrow). Then a scheduler starts on it, and what it does is timed: starting, one
orchestration of one activity, pages of a query, waking a stored instance, and purging. A flat system prints ratios
near 1; starting grows with the alarms of what waits for a time.

    python benchmarks/stored.py [FINISHED [WAITING]]        default 1,000,000 and 100,000
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from durabletask import task
from durabletask.client import OrchestrationStatus, TaskHubGrpcClient
from durabletask.worker import TaskHubGrpcWorker
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto.orchestrator_service_pb2_grpc import TaskHubSidecarServiceStub
from durabletask_scheduler import Scheduler
from durabletask_scheduler.hub.model import Commit, HistoryRow, Instance, added
from durabletask_scheduler.storage.opening import open_store

FINISHED, WAITING = 1_000_000, 100_000
GROUP = 5_000
SECOND = 1_000_000_000
TIMES = 200
PAGE = 100
QUIET = logging.Logger("stored", level=logging.ERROR)
Figures = dict[str, float]


def waits(number: int, finished: int, waiting: int) -> bool:
    """Whether the instance of this number waits: they are spread evenly."""
    return bool(waiting) and number % ((finished + waiting) // waiting) == 1


def stored(finished: int, waiting: int) -> Iterator[Instance]:
    """Instances of two hours, one after the other."""
    now = time.time_ns()
    total = finished + waiting
    for number in range(total):
        at = now - 7_200 * SECOND + 7_200 * SECOND * number // total
        instance = Instance(
            2 * number + 1, "default", name_of(number), f"{number:032}", "stored", "1.0", 0, at, at, b""
        )
        if waits(number, finished, waiting):
            _waiting(instance, until=now + 86_400 * SECOND if number % 4 == 1 else 0)
        else:
            _finished(instance, at + SECOND)
        started = pb.HistoryEvent(eventId=-1, executionStarted=pb.ExecutionStartedEvent(name=instance.name))
        instance.started = started.SerializeToString()
        yield instance


def name_of(number: int) -> str:
    return f"stored-{number:08}"


def _waiting(instance: Instance, until: int) -> None:
    instance.name = "waiting"
    instance.scheduled_at = until
    instance.status = pb.ORCHESTRATION_STATUS_PENDING if until else pb.ORCHESTRATION_STATUS_RUNNING
    instance.event_count = 0 if until else 2


def _finished(instance: Instance, at: int) -> None:
    completed = pb.ExecutionCompletedEvent(orchestrationStatus=pb.ORCHESTRATION_STATUS_COMPLETED)
    instance.status, instance.completed_at, instance.event_count = completed.orchestrationStatus, at, 8
    instance.completed = pb.HistoryEvent(eventId=-1, executionCompleted=completed).SerializeToString()


def fill(database: str | os.PathLike[str], finished: int, waiting: int) -> None:
    """Write them into a file or a PostgreSQL database that no scheduler uses, several thousands in a transaction."""
    row = pb.HistoryChunk(
        events=[pb.HistoryEvent(eventId=-1, orchestratorStarted=pb.OrchestratorStartedEvent())]
    ).SerializeToString()
    storage = open_store(database, "OFF")
    storage.add_task_hub("default")
    commit = Commit()
    for instance in stored(finished, waiting):
        commit.created = added(commit.created, instance)
        if instance.event_count:
            commit.history = added(
                commit.history, HistoryRow(key=instance.key + 1, instance_key=instance.key, count=1, events=row)
            )
        if len(commit.created) == GROUP:
            storage.write([commit])
            commit = Commit()
    storage.write([commit])
    storage.close()


def echo(_: task.ActivityContext, value: int) -> int:
    return value


def single(ctx: task.OrchestrationContext, value: int) -> Any:
    return (yield ctx.call_activity(echo, input=value))


def waiting(ctx: task.OrchestrationContext, _: Any) -> Any:
    return (yield ctx.wait_for_external_event("go"))


def median_ms(times: int, action: Callable[[int], object]) -> float:
    taken = []
    for number in range(times):
        begun = time.perf_counter()
        action(number)
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken) * 1e3


def run_one(client: TaskHubGrpcClient, number: int) -> None:
    state = client.wait_for_orchestration_completion(
        client.schedule_new_orchestration(single, input=number), timeout=60
    )
    if state is None or state.runtime_status is not OrchestrationStatus.COMPLETED:
        raise RuntimeError(f"an orchestration did not complete: {state}")


def wake(client: TaskHubGrpcClient, instance_id: str) -> None:
    client.raise_orchestration_event(instance_id, "go")
    client.wait_for_orchestration_completion(instance_id, timeout=60)


def page(stub: TaskHubSidecarServiceStub, status: pb.OrchestrationStatus.ValueType) -> None:
    """One page of a query."""
    stub.QueryInstances(pb.QueryInstancesRequest(query=pb.InstanceQuery(runtimeStatus=[status], maxInstanceCount=PAGE)))


def measure(path: Path, asleep: list[str]) -> Figures:
    """Start a scheduler and a worker on the file and time what they do."""
    begun = time.perf_counter()
    with Scheduler(path) as scheduler, TaskHubGrpcWorker(channel=scheduler.channel(), logger=QUIET) as worker:
        started = time.perf_counter() - begun
        for orchestrator in (single, waiting):
            worker.add_orchestrator(orchestrator)
        worker.add_activity(echo)
        worker.start()
        client = TaskHubGrpcClient(channel=scheduler.channel(), logger=QUIET)
        run_one(client, 0)
        first = time.perf_counter() - begun
        stub = TaskHubSidecarServiceStub(scheduler.channel())
        figures = {
            "started, ms": started * 1e3,
            "first orchestration completed, ms": first * 1e3,
            "one orchestration, ms": median_ms(TIMES, lambda number: run_one(client, number)),
            "page of completed ones, ms": median_ms(20, lambda _: page(stub, pb.ORCHESTRATION_STATUS_COMPLETED)),
            "page of running ones, ms": median_ms(20, lambda _: page(stub, pb.ORCHESTRATION_STATUS_RUNNING)),
        }
        if asleep:
            figures["a stored one woken, ms"] = median_ms(len(asleep), lambda number: wake(client, asleep[number]))
        begun = time.perf_counter()
        client.purge_orchestration(name_of(0))
        figures["one purged, ms"] = (time.perf_counter() - begun) * 1e3
    return figures


def main(finished: int, waiting: int) -> None:
    tables: dict[str, Figures] = {}
    for share in (0.001, 0.1, 1.0):
        counts = int(finished * share), int(waiting * share)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "stored.db"
            fill(path, *counts)
            numbers = (n for n in range(sum(counts)) if waits(n, *counts) and n % 4 != 1)
            tables[f"{counts[0]:,} + {counts[1]:,}"] = measure(path, [name_of(n) for n in islice(numbers, TIMES)])
    smallest, *_, largest = tables.values()
    sys.stdout.write("| | " + " | ".join(tables) + " | last to first |\n|" + " --- |" * (len(tables) + 2) + "\n")
    for title in largest:
        cells = [f"{table[title]:,.2f}" if title in table else "-" for table in tables.values()]
        ratio = f"{largest[title] / smallest[title]:.2f}" if title in smallest else "-"
        sys.stdout.write(f"| {title} | {' | '.join(cells)} | {ratio} |\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser("stored", description="Does it matter how much is stored?")
    parser.add_argument("finished", type=int, nargs="?", default=FINISHED)
    parser.add_argument("waiting", type=int, nargs="?", default=WAITING)
    options = parser.parse_args()
    main(options.finished, options.waiting)
