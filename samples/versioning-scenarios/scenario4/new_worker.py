"""Scenario 4, after: version 2.0.0, a breaking change. Orders of another version are left to other workers."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator
from typing import Any

from azure.identity import DefaultAzureCredential
from durabletask import task
from durabletask.azuremanaged.worker import DurableTaskSchedulerWorker
from durabletask.worker import TaskHubGrpcWorker, VersionFailureStrategy, VersioningOptions, VersionMatchStrategy


def reserve(ctx: task.ActivityContext, item: str) -> str:
    return f"reserved {item}"


def charge(ctx: task.ActivityContext, item: str) -> str:
    return f"charged {item}"


def check_fraud(ctx: task.ActivityContext, item: str) -> str:
    return f"checked {item}"


def order(ctx: task.OrchestrationContext, item: str) -> Generator[task.Task[Any], Any, list[str]]:
    """Reserve, check, wait for the approval, charge."""
    reserved = yield ctx.call_activity(reserve, input=item)
    checked = yield ctx.call_activity(check_fraud, input=item)
    yield ctx.wait_for_external_event("approved")
    charged = yield ctx.call_activity(charge, input=item)
    return [reserved, checked, charged]


def setup(worker: TaskHubGrpcWorker) -> None:
    worker.add_orchestrator(order)
    worker.add_activity(reserve)
    worker.add_activity(charge)
    worker.add_activity(check_fraud)
    worker.use_versioning(
        VersioningOptions(
            version="2.0.0",
            default_version="2.0.0",
            match_strategy=VersionMatchStrategy.STRICT,
            failure_strategy=VersionFailureStrategy.REJECT,
        )
    )
    # Tells the scheduler what this worker takes, so that no order is sent here only to be handed back.
    worker.use_work_item_filters()


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    endpoint = os.environ.get("ENDPOINT", "http://localhost:8080")
    # A local scheduler asks for no identity; a deployed one (https://...) does.
    local = endpoint.startswith("http://")
    with DurableTaskSchedulerWorker(
        host_address=endpoint,
        taskhub=os.environ.get("TASKHUB", "default"),
        token_credential=None if local else DefaultAzureCredential(),
        secure_channel=not local,
        logger=logging.getLogger("scenarios"),
    ) as worker:
        setup(worker)
        worker.run()


if __name__ == "__main__":
    main()
