"""The client of the saga sample: books a trip that can be paid for, and one that cannot.

ENDPOINT and TASKHUB say where the scheduler is; by default ``http://localhost:8080`` and ``default``.
"""

from __future__ import annotations

import logging
import os
import sys

from azure.identity import DefaultAzureCredential
from durabletask.azuremanaged.client import DurableTaskSchedulerClient
from durabletask.client import OrchestrationStatus

TIMEOUT = 60  # seconds


def run(client: DurableTaskSchedulerClient) -> bool:
    """Book both trips; return whether both orchestrations completed."""
    completed = True
    for trip in ({"city": "Rome", "budget": 2000}, {"city": "Tokyo", "budget": 500}):
        instance_id = client.schedule_new_orchestration("book_trip", input=trip)
        state = client.wait_for_orchestration_completion(instance_id, timeout=TIMEOUT)
        if state is None or state.runtime_status is not OrchestrationStatus.COMPLETED:
            print(f"{trip['city']}: did not complete: {state}")
            completed = False
            continue
        result = state.get_output()
        print(f"{trip['city']}: {'booked' if result['booked'] else 'not booked'}")
        for line in result["done"]:
            print(f"  {line}")
        if not result["booked"]:
            print(f"  because {result['because']}")
    return completed


def main() -> int:
    endpoint = os.environ.get("ENDPOINT", "http://localhost:8080")
    taskhub = os.environ.get("TASKHUB", "default")
    # A local scheduler asks for no identity; a deployed one (https://...) does.
    local = endpoint.startswith("http://")
    client = DurableTaskSchedulerClient(
        host_address=endpoint,
        taskhub=taskhub,
        token_credential=None if local else DefaultAzureCredential(),
        secure_channel=not local,
        logger=logging.getLogger("saga"),  # says warnings and errors only
    )
    with client:
        return 0 if run(client) else 1


if __name__ == "__main__":
    sys.exit(main())
