"""The worker of the tracing sample: handles an order, and prints the spans of all that it does.

ENDPOINT and TASKHUB say where the scheduler is; by default ``http://localhost:8080`` and ``default``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Generator
from typing import Any

import tracing
from azure.identity import DefaultAzureCredential
from durabletask import task
from durabletask.azuremanaged.worker import DurableTaskSchedulerWorker
from opentelemetry import trace

logger = logging.getLogger("tracing")
tracer = trace.get_tracer("tracing-sample")


def charge(ctx: task.ActivityContext, item: str) -> str:
    """What an activity's own code makes spans of belongs to the activity's span."""
    with tracer.start_as_current_span("ask the bank"):
        return f"charged for the {item}"


def pack(ctx: task.ActivityContext, item: str) -> str:
    return f"packed the {item}"


def ship(ctx: task.OrchestrationContext, item: str) -> Generator[task.Task[Any], Any, str]:
    return (yield ctx.call_activity(pack, input=item))


def handle_order(ctx: task.OrchestrationContext, item: str) -> Generator[task.Task[Any], Any, list[str]]:
    charged = yield ctx.call_activity(charge, input=item)
    shipped = yield ctx.call_sub_orchestrator(ship, input=item)
    return [charged, shipped]


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    tracing.set_up("tracing-sample-worker")
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
        worker.add_orchestrator(ship)
        worker.add_activity(charge)
        worker.add_activity(pack)
        print(f"Worker for {endpoint}, task hub {taskhub}", flush=True)
        worker.run()
    print("Worker stopped", flush=True)


if __name__ == "__main__":
    main()
