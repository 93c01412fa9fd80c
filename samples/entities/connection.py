"""How the workers and clients of these samples reach the scheduler.

ENDPOINT and TASKHUB say where it is; by default ``http://localhost:8080`` and ``default``.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import Any

from azure.identity import DefaultAzureCredential
from durabletask.azuremanaged.client import DurableTaskSchedulerClient
from durabletask.azuremanaged.worker import DurableTaskSchedulerWorker

TIMEOUT = 60  # seconds


def options() -> dict[str, Any]:
    endpoint = os.environ.get("ENDPOINT", "http://localhost:8080")
    # A local scheduler asks for no identity; a deployed one (https://...) does.
    local = endpoint.startswith("http://")
    return {
        "host_address": endpoint,
        "taskhub": os.environ.get("TASKHUB", "default"),
        "token_credential": None if local else DefaultAzureCredential(),
        "secure_channel": not local,
        "logger": logging.getLogger("entities"),
    }


def new_client() -> DurableTaskSchedulerClient:
    return DurableTaskSchedulerClient(**options())


def run_worker(setup: Callable[[DurableTaskSchedulerWorker], None]) -> None:
    """Run a worker with what ``setup`` registers, until Ctrl+C or SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with DurableTaskSchedulerWorker(**options()) as worker:
        setup(worker)
        print("Worker ready", flush=True)
        worker.run()
    print("Worker stopped", flush=True)


def wait_until(what: str, is_true: Callable[[], bool]) -> None:
    """A signal has no answer; what it did shows in an entity's state, sooner or later."""
    deadline = time.monotonic() + TIMEOUT
    while not is_true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"expected within {TIMEOUT} seconds: {what}; is the worker running?")
        time.sleep(0.05)
