"""Driver of DBOS, on SQLite in WAL mode with synchronous=FULL (its default), or on PostgreSQL.

    python -m drivers.dbos_driver '{"database": "postgresql"}'

Workflows that run one at a time are plain functions, many at once are coroutines: the faster way in each case. It has
neither a bulk start nor entities.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dbos import DBOS

from drivers import children, databases, meter, mixture
from drivers.concurrency import bounded
from drivers.counts import Count
from drivers.imports import import_times
from drivers.protocol import Figures, Request, serve

SECONDS = 300.0
AT_ONCE = 128
WARM_UPS = 3
FILE = "dbos.db"
TOPIC = "go"
waiters, advanced = Count(), Count()
lateness: list[float] = []


@DBOS.step()
def echo(value: Any) -> Any:
    return value


@DBOS.step()
async def echo_async(value: Any) -> Any:
    return value


@DBOS.step()
async def advance(value: Any) -> Any:
    advanced.add()
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
async def stepper(steps: int) -> int:
    waiters.add()
    for number in range(steps):
        await DBOS.recv_async(TOPIC, timeout_seconds=SECONDS)
        await advance(number)
    return steps


@DBOS.workflow()
async def sleeper(_: int) -> None:
    due = time.time() + 1
    await DBOS.sleep_async(1)
    lateness.append(time.time() - due)


@dataclass(frozen=True)
class Database:
    """Where it keeps its state, and the processes of the server that serves it."""

    url: str
    pids: tuple[int, ...] = ()

    def meter(self) -> meter.Meter:
        return meter.Meter(self.pids)

    @contextmanager
    def launched(self, *, warm_up: bool = True) -> Iterator[None]:
        """DBOS runs; a few workflows have when this returns."""
        config: Any = {
            "name": "bench",
            "system_database_url": self.url,
            "application_version": "1",
            "console_log_level": "ERROR",
        }
        DBOS(config=config)
        DBOS.launch()
        try:
            for number in range(WARM_UPS if warm_up else 0):
                single(number)
            yield
        finally:
            DBOS.destroy()


@contextmanager
def opened(kind: str, folder: Path) -> Iterator[Database]:
    """A database for one run of a workload, empty: a file, or a server of the suite's own."""
    if kind == databases.POSTGRES:
        with databases.postgres() as server:
            yield Database(server.url, (server.pid,))
        return
    path = folder / FILE
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
    yield Database(f"sqlite:///{path}")


Workload = Callable[[Database, Request], Figures]


def launched(function: Workload) -> Workload:
    """With DBOS launched."""

    def run(database: Database, request: Request) -> Figures:
        with database.launched():
            return function(database, request)

    return run


async def start_and_await(number: int) -> None:
    handle = await DBOS.start_workflow_async(single_async, number)
    await handle.get_result()


async def wake(handle: Any) -> None:
    await DBOS.send_async(handle.workflow_id, 1, TOPIC)


def one_by_one(database: Database, request: Request) -> Figures:
    count = request.parameters["count"]
    with database.meter() as measured:
        handles = [DBOS.start_workflow(single, number) for number in range(count)]
        for handle in handles:
            handle.get_result()
    return measured.per(count)


def concurrent(database: Database, request: Request) -> Figures:
    count = request.parameters["count"]
    with database.meter() as measured:
        asyncio.run(bounded(AT_ONCE, start_and_await, range(count)))
    return measured.per(count)


def threads(database: Database, request: Request) -> Figures:
    figures: Figures = {}
    for size in request.parameters["threads"]:
        with ThreadPoolExecutor(size) as pool, database.meter() as measured:
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


