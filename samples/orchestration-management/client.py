"""The client of the orchestration-management sample: list, suspend, resume, terminate, rewind, restart, purge.

ENDPOINT and TASKHUB say where the scheduler is; by default ``http://localhost:8080`` and ``default``.
"""

from __future__ import annotations

import logging
import os
import sys
import time
import uuid

from azure.identity import DefaultAzureCredential
from durabletask.azuremanaged.client import DurableTaskSchedulerClient
from durabletask.client import OrchestrationQuery, OrchestrationState, OrchestrationStatus

TIMEOUT = 60  # seconds


def ended(client: DurableTaskSchedulerClient, instance_id: str) -> OrchestrationState:
    state = client.wait_for_orchestration_completion(instance_id, timeout=TIMEOUT)
    if state is None:
        raise LookupError(f"the instance {instance_id} does not exist")
    return state


def reached(client: DurableTaskSchedulerClient, instance_id: str, status: OrchestrationStatus) -> OrchestrationState:
    """The state once it has this status: some schedulers answer such a call before they have carried it out."""
    deadline = time.monotonic() + TIMEOUT
    while (state := client.get_orchestration_state(instance_id)) is None or state.runtime_status is not status:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{instance_id} is not {status} but {state and state.runtime_status}")
        time.sleep(0.05)
    return state


def show(what: str, state: OrchestrationState) -> None:
    reason = f" ({state.failure_details.message})" if state.failure_details else ""
    output = f" {state.get_output()}" if state.serialized_output and not reason else ""
    print(f"{what}: {state.runtime_status}{reason}{output}")


def suspend_and_resume(client: DurableTaskSchedulerClient, instance_id: str) -> None:
    """Events that arrive at a suspended instance are kept until it is resumed."""
    client.suspend_orchestration(instance_id, reason="snow")
    client.raise_orchestration_event(instance_id, "driver", data="Ada")
    show("Suspended", reached(client, instance_id, OrchestrationStatus.SUSPENDED))
    client.resume_orchestration(instance_id, reason="spring")
    show("Resumed", ended(client, instance_id))


def terminate(client: DurableTaskSchedulerClient, instance_id: str) -> None:
    client.terminate_orchestration(instance_id, output="nobody lives there")
    show("Terminated", ended(client, instance_id))


def rewind(client: DurableTaskSchedulerClient, instance_id: str) -> None:
    """Only what failed runs again: the driver that came is not asked for a second time."""
    client.raise_orchestration_event(instance_id, "driver", data="Grace")
    show("Failed", ended(client, instance_id))
    client.rewind_orchestration(instance_id, reason="the truck is repaired")
    show("Rewound", reached(client, instance_id, OrchestrationStatus.COMPLETED))


def restart(client: DurableTaskSchedulerClient, instance_id: str) -> str:
    """A new instance with the input of an old one; everything runs again, so it waits for a driver too."""
    copy = client.restart_orchestration(instance_id, restart_with_new_instance_id=True)
    client.raise_orchestration_event(copy, "driver", data="Barbara")
    show("Restarted", ended(client, copy))
    return copy


def run(client: DurableTaskSchedulerClient) -> bool:
    """Manage three deliveries; return whether nothing is left of them."""
    prefix = f"delivery-{uuid.uuid4().hex[:8]}-"
    for town in ("Lakeside", "Ghosttown", "Hilltown"):
        instance_id = client.schedule_new_orchestration("deliver", input=town, instance_id=prefix + town)
        client.wait_for_orchestration_start(instance_id, timeout=TIMEOUT)
    mine = OrchestrationQuery(instance_id_prefix=prefix, runtime_status=[OrchestrationStatus.RUNNING])
    towns = sorted(state.instance_id.removeprefix(prefix) for state in client.get_all_orchestration_states(mine))
    print(f"Running: {', '.join(towns)}")

    suspend_and_resume(client, prefix + "Lakeside")
    terminate(client, prefix + "Ghosttown")
    rewind(client, prefix + "Hilltown")
    copy = restart(client, prefix + "Lakeside")

    purged = [client.purge_orchestration(prefix + town) for town in ("Lakeside", "Ghosttown", "Hilltown")]
    purged.append(client.purge_orchestration(copy))
    print(f"Purged: {sum(result.deleted_instance_count for result in purged)}")
    left = client.get_all_orchestration_states(OrchestrationQuery(instance_id_prefix=prefix))
    print(f"Left: {len(left)}")
    return not left


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
        logger=logging.getLogger("orchestration-management"),  # says warnings and errors only
    )
    with client:
        return 0 if run(client) else 1


if __name__ == "__main__":
    sys.exit(main())
