"""W12: many live chains that advance in turn, with all of them in memory and with few."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from durabletask.worker import ConcurrencyOptions

from drivers import programs
from drivers.hosts import Deployment, open_host
from drivers.protocol import Figures, Request
from drivers.starts import check, start_with, wait_all
from drivers.waits import raise_all

SECONDS = 300.0


def chains_in_turn(deployment: Deployment, request: Request) -> Figures:
    """A step where all chains stay in memory, then where hardly one still is when its turn comes.

    What has no such bounds runs as it is; its figures stand where everything is in memory.
    """
    if not hasattr(ConcurrencyOptions(), "maximum_cached_orchestrations"):
        return asyncio.run(_steps(deployment, request, "warm"))
    roomy = replace(deployment, bound=2 * request.parameters["count"])
    tight = replace(deployment, bound=request.parameters["bound"])
    if ":" not in deployment.database:
        roomy = replace(roomy, database=f"warm-{deployment.database}")
    return {**asyncio.run(_steps(roomy, request, "warm")), **asyncio.run(_steps(tight, request, "evicted"))}


async def _steps(deployment: Deployment, request: Request, name: str) -> Figures:
    count, steps = request.parameters["count"], request.parameters["steps"]
    waiting, advanced = programs.waiters.value, programs.advanced.value
    with open_host(deployment, request.folder) as host:
        async with host.aio_client() as client:
            instance_ids = await start_with(client, deployment, programs.stepper, [steps] * count)
            await asyncio.to_thread(programs.waiters.wait_for, waiting + count, SECONDS)
            with host.meter() as measured:
                for number in range(1, steps + 1):
                    await raise_all(client, deployment, instance_ids)
                    await asyncio.to_thread(programs.advanced.wait_for, advanced + number * count, SECONDS)
                check(await wait_all(client, instance_ids, deployment))
    return measured.per_step(count * steps, f"@{name}")
