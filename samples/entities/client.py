"""The client of the entities sample: deposits by signal, transfers by orchestration, and reads the results.

ENDPOINT and TASKHUB say where the scheduler is; by default ``http://localhost:8080`` and ``default``.
"""

from __future__ import annotations

import logging
import os
import sys
import time
import uuid

from azure.identity import DefaultAzureCredential
from durabletask import entities
from durabletask.azuremanaged.client import DurableTaskSchedulerClient
from durabletask.client import OrchestrationStatus

TIMEOUT = 60  # seconds


def wait_for_balance(client: DurableTaskSchedulerClient, account: entities.EntityInstanceId, balance: int) -> None:
    """A signal has no answer; what it did shows in the entity's state."""
    deadline = time.monotonic() + TIMEOUT
    while (found := client.get_entity(account)) is None or found.get_state(int) != balance:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{account} did not reach a balance of {balance}; is the worker running?")
        time.sleep(0.05)


def run(client: DurableTaskSchedulerClient) -> bool:
    """Transfer money between two new accounts; return whether all came out as it should."""
    suffix = uuid.uuid4().hex[:8]
    names = [f"ada-{suffix}", f"bob-{suffix}"]
    ada, bob = (entities.EntityInstanceId("Account", name) for name in names)

    client.signal_entity(ada, "deposit", input=100)
    wait_for_balance(client, ada, 100)
    print("Ada has 100")

    expected = [(30, OrchestrationStatus.COMPLETED), (1000, OrchestrationStatus.FAILED)]
    correct = True
    for amount, status in expected:
        order = {"source": names[0], "target": names[1], "amount": amount}
        instance_id = client.schedule_new_orchestration("transfer", input=order)
        state = client.wait_for_orchestration_completion(instance_id, timeout=TIMEOUT)
        if state is None:
            print(f"Transfer of {amount}: the instance does not exist")
            return False
        failure = f" ({state.failure_details.message})" if state.failure_details else ""
        print(f"Transfer of {amount}: {state.runtime_status}{failure}")
        correct = correct and state.runtime_status is status

    for name, account, balance in (("Ada", ada, 70), ("Bob", bob, 30)):
        wait_for_balance(client, account, balance)
        print(f"{name} has {balance}")

    for account in (ada, bob):
        client.signal_entity(account, "delete")
    return correct


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
        logger=logging.getLogger("entities"),  # says warnings and errors only
    )
    with client:
        return 0 if run(client) else 1


if __name__ == "__main__":
    sys.exit(main())
