"""The client of the large-payload sample: has a book written, and shows where it is kept.

ENDPOINT and TASKHUB say where the scheduler is; by default ``http://localhost:8080`` and ``default``.
PAYLOADS is the folder of the large payloads, by default ``payloads``.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from azure.identity import DefaultAzureCredential
from durabletask.azuremanaged.client import DurableTaskSchedulerClient
from durabletask.client import OrchestrationStatus
from payload_store import FilePayloadStore

TIMEOUT = 60  # seconds

CHAPTERS = 10


def run(client: DurableTaskSchedulerClient, store: FilePayloadStore) -> bool:
    """Have a book written and read; return whether it came through whole."""
    instance_id = client.schedule_new_orchestration("publish", input=CHAPTERS)
    print(f"Started {instance_id}")
    state = client.wait_for_orchestration_completion(instance_id, timeout=TIMEOUT)
    if state is None or state.runtime_status is not OrchestrationStatus.COMPLETED:
        print(f"It did not complete: {state}")
        return False
    result = state.get_output()
    found = sum(len(chapter) for chapter in result["book"])
    print(f"Status: {state.runtime_status}")
    print(f"A book of {len(result['book'])} chapters and {found} letters")
    print(f"Kept in the store: {'yes' if store.count() else 'no'}")
    return bool(found == result["letters"] and store.count())


def main() -> int:
    endpoint = os.environ.get("ENDPOINT", "http://localhost:8080")
    taskhub = os.environ.get("TASKHUB", "default")
    # A local scheduler asks for no identity; a deployed one (https://...) does.
    local = endpoint.startswith("http://")
    store = FilePayloadStore(Path(os.environ.get("PAYLOADS", "payloads")))
    client = DurableTaskSchedulerClient(
        host_address=endpoint,
        taskhub=taskhub,
        token_credential=None if local else DefaultAzureCredential(),
        secure_channel=not local,
        payload_store=store,
        logger=logging.getLogger("large-payload"),  # says warnings and errors only
    )
    with client:
        return 0 if run(client, store) else 1


if __name__ == "__main__":
    sys.exit(main())