def chains(database: Database, request: Request) -> Figures:
    figures: Figures = {}
    for length in request.parameters["lengths"]:
        times = max(1, 200 // length)
        with database.meter() as measured:
            for _ in range(times):
                chain(length)
        figures.update(measured.per_step(length * times, f"@{length}"))
    return figures


def fans(database: Database, request: Request) -> Figures:
    figures: Figures = {}
    for width in request.parameters["widths"]:
        with database.meter() as measured:
            asyncio.run(fan(width))
        figures.update(measured.per(width, f"@{width}"))
    pairs = [_seconds(lambda: asyncio.run(fan(2))) for _ in range(request.parameters["pairs"])]
    return {**figures, "two_ms": meter.percentile(pairs, 50) * 1e3}


def idle_latency(database: Database, request: Request) -> Figures:
    times = request.parameters["times"]
    with database.meter() as measured:
        taken = [_seconds(lambda: DBOS.start_workflow(single, 1).get_result()) for _ in range(times)]
    return {**meter.latencies(taken), "cpu_us": measured.cpu / times * 1e6}


def timers(database: Database, request: Request) -> Figures:
    count = request.parameters["count"]
    before = threading.active_count()

    async def run() -> int:
        handles = [await DBOS.start_workflow_async(sleeper, number) for number in range(count)]
        during = threading.active_count()
        for handle in handles:
            await handle.get_result()
        return during

    with database.meter() as measured:
        during = asyncio.run(run())
    added = float(max(0, during - before))
    return {**meter.latencies(lateness), "above_s": measured.wall - 1.0, "threads": added}


def idle_instances(database: Database, request: Request) -> Figures:
    return asyncio.run(_idle_instances(database, request.parameters["count"], request.parameters["idle_seconds"]))


async def _idle_instances(database: Database, count: int, idle_seconds: float) -> Figures:
    before = meter.resident()
    with database.meter() as starting:
        handles = [await DBOS.start_workflow_async(waiting, number) for number in range(count)]
        await asyncio.to_thread(waiters.wait_for, count, SECONDS)
    kib = (meter.resident() - before) / count
    with database.meter() as idle:
        await asyncio.sleep(idle_seconds)
    with database.meter() as raising:
        await bounded(AT_ONCE, wake, handles)
        for handle in handles:
            await handle.get_result()
    idle_cpu = idle.cpu / idle.wall * 100
    return {"kib": kib, "idle_cpu": idle_cpu, "start_per_s": count / starting.wall, **raising.per(count)}


def payloads(database: Database, request: Request) -> Figures:
    payload = "x" * request.parameters["bytes"]
    before = meter.peak()
    relay(payload, 1)
    taken = [_seconds(lambda: relay(payload, 1)) for _ in range(request.parameters["times"])]
    figures = {"one_ms": meter.percentile(taken, 50) * 1e3, "peak_mib": (meter.peak() - before) / 1024}
    return {**figures, "ten_ms": _seconds(lambda: relay(payload, 10)) * 1e3, "ten_done": 1.0}


def imports(database: Database, request: Request) -> Figures:
    figures = import_times(("dbos",), request.parameters["times"])
    begun = time.perf_counter()
    with database.launched(warm_up=False):
        figures["start_ms"] = (time.perf_counter() - begun) * 1e3
        figures["first_ms"] = _seconds(lambda: DBOS.start_workflow(single, 1).get_result()) * 1e3
    return figures


def restart(database: Database, request: Request) -> Figures:
    count = request.parameters["count"]
    with children.killed("drivers.dbos_driver", database.url, str(count)) as child:
        children.line_of(child)
    begun = time.perf_counter()
    with database.launched(warm_up=False):
        single(1)
        figures = {"accepts_s": time.perf_counter() - begun}
        waiters.wait_for(count, SECONDS)
        return {**figures, "all_s": time.perf_counter() - begun}


MIXTURE = {"single": single_async, "chain": chain_async, "fan": fan}


def mixed(database: Database, request: Request) -> Figures:
    async def one(name: str, argument: int) -> None:
        handle = await DBOS.start_workflow_async(MIXTURE[name], argument)
        await handle.get_result()

    clients, seconds = request.parameters["clients"], request.parameters["seconds"]
    return asyncio.run(mixture.run(one, clients, seconds, database.meter(), partial(meter.resident, collect=False)))


def chains_in_turn(database: Database, request: Request) -> Figures:
    """DBOS has no bound of what it keeps in memory: its figures stand where everything is."""
    return asyncio.run(_steps(database, request.parameters["count"], request.parameters["steps"]))


async def _steps(database: Database, count: int, steps: int) -> Figures:
    handles = [await DBOS.start_workflow_async(stepper, steps) for _ in range(count)]
    await asyncio.to_thread(waiters.wait_for, count, SECONDS)
    with database.meter() as measured:
        for number in range(1, steps + 1):
            await bounded(AT_ONCE, wake, handles)
            await asyncio.to_thread(advanced.wait_for, number * count, SECONDS)
        for handle in handles:
            await handle.get_result()
    return measured.per_step(count * steps, "@warm")


WORKLOADS: dict[str, Workload] = {
    "W1": launched(one_by_one),
    "W1a": launched(concurrent),
    "W1t": launched(threads),
    "W1b": launched(concurrent),
    "W2": launched(chains),
    "W3": launched(fans),
    "W4": launched(idle_latency),
    "W6": launched(timers),
    "W7": launched(idle_instances),
    "W8": launched(payloads),
    "W9": imports,
    "W10": restart,
    "W11": launched(mixed),
    "W12": launched(chains_in_turn),
}


def _with_database(kind: str, workload: Workload, request: Request) -> Figures:
    with opened(kind, request.folder) as database:
        return workload(database, request)


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
        with Database(sys.argv[1]).launched(warm_up=False):
            asyncio.run(_wait_to_be_killed(int(sys.argv[2])))
    else:
        kind = json.loads(sys.argv[1]).get("database", "")
        serve({name: partial(_with_database, kind, workload) for name, workload in WORKLOADS.items()})


if __name__ == "__main__":
    main()
