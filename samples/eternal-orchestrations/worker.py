"""The worker of the eternal-orchestrations sample: housekeeping that goes on until it is told to stop.

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

logger = logging.getLogger("eternal-orchestrations")


@dataclass
class Housekeeping:
    interval: float  # seconds between two rounds
    rounds: int = 0
    removed: int = 0


def clean_up(ctx: task.ActivityContext, number: int) -> int:
    """Stands for real cleaning; returns how many files were removed."""
    logger.info("round %d of cleaning up", number)
    return number


def housekeeping(ctx: task.OrchestrationContext, state: Housekeeping) -> Generator[task.Task[Any], Any, Any]:
    """One round. What is to be known in the next one is its input; the history begins anew."""
    state.rounds += 1
    state.removed += yield ctx.call_activity(clean_up, input=state.rounds)
    ctx.set_custom_status({"rounds": state.rounds, "removed": state.removed})
    stop = ctx.wait_for_external_event("stop")
    pause = ctx.create_timer(timedelta(seconds=state.interval))
    if (yield task.when_any([stop, pause])) is stop:
        return {"rounds": state.rounds, "removed": state.removed}
    # An event that arrives between two rounds is handed over to the next one.
    ctx.continue_as_new(state, save_events=True)
    return None


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
        worker.add_orchestrator(housekeeping)
        worker.add_activity(clean_up)
        print(f"Worker for {endpoint}, task hub {taskhub}", flush=True)
        worker.run()
    print("Worker stopped", flush=True)


if __name__ == "__main__":
    main()
