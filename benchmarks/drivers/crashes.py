"""W10, W10m and W13: SIGKILL, restart, and what is back.

A child process (this module's ``main``) opens the task hub, works, and says what was acknowledged; the driver kills
it with all its own children and opens the same file again.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from durabletask import task
from durabletask.worker import TaskHubGrpcWorker

from drivers import children, programs
from drivers.hosts import QUIET, Deployment, Ends, Host, open_host
from drivers.loads import run
from drivers.protocol import Figures, Request, Skip
from drivers.starts import check, start_many, wait_all
from drivers.waits import raise_all

Child = subprocess.Popen[str]
SECONDS = 300.0
STARTS_AT_ONCE = 32
LOG = "activities.log"
ACKNOWLEDGED = "acknowledged.log"


def restart(deployment: Deployment, request: Request) -> Figures:
    """N orchestrations wait for an event; SIGKILL; how soon is work accepted, how soon has each taken its event for
    good, and how soon have all completed?
    """
    with _restarted(deployment, request) as (host, instance_ids, begun):
        figures = _first_figures(host, instance_ids[0], begun)
        figures["back_s"] = asyncio.run(_wake(host, instance_ids[1:])) - begun
        figures["all_s"] = time.perf_counter() - begun
    return figures


def restart_with_many(deployment: Deployment, request: Request) -> Figures:
    """The same with so many that only how soon the first ones go on is of interest."""
    with _restarted(deployment, request) as (host, instance_ids, begun):
        return _first_figures(host, instance_ids[0], begun)


@contextmanager
def _restarted(deployment: Deployment, request: Request) -> Iterator[tuple[Host, list[str], float]]:
    """Opened again after SIGKILL: the host, the orchestrations that wait, and when opening began."""
    _require_file(deployment)
    with _child(deployment, request.folder, "wait", request.parameters["count"]) as child:
        instance_ids: list[str] = json.loads(children.line_of(child))
    begun = time.perf_counter()
    with open_host(deployment, request.folder, warm_up=False) as host:
        yield host, instance_ids, begun


def _first_figures(host: Host, instance_id: str, begun: float) -> Figures:
    """Complete a new orchestration, then an old one."""
    run(host, programs.single, 1)
    accepts = time.perf_counter() - begun
    host.client.raise_orchestration_event(instance_id, programs.GO, data=1)
    check([host.client.wait_for_orchestration_completion(instance_id, timeout=SECONDS)])
    return {"accepts_s": accepts, "first_s": time.perf_counter() - begun}


async def _wake(host: Host, instance_ids: list[str]) -> float:
    """Raise and await them all; when the last event was acknowledged."""
    async with host.aio_client() as client:
        await raise_all(client, host.deployment, instance_ids)
        taken = time.perf_counter()
        check(await wait_all(client, instance_ids, host.deployment))
    return taken


def kill(deployment: Deployment, request: Request) -> Figures:
    """Load, SIGKILL at a random time, restart: acknowledged starts that never complete, activities that ran twice."""
    _require_file(deployment)
    log = request.folder / LOG
    with _child(deployment, request.folder, "load", 0) as child:
        children.line_of(child)
        time.sleep(random.uniform(*request.parameters["seconds"]))
    instance_ids = (request.folder / ACKNOWLEDGED).read_text().split()
    before = len(log.read_text().split())
    with open_host(deployment, request.folder, warm_up=False) as host, _logging_worker(host.ends, log) as worker:
        host.worker.stop()
        worker.start()
        states = asyncio.run(_states(host, instance_ids))
    lost = sum(state is None or state.runtime_status.name != "COMPLETED" for state in states)
    runs = Counter(log.read_text().split())
    acknowledged = float(len(instance_ids))
    return {
        "acknowledged": acknowledged,
        "lost": float(lost),
        "twice": float(sum(number - 1 for number in runs.values())),
        "before_kill": float(before),
    }


async def _states(host: Host, instance_ids: list[str]) -> list[Any]:
    async with host.aio_client() as client:
        return await wait_all(client, instance_ids, host.deployment)


def _require_file(deployment: Deployment) -> None:
    if deployment.scheduler == "official" or deployment.database == ":memory:":
        raise Skip("keeps nothing on disk")


def _child(deployment: Deployment, folder: Path, mode: str, count: int) -> AbstractContextManager[Child]:
    return children.killed("drivers.crashes", json.dumps(asdict(deployment)), str(folder), mode, str(count))


def _logging_worker(ends: Ends, log: Path) -> TaskHubGrpcWorker:
    """A worker whose activity writes down each of its runs before it returns."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def echo(ctx: task.ActivityContext, value: Any) -> Any:
        os.write(file, f"{ctx.orchestration_id}:{ctx.task_id}\n".encode())
        return value

    worker = TaskHubGrpcWorker(**ends.options(), logger=QUIET)
    worker.add_orchestrator(programs.single)
    worker.add_activity(echo)
    return worker


def main() -> None:
    children.end_with_the_driver()
    deployment, folder, mode, count = Deployment.parse(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    with open_host(deployment, folder, warm_up=False) as host:
        asyncio.run(_MODES[mode](host, folder, count))


async def _wait(host: Host, _: Path, count: int) -> None:
    async with host.aio_client() as client:
        instance_ids = await start_many(client, host.deployment, programs.waiting, count)
        await asyncio.to_thread(programs.waiters.wait_for, count, SECONDS)
    sys.stdout.write(json.dumps(instance_ids) + "\n")
    sys.stdout.flush()
    await asyncio.sleep(SECONDS)


async def _load(host: Host, folder: Path, _: int) -> None:
    """Start orchestrations without end, and write each id down once its start was acknowledged."""
    with _logging_worker(host.ends, folder / LOG) as worker, (folder / ACKNOWLEDGED).open("a") as acknowledged:
        host.worker.stop()
        worker.start()

        async def start_without_end() -> None:
            async with host.aio_client() as client:
                while True:
                    instance_id = await client.schedule_new_orchestration(programs.single, input=1)
                    acknowledged.write(instance_id + "\n")
                    acknowledged.flush()

        sys.stdout.write("loading\n")
        sys.stdout.flush()
        await asyncio.gather(*(start_without_end() for _ in range(STARTS_AT_ONCE)))


_MODES = {"wait": _wait, "load": _load}

if __name__ == "__main__":
    main()
