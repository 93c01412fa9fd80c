"""The client of the sub-orchestrations sample: orders three things, one of which does not exist.

ENDPOINT and TASKHUB say where the scheduler is; by default ``http://localhost:8080`` and ``default``.
"""

from __future__ import annotations

import logging
import os
import sys
import uuid

from azure.identity import DefaultAzureCredential
from durabletask.azuremanaged.client import DurableTaskSchedulerClient
from durabletask.client import OrchestrationQuery, OrchestrationStatus

TIMEOUT = 60  # seconds


def run(client: DurableTaskSchedulerClient) -> bool:
    """Place the order; return whether it completed."""
    instance_id = f"order-{uuid.uuid4().hex[:8]}"
    client.schedule_new_orchestration("order", input=["lamp", "unicorn", "chair"], instance_id=instance_id)
    print(f"Started {instance_id}")
    state = client.wait_for_orchestration_completion(instance_id, timeout=TIMEOUT)
    if state is None:
        print("The instance does not exist")
        return False
    print(f"Status: {state.runtime_status}")
    print(f"Result: {state.get_output()}")
    # A child's id begins with its parent's, unless it was given one of its own.
    family = client.get_all_orchestration_states(OrchestrationQuery(instance_id_prefix=instance_id))
    children = [each for each in family if each.name == "prepare_item"]
    print(f"Children: {sorted(str(each.runtime_status) for each in children)}")
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
        logger=logging.getLogger("sub-orchestrations"),  # says warnings and errors only
    )
    with client:
        return 0 if run(client) else 1


if __name__ == "__main__":
    sys.exit(main())
