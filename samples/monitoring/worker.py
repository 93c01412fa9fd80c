"""The worker of the monitoring sample: looks at a parcel again and again until it arrived or the time is over.

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

logger = logging.getLogger("monitoring")


@dataclass
class Watch:
    parcel: str
    interval: float  # seconds between two looks
    patience: float  # seconds


@dataclass
class Look:
    parcel: str
    number: int  # from 1


def locate_parcel(ctx: task.ActivityContext, look: Look) -> str:
    """Stands for a call of somebody else's service; parcels to Atlantis never arrive."""
    if look.parcel.endswith("Atlantis"):
        return "at sea"
    return "arrived" if look.number >= 3 else "on its way"


def watch_parcel(ctx: task.OrchestrationContext, watch: Watch) -> Generator[task.Task[Any], Any, str]:
    """Look, sleep, look again. The clock is the orchestration's own: the same in every replay."""
    give_up_at = ctx.current_utc_datetime + timedelta(seconds=watch.patience)
    number = 0
    while True:
        number += 1
        place = yield ctx.call_activity(locate_parcel, input=Look(watch.parcel, number))
        ctx.set_custom_status({"place": place, "looks": number})
        if place == "arrived":
            return f"{watch.parcel}: arrived, seen at look {number}"
        wake_up_at = ctx.current_utc_datetime + timedelta(seconds=watch.interval)
        if wake_up_at > give_up_at:
            return f"{watch.parcel}: gave up, last seen {place}"
        yield ctx.create_timer(wake_up_at)


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
        worker.add_orchestrator(watch_parcel)
        worker.add_activity(locate_parcel)
        print(f"Worker for {endpoint}, task hub {taskhub}", flush=True)
        worker.run()
    print("Worker stopped", flush=True)


if __name__ == "__main__":
    main()
