"""Warm entities: states that stay in the worker between batches, so that the server need not send them again."""

import threading
from collections import OrderedDict


class WarmStates:
    """The kept states, least recently used first, each with the token of the batch that left it.

    As with warm runs the token is the fence: only the state that a worker answered just that batch with
    is the entity's. Safe to call from any thread.

    Args:
        capacity: Greatest number of characters in all kept states; a longer state is not kept.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._states: OrderedDict[str, tuple[str, str]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return len(self._states)

    def take(self, instance_id: str, base: str) -> str | None:
        """Remove and return the state that batch ``base`` left; any other of the entity is dropped."""
        with self._lock:
            token, state = self._remove(instance_id)
        return state if token == base and base else None

    def keep(self, instance_id: str, token: str, state: str) -> None:
        """Keep what the batch answered with ``token`` left, in place of any other state of the entity."""
        with self._lock:
            self._remove(instance_id)
            if len(state) > self._capacity:
                return
            self._states[instance_id] = (token, state)
            self._size += len(state)
            while self._size > self._capacity:
                self._remove(next(iter(self._states)))

    def drop(self, instance_id: str, token: str | None = None) -> None:
        """Forget the state of an entity; with ``token`` only if that batch left it."""
        with self._lock:
            if token in (None, self._states.get(instance_id, ("", ""))[0]):
                self._remove(instance_id)

    def clear(self) -> None:
        """Forget every state."""
        with self._lock:
            self._states.clear()
            self._size = 0

    def _remove(self, instance_id: str) -> tuple[str, str]:
        token, state = self._states.pop(instance_id, ("", ""))
        self._size -= len(state)
        return token, state
