"""The client of the function-based counter: signals it, reads its state, and deletes it."""

from __future__ import annotations

import sys
import uuid

from connection import new_client, wait_until
from durabletask import entities
from durabletask.azuremanaged.client import DurableTaskSchedulerClient


def run(client: DurableTaskSchedulerClient) -> bool:
    counter = entities.EntityInstanceId("counter", f"visits-{uuid.uuid4().hex[:8]}")

    def value() -> int | None:
        metadata = client.get_entity(counter)
        return None if metadata is None else metadata.get_state(int)

    for amount in (1, 2, 3):
        client.signal_entity(counter, "add", input=amount)
    wait_until("the counter is at 6", lambda: value() == 6)
    print(f"Counter after adding 1, 2 and 3: {value()}")

    # A signal is never answered, so one that fails changes nothing and nobody is told.
    client.signal_entity(counter, "sing")
    client.signal_entity(counter, "add", input=7)
    wait_until("the counter is at 13", lambda: value() == 13)
    print(f"Counter after an unknown operation and adding 7: {value()}")

    client.signal_entity(counter, "delete")
    wait_until("the counter is gone", lambda: client.get_entity(counter) is None)
    print("Counter deleted")
    return True


if __name__ == "__main__":
    with new_client() as client:
        sys.exit(0 if run(client) else 1)
