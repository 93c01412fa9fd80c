"""A number that threads wait for."""

from __future__ import annotations

import threading


class Count:
    """Counts up; others wait until it has reached a value."""

    def __init__(self) -> None:
        self._value = 0
        self._changed = threading.Condition()

    @property
    def value(self) -> int:
        return self._value

    def add(self) -> None:
        with self._changed:
            self._value += 1
            self._changed.notify_all()

    def wait_for(self, value: int, timeout: float) -> None:
        """Return once it is ``value`` or more.

        Raises:
            TimeoutError: it is not after ``timeout`` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._value >= value, timeout):
                raise TimeoutError(f"{self._value} of {value} got there in {timeout:g} s")
