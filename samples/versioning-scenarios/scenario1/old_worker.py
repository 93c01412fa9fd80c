"""Scenario 1, before: nobody has thought of versions yet."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator
from typing import Any

from azure.identity import DefaultAzureCredential
from durabletask import task
from durabletask.azuremanaged.worker import DurableTaskSchedulerWorker
from durabletask.worker import TaskHubGrpcWorker


def reserve(ctx: task.ActivityContext, item: str) -> str:
    return f"reserved {item}"


def ship(ctx: task.OrchestrationContext, item: str) -> str:
    """A sub-orchestration, started without a version: it gets the worker's default version."""
    return f"shipped {item} ({ctx.version or 'no version'})"


def order(ctx: task.OrchestrationContext, item: str) -> Generator[task.Task[Any], Any, list[str]]:
    """Reserve, wait for the approval, ship."""
    reserved = yield ctx.call_activity(reserve, input=item)
    yield ctx.wait_for_external_event("approved")
    shipped = yield ctx.call_sub_orchestrator(ship, input=item)
    return [reserved, shipped]


def setup(worker: TaskHubGrpcWorker) -> None:
    worker.add_orchestrator(order)
    worker.add_orchestrator(ship)
    worker.add_activity(reserve)


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
