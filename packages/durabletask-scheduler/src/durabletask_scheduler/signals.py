"""Waiting for the signal to stop, on the main thread."""

from __future__ import annotations

import select
import signal
import socket

_STOP = (signal.SIGTERM, signal.SIGINT)
# No signal has this number.
_GIVEN_UP = 0


class StopSignals:
    """SIGTERM and SIGINT, taken note of from now on; a second one of its kind has its usual effect.

    The interpreter writes every signal to a socket, whichever thread the system interrupts and whatever the main
    thread is doing. Waiting for an event that the handler sets would miss one that comes just before the wait.
    """

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in _STOP:
            signal.signal(number, _usual_effect_next_time)

    def give_up(self) -> None:
        """End the wait although no signal has come; any thread."""
        self._writer.send(bytes([_GIVEN_UP]))

    def pause(self, seconds: float) -> bool:
        """Wait so long; True as soon as :meth:`wait` would return."""
        return bool(select.select([self._reader], [], [], seconds)[0])

    def wait(self) -> bool:
        """Return when one of the two signals has come (True), or somebody has given up (False)."""
        while (number := self._reader.recv(1)[0]) not in (*_STOP, _GIVEN_UP):
            continue
        return number != _GIVEN_UP


def _usual_effect_next_time(number: int, _: object) -> None:
    signal.signal(number, signal.SIG_DFL)
