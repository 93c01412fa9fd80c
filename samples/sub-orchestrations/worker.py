"""The worker of the sub-orchestrations sample: an order starts one orchestration for each of its items.

ENDPOINT and TASKHUB say where the scheduler is; by default ``http://localhost:8080`` and ``default``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Generator
from typing import Any

from azure.identity import DefaultAzureCredential
from durabletask import task
from durabletask.azuremanaged.worker import DurableTaskSchedulerWorker

logger = logging.getLogger("sub-orchestrations")


def take_from_stock(ctx: task.ActivityContext, item: str) -> str:
    if item == "unicorn":
        raise LookupError("there are no unicorns")
    return f"took {item}"


def pack(ctx: task.ActivityContext, item: str) -> str:
    return f"packed {item}"


def ship(ctx: task.ActivityContext, items: list[str]) -> str:
    return f"shipped {', '.join(items) or 'nothing'}"


def prepare_item(ctx: task.OrchestrationContext, item: str) -> Generator[task.Task[Any], Any, str]:
    """The child: it has an instance id and a history of its own."""
    yield ctx.call_activity(take_from_stock, input=item)
    yield ctx.call_activity(pack, input=item)
    return item


def order(ctx: task.OrchestrationContext, items: list[str]) -> Generator[task.Task[Any], Any, dict[str, Any]]:
    """The parent: prepares all items at the same time and ships those that could be prepared."""
    children = [ctx.call_sub_orchestrator(prepare_item, input=item) for item in items]
    prepared, missing = [], []
    for item, child in zip(items, children):
        try:
            prepared.append((yield child))
        except task.TaskFailedError as error:
            missing.append(f"{item}: {error.details.message}")
    shipped = yield ctx.call_activity(ship, input=prepared)
    return {"shipped": shipped, "missing": missing}


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    endpoint = os.environ.get("ENDPOINT", "http://localhost:8080")
    taskhub = os.environ.get("TASKHUB", "default")
    # A local scheduler asks for no identity; a deployed one (https://...) does.
    local = endpoint.startswith("http://")
    with DurableTaskSchedulerWorker(
        host_address=endpoint,
        taskhub=taskhub,
        token_credential=None if local else DefaultAzureCredential(),
        secure_channel=not local,
        logger=logger,
    ) as worker:
        worker.add_orchestrator(order)
        worker.add_orchestrator(prepare_item)
        for activity in (take_from_stock, pack, ship):
            worker.add_activity(activity)
        print(f"Worker for {endpoint}, task hub {taskhub}", flush=True)
        worker.run()
    print("Worker stopped", flush=True)


if __name__ == "__main__":
    main()
