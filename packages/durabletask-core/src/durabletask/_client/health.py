"""Watches how the calls of a client end: counts transport failures and reports a server that is away."""

import logging
import threading
import time
from collections.abc import Callable

import grpc

from durabletask._client.calls import Call
from durabletask.grpc_options import GrpcClientResiliencyOptions


def status_code(error: grpc.RpcError) -> grpc.StatusCode | None:
    """The status of a failed call; None for an error raised by an interceptor, which may lack one."""
    code = getattr(error, "code", None)
    status: grpc.StatusCode | None = code() if callable(code) else None
    return status


def _details(error: grpc.RpcError) -> str:
    """What a failed call says of itself; an error raised by an interceptor may have a status only."""
    details = getattr(error, "details", None)
    return str(details() if callable(details) else error)


class ConnectionHealth:
    """Decides when a channel has failed so often that it is to be replaced.

    UNAVAILABLE counts, and DEADLINE_EXCEEDED unless the call was a long poll; anything else shows that
    the server was reached, and starts the count anew. Safe to use from any thread.

    Args:
        options: The threshold and the least time between two replacements.
        address: The server, as shown to the user.
        logger: Where an outage is reported, once until a call succeeds again.
        clock: Seconds on a monotonic clock.

    Attributes:
        troubled: Whether there was a failure since :meth:`succeeded` was last called.
    """

    def __init__(
        self,
        options: GrpcClientResiliencyOptions,
        address: str,
        logger: logging.Logger,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._options = options
        self._address = address
        self._logger = logger
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._replaced_at: float | None = None
        self._outage_reported = False
        self.troubled = False

    def succeeded(self) -> None:
        """A call reached the server; need not be told while there is no trouble."""
        with self._lock:
            self._failures = 0
            self._outage_reported = self.troubled = False

    def failed(self, call: Call[object], error: grpc.RpcError) -> bool:
        """Take note of a failed call; True if the channel is to be replaced now."""
        code = status_code(error)
        if code is grpc.StatusCode.UNAVAILABLE:
            self._report_outage(call, error)
        elif code is not grpc.StatusCode.DEADLINE_EXCEEDED:
            self.succeeded()
            return False
        elif call.long_poll:
            return False
        return self._count_failure()

    def _count_failure(self) -> bool:
        threshold = self._options.channel_recreate_failure_threshold
        with self._lock:
            self._failures += 1
            self.troubled = True
            if threshold == 0 or self._failures < threshold:
                return False
            now = self._clock()
            if self._replaced_at is not None and now - self._replaced_at < self._options.min_recreate_interval_seconds:
                return False
            self._failures = 0
            self._replaced_at = now
            return True

    def _report_outage(self, call: Call[object], error: grpc.RpcError) -> None:
        advice = (
            f"{call.rpc} did not reach a task hub at {self._address} ({_details(error)}). Check that the scheduler "
            "runs there and that host_address names it, with https:// or http:// as it expects."
        )
        add_note = getattr(error, "add_note", None)
        if add_note is not None:
            add_note(advice)
        with self._lock:
            first, self._outage_reported = not self._outage_reported, True
        if first:
            self._logger.error("%s", advice)
