"""The worker of the human-interaction sample: a request waits for a person, but not for ever.

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

logger = logging.getLogger("human-interaction")


@dataclass
class Purchase:
    item: str
    price: int
    patience: float  # seconds


@dataclass
class Decision:
    approved: bool
    by: str


def ask_for_approval(ctx: task.ActivityContext, purchase: Purchase) -> None:
    logger.info("Please approve: %s for %d", purchase.item, purchase.price)


def place_order(ctx: task.ActivityContext, purchase: Purchase) -> str:
    return f"ordered {purchase.item}"


def purchase_request(ctx: task.OrchestrationContext, purchase: Purchase) -> Generator[task.Task[Any], Any, str]:
    """Ask, then wait for the answer or the end of patience, whichever comes first."""
    yield ctx.call_activity(ask_for_approval, input=purchase)
    ctx.set_custom_status("waiting for approval")
    decision = ctx.wait_for_external_event("decision", data_type=Decision)
    too_late = ctx.create_timer(timedelta(seconds=purchase.patience))
    first = yield task.when_any([decision, too_late])
    if first is too_late:
        ctx.set_custom_status("nobody answered")
        return f"{purchase.item}: cancelled, nobody answered"
    answer = decision.get_result()
    ctx.set_custom_status(f"decided by {answer.by}")
    if not answer.approved:
        return f"{purchase.item}: refused by {answer.by}"
    done = yield ctx.call_activity(place_order, input=purchase)
    return f"{purchase.item}: approved by {answer.by}, {done}"


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
        worker.add_orchestrator(purchase_request)
        worker.add_activity(ask_for_approval)
        worker.add_activity(place_order)
        print(f"Worker for {endpoint}, task hub {taskhub}", flush=True)
        worker.run()
    print("Worker stopped", flush=True)


if __name__ == "__main__":
    main()
