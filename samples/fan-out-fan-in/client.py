"""The client of the fan-out/fan-in sample: hands over some texts and prints the sums.

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


def run(client: DurableTaskSchedulerClient, number: int) -> bool:
    """Have ``number`` texts counted; return whether that completed."""
    texts = ["word " * length for length in range(1, number + 1)]
    instance_id = client.schedule_new_orchestration("count_all", input=texts)
    print(f"Started {instance_id} with {number} texts")
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
        logger=logging.getLogger("fan-out-fan-in"),  # says warnings and errors only
    )
    with client:
        return 0 if run(client, int(sys.argv[1]) if len(sys.argv) > 1 else 20) else 1


if __name__ == "__main__":
    sys.exit(main())
