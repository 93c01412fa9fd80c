"""The client of the transfer: deposits by signal, transfers by orchestration, and reads the results."""

from __future__ import annotations

import sys
import uuid

from connection import TIMEOUT, new_client, wait_until
from durabletask import entities
from durabletask.azuremanaged.client import DurableTaskSchedulerClient
from durabletask.client import OrchestrationStatus


def wait_for_balance(client: DurableTaskSchedulerClient, account: entities.EntityInstanceId, balance: int) -> None:
    def has_balance() -> bool:
        metadata = client.get_entity(account)
        return metadata is not None and metadata.get_state(int) == balance

    wait_until(f"{account} has {balance}", has_balance)


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


if __name__ == "__main__":
    with new_client() as client:
        sys.exit(0 if run(client) else 1)
