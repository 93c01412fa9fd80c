"""The client of the class-based counter: lets an orchestration call it, and reads the results."""

from __future__ import annotations

import sys
import uuid

from connection import TIMEOUT, new_client
from durabletask import entities
from durabletask.azuremanaged.client import DurableTaskSchedulerClient

EXPECTED = [10, 30, 42, 42]


def run(client: DurableTaskSchedulerClient) -> bool:
    key = f"total-{uuid.uuid4().hex[:8]}"
    counter = entities.EntityInstanceId("Counter", key)
    instance_id = client.schedule_new_orchestration("count_up", input=key)
    state = client.wait_for_orchestration_completion(instance_id, timeout=TIMEOUT)
    if state is None:
        print(f"Orchestration {instance_id} does not exist")
        return False
    print(f"Orchestration: {state.runtime_status}")
    print(f"Results of add 10, add 20, add 12 and get: {state.get_output()}")
    metadata = client.get_entity(counter)
    total = None if metadata is None else metadata.get_state(int)
    print(f"State of the entity: {total}")
    client.signal_entity(counter, "delete")
    return state.get_output() == EXPECTED and total == EXPECTED[-1]


if __name__ == "__main__":
    with new_client() as client:
        sys.exit(0 if run(client) else 1)
