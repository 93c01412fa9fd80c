"""Driver of DBOS on SQLite in WAL mode, synchronous=FULL (its default).

Workflows that run one at a time are plain functions, many at once are coroutines: the faster way in each case. It has
neither a bulk start nor entities.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from dbos import DBOS

from drivers import children, meter
from drivers.counts import Count
from drivers.imports import import_times
from drivers.protocol import Figures, Request, serve

SECONDS = 300.0
AT_ONCE = 128
DATABASE = "dbos.db"
TOPIC = "go"
waiters = Count()
lateness: list[float] = []


@DBOS.step()
def echo(value: Any) -> Any:
    return value


@DBOS.step()
async def echo_async(value: Any) -> Any:
    return value


@DBOS.workflow()
def single(value: Any) -> Any:
    return echo(value)


@DBOS.workflow()
async def single_async(value: Any) -> Any:
    return await echo_async(value)


@DBOS.workflow()
def chain(length: int) -> int:
    for number in range(length):
        echo(number)
    return length


@DBOS.workflow()
async def chain_async(length: int) -> int:
    for number in range(length):
        await echo_async(number)
    return length


@DBOS.workflow()
async def fan(width: int) -> int:
    return len(await asyncio.gather(*(echo_async(number) for number in range(width))))


@DBOS.workflow()
def relay(payload: str, times: int) -> str:
    for _ in range(times):
        payload = echo(payload)
    return payload


@DBOS.workflow()
async def waiting(_: int) -> Any:
    waiters.add()
    return await DBOS.recv_async(TOPIC, timeout_seconds=SECONDS)


@DBOS.workflow()
async def sleeper(_: int) -> None:
    due = time.time() + 1
    await DBOS.sleep_async(1)
    lateness.append(time.time() - due)


@contextmanager
def launched(folder: Path, *, warm_up: bool = True) -> Iterator[None]:
    path = folder / DATABASE
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
    config: Any = {
        "name": "bench",
        "system_database_url": f"sqlite:///{path}",
        "application_version": "1",
        "console_log_level": "ERROR",
    }
    DBOS(config=config)
    DBOS.launch()
    try:
        for number in range(3 if warm_up else 0):
            single(number)
        yield
    finally:
        DBOS.destroy()


def workload(function: Callable[[Request], Figures]) -> Callable[[Request], Figures]:
    """Run it with DBOS launched on a fresh file."""

    def run(request: Request) -> Figures:
        with launched(request.folder):
            return function(request)

    return run


async def run_all(function: Callable[[Any], Coroutine[Any, Any, Any]], argument: Any, count: int) -> None:
    slots = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        async with slots:
            handle = await DBOS.start_workflow_async(function, argument)
            await handle.get_result()

    await asyncio.gather(*(one() for _ in range(count)))


def one_by_one(request: Request) -> Figures:
    count = request.parameters["count"]
    with meter.Meter() as measured:
        handles = [DBOS.start_workflow(single, number) for number in range(count)]
        for handle in handles:
            handle.get_result()
    return measured.per(count)


def concurrent(request: Request) -> Figures:
    count = request.parameters["count"]
    with meter.Meter() as measured:
        asyncio.run(run_all(single_async, 1, count))
    return measured.per(count)


def threads(request: Request) -> Figures:
    figures: Figures = {}
    for size in request.parameters["threads"]:
        with ThreadPoolExecutor(size) as pool, meter.Meter() as measured:
            deadline = time.perf_counter() + request.parameters["seconds"]
            taken = [one for part in pool.map(_loop, [deadline] * size) for one in part]
        figures.update(measured.per(len(taken), f"@{size}"))
        figures[f"p99_ms@{size}"] = meter.latencies(taken)["p99_ms"]
    return figures


def _loop(deadline: float) -> list[float]:
    taken = []
    while time.perf_counter() < deadline:
        taken.append(_seconds(lambda: DBOS.start_workflow(single, 1).get_result()))
    return taken


def _seconds(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def chains(request: Request) -> Figures:
    figures: Figures = {}
    for length in request.parameters["lengths"]:
        times = max(1, 200 // length)
        with meter.Meter() as measured:
            for _ in range(times):
                chain(length)
        figures.update(measured.per_step(length * times, f"@{length}"))
    return figures


def fans(request: Request) -> Figures:
    figures: Figures = {}
    for width in request.parameters["widths"]:
        with meter.Meter() as measured:
            asyncio.run(fan(width))
        figures.update(measured.per(width, f"@{width}"))
    pairs = [_seconds(lambda: asyncio.run(fan(2))) for _ in range(request.parameters["pairs"])]
    return {**figures, "two_ms": meter.percentile(pairs, 50) * 1e3}


def idle_latency(request: Request) -> Figures:
    times = request.parameters["times"]
    with meter.Meter() as measured:
        taken = [_seconds(lambda: DBOS.start_workflow(single, 1).get_result()) for _ in range(times)]
    return {**meter.latencies(taken), "cpu_us": measured.cpu / times * 1e6}


def timers(request: Request) -> Figures:
    count = request.parameters["count"]
    before = threading.active_count()

    async def run() -> int:
        handles = [await DBOS.start_workflow_async(sleeper, number) for number in range(count)]
        during = threading.active_count()
        for handle in handles:
            await handle.get_result()
        return during

    with meter.Meter() as measured:
        during = asyncio.run(run())
    added = float(max(0, during - before))
    return {**meter.latencies(lateness), "above_s": measured.wall - 1.0, "threads": added}


def idle_instances(request: Request) -> Figures:
    return asyncio.run(_idle_instances(request.parameters["count"], request.parameters["idle_seconds"]))


async def _idle_instances(count: int, idle_seconds: float) -> Figures:
    before = meter.resident()
    with meter.Meter() as starting:
        handles = [await DBOS.start_workflow_async(waiting, number) for number in range(count)]
        await asyncio.to_thread(waiters.wait_for, count, SECONDS)
    kib = (meter.resident() - before) / count
    with meter.Meter() as idle:
        await asyncio.sleep(idle_seconds)
    with meter.Meter() as raising:
        for handle in handles:
            await DBOS.send_async(handle.workflow_id, 1, TOPIC)
        for handle in handles:
            await handle.get_result()
    idle_cpu = idle.cpu / idle.wall * 100
    return {"kib": kib, "idle_cpu": idle_cpu, "start_per_s": count / starting.wall, **raising.per(count)}


def payloads(request: Request) -> Figures:
    payload = "x" * request.parameters["bytes"]
    before = meter.peak()
    relay(payload, 1)
    taken = [_seconds(lambda: relay(payload, 1)) for _ in range(request.parameters["times"])]
    figures = {"one_ms": meter.percentile(taken, 50) * 1e3, "peak_mib": (meter.peak() - before) / 1024}
    return {**figures, "ten_ms": _seconds(lambda: relay(payload, 10)) * 1e3, "ten_done": 1.0}


def imports(request: Request) -> Figures:
    figures = import_times(("dbos",), request.parameters["times"])
    begun = time.perf_counter()
    with launched(request.folder, warm_up=False):
        figures["start_ms"] = (time.perf_counter() - begun) * 1e3
        figures["first_ms"] = _seconds(lambda: DBOS.start_workflow(single, 1).get_result()) * 1e3
    return figures


def restart(request: Request) -> Figures:
    count = request.parameters["count"]
    with children.killed("drivers.dbos_driver", str(request.folder), str(count)) as child:
        children.line_of(child)
    begun = time.perf_counter()
    with launched(request.folder, warm_up=False):
        single(1)
        figures = {"accepts_s": time.perf_counter() - begun}
        waiters.wait_for(count, SECONDS)
        return {**figures, "all_s": time.perf_counter() - begun}


MIXTURE = ((0.7, single_async, 1), (0.9, chain_async, 10), (1.0, fan, 20))


def mixed(request: Request) -> Figures:
    async def customer(number: int, deadline: float) -> list[float]:
        chance = random.Random(number)
        taken = []
        while (begun := time.perf_counter()) < deadline:
            drawn = chance.random()
            function, argument = next((fn, argument) for limit, fn, argument in MIXTURE if drawn < limit)
            await (await DBOS.start_workflow_async(function, argument)).get_result()
            taken.append(time.perf_counter() - begun)
        return taken

    async def run() -> list[list[float]]:
        deadline = time.perf_counter() + request.parameters["seconds"]
        return await asyncio.gather(*(customer(number, deadline) for number in range(request.parameters["clients"])))

    with meter.Meter() as measured:
        taken = [one for part in asyncio.run(run()) for one in part]
    return {**measured.per(len(taken)), **meter.latencies(taken)}


WORKLOADS = {
    "W1": workload(one_by_one),
    "W1a": workload(concurrent),
    "W1t": workload(threads),
    "W1b": workload(concurrent),
    "W2": workload(chains),
    "W3": workload(fans),
    "W4": workload(idle_latency),
    "W6": workload(timers),
    "W7": workload(idle_instances),
    "W8": workload(payloads),
    "W9": imports,
    "W10": restart,
    "W11": workload(mixed),
}


async def _wait_to_be_killed(count: int) -> None:
    for number in range(count):
        await DBOS.start_workflow_async(waiting, number)
    await asyncio.to_thread(waiters.wait_for, count, SECONDS)
    sys.stdout.write("waiting\n")
    sys.stdout.flush()
    await asyncio.sleep(SECONDS)


def main() -> None:
    if len(sys.argv) == 3:
        children.end_with_the_driver()
        with launched(Path(sys.argv[1]), warm_up=False):
            asyncio.run(_wait_to_be_killed(int(sys.argv[2])))
    else:
        serve(WORKLOADS)


if __name__ == "__main__":
    main()
