"""W14: pages of queries beside many finished orchestrations, while others run. Ours only."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import grpc

from drivers import meter, programs
from drivers.hosts import Deployment, Host, database_of, open_host
from drivers.protocol import Figures, Request, Skip
from drivers.starts import check

SECONDS = 300.0
PAGE = 100
BATCH = 50
"""Orchestrations that are started one by one before they are awaited."""
Ask = Callable[[], Any]
OLDEST = 3_600
"""The window of the query by time begins so many seconds ago and lasts a minute."""


def pages_under_load(deployment: Deployment, request: Request) -> Figures:
    """How long pages take beside N finished orchestrations, and what they cost those that run."""
    if deployment.scheduler == "official" or deployment.database == ":memory:":
        raise Skip("the stored orchestrations are written into our files and databases directly")
    import stored

    figures: Figures = {}
    for count in request.parameters["stored"]:
        filled = _for_size(deployment, count)
        database = database_of(filled, request.folder)
        stored.fill(database, count, 0)
        measured = _measure(filled, request)
        figures.update({f"{name}@{count}": figure for name, figure in measured.items()})
        # What is measured next has the disk and its caches to itself.
        for file in request.folder.glob(f"stored-{count}.db*"):
            file.unlink()
    return figures


def _for_size(deployment: Deployment, count: int) -> Deployment:
    """With a file, or a schema, of its own."""
    of_server = "://" in deployment.database
    name = f"{deployment.database}?schema=stored_{count}" if of_server else f"stored-{count}.db"
    return replace(deployment, database=name)


def _measure(deployment: Deployment, request: Request) -> Figures:
    seconds, rate = request.parameters["seconds"], request.parameters["pages_per_s"]
    with open_host(deployment, request.folder) as host:
        alone = _orchestrations_per_second(host, seconds)
        asked = Pages(host)
        with Reader(asked.usual(), rate) as usual, Reader([asked.by_prefix()], 1) as by_prefix:
            beside = _orchestrations_per_second(host, seconds)
    prefix_ms = meter.latencies(by_prefix.taken())["p50_ms"]
    return {"alone_per_s": alone, "per_s": beside, **meter.latencies(usual.taken()), "prefix_ms": prefix_ms}


def _orchestrations_per_second(host: Host, seconds: float) -> float:
    """W1, again and again."""
    done = 0
    with host.meter() as measured:
        deadline = time.perf_counter() + seconds
        while time.perf_counter() < deadline:
            ids = [host.client.schedule_new_orchestration(programs.single, input=n) for n in range(BATCH)]
            check([host.client.wait_for_orchestration_completion(one, timeout=SECONDS) for one in ids])
            done += BATCH
    return done / measured.wall


class Pages:
    """What a dashboard asks for."""

    def __init__(self, host: Host) -> None:
        from durabletask_proto.orchestrator_service_pb2_grpc import TaskHubSidecarServiceStub

        options = host.ends.options()
        self._stub = TaskHubSidecarServiceStub(options.get("channel") or grpc.insecure_channel(options["host_address"]))

    def usual(self) -> list[Ask]:
        """The first page, one of those completed, of those running and of a minute, a later page, and one of ids."""
        from durabletask_proto import orchestrator_service_pb2 as pb

        begins = int(time.time()) - OLDEST
        completed = [pb.ORCHESTRATION_STATUS_COMPLETED]
        listed = pb.ListInstanceIdsRequest(runtimeStatus=completed, pageSize=PAGE)
        return [
            self._query(),
            self._query(runtimeStatus=completed),
            self._query(runtimeStatus=[pb.ORCHESTRATION_STATUS_RUNNING]),
            self._query(createdTimeFrom={"seconds": begins}, createdTimeTo={"seconds": begins + 60}),
            self._query(continuationToken=self._query()().continuationToken),
            lambda: self._stub.ListInstanceIds(listed),
        ]

    def by_prefix(self) -> Ask:
        """Those whose ids begin alike: a hundred of all."""
        import stored

        return self._query(instanceIdPrefix={"value": stored.name_of(0)[:-2]})

    def _query(self, **fields: Any) -> Ask:
        from durabletask_proto import orchestrator_service_pb2 as pb

        request = pb.QueryInstancesRequest(query=pb.InstanceQuery(maxInstanceCount=PAGE, **fields))
        return lambda: self._stub.QueryInstances(request)


class Reader:
    """Asks for one page after the other on a thread of its own inside a ``with`` block, at this rate or slower."""

    def __init__(self, kinds: list[Ask], per_second: float) -> None:
        self._kinds = kinds
        self._pause = 1.0 / per_second
        self._ends = threading.Event()
        self._taken: list[float] = []
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._read, name="reader")

    def taken(self) -> list[float]:
        """Seconds of each page; raises what a query raised."""
        if self._error is not None:
            raise self._error
        return self._taken

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def _read(self) -> None:
        begun = time.perf_counter()
        for number, ask in enumerate(itertools.cycle(self._kinds)):
            due = begun + number * self._pause
            if self._ends.wait(max(0.0, due - time.perf_counter())):
                return
            asked = time.perf_counter()
            try:
                ask()
            except Exception as error:
                self._error = error
                return
            self._taken.append(time.perf_counter() - asked)
