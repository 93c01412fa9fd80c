"""W6, W7 and W7m: orchestrations that wait, for a timer or for an event."""

from __future__ import annotations

import asyncio
import threading
import time

from durabletask.client import AsyncTaskHubGrpcClient

from drivers import meter, programs
from drivers.concurrency import bounded
from drivers.hosts import Deployment, Host, open_host
from drivers.protocol import Figures, Request, Skip
from drivers.starts import check, start_many, wait_all

SECONDS = 300.0
BULK = 1_000
"""Of the many that are started, so many at once: the requests of a bulk start are in memory together."""


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
                instance_ids = await _start_waiting(host, client, count, 0)
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


def many_idle_instances(deployment: Deployment, request: Request) -> Figures:
    """So many that most leave memory: what each costs, and how soon one that was stored completes."""
    if deployment.scheduler == "official":
        raise Skip("keeps all of them in memory")
    return asyncio.run(_many_idle_instances(deployment, request))


async def _many_idle_instances(deployment: Deployment, request: Request) -> Figures:
    count = request.parameters["count"]
    with open_host(deployment, request.folder) as host:
        async with host.aio_client() as client:
            before = meter.resident(host.pids)
            started = [await _start_waiting(host, client, BULK, earlier) for earlier in range(0, count, BULK)]
            kib = (meter.resident(host.pids) - before) / count
            begun = time.perf_counter()
            first = started[0][:1]
            await raise_all(client, deployment, first)
            check(await wait_all(client, first, deployment))
            return {"kib": kib, "wake_ms": (time.perf_counter() - begun) * 1e3}


async def _start_waiting(host: Host, client: AsyncTaskHubGrpcClient, count: int, earlier: int) -> list[str]:
    """Start so many besides the earlier ones, and let them reach their wait; their ids."""
    instance_ids = await start_many(client, host.deployment, programs.waiting, count)
    await asyncio.to_thread(programs.waiters.wait_for, earlier + count, SECONDS)
    return instance_ids


async def raise_all(client: AsyncTaskHubGrpcClient, deployment: Deployment, instance_ids: list[str]) -> None:
    await bounded(
        deployment.in_flight,
        lambda one: client.raise_orchestration_event(one, programs.GO, data=1),
        instance_ids,
    )
