"""The client of the eternal-orchestrations sample: lets it run for three rounds, then stops it.

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


def wait_for_rounds(client: DurableTaskSchedulerClient, instance_id: str, rounds: int) -> None:
    deadline = time.monotonic() + TIMEOUT
    while True:
        state = client.get_orchestration_state(instance_id)
        status = state.get_custom_status() if state is not None else None
        if status is not None and status["rounds"] >= rounds:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"there were no {rounds} rounds; is the worker running?")
        time.sleep(0.05)


def run(client: DurableTaskSchedulerClient) -> bool:
    """Start, watch and stop one instance; return whether it completed."""
    instance_id = client.schedule_new_orchestration("housekeeping", input={"interval": 0.2})
    print(f"Started {instance_id}")
    wait_for_rounds(client, instance_id, 3)
    print("Three rounds are done, now it is told to stop")
    client.raise_orchestration_event(instance_id, "stop")
    state = client.wait_for_orchestration_completion(instance_id, timeout=TIMEOUT)
    if state is None:
        print("The instance does not exist")
        return False
    print(f"Status: {state.runtime_status}")
    print(f"Result: {state.get_output()}")
    return state.runtime_status is OrchestrationStatus.COMPLETED


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
        logger=logging.getLogger("eternal-orchestrations"),  # says warnings and errors only
    )
    with client:
        return 0 if run(client) else 1


if __name__ == "__main__":
    sys.exit(main())
