"""The worker of the saga sample: a trip is booked as a whole, or what was booked of it is cancelled.

ENDPOINT and TASKHUB say where the scheduler is; by default ``http://localhost:8080`` and ``default``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from azure.identity import DefaultAzureCredential
from durabletask import task
from durabletask.azuremanaged.worker import DurableTaskSchedulerWorker

logger = logging.getLogger("saga")


@dataclass
class Trip:
    city: str
    budget: int


def book_flight(ctx: task.ActivityContext, trip: Trip) -> str:
    return f"flight to {trip.city}"


def cancel_flight(ctx: task.ActivityContext, trip: Trip) -> str:
    return f"cancelled the flight to {trip.city}"


def book_hotel(ctx: task.ActivityContext, trip: Trip) -> str:
    return f"hotel in {trip.city}"


def cancel_hotel(ctx: task.ActivityContext, trip: Trip) -> str:
    return f"cancelled the hotel in {trip.city}"


def charge_card(ctx: task.ActivityContext, trip: Trip) -> str:
    if trip.budget < 1000:
        raise ValueError(f"the card was refused: {trip.budget} is not enough")
    return f"charged {trip.budget}"


# Each booking with what takes it back. Both may be called twice after a crash, so real ones must not mind.
BOOKINGS = [(book_flight, cancel_flight), (book_hotel, cancel_hotel), (charge_card, None)]


def book_trip(ctx: task.OrchestrationContext, trip: Trip) -> Generator[task.Task[Any], Any, dict[str, Any]]:
    """Book one after the other; after a failure, take back what was booked, the last first."""
    done: list[str] = []
    take_back = []
    try:
        for book, cancel in BOOKINGS:
            done.append((yield ctx.call_activity(book, input=trip)))
            if cancel is not None:
                take_back.append(cancel)
    except task.TaskFailedError as error:
        for cancel in reversed(take_back):
            done.append((yield ctx.call_activity(cancel, input=trip)))
        return {"booked": False, "done": done, "because": error.details.message}
    return {"booked": True, "done": done}


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
        worker.add_orchestrator(book_trip)
        for activity in (book_flight, cancel_flight, book_hotel, cancel_hotel, charge_card):
            worker.add_activity(activity)
        print(f"Worker for {endpoint}, task hub {taskhub}", flush=True)
        worker.run()
    print("Worker stopped", flush=True)


if __name__ == "__main__":
    main()
