"""Where the SDK's workers and clients find a task hub: in this process, in a second one, or in the official backend."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from durabletask.client import AsyncTaskHubGrpcClient, TaskHubGrpcClient
from durabletask.worker import ConcurrencyOptions, TaskHubGrpcWorker

from drivers import meter, programs
from drivers.ports import free_port

START_SECONDS = 30.0
STOP_SECONDS = 5.0
WARM_UPS = 3
OFFICIAL_EVENTS = 1_000_000
"""By default its backend never ends an orchestration of more than 10,000 events."""
QUIET = logging.Logger("benchmark", level=logging.ERROR)
QUIET.addHandler(logging.StreamHandler())


@dataclass(frozen=True)
class Deployment:
    """How one system is set up.

    Attributes:
        scheduler: ``embedded`` (ours, in this process), ``process`` (ours, in a second one, over gRPC) or
            ``official`` (the official SDK's backend in this process, over gRPC).
        database: a file name, ``:memory:``, or the URL of a PostgreSQL database; ``postgresql`` stands for one of
            the suite's own (see ``drivers.databases``).
        synchronous: when a write counts as done.
        python: the interpreter of the second process.
        in_flight: calls that the concurrent clients may have in flight at once.
        blocking: threads that may wait for an orchestration at once.
        pids: processes of the database server, whose CPU counts too.
        bound: orchestrations that the worker and the scheduler keep in memory; 0 leaves them their defaults.
        one_core: binds this process to one core.
    """

    scheduler: str
    database: str = "bench.db"
    synchronous: str = "FULL"
    python: str = "python"
    in_flight: int = 128
    blocking: int = 64
    pids: Sequence[int] = ()
    bound: int = 0
    one_core: bool = False

    @classmethod
    def parse(cls, text: str) -> Deployment:
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Ends:
    """What clients and workers are built with, and the scheduler's process if it is another one."""

    options: Callable[[], dict[str, Any]]
    aio_options: Callable[[], dict[str, Any]]
    pids: tuple[int, ...] = ()


@dataclass
class Host:
    """A task hub with one worker that runs the programs of the suite."""

    deployment: Deployment
    ends: Ends
    worker: TaskHubGrpcWorker
    client: TaskHubGrpcClient
    _clients: list[TaskHubGrpcClient] = field(default_factory=list)

    @property
    def pids(self) -> tuple[int, ...]:
        """Processes besides this one whose memory grows with the orchestrations."""
        return self.ends.pids

    def meter(self) -> meter.Meter:
        return meter.Meter((*self.pids, *self.deployment.pids))

    def aio_client(self) -> AsyncTaskHubGrpcClient:
        """A client for the running loop."""
        return AsyncTaskHubGrpcClient(**self.ends.aio_options(), logger=QUIET)


@contextmanager
def open_host(deployment: Deployment, folder: Path, *, warm_up: bool = True) -> Iterator[Host]:
    """Start the scheduler and a worker; a few orchestrations have run when this returns."""
    if deployment.one_core:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with _SCHEDULERS[deployment.scheduler](deployment, folder) as ends:
        client = TaskHubGrpcClient(**ends.options(), logger=QUIET)
        worker = new_worker(ends, deployment.bound)
        worker.start()
        try:
            for number in range(WARM_UPS if warm_up else 0):
                instance_id = client.schedule_new_orchestration(programs.single, input=number)
                client.wait_for_orchestration_completion(instance_id, timeout=START_SECONDS)
            yield Host(deployment, ends, worker, client)
        finally:
            worker.stop()
            client.close()


def new_worker(ends: Ends, bound: int = 0) -> TaskHubGrpcWorker:
    options = ends.options()
    if bound:
        options["concurrency_options"] = ConcurrencyOptions(maximum_cached_orchestrations=bound)
    worker = TaskHubGrpcWorker(**options, logger=QUIET)
    for orchestrator in programs.ORCHESTRATORS:
        worker.add_orchestrator(orchestrator)
    for activity in programs.ACTIVITIES:
        worker.add_activity(activity)
    return worker


@contextmanager
def _embedded(deployment: Deployment, folder: Path) -> Iterator[Ends]:
    with new_scheduler(deployment, folder) as scheduler:
        yield Ends(lambda: {"channel": scheduler.channel()}, lambda: {"channel": scheduler.aio_channel()})


def new_scheduler(deployment: Deployment, folder: Path) -> Any:
    """Ours, not yet started."""
    from durabletask_scheduler import Scheduler
    from durabletask_scheduler.service import ServiceOptions

    options = ServiceOptions(idle_instances=deployment.bound) if deployment.bound else None
    database = database_of(deployment, folder)
    return Scheduler(database, synchronous=deployment.synchronous, service_options=options)


def serve_command(deployment: Deployment, folder: Path, port: int = 0) -> list[str]:
    """The command of a scheduler in a process of its own."""
    if deployment.bound:
        return [deployment.python, "-m", "drivers.bounded_scheduler", json.dumps(asdict(deployment)), str(folder)]
    command = [deployment.python, "-m", "durabletask_scheduler", "serve", "--port", str(port), "--log-level", "error"]
    return [*command, "--db", database_of(deployment, folder), "--synchronous", deployment.synchronous.lower()]


@contextmanager
def _separate(deployment: Deployment, folder: Path) -> Iterator[Ends]:
    command = serve_command(deployment, folder)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as scheduler:
        try:
            assert scheduler.stdout is not None
            ready = scheduler.stdout.readline()
            found = re.search(r"ready on http://([^,\s]+)", ready)
            if not found:
                raise RuntimeError(f"the scheduler did not start: {ready!r}")
            options = {"host_address": found[1]}
            yield Ends(lambda: dict(options), lambda: dict(options), (scheduler.pid,))
        finally:
            scheduler.terminate()
            try:
                scheduler.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                scheduler.kill()


@contextmanager
def _official(_: Deployment, folder: Path) -> Iterator[Ends]:
    from durabletask.testing import create_test_backend

    port = free_port()
    backend = create_test_backend(port=port, max_history_size=OFFICIAL_EVENTS)
    options = {"host_address": f"localhost:{port}"}
    try:
        yield Ends(lambda: dict(options), lambda: dict(options))
    finally:
        backend.stop()


def database_of(deployment: Deployment, folder: Path) -> str:
    if deployment.database == ":memory:" or "://" in deployment.database:
        return deployment.database
    return str(folder / deployment.database)


_SCHEDULERS = {"embedded": _embedded, "process": _separate, "official": _official}
