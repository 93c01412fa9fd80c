"""W6 and W7: orchestrations that wait, for a timer or for an event."""

from __future__ import annotations

import asyncio
import threading
import time

from durabletask.client import AsyncTaskHubGrpcClient

from drivers import meter, programs
from drivers.concurrency import bounded
from drivers.hosts import Deployment, Host, open_host
from drivers.protocol import Figures, Request
from drivers.starts import check, start_many, wait_all

SECONDS = 300.0


def timers(deployment: Deployment, request: Request) -> Figures:
    """N orchestrations wait for a timer of one second each."""
    count = request.parameters["count"]

    async def run(host: Host) -> Figures:
        async with host.aio_client() as client:
            before = threading.active_count()
            with host.meter() as measured:
                begun = time.perf_counter()
                instance_ids = await start_many(client, deployment, programs.sleeper, count)
                started = time.perf_counter() - begun
                during = threading.active_count()
                check(await wait_all(client, instance_ids, deployment))
            late = meter.latencies(programs.lateness)
            return {
                **late,
                "above_s": measured.wall - 1.0,
                "start_s": started,
                "cpu_us": measured.cpu / count * 1e6,
                "threads": float(max(0, during - before)),
            }

    with open_host(deployment, request.folder) as host:
        return asyncio.run(run(host))


def idle_instances(deployment: Deployment, request: Request) -> Figures:
    """N orchestrations wait for an event; what each costs meanwhile; then all are raised."""
    return asyncio.run(_idle_instances(deployment, request))


async def _idle_instances(deployment: Deployment, request: Request) -> Figures:
    count = request.parameters["count"]
    with open_host(deployment, request.folder) as host:
        async with host.aio_client() as client:
            before = meter.resident(host.pids)
            with host.meter() as starting:
                instance_ids = await start_many(client, deployment, programs.waiting, count)
                await asyncio.to_thread(programs.waiters.wait_for, count, SECONDS)
            kib = (meter.resident(host.pids) - before) / count
            with host.meter() as idle:
                await asyncio.sleep(request.parameters["idle_seconds"])
            with host.meter() as raising:
                await raise_all(client, deployment, instance_ids)
                check(await wait_all(client, instance_ids, deployment))
    return {
        "kib": kib,
        "idle_cpu": idle.cpu / idle.wall * 100,
        "start_per_s": count / starting.wall,
        **raising.per(count),
    }


async def raise_all(client: AsyncTaskHubGrpcClient, deployment: Deployment, instance_ids: list[str]) -> None:
    await bounded(
        deployment.in_flight,
        lambda one: client.raise_orchestration_event(one, programs.GO, data=1),
        instance_ids,
    )
