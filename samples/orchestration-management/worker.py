"""The worker of the orchestration-management sample: deliveries that wait for a driver, and may fail once.

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

logger = logging.getLogger("orchestration-management")

failed_before: set[str] = set()


def load_truck(ctx: task.ActivityContext, town: str) -> str:
    """To Hilltown the truck breaks down, the first time."""
    if town == "Hilltown" and ctx.orchestration_id not in failed_before:
        failed_before.add(ctx.orchestration_id)
        raise RuntimeError("the truck broke down")
    return f"loaded for {town}"


def deliver(ctx: task.OrchestrationContext, town: str) -> Generator[task.Task[Any], Any, str]:
    driver = yield ctx.wait_for_external_event("driver", data_type=str)
    loaded = yield ctx.call_activity(load_truck, input=town)
    return f"{loaded}, {driver} drives"


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
        worker.add_orchestrator(deliver)
        worker.add_activity(load_truck)
        print(f"Worker for {endpoint}, task hub {taskhub}", flush=True)
        worker.run()
    print("Worker stopped", flush=True)


if __name__ == "__main__":
    main()
