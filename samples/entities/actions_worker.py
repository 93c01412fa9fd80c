"""The worker of the actions sample: entities that signal each other and themselves, and start orchestrations."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from connection import run_worker
from durabletask import entities, task
from durabletask.azuremanaged.worker import DurableTaskSchedulerWorker

ENOUGH = 10
CLOSES_AFTER = timedelta(seconds=1)


class Cart(entities.DurableEntity):
    """A shopping cart. It tells the stock what was taken, and places the order when it is closed."""

    def __init__(self) -> None:
        self.set_state({"items": [], "order": None})

    def add(self, item: str) -> None:
        cart = self.get_state()
        cart["items"].append(item)
        self.set_state(cart)
        # To another entity, without waiting for it.
        self.signal_entity(entities.EntityInstanceId("Stock", item), "take", 1)
        if len(cart["items"]) == 1:
            # To itself, later: one second after the first item the cart closes.
            closes_at = datetime.now(timezone.utc) + CLOSES_AFTER
            self.signal_entity(self.entity_context.entity_id, "close", signal_time=closes_at)

    def close(self) -> None:
        cart = self.get_state()
        if cart["order"] is None:
            cart["order"] = self.schedule_new_orchestration("place_order", input=cart["items"], version="1.0.0")
            self.set_state(cart)


class Stock(entities.DurableEntity):
    """How many of an item are left."""

    def __init__(self) -> None:
        self.set_state(ENOUGH)

    def take(self, count: int) -> None:
        self.set_state(self.get_state(int, 0) - count)


def place_order(ctx: task.OrchestrationContext, items: list[str]) -> dict[str, Any]:
    return {"ordered": sorted(items), "version": ctx.version}


def setup(worker: DurableTaskSchedulerWorker) -> None:
    worker.add_entity(Cart)
    worker.add_entity(Stock)
    worker.add_orchestrator(place_order)


if __name__ == "__main__":
    run_worker(setup)
