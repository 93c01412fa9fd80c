"""The client of the human-interaction sample: makes three requests, answers two of them, and forgets the third.

ENDPOINT and TASKHUB say where the scheduler is; by default ``http://localhost:8080`` and ``default``.
"""

from __future__ import annotations

import logging
import os
import sys
import time

from azure.identity import DefaultAzureCredential
from durabletask.azuremanaged.client import DurableTaskSchedulerClient
from durabletask.client import OrchestrationStatus

TIMEOUT = 60  # seconds


def request(client: DurableTaskSchedulerClient, item: str, price: int, patience: float) -> str:
    """Make a request, and return its id once it waits for a person."""
    purchase = {"item": item, "price": price, "patience": patience}
    instance_id = client.schedule_new_orchestration("purchase_request", input=purchase)
    deadline = time.monotonic() + TIMEOUT
    while True:
        state = client.get_orchestration_state(instance_id)
        if state is not None and state.get_custom_status() is not None:
            print(f"{item}: {state.get_custom_status()}")
            return instance_id
        if time.monotonic() > deadline:
            raise TimeoutError(f"the request for {item} did not begin; is the worker running?")
        time.sleep(0.05)


def run(client: DurableTaskSchedulerClient) -> bool:
    """Make and answer the requests; return whether all of them completed."""
    desk = request(client, "desk", 300, patience=3600)
    yacht = request(client, "yacht", 900_000, patience=3600)
    plant = request(client, "plant", 20, patience=1)
    client.raise_orchestration_event(desk, "decision", data={"approved": True, "by": "Grace"})
    client.raise_orchestration_event(yacht, "decision", data={"approved": False, "by": "Grace"})
    completed = True
    for instance_id in (desk, yacht, plant):
        state = client.wait_for_orchestration_completion(instance_id, timeout=TIMEOUT)
        if state is None or state.runtime_status is not OrchestrationStatus.COMPLETED:
            print(f"{instance_id} did not complete: {state}")
            completed = False
        else:
            print(f"Result: {state.get_output(str)}")
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
        logger=logging.getLogger("human-interaction"),  # says warnings and errors only
    )
    with client:
        return 0 if run(client) else 1


if __name__ == "__main__":
    sys.exit(main())
