"""Scenario 1, after: new orders and their sub-orchestrations get version 1.0.0; orders of any version run."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator
from typing import Any

from azure.identity import DefaultAzureCredential
from durabletask import task
from durabletask.azuremanaged.worker import DurableTaskSchedulerWorker
from durabletask.worker import TaskHubGrpcWorker, VersioningOptions, VersionMatchStrategy


def reserve(ctx: task.ActivityContext, item: str) -> str:
    return f"reserved {item}"


def ship(ctx: task.OrchestrationContext, item: str) -> str:
    """A sub-orchestration, started without a version: it gets the worker's default version."""
    return f"shipped {item} ({ctx.version or 'no version'})"


def order(ctx: task.OrchestrationContext, item: str) -> Generator[task.Task[Any], Any, list[str]]:
    """The same as before."""
    reserved = yield ctx.call_activity(reserve, input=item)
    yield ctx.wait_for_external_event("approved")
    shipped = yield ctx.call_sub_orchestrator(ship, input=item)
    return [reserved, shipped]


def setup(worker: TaskHubGrpcWorker) -> None:
    worker.add_orchestrator(order)
    worker.add_orchestrator(ship)
    worker.add_activity(reserve)
    worker.use_versioning(
        VersioningOptions(
            version="1.0.0",
            default_version="1.0.0",
            match_strategy=VersionMatchStrategy.NONE,
        )
    )


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    endpoint = os.environ.get("ENDPOINT", "http://localhost:8080")
    # A local scheduler asks for no identity; a deployed one (https://...) does.
    local = endpoint.startswith("http://")
    with DurableTaskSchedulerWorker(
        host_address=endpoint,
        taskhub=os.environ.get("TASKHUB", "default"),
        token_credential=None if local else DefaultAzureCredential(),
        secure_channel=not local,
        logger=logging.getLogger("scenarios"),
    ) as worker:
        setup(worker)
        worker.run()


if __name__ == "__main__":
    main()
