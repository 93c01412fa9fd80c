"""W5 and W5h: signals to entities."""

from __future__ import annotations

import asyncio
import json
import time
from types import ModuleType
from typing import Any

import grpc
from durabletask.client import AsyncTaskHubGrpcClient
from durabletask.worker import TaskHubGrpcWorker

from drivers import programs
from drivers.concurrency import bounded
from drivers.hosts import QUIET, Deployment, Host, open_host
from drivers.protocol import Figures, Request, Skip

NAME = "counter"
HOT_NAME = "hot"
OPERATION = "add"
SECONDS = 300.0
LOOK_AGAIN = 0.005


def signals(deployment: Deployment, request: Request) -> Figures:
    """N signals to one entity and to a hundred, one by one and at once; until all of them show in the states."""
    package = _entities()
    count, many = request.parameters["count"], request.parameters["entities"]
    with open_host(deployment, request.folder) as host, _entity_worker(host) as worker:
        host.worker.stop()
        worker.start()
        _require_entities(host, package)
        return {
            **_one_by_one(host, package, count, 1, "@serial"),
            **_one_by_one(host, package, count, many, f"@serial-{many}"),
            **asyncio.run(_at_once(host, package, count, 1)),
            **asyncio.run(_at_once(host, package, count, many)),
        }


def hot(deployment: Deployment, request: Request) -> Figures:
    """N signals to one entity with a large state, one by one and at once; until all of them show in its state."""
    package = _entities()
    count, kib = request.parameters["count"], request.parameters["kib"]
    with open_host(deployment, request.folder) as host, _entity_worker(host) as worker:
        host.worker.stop()
        worker.start()
        _require_entities(host, package)
        ids = {name: package.EntityInstanceId(HOT_NAME, name) for name in ("serial", "at-once")}
        for entity in ids.values():
            host.client.signal_entity(entity, OPERATION, kib)
            _wait_until(lambda entity=entity: _count(host.client.get_entity(entity)) == 0)
        with host.meter() as measured:
            for _ in range(count):
                host.client.signal_entity(ids["serial"], OPERATION, kib)
            _wait_until(lambda: _count(host.client.get_entity(ids["serial"])) == count)
        serial = measured.per(count, "@serial")
        return {**serial, **asyncio.run(_hot_at_once(host, ids["at-once"], request))}


async def _hot_at_once(host: Host, entity: Any, request: Request) -> Figures:
    count, kib = request.parameters["count"], request.parameters["kib"]
    async with host.aio_client() as client:
        with host.meter() as measured:
            await bounded(
                host.deployment.in_flight, lambda _: client.signal_entity(entity, OPERATION, kib), range(count)
            )
            deadline = time.perf_counter() + SECONDS
            while _count(await client.get_entity(entity)) < count:
                _check_deadline(deadline)
                await asyncio.sleep(LOOK_AGAIN)
    return measured.per(count, "@1")


def _count(metadata: Any) -> int:
    """How many operations a hot entity has had since it was filled; -1 before that."""
    text = metadata.get_state(str) if metadata is not None else None
    return int(json.loads(text)["count"]) if text else -1


def _entities() -> ModuleType:
    try:
        from durabletask import entities
    except ImportError:
        raise Skip("this SDK has no entities") from None
    if not hasattr(entities, "EntityInstanceId"):
        raise Skip("this SDK has no entities yet")
    return entities


def _entity_worker(host: Host) -> TaskHubGrpcWorker:
    worker = TaskHubGrpcWorker(**host.ends.options(), logger=QUIET)
    worker.add_entity(programs.counter, name=NAME)
    worker.add_entity(programs.hot, name=HOT_NAME)
    return worker


def _require_entities(host: Host, package: ModuleType) -> None:
    try:
        host.client.signal_entity(package.EntityInstanceId(NAME, "first"), OPERATION, 1)
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.UNIMPLEMENTED:
            raise Skip("this scheduler has no entities yet") from error
        raise


def _one_by_one(host: Host, package: ModuleType, count: int, many: int, suffix: str) -> Figures:
    ids = [package.EntityInstanceId(NAME, f"serial-{many}-{number}") for number in range(many)]
    with host.meter() as measured:
        for number in range(count):
            host.client.signal_entity(ids[number % many], OPERATION, 1)
        _wait_until(lambda: sum(_total(host.client.get_entity(entity)) for entity in ids) == count)
    return measured.per(count, suffix)


async def _at_once(host: Host, package: ModuleType, count: int, many: int) -> Figures:
    ids = [package.EntityInstanceId(NAME, f"of-{many}-{number}") for number in range(many)]
    async with host.aio_client() as client:
        with host.meter() as measured:
            await bounded(
                host.deployment.in_flight,
                lambda number: client.signal_entity(ids[number % many], OPERATION, 1),
                range(count),
            )
            await _wait_for_total(client, ids, count, host.deployment.in_flight)
    return measured.per(count, f"@{many}")


async def _wait_for_total(client: AsyncTaskHubGrpcClient, ids: list[Any], count: int, in_flight: int) -> None:
    deadline = time.perf_counter() + SECONDS
    # All at once: one after the other would take as long as many signals.
    while sum(map(_total, await bounded(in_flight, client.get_entity, ids))) < count:
        _check_deadline(deadline)
        await asyncio.sleep(LOOK_AGAIN)


def _wait_until(condition: Any) -> None:
    deadline = time.perf_counter() + SECONDS
    while not condition():
        _check_deadline(deadline)
        time.sleep(LOOK_AGAIN)


def _check_deadline(deadline: float) -> None:
    if time.perf_counter() > deadline:
        raise TimeoutError(f"not all signals were processed within {SECONDS:g} s")


def _total(metadata: Any) -> int:
    state = metadata.get_state(int) if metadata is not None else None
    return state or 0
