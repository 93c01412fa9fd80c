"""W1: many orchestrations of one activity each, by how they are started."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from durabletask.client import AsyncTaskHubGrpcClient

from drivers import meter, programs
from drivers.concurrency import bounded
from drivers.hosts import Deployment, Host, open_host
from drivers.protocol import Figures, Request

SECONDS = 300.0


def one_by_one(deployment: Deployment, request: Request) -> Figures:
    """One blocking client starts them one after the other, then awaits them all."""
    count = request.parameters["count"]
    with open_host(deployment, request.folder) as host:
        with host.meter() as measured:
            instance_ids = [host.client.schedule_new_orchestration(programs.single, input=n) for n in range(count)]
            check([host.client.wait_for_orchestration_completion(one, timeout=SECONDS) for one in instance_ids])
        return measured.per(count)


def concurrent(deployment: Deployment, request: Request) -> Figures:
    """One asyncio client starts them, as many at once as the system bears, then awaits them all."""
    count = request.parameters["count"]

    async def run(host: Host) -> meter.Meter:
        async with host.aio_client() as client:
            with host.meter() as measured:
                check(await wait_all(client, await start_all(client, deployment, programs.single, count), deployment))
            return measured

    with open_host(deployment, request.folder) as host:
        return asyncio.run(run(host)).per(count)


def threads(deployment: Deployment, request: Request) -> Figures:
    """Threads that each start one and await it, again and again; more threads than the system bears are left out."""
    figures: Figures = {}
    with open_host(deployment, request.folder) as host:
        for size in request.parameters["threads"]:
            if size <= deployment.blocking:
                figures.update(_closed_loop(host, size, request.parameters["seconds"]))
    return figures


def _closed_loop(host: Host, size: int, seconds: float) -> Figures:
    def loop(deadline: float) -> list[float]:
        taken = []
        while (begun := time.perf_counter()) < deadline:
            instance_id = host.client.schedule_new_orchestration(programs.single, input=0)
            check([host.client.wait_for_orchestration_completion(instance_id, timeout=SECONDS)])
            taken.append(time.perf_counter() - begun)
        return taken

    with ThreadPoolExecutor(size) as pool, host.meter() as measured:
        deadline = time.perf_counter() + seconds
        taken = [one for part in pool.map(loop, [deadline] * size) for one in part]
    return {**measured.per(len(taken), f"@{size}"), f"p99_ms@{size}": meter.latencies(taken)["p99_ms"]}


def bulk(deployment: Deployment, request: Request) -> Figures:
    """One call starts them all where the SDK has one, else its asyncio client; then all are awaited."""
    count = request.parameters["count"]

    async def run(host: Host) -> Figures:
        async with host.aio_client() as client:
            with host.meter() as measured:
                begun = time.perf_counter()
                instance_ids = await start_many(client, deployment, programs.single, count)
                started = time.perf_counter() - begun
                check(await wait_all(client, instance_ids, deployment))
            return {**measured.per(count), "start_per_s": count / started}

    with open_host(deployment, request.folder) as host:
        return asyncio.run(run(host))


async def start_many(
    client: AsyncTaskHubGrpcClient, deployment: Deployment, orchestrator: Any, count: int
) -> list[str]:
    """Start ``count`` orchestrations in the fastest way that this SDK offers; their inputs are numbers."""
    return await start_with(client, deployment, orchestrator, range(count))


async def start_with(
    client: AsyncTaskHubGrpcClient, deployment: Deployment, orchestrator: Any, inputs: Iterable[Any]
) -> list[str]:
    """Start an orchestration with each input in the fastest way that this SDK offers."""
    if not hasattr(client, "schedule_new_orchestrations"):
        return await bounded(
            deployment.in_flight, lambda one: client.schedule_new_orchestration(orchestrator, input=one), inputs
        )
    from durabletask.client import NewOrchestration

    return list(await client.schedule_new_orchestrations([NewOrchestration(orchestrator, one) for one in inputs]))


async def start_all(client: AsyncTaskHubGrpcClient, deployment: Deployment, orchestrator: Any, count: int) -> list[str]:
    """Start ``count`` orchestrations with a call for each, many calls at once."""
    return await bounded(
        deployment.in_flight, lambda n: client.schedule_new_orchestration(orchestrator, input=n), range(count)
    )


async def wait_all(client: AsyncTaskHubGrpcClient, instance_ids: list[str], deployment: Deployment) -> list[Any]:
    """Await them, no more at once than the system has room for waiting calls."""
    return await bounded(
        deployment.blocking, lambda one: client.wait_for_orchestration_completion(one, timeout=SECONDS), instance_ids
    )


def check(states: Iterable[Any]) -> None:
    """Raise RuntimeError unless all of them completed."""
    for state in states:
        if state is None or state.runtime_status.name != "COMPLETED":
            raise RuntimeError(f"an orchestration did not complete: {state}")
