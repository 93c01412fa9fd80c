"""The client of the work-item-filtering sample: starts one order and shows which worker did what.

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
    """Start and await one order; return whether it completed."""
    instance_id = client.schedule_new_orchestration("handle_order", input="globe")
    print(f"Started {instance_id}")
    state = client.wait_for_orchestration_completion(instance_id, timeout=TIMEOUT)
    if state is None:
        print("The instance does not exist")
        return False
    print(f"Status: {state.runtime_status}")
    for line in state.get_output(list) or []:
        print(f"  {line}")
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
        logger=logging.getLogger("work-item-filtering"),  # says warnings and errors only
    )
    with client:
        return 0 if run(client) else 1


if __name__ == "__main__":
    sys.exit(main())
