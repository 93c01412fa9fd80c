"""Waiting for the signal to stop, on the main thread."""

import signal
import socket
from types import TracebackType
from typing import Any

_STOP = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """Within the block SIGINT and SIGTERM only end :meth:`wait`; after it they do what they did before.

    The interpreter writes every signal to a socket, whichever thread the system interrupts. Waiting
    on a lock instead would miss a signal that is not delivered to the main thread.

    Raises:
        ValueError: Not used on the main thread.
    """

    def __enter__(self) -> "StopSignals":
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._former_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._former: dict[int, Any] = {number: signal.signal(number, _noted) for number in _STOP}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._former_fd)
        self._reader.close()
        self._writer.close()

    def wait(self) -> None:
        """Return when one of the two signals has come."""
        while self._reader.recv(1)[0] not in _STOP:
            pass


def _noted(*_: object) -> None:
    """The socket has the signal already."""
