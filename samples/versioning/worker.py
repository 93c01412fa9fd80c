"""The worker of the versioning sample: three versions of one orchestration, all served by the same code.

ENDPOINT and TASKHUB say where the scheduler is; by default ``http://localhost:8080`` and ``default``.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
from collections.abc import Generator
from typing import Any

from azure.identity import DefaultAzureCredential
from durabletask import task
from durabletask.azuremanaged.worker import DurableTaskSchedulerWorker
from packaging import version

logger = logging.getLogger("versioning")


def compare_version(v1: str | None, v2: str) -> int:
    """Compare two version strings.

    Returns: -1 if v1 < v2, 0 if v1 == v2, 1 if v1 > v2. A missing version is older than every other.
    """
    if v1 is None:
        return -1
    try:
        ver1, ver2 = version.parse(v1), version.parse(v2)
        return (ver1 > ver2) - (ver1 < ver2)
    except version.InvalidVersion:
        # Fall back to string comparison
        return (v1 > v2) - (v1 < v2)


def say_hello(ctx: task.ActivityContext, name: str) -> str:
    logger.info("say_hello is called with %s", name)
    return f"Hello, {name}!"


def say_goodbye(ctx: task.ActivityContext, name: str) -> str:
    logger.info("say_goodbye is called with %s", name)
    return f"Goodbye, {name}!"


def send_notification(ctx: task.ActivityContext, name: str) -> str:
    logger.info("send_notification is called with %s", name)
    return f"Notification sent: {name} was greeted"


def versioned_orchestration(
    ctx: task.OrchestrationContext, name: str
) -> Generator[task.Task[Any], Any, dict[str, Any]]:
    """Greet; from 2.0.0 on also say goodbye; from 3.0.0 on also send a notification.

    What an older version did comes first and stays as it was, so instances that were started by
    older code replay the same way on this one.
    """
    results = [(yield ctx.call_activity(say_hello, input=name))]
    if compare_version(ctx.version, "2.0.0") >= 0:
        results.append((yield ctx.call_activity(say_goodbye, input=name)))
    if compare_version(ctx.version, "3.0.0") >= 0:
        results.append((yield ctx.call_activity(send_notification, input=name)))
    return {"version": ctx.version, "results": results}


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    endpoint = os.environ.get("ENDPOINT", "http://localhost:8080")
    taskhub = os.environ.get("TASKHUB", "default")
    # A local scheduler asks for no identity; a deployed one (https://...) does.
    local = endpoint.startswith("http://")
    worker = DurableTaskSchedulerWorker(
        host_address=endpoint,
        taskhub=taskhub,
        token_credential=None if local else DefaultAzureCredential(),
        secure_channel=not local,
        logger=logger,
    )

    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())

    with worker:
        registered = [worker.add_orchestrator(versioned_orchestration)]
        registered += [worker.add_activity(activity) for activity in (say_hello, say_goodbye, send_notification)]
        worker.start()
        print(f"Worker started on {endpoint}, task hub {taskhub}: {json.dumps(registered)}", flush=True)
        stopping.wait()
    print("Worker stopped", flush=True)


if __name__ == "__main__":
    main()
