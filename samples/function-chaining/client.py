"""The client of the function-chaining sample: starts one chain and prints its result.

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


def run(client: DurableTaskSchedulerClient, name: str) -> bool:
    """Start and await one instance; return whether it completed."""
    instance_id = client.schedule_new_orchestration("write_letter", input=name)
    print(f"Started {instance_id}")
    state = client.wait_for_orchestration_completion(instance_id, timeout=TIMEOUT)
    if state is None:
        print("The instance does not exist")
        return False
    print(f"Status: {state.runtime_status}")
    print(f"Result: {state.get_output(str)}")
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
        logger=logging.getLogger("function-chaining"),  # says warnings and errors only
    )
    with client:
        return 0 if run(client, sys.argv[1] if len(sys.argv) > 1 else "World") else 1


if __name__ == "__main__":
    sys.exit(main())
