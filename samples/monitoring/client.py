"""The client of the monitoring sample: has two parcels watched, one of which never arrives.

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
    """Watch both parcels at the same time; return whether both watches completed."""
    watches = [
        {"parcel": "parcel to Rome", "interval": 0.3, "patience": 60},
        {"parcel": "parcel to Atlantis", "interval": 0.3, "patience": 1},
    ]
    instances = [client.schedule_new_orchestration("watch_parcel", input=watch) for watch in watches]
    completed = True
    for instance_id in instances:
        state = client.wait_for_orchestration_completion(instance_id, timeout=TIMEOUT)
        if state is None or state.runtime_status is not OrchestrationStatus.COMPLETED:
            print(f"{instance_id} did not complete: {state}")
            completed = False
        else:
            print(f"Result: {state.get_output(str)}")
            print(f"Last status: {state.get_custom_status()}")
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
        logger=logging.getLogger("monitoring"),  # says warnings and errors only
    )
    with client:
        return 0 if run(client) else 1


if __name__ == "__main__":
    sys.exit(main())
