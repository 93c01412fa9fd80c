"""The client of the tracing sample: places an order inside of a span of its own.

ENDPOINT and TASKHUB say where the scheduler is; by default ``http://localhost:8080`` and ``default``.
"""

from __future__ import annotations

import logging
import os
import sys

import tracing
from azure.identity import DefaultAzureCredential
from durabletask.azuremanaged.client import DurableTaskSchedulerClient
from durabletask.client import OrchestrationStatus
from opentelemetry import trace

TIMEOUT = 60  # seconds

tracer = trace.get_tracer("tracing-sample")


def run(client: DurableTaskSchedulerClient) -> bool:
    """Place an order and wait for it; return whether it completed."""
    with tracer.start_as_current_span("place an order"):
        instance_id = client.schedule_new_orchestration("handle_order", input="globe")
        state = client.wait_for_orchestration_completion(instance_id, timeout=TIMEOUT)
        if state is None or state.runtime_status is not OrchestrationStatus.COMPLETED:
            print(f"The order did not complete: {state}")
            return False
        print(f"The order: {', '.join(state.get_output())}")
        return True


def main() -> int:
    tracing.set_up("tracing-sample-client")
    endpoint = os.environ.get("ENDPOINT", "http://localhost:8080")
    taskhub = os.environ.get("TASKHUB", "default")
    # A local scheduler asks for no identity; a deployed one (https://...) does.
    local = endpoint.startswith("http://")
    client = DurableTaskSchedulerClient(
        host_address=endpoint,
        taskhub=taskhub,
        token_credential=None if local else DefaultAzureCredential(),
        secure_channel=not local,
        logger=logging.getLogger("tracing"),  # says warnings and errors only
    )
    with client:
        return 0 if run(client) else 1


if __name__ == "__main__":
    sys.exit(main())
