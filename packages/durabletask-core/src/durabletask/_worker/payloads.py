"""Large payloads on their way in and out of the worker."""

from typing import TypeVar

from google.protobuf.message import Message

from durabletask.payload import (
    PayloadStore,
    deexternalize_payloads,
    deexternalize_payloads_async,
    externalize_payloads,
    externalize_payloads_async,
)

M = TypeVar("M", bound=Message)


class Payloads:
    """Applies the user's payload store to requests and responses; a worker without a store has none of these.

    A request is copied before payloads are put into it: a received message may be shared with a
    server in this process.
    """

    def __init__(self, store: PayloadStore) -> None:
        self._store = store

    def restore(self, request: M) -> M:
        """The request with its payloads in place of their tokens."""
        copy = _copy(request)
        deexternalize_payloads(copy, self._store)
        return copy

    def store(self, response: Message, instance_id: str) -> None:
        """Move large payloads of the response into the store.

        Raises:
            ValueError: A payload is larger than the store's maximum.
        """
        externalize_payloads(response, self._store, instance_id=instance_id)

    async def restore_async(self, request: M) -> M:
        """As :meth:`restore`, without blocking the loop."""
        copy = _copy(request)
        await deexternalize_payloads_async(copy, self._store)
        return copy

    async def store_async(self, response: Message, instance_id: str) -> None:
        """As :meth:`store`, without blocking the loop."""
        await externalize_payloads_async(response, self._store, instance_id=instance_id)


def _copy(request: M) -> M:
    copy = type(request)()
    copy.CopyFrom(request)
    return copy
