"""A scheduler for each test, reached in process and over gRPC."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from durabletask.client import TaskHubGrpcClient
from durabletask.worker import TaskHubGrpcWorker
from durabletask_scheduler import Scheduler


class Hub:
    """One scheduler with any number of clients and workers, all closed at the end of the test."""

    def __init__(self, database: pathlib.Path, *, over_grpc: bool) -> None:
        self.database = database
        self.over_grpc = over_grpc
        self._stack = ExitStack()
        self.scheduler = self._stack.enter_context(Scheduler(database))
        self._port = self.scheduler.serve("127.0.0.1", 0) if over_grpc else 0

    @property
    def connection(self) -> dict[str, object]:
        """Keyword arguments by which a client or worker reaches the scheduler."""
        if self.over_grpc:
            return {"host_address": f"127.0.0.1:{self._port}"}
        return {"channel": self.scheduler.channel()}

    def client(self, **options: object) -> TaskHubGrpcClient:
        return self._stack.enter_context(TaskHubGrpcClient(**self.connection, **options))  # type: ignore[arg-type]

    def worker(self, setup: Callable[[TaskHubGrpcWorker], object], **options: object) -> TaskHubGrpcWorker:
        """A started worker after ``setup(worker)`` has registered what it needs."""
        worker = self._stack.enter_context(TaskHubGrpcWorker(**self.connection, **options))  # type: ignore[arg-type]
        setup(worker)
        worker.start()
        return worker

    def restarted(self) -> Hub:
        """Stop everything, then open the same file again."""
        self.close()
        return Hub(self.database, over_grpc=self.over_grpc)

    def close(self) -> None:
        self._stack.close()


@pytest.fixture(params=["in-process", "grpc"])
def hub(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[Hub]:
    hub = Hub(tmp_path / "hub.db", over_grpc=request.param == "grpc")
    yield hub
    hub.close()
