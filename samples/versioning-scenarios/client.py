"""The client of all four scenarios: starts orders, approves them, and tells which are still in flight.

    python client.py start 5 --version 1.0.0
    python client.py in-flight
    python client.py approve
    python client.py results
    python client.py wait-drained 1.0.0

ENDPOINT and TASKHUB say where the scheduler is; by default ``http://localhost:8080`` and ``default``.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections import Counter

from azure.identity import DefaultAzureCredential
from durabletask.azuremanaged.client import DurableTaskSchedulerClient
from durabletask.client import OrchestrationQuery, OrchestrationState, OrchestrationStatus, TaskHubGrpcClient

LIVE = [OrchestrationStatus.PENDING, OrchestrationStatus.RUNNING, OrchestrationStatus.SUSPENDED]


def start(client: TaskHubGrpcClient, count: int, version: str | None = None) -> list[str]:
    """Start orders; each waits for its approval."""
    return [client.schedule_new_orchestration("order", input=f"item {n}", version=version) for n in range(count)]


def in_flight(client: TaskHubGrpcClient, version: str | None = None) -> list[OrchestrationState]:
    """The orders that have not ended; ``version=""`` for those without a version, None for all."""
    query = OrchestrationQuery(name="order", version=version, runtime_status=LIVE)
    return client.get_all_orchestration_states(query)


def approve(client: TaskHubGrpcClient) -> int:
    """Approve every order that is in flight; returns how many."""
    orders = in_flight(client)
    for order in orders:
        client.raise_orchestration_event(order.instance_id, "approved")
    return len(orders)


def wait_drained(client: TaskHubGrpcClient, version: str, timeout: float = 60) -> None:
    """Return once no order of this version is in flight: its workers can go.

    Raises:
        TimeoutError: an order did not end in time.
    """
    while orders := in_flight(client, version):
        for order in orders:
            client.wait_for_orchestration_completion(order.instance_id, timeout=timeout)


def results(client: TaskHubGrpcClient) -> Counter[tuple[str, str, str]]:
    """How many orders there are, by version, status and result."""
    query = OrchestrationQuery(name="order", fetch_inputs_and_outputs=True)
    return Counter(
        (order.version or "no version", str(order.runtime_status), _result(order))
        for order in client.get_all_orchestration_states(query)
    )


def _result(order: OrchestrationState) -> str:
    if order.failure_details is not None:
        return f"{order.failure_details.error_type}: {order.failure_details.message}"
    return order.serialized_output or ""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    starting = commands.add_parser("start", help="start orders")
    starting.add_argument("count", type=int)
    starting.add_argument("--version", help="the version of the orders; none by default")
    commands.add_parser("in-flight", help="count the orders in flight, by version")
    commands.add_parser("approve", help="approve all orders in flight")
    commands.add_parser("results", help="count all orders, by version, status and result")
    waiting = commands.add_parser("wait-drained", help="wait until no order of a version is in flight")
    waiting.add_argument("version")
    return parser.parse_args()


def main() -> int:
    arguments = _arguments()
    endpoint = os.environ.get("ENDPOINT", "http://localhost:8080")
    # A local scheduler asks for no identity; a deployed one (https://...) does.
    local = endpoint.startswith("http://")
    with DurableTaskSchedulerClient(
        host_address=endpoint,
        taskhub=os.environ.get("TASKHUB", "default"),
        token_credential=None if local else DefaultAzureCredential(),
        secure_channel=not local,
        logger=logging.getLogger("scenarios"),
    ) as client:
        if arguments.command == "start":
            print(f"started {len(start(client, arguments.count, arguments.version))} orders")
        elif arguments.command == "approve":
            print(f"approved {approve(client)} orders")
        elif arguments.command == "in-flight":
            print(dict(Counter(order.version or "no version" for order in in_flight(client))))
        elif arguments.command == "results":
            for (version, status, result), count in sorted(results(client).items()):
                print(f"{count:4} x {version:10} {status:10} {result}")
        else:
            wait_drained(client, arguments.version)
            print(f"no order of version {arguments.version} is in flight: its workers can be shut down")
    return 0


if __name__ == "__main__":
    sys.exit(main())
