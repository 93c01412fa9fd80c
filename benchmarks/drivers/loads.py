"""W2, W3, W4, W8, W9 and W11: chains, fan-outs, latency on an idle system, payloads, imports, and a mixture."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

from drivers import meter, mixture, programs
from drivers.hosts import Deployment, Host, open_host
from drivers.imports import import_times
from drivers.protocol import Figures, Request
from drivers.starts import check

MODULES = ("durabletask", "durabletask.client", "durabletask.worker")
SECONDS = 600.0
STEPS_AT_LEAST = 1_000
"""Short chains are repeated until this many steps are measured."""


def run(host: Host, orchestrator: Any, argument: Any, timeout: float = SECONDS) -> None:
    """Start one orchestration and wait until it has completed."""
    instance_id = host.client.schedule_new_orchestration(orchestrator, input=argument)
    check([host.client.wait_for_orchestration_completion(instance_id, timeout=timeout)])


def chains(deployment: Deployment, request: Request) -> Figures:
    """One orchestration calls N activities in sequence."""
    figures: Figures = {}
    with open_host(deployment, request.folder) as host:
        for length in request.parameters["lengths"]:
            times = max(1, STEPS_AT_LEAST // length)
            with host.meter() as measured:
                for _ in range(times):
                    run(host, programs.chain, length)
            figures.update(measured.per_step(length * times, f"@{length}"))
    return figures


def fans(deployment: Deployment, request: Request) -> Figures:
    """One orchestration calls N activities at once; and how long a fan-out of two takes on an idle system."""
    figures: Figures = {}
    with open_host(deployment, request.folder) as host:
        for width in request.parameters["widths"]:
            with host.meter() as measured:
                run(host, programs.fan, width)
            figures.update(measured.per(width, f"@{width}"))
        figures["two_ms"] = meter.latencies(_timed(host, programs.fan, 2, request.parameters["pairs"]))["p50_ms"]
    return figures


def idle_latency(deployment: Deployment, request: Request) -> Figures:
    """One orchestration of one activity on an idle system, again and again."""
    with open_host(deployment, request.folder) as host, host.meter() as measured:
        taken = _timed(host, programs.single, 1, request.parameters["times"])
    return {**meter.latencies(taken), "cpu_us": measured.cpu / len(taken) * 1e6}


def _timed(host: Host, orchestrator: Any, argument: Any, times: int) -> list[float]:
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        run(host, orchestrator, argument)
        taken.append(time.perf_counter() - begun)
    return taken


def imports_and_start(deployment: Deployment, request: Request) -> Figures:
    """Imports in processes of their own; then the start of a worker and its first result."""
    figures = import_times(MODULES, request.parameters["times"])
    with open_host(deployment, request.folder, warm_up=False) as host:
        host.worker.stop()
        begun = time.perf_counter()
        host.worker.start()
        figures["start_ms"] = (time.perf_counter() - begun) * 1e3
        figures["first_ms"] = _timed(host, programs.single, 1, 1)[0] * 1e3
    return figures


def payloads(deployment: Deployment, request: Request) -> Figures:
    """A large payload in, through activities, and out."""
    size, limit = request.parameters["bytes"], request.parameters["seconds"]
    order = {"payload": "x" * size, "times": 1}
    with open_host(deployment, request.folder) as host:
        before = meter.peak(host.pids)
        run(host, programs.relay, order)
        taken = _timed(host, programs.relay, order, request.parameters["times"])
        figures = {"one_ms": meter.percentile(taken, 50) * 1e3, "peak_mib": (meter.peak(host.pids) - before) / 1024}
        try:
            begun = time.perf_counter()
            run(host, programs.relay, {**order, "times": 10}, limit)
            figures.update(ten_ms=(time.perf_counter() - begun) * 1e3, ten_done=1.0)
        except TimeoutError:
            figures["ten_done"] = 0.0
        return figures


def mixed(deployment: Deployment, request: Request) -> Figures:
    """Clients that each start one orchestration of the mixture and await it, again and again."""
    return asyncio.run(_mixed(deployment, request))


async def _mixed(deployment: Deployment, request: Request) -> Figures:
    clients = min(request.parameters["clients"], deployment.blocking)
    with open_host(deployment, request.folder) as host:
        async with host.aio_client() as client:

            async def one(name: str, argument: int) -> None:
                instance_id = await client.schedule_new_orchestration(name, input=argument)
                check([await client.wait_for_orchestration_completion(instance_id, timeout=SECONDS)])

            memory = partial(meter.resident, host.pids, collect=False)
            return await mixture.run(one, clients, request.parameters["seconds"], host.meter(), memory)
