"""What a step of the engine sends: whoever is to write it is woken at the end of the step, once.

A thread that is woken earlier contends for the interpreter with the rest of the step, and writes a message of its own
for what could have shared one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

Wake = Callable[[], None]


class _Mine(threading.local):
    """Attributes: held: of the step that this thread is at; None while it is at none."""

    held: list[Wake] | None = None


class Outgoing:
    """Any thread; a step is begun and ended by the same one."""

    def __init__(self) -> None:
        self._mine = _Mine()

    def hold(self) -> None:
        """A step begins."""
        self._mine.held = []

    def release(self) -> None:
        """The step is over."""
        held, self._mine.held = self._mine.held, None
        for wake in held or ():
            wake()

    def wake(self, wake: Wake) -> None:
        """Call it when the step of the calling thread is over; at once if that is at none."""
        held = self._mine.held
        if held is None:
            wake()
        else:
            held.append(wake)
