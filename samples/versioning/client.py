"""The client of the versioning sample: starts one orchestration in three versions and prints what each did.

ENDPOINT and TASKHUB say where the scheduler is; by default ``http://localhost:8080`` and ``default``.
"""

from __future__ import annotations

import logging
import os
import sys

from azure.identity import DefaultAzureCredential
from durabletask.azuremanaged.client import DurableTaskSchedulerClient
from durabletask.client import OrchestrationStatus

VERSIONS = {
    "1.0.0": "v1 - Basic hello only",
    "2.0.0": "v2 - Hello + Goodbye",
    "3.0.0": "v3 - Hello + Goodbye + Notification",
}
TIMEOUT = 60  # seconds


def run(client: DurableTaskSchedulerClient, name: str) -> bool:
    """Start and await one instance of each version; return whether all of them completed."""
    print("=== Orchestration Versioning Demo ===")
    print(f"Testing with name: {name}\n")

    instances = {}
    for version, description in VERSIONS.items():
        print(f"Scheduling orchestration with version {version}: {description}")
        instances[version] = client.schedule_new_orchestration("versioned_orchestration", input=name, version=version)
        print(f"  Instance ID: {instances[version]}")

    print("\nWaiting for orchestrations to complete...\n")
    completed = True
    for version, description in VERSIONS.items():
        state = client.wait_for_orchestration_completion(instances[version], timeout=TIMEOUT)
        print(f"=== Version {version} ({description}) ===")
        if state is None:
            print("  Status: the instance does not exist\n")
            completed = False
            continue
        print(f"  Status: {state.runtime_status}")
        if state.failure_details is not None:
            print(f"  Error: {state.failure_details.message}")
        print(f"  Result: {state.serialized_output}\n")
        completed = completed and state.runtime_status is OrchestrationStatus.COMPLETED

    if completed:
        print("=== Demo Complete ===")
        print("Key takeaway: All versions ran using the same worker code!")
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
        logger=logging.getLogger("versioning"),  # says warnings and errors only
    )
    with client:
        return 0 if run(client, sys.argv[1] if len(sys.argv) > 1 else "World") else 1


if __name__ == "__main__":
    sys.exit(main())
