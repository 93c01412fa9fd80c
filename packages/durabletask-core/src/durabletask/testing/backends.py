"""How tests find a scheduler: by entry point, because this package depends on none."""

from datetime import datetime, timedelta
from importlib.metadata import entry_points
from typing import Any, Final, Protocol

import grpc
import grpc.aio

from durabletask.features import FeatureMissingError

GROUP: Final = "durabletask.test_backends"
"""Entry points of this group load to an :class:`OpenBackend`."""


class Backend(Protocol):
    """A running scheduler in memory."""

    def channel(self) -> grpc.Channel:
        """A channel to it within the process."""
        ...

    def aio_channel(self) -> grpc.aio.Channel:
        """The same for an event loop."""
        ...

    def serve(self, host: str, port: int) -> int:
        """Answer gRPC calls there too, and return the port (0 lets the system choose)."""
        ...

    def reset(self) -> None:
        """Forget all instances; workers stay connected."""
        ...

    def stop(self, grace: float | None = None) -> None:
        """Stop, with ``grace`` seconds for running calls."""
        ...

    def now(self) -> datetime:
        """Its time, aware in UTC."""
        ...

    def advance(self, duration: timedelta, *, while_activities_run: bool, timeout: float) -> None:
        """Move its time and wait, ``timeout`` real seconds at most, until what is due on the way is done."""
        ...

    @property
    def workers_connected(self) -> int:
        """How often a worker has connected so far."""
        ...

    def wait_for_worker(self, after: int, timeout: float) -> bool:
        """Wait until a worker has connected more than ``after`` times; False if that takes too long."""
        ...


class OpenBackend(Protocol):
    """Starts a backend.

    ``max_history_size`` bounds the events of a generation. With ``virtual_time`` the time begins at ``start``
    (default: now) and stands still until it is advanced; with ``skip_time`` it also moves to the next due
    moment while a call waits for an instance and nothing else can happen.
    """

    def __call__(
        self,
        *,
        max_history_size: int = ...,
        virtual_time: bool = ...,
        start: datetime | None = ...,
        skip_time: bool = ...,
    ) -> Backend: ...


def open_backend(**options: Any) -> Backend:
    """Start the installed backend; for the options see :class:`OpenBackend`.

    Raises:
        FeatureMissingError: None is installed; the message names the package.
    """
    found = next(iter(entry_points(group=GROUP)), None)
    if found is None:
        raise FeatureMissingError(
            "durabletask.testing needs a scheduler, and none is installed: pip install durabletask-scheduler"
        )
    open_installed: OpenBackend = found.load()
    return open_installed(**options)
