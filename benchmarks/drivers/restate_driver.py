"""Driver of Restate: its server in a second process, services and client in this one.

What starts a workflow and awaits it at once does so with one request, as is usual there; what starts many first sends
them, which is durable when it is answered, and then attaches to each.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from drivers import meter, mixture
from drivers import restate_programs as programs
from drivers.concurrency import bounded
from drivers.imports import import_times
from drivers.protocol import Figures, Request, serve
from drivers.restate_server import SECONDS, AsyncClient, Client, Server, opened, running, services

AT_ONCE = 128
STEPS_AT_LEAST = 200
LOOK_AGAIN = 0.005
Workload = Callable[[Server, Request], Figures]


def one_by_one(server: Server, request: Request) -> Figures:
    client, count = Client(server.ingress), request.parameters["count"]
    with server.meter() as measured:
        keys = [client.start("single", number) for number in range(count)]
        for key in keys:
            client.result("single", key)
    return measured.per(count)


def concurrent(server: Server, request: Request) -> Figures:
    count = request.parameters["count"]

    async def run() -> meter.Meter:
        async with AsyncClient(server.ingress) as client:
            with server.meter() as measured:
                await bounded(AT_ONCE, lambda number: client.run("single", number), range(count))
        return measured

    return asyncio.run(run()).per(count)


def threads(server: Server, request: Request) -> Figures:
    figures: Figures = {}
    for size in request.parameters["threads"]:
        with ThreadPoolExecutor(size) as pool, server.meter() as measured:
            deadline = time.perf_counter() + request.parameters["seconds"]
            taken = [one for part in pool.map(partial(_loop, server), [deadline] * size) for one in part]
        figures.update(measured.per(len(taken), f"@{size}"))
        figures[f"p99_ms@{size}"] = meter.latencies(taken)["p99_ms"]
    return figures


def _loop(server: Server, deadline: float) -> list[float]:
    client = Client(server.ingress)
    taken = []
    while time.perf_counter() < deadline:
        taken.append(_seconds(client, "single", 1))
    return taken


def _seconds(client: Client, name: str, argument: Any) -> float:
    begun = time.perf_counter()
    client.run(name, argument)
    return time.perf_counter() - begun


def chains(server: Server, request: Request) -> Figures:
    client, figures = Client(server.ingress), {}
    for length in request.parameters["lengths"]:
        times = max(1, STEPS_AT_LEAST // length)
        with server.meter() as measured:
            for _ in range(times):
                client.run("chain", length)
        figures.update(measured.per_step(length * times, f"@{length}"))
    return figures


def fans(server: Server, request: Request) -> Figures:
    client, figures = Client(server.ingress), {}
    for width in request.parameters["widths"]:
        with server.meter() as measured:
            client.run("fan", width)
        figures.update(measured.per(width, f"@{width}"))
    pairs = [_seconds(client, "fan", 2) for _ in range(request.parameters["pairs"])]
    return {**figures, "two_ms": meter.percentile(pairs, 50) * 1e3}


def idle_latency(server: Server, request: Request) -> Figures:
    client, times = Client(server.ingress), request.parameters["times"]
    with server.meter() as measured:
        taken = [_seconds(client, "single", 1) for _ in range(times)]
    return {**meter.latencies(taken), "cpu_us": measured.cpu / times * 1e6}


def signals(server: Server, request: Request) -> Figures:
    """Calls of a virtual object that are not awaited; until all of them show in the states."""
    count, many = request.parameters["count"], request.parameters["entities"]
    client = Client(server.ingress)
    with server.meter() as measured:
        for _ in range(count):
            client.call("/counter/serial/add/send", 1)
        deadline = time.perf_counter() + SECONDS
        while client.call("/counter/serial/total") < count:
            _check(deadline)
            time.sleep(LOOK_AGAIN)
    figures = measured.per(count, "@serial")
    for size in (1, many):
        figures.update(asyncio.run(_signals_at_once(server, count, size)))
    return figures


async def _signals_at_once(server: Server, count: int, many: int) -> Figures:
    names = [f"of-{many}-{number}" for number in range(many)]
    async with AsyncClient(server.ingress) as client:
        with server.meter() as measured:
            await bounded(
                AT_ONCE, lambda number: client.call(f"/counter/{names[number % many]}/add/send", 1), range(count)
            )
            deadline = time.perf_counter() + SECONDS
            while sum(await bounded(AT_ONCE, lambda name: client.call(f"/counter/{name}/total"), names)) < count:
                _check(deadline)
                await asyncio.sleep(LOOK_AGAIN)
    return measured.per(count, f"@{many}")


def _check(deadline: float) -> None:
    if time.perf_counter() > deadline:
        raise TimeoutError(f"not all signals were processed within {SECONDS:g} s")


def timers(server: Server, request: Request) -> Figures:
    count = request.parameters["count"]
    before = threading.active_count()

    async def run() -> int:
        async with AsyncClient(server.ingress) as client:
            keys = await bounded(AT_ONCE, lambda number: client.start("sleeper", number), range(count))
            during = threading.active_count()
            await bounded(AT_ONCE, lambda key: client.result("sleeper", key), keys)
        return during

    with server.meter() as measured:
        during = asyncio.run(run())
    added = float(max(0, during - before))
    return {**meter.latencies(programs.lateness), "above_s": measured.wall - 1.0, "threads": added}


def idle_instances(server: Server, request: Request) -> Figures:
    return asyncio.run(_idle_instances(server, request.parameters["count"], request.parameters["idle_seconds"]))


async def _idle_instances(server: Server, count: int, idle_seconds: float) -> Figures:
    async with AsyncClient(server.ingress) as client:
        before = meter.resident(server.pids)
        with server.meter() as starting:
            keys = await bounded(AT_ONCE, lambda number: client.start("waiting", number), range(count))
            await asyncio.to_thread(programs.waiters.wait_for, count, SECONDS)
        kib = (meter.resident(server.pids) - before) / count
        with server.meter() as idle:
            await asyncio.sleep(idle_seconds)
        with server.meter() as raising:
            await bounded(AT_ONCE, lambda key: client.call(f"/waiting/{key}/wake", "0"), keys)
            await bounded(AT_ONCE, lambda key: client.result("waiting", key), keys)
    idle_cpu = idle.cpu / idle.wall * 100
    return {"kib": kib, "idle_cpu": idle_cpu, "start_per_s": count / starting.wall, **raising.per(count)}


def payloads(server: Server, request: Request) -> Figures:
    client = Client(server.ingress)
    order = {"payload": "x" * request.parameters["bytes"], "times": 1}
    before = meter.peak(server.pids)
    client.run("relay", order)
    taken = [_seconds(client, "relay", order) for _ in range(request.parameters["times"])]
    grown = (meter.peak(server.pids) - before) / meter.KIB
    figures = {"one_ms": meter.percentile(taken, 50) * 1e3, "peak_mib": grown}
    return {**figures, "ten_ms": _seconds(client, "relay", {**order, "times": 10}) * 1e3, "ten_done": 1.0}


def imports_and_start(request: Request) -> Figures:
    """As for the others, the server has begun to work already when the worker, here the services, is started."""
    figures = import_times(("restate",), request.parameters["times"])
    with running(request.folder) as server:
        with services(server):
            Client(server.ingress).run("single", 1)
        begun = time.perf_counter()
        with services(server):
            figures["start_ms"] = (time.perf_counter() - begun) * 1e3
            figures["first_ms"] = _seconds(Client(server.ingress), "single", 1) * 1e3
    return figures


def mixed(server: Server, request: Request) -> Figures:
    clients, seconds = request.parameters["clients"], request.parameters["seconds"]

    async def run() -> Figures:
        async with AsyncClient(server.ingress) as client:
            memory = partial(meter.resident, server.pids, collect=False)
            return await mixture.run(client.run, clients, seconds, server.meter(), memory)

    return asyncio.run(run())


def chains_in_turn(server: Server, request: Request) -> Figures:
    """Restate has no bound of what is in memory, only times: its figures stand where everything is."""
    return asyncio.run(_steps(server, request.parameters["count"], request.parameters["steps"]))


async def _wake(client: AsyncClient, event: str, key: str) -> None:
    await client.call(f"/stepper/{key}/wake", event)


async def _steps(server: Server, count: int, steps: int) -> Figures:
    async with AsyncClient(server.ingress) as client:
        keys = await bounded(AT_ONCE, lambda _: client.start("stepper", steps), range(count))
        await asyncio.to_thread(programs.waiters.wait_for, count, SECONDS)
        with server.meter() as measured:
            for number in range(steps):
                await bounded(AT_ONCE, partial(_wake, client, str(number)), keys)
                await asyncio.to_thread(programs.advanced.wait_for, (number + 1) * count, SECONDS)
            await bounded(AT_ONCE, lambda key: client.result("stepper", key), keys)
    return measured.per_step(count * steps, "@warm")


def on_a_server(workload: Workload) -> Callable[[Request], Figures]:
    """With a server of its own and the services."""

    def run(request: Request) -> Figures:
        with opened(request.folder) as server:
            return workload(server, request)

    return run


WORKLOADS: dict[str, Workload] = {
    "W1": one_by_one,
    "W1a": concurrent,
    "W1t": threads,
    "W2": chains,
    "W3": fans,
    "W4": idle_latency,
    "W5": signals,
    "W6": timers,
    "W7": idle_instances,
    "W8": payloads,
    "W11": mixed,
    "W12": chains_in_turn,
}

if __name__ == "__main__":
    serve({**{name: on_a_server(workload) for name, workload in WORKLOADS.items()}, "W9": imports_and_start})
