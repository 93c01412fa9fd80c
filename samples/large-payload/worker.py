"""The worker of the large-payload sample: texts of megabytes travel past the scheduler, in a store of files.

ENDPOINT and TASKHUB say where the scheduler is; by default ``http://localhost:8080`` and ``default``.
PAYLOADS is the folder of the large payloads, by default ``payloads``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

from azure.identity import DefaultAzureCredential
from durabletask import task
from durabletask.azuremanaged.worker import DurableTaskSchedulerWorker
from payload_store import FilePayloadStore

logger = logging.getLogger("large-payload")


def write_book(ctx: task.ActivityContext, chapters: int) -> list[str]:
    """Return a book of about 100 kB per chapter."""
    return [f"Chapter {number}. " + "It was a dark and stormy night. " * 3200 for number in range(1, chapters + 1)]


def count_letters(ctx: task.ActivityContext, book: list[str]) -> int:
    return sum(len(chapter) for chapter in book)


def publish(ctx: task.OrchestrationContext, chapters: int) -> Generator[task.Task[Any], Any, dict[str, Any]]:
    """Neither the orchestrator nor the activities notice where their large values are kept."""
    book = yield ctx.call_activity(write_book, input=chapters)
    letters = yield ctx.call_activity(count_letters, input=book)
    return {"letters": letters, "book": book}


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
        payload_store=FilePayloadStore(Path(os.environ.get("PAYLOADS", "payloads"))),
    ) as worker:
        worker.add_orchestrator(publish)
        worker.add_activity(write_book)
        worker.add_activity(count_letters)
        print(f"Worker for {endpoint}, task hub {taskhub}", flush=True)
        worker.run()
    print("Worker stopped", flush=True)


if __name__ == "__main__":
    main()
