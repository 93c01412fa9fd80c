"""The worker of the function-chaining sample: three activities, each with the result of the one before.

ENDPOINT and TASKHUB say where the scheduler is; by default ``http://localhost:8080`` and ``default``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Generator
from datetime import timedelta
from typing import Any

from azure.identity import DefaultAzureCredential
from durabletask import task
from durabletask.azuremanaged.worker import DurableTaskSchedulerWorker

logger = logging.getLogger("function-chaining")
# Activities that call other systems fail now and then; the orchestration need not.
RETRIES = task.RetryPolicy(first_retry_interval=timedelta(seconds=1), max_number_of_attempts=3, backoff_coefficient=2)


def say_hello(ctx: task.ActivityContext, name: str) -> str:
    logger.info("say_hello is called with %s", name)
    return f"Hello, {name}!"


def ask_how_it_goes(ctx: task.ActivityContext, greeting: str) -> str:
    logger.info("ask_how_it_goes is called with %s", greeting)
    return f"{greeting} How are you today?"


def sign(ctx: task.ActivityContext, letter: str) -> str:
    logger.info("sign is called with %s", letter)
    return f"{letter} Yours, the worker"


def write_letter(ctx: task.OrchestrationContext, name: str) -> Generator[task.Task[Any], Any, str]:
    """Each line waits for the one before it, and is done once, whatever happens to this worker meanwhile."""
    greeting = yield ctx.call_activity(say_hello, input=name, retry_policy=RETRIES)
    letter = yield ctx.call_activity(ask_how_it_goes, input=greeting, retry_policy=RETRIES)
    signed: str = yield ctx.call_activity(sign, input=letter, retry_policy=RETRIES)
    return signed


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
        worker.add_orchestrator(write_letter)
        for activity in (say_hello, ask_how_it_goes, sign):
            worker.add_activity(activity)
        print(f"Worker for {endpoint}, task hub {taskhub}", flush=True)
        worker.run()
    print("Worker stopped", flush=True)


if __name__ == "__main__":
    main()
