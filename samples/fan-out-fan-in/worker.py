"""The worker of the fan-out/fan-in sample: many activities at once, and one that sums up.

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

logger = logging.getLogger("fan-out-fan-in")


def count_words(ctx: task.ActivityContext, text: str) -> int:
    return len(text.split())


def summarize(ctx: task.ActivityContext, counts: list[int]) -> dict[str, int]:
    return {"texts": len(counts), "words": sum(counts), "longest": max(counts, default=0)}


def count_all(ctx: task.OrchestrationContext, texts: list[str]) -> Generator[task.Task[Any], Any, dict[str, int]]:
    """Count every text at the same time, wait for all counts, then sum up."""
    counts = yield task.when_all([ctx.call_activity(count_words, input=text) for text in texts])
    summary: dict[str, int] = yield ctx.call_activity(summarize, input=counts)
    return summary


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
        worker.add_orchestrator(count_all)
        worker.add_activity(count_words)
        worker.add_activity(summarize)
        print(f"Worker for {endpoint}, task hub {taskhub}", flush=True)
        worker.run()
    print("Worker stopped", flush=True)


if __name__ == "__main__":
    main()
