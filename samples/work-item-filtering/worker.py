"""The workers of the work-item-filtering sample: one for the orders, one for the warehouse.

ENDPOINT and TASKHUB say where the scheduler is; by default ``http://localhost:8080`` and ``default``.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Generator
from typing import Any

from azure.identity import DefaultAzureCredential
from durabletask import task
from durabletask.azuremanaged.worker import DurableTaskSchedulerWorker
from durabletask.worker import TaskHubGrpcWorker

logger = logging.getLogger("work-item-filtering")


def set_price(ctx: task.ActivityContext, item: str) -> str:
    return f"priced {item} (by the orders worker)"


def pack(ctx: task.ActivityContext, item: str) -> str:
    return f"packed {item} (by the warehouse worker)"


def handle_order(ctx: task.OrchestrationContext, item: str) -> Generator[task.Task[Any], Any, list[str]]:
    """The second activity is called by its name: the code of the warehouse need not be here."""
    priced = yield ctx.call_activity(set_price, input=item)
    packed = yield ctx.call_activity("pack", input=item)
    return [priced, packed]


def register_orders(worker: TaskHubGrpcWorker) -> None:
    worker.add_orchestrator(handle_order)
    worker.add_activity(set_price)


def register_warehouse(worker: TaskHubGrpcWorker) -> None:
    worker.add_activity(pack)


KINDS = {"orders": register_orders, "warehouse": register_warehouse}


def main() -> None:
    kind = sys.argv[1] if len(sys.argv) > 1 else ""
    if kind not in KINDS:
        sys.exit(f"usage: python worker.py {'|'.join(KINDS)}")
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
        KINDS[kind](worker)
        worker.use_work_item_filters()
        print(f"Worker for {endpoint}, task hub {taskhub}, {kind}", flush=True)
        worker.run()
    print("Worker stopped", flush=True)


if __name__ == "__main__":
    main()
