"""W11: clients that each start one orchestration of a mixture and await it, again and again; for any system."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

from drivers import meter
from drivers.protocol import Figures

SHARES = ((0.7, "single", 1), (0.9, "chain", 10), (1.0, "fan", 20))
"""Up to which random number which orchestrator runs, and with which input: 70 %, 20 %, 10 %."""

One = Callable[[str, int], Awaitable[object]]
"""Start the orchestrator of this name with this input and await its completion."""


async def run(one: One, clients: int, seconds: float, measured: meter.Meter, memory: Callable[[], float]) -> Figures:
    """The rate, the latencies, and what memory has grown by in the second half; ``memory`` gives KiB."""
    with measured:
        begun = time.perf_counter()
        middle = asyncio.create_task(_at(begun + seconds / 2, memory))
        parts = await asyncio.gather(*(_customer(one, number, begun + seconds) for number in range(clients)))
    taken = [one for part in parts for one in part]
    grown = (memory() - await middle) / meter.KIB
    return {**measured.per(len(taken)), **meter.latencies(taken), "grown_mib": grown}


async def _at(due: float, memory: Callable[[], float]) -> float:
    await asyncio.sleep(due - time.perf_counter())
    return memory()


async def _customer(one: One, number: int, deadline: float) -> list[float]:
    chance = random.Random(number)
    taken = []
    while (begun := time.perf_counter()) < deadline:
        drawn = chance.random()
        name, argument = next((name, argument) for limit, name, argument in SHARES if drawn < limit)
        await one(name, argument)
        taken.append(time.perf_counter() - begun)
    return taken
