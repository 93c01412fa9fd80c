"""The worker of the async-http-api sample: an order that waits for its approval.

ENDPOINT and TASKHUB say where the scheduler is; by default ``http://localhost:8080`` and ``default``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Generator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from azure.identity import DefaultAzureCredential
from durabletask import task
from durabletask.azuremanaged.worker import DurableTaskSchedulerWorker

logger = logging.getLogger("async-http-api")

PATIENCE = timedelta(days=1)


@dataclass
class Order:
    item: str
    quantity: int


def reserve(ctx: task.ActivityContext, order: Order) -> str:
    return f"reserved {order.quantity} of {order.item}"


def ship(ctx: task.ActivityContext, order: Order) -> str:
    return f"shipped {order.quantity} of {order.item}"


def handle_order(ctx: task.OrchestrationContext, order: Order) -> Generator[task.Task[Any], Any, list[str]]:
    done = [(yield ctx.call_activity(reserve, input=order))]
    ctx.set_custom_status("waiting for approval")
    approval = ctx.wait_for_external_event("approval", data_type=str)
    too_late = ctx.create_timer(PATIENCE)
    if (yield task.when_any([approval, too_late])) is too_late:
        return [*done, "nobody approved it"]
    ctx.set_custom_status(f"approved by {approval.get_result()}")
    done.append((yield ctx.call_activity(ship, input=order)))
    return done


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
        worker.add_orchestrator(handle_order)
        worker.add_activity(reserve)
        worker.add_activity(ship)
        print(f"Worker for {endpoint}, task hub {taskhub}", flush=True)
        worker.run()
    print("Worker stopped", flush=True)


if __name__ == "__main__":
    main()
