"""Which work items are in flight, and how each of them ends exactly once."""

import logging
import threading
import time

from google.protobuf.message import Message

from durabletask._worker.items import Item
from durabletask._worker.refused import too_large
from durabletask.transport.completions import Delivery, Outbox, Refusal, is_too_large

_ABANDON_TRIES = 3


class Ledger:
    """Every work item from its arrival until the server has taken its answer.

    An item ends as a completion or as an abandonment, whichever is claimed first; the other comes
    too late and is dropped. What cannot be delivered is abandoned, so that nothing waits for a
    worker that has given up.

    Args:
        outbox: Delivers completions and abandonments.
        logger: Where failed deliveries and abandonments are reported.
    """

    def __init__(self, outbox: Outbox, logger: logging.Logger) -> None:
        self._outbox = outbox
        self._logger = logger
        # Taken by itself where nobody waits: several times cheaper than through the condition.
        self._lock = threading.Lock()
        self._emptied = threading.Condition(self._lock)
        self._is_awaited = False
        self._in_flight: dict[Item, None] = {}
        # Those of them that are not answered yet. Whoever takes one out answers it: that alone needs no lock.
        self._open: dict[Item, bool] = {}
        # Made once: it goes with every answer.
        self._when_completed = self._completed

    def begun(self, item: Item) -> None:
        """The item was taken and now counts as in flight."""
        with self._lock:
            self._in_flight[item] = None
            self._open[item] = True

    def is_open(self, item: Item) -> bool:
        """Whether an answer is still wanted."""
        return item in self._open

    def complete(self, item: Item, response: Message) -> None:
        """Send the response, unless the item was abandoned meanwhile."""
        if self._open.pop(item, False):
            self._outbox.send(Delivery(item.kind.complete, response, self._when_completed, item))
        else:
            self._lost(item)

    def abandon(self, item: Item, reason: str) -> None:
        """Give the item back, to be delivered again later or elsewhere."""
        if self._open.pop(item, False):
            self._logger.info("Abandoning %s: %s", item.subject, reason)
            self._give_back(item)

    def drain(self, deadline: float, grace: float) -> None:
        """Wait until nothing is in flight or ``deadline`` (monotonic), then abandon what is left.

        Args:
            deadline: When to stop waiting for work that is under way.
            grace: Seconds to wait for the abandonments themselves.
        """
        if self._wait_empty(deadline):
            return
        with self._lock:
            left = list(self._in_flight)
            self._open.clear()
        self._logger.warning(
            "Abandoning %d unfinished work items, to be run by another worker: %s",
            len(left),
            "; ".join(item.subject for item in left[:10]),
        )
        for item in left:
            self._give_back(item)
        self._wait_empty(time.monotonic() + grace)

    def _wait_empty(self, deadline: float) -> bool:
        with self._emptied:
            self._is_awaited = True
            return self._emptied.wait_for(lambda: not self._in_flight, max(0.0, deadline - time.monotonic()))

    def _completed(self, delivery: Delivery, refusal: Refusal | None) -> None:
        item: Item = delivery.about
        if refusal is None:
            self._end(item)
            return
        self._lost(item)
        substitute = too_large(delivery.message, refusal) if is_too_large(refusal) else None
        if substitute is not None:
            self._logger.error("The answer to %s is too large (%s); it fails", item.subject, refusal)
            self._outbox.send(Delivery(item.kind.complete, substitute, self._substituted, item))
            return
        self._undelivered(item, refusal)

    def _substituted(self, delivery: Delivery, refusal: Refusal | None) -> None:
        if refusal is None:
            self._end(delivery.about)
        else:
            self._undelivered(delivery.about, refusal)

    def _undelivered(self, item: Item, refusal: Refusal) -> None:
        self._logger.error("The answer to %s cannot be delivered (%s); abandoning it", item.subject, refusal)
        self._give_back(item)

    def _give_back(self, item: Item) -> None:
        self._lost(item)
        kind = item.kind
        self._outbox.send(
            Delivery(
                kind.abandon, kind.abandon_request(item.token), self._given_back, item, attempts_left=_ABANDON_TRIES
            )
        )

    def _given_back(self, delivery: Delivery, refusal: Refusal | None) -> None:
        item: Item = delivery.about
        if refusal is not None:
            self._logger.warning("%s cannot be abandoned either (%s)", item.subject, refusal)
        self._end(item)

    def _lost(self, item: Item) -> None:
        if item.lost is not None:
            item.lost(item)

    def _end(self, item: Item) -> None:
        with self._lock:
            self._in_flight.pop(item, None)
            if self._is_awaited and not self._in_flight:
                self._emptied.notify_all()
