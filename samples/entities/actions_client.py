"""The client of the actions sample: fills a cart; everything else is done by the entities."""

from __future__ import annotations

import sys
import uuid
from typing import Any

from connection import TIMEOUT, new_client, wait_until
from durabletask import entities
from durabletask.azuremanaged.client import DurableTaskSchedulerClient


def run(client: DurableTaskSchedulerClient) -> bool:
    suffix = uuid.uuid4().hex[:8]
    tea, cup = f"tea-{suffix}", f"cup-{suffix}"
    cart = entities.EntityInstanceId("Cart", f"ada-{suffix}")

    def state_of(entity: entities.EntityInstanceId) -> Any:
        metadata = client.get_entity(entity)
        return None if metadata is None else metadata.get_typed_state()

    for item in (tea, cup, tea):
        client.signal_entity(cart, "add", input=item)
    wait_until("the cart is closed", lambda: (state_of(cart) or {}).get("order") is not None)
    order = client.wait_for_orchestration_completion(state_of(cart)["order"], timeout=TIMEOUT)
    if order is None:
        print("The order does not exist")
        return False
    placed = order.get_output()
    # The suffix only keeps one run of this script from another.
    ordered = [item.removesuffix(f"-{suffix}") for item in placed["ordered"]]
    print(f"Order of {', '.join(ordered)}, version {placed['version']}: {order.runtime_status}")
    left = {}
    for name, item, expected in (("tea", tea, 8), ("cup", cup, 9)):
        stock = entities.EntityInstanceId("Stock", item)
        wait_until(f"{expected} of {name} are left", lambda: state_of(stock) == expected)  # noqa: B023
        left[name] = state_of(stock)
        client.signal_entity(stock, "delete")
    print(f"Left in stock: {left}")
    client.signal_entity(cart, "delete")
    return ordered == ["cup", "tea", "tea"] and placed["version"] == "1.0.0"


if __name__ == "__main__":
    with new_client() as client:
        sys.exit(0 if run(client) else 1)
