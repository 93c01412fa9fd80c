"""One line when a connection is lost, one when it is back, and nothing in between."""

import logging

import grpc

_ADVICE = {
    grpc.StatusCode.UNAVAILABLE: (
        "check that a scheduler listens there (for example: durabletask-scheduler serve) and that TLS is on or off at "
        "both ends (secure_channel, or a scheme in host_address)"
    ),
    grpc.StatusCode.DEADLINE_EXCEEDED: "something accepts connections there but does not answer as a task hub",
    grpc.StatusCode.UNIMPLEMENTED: "what listens there is not a task hub: check host_address",
    grpc.StatusCode.NOT_FOUND: "check that the task hub exists and that its name is spelled right",
    grpc.StatusCode.UNAUTHENTICATED: "check the credential of this worker",
    grpc.StatusCode.PERMISSION_DENIED: "check that the identity of this worker may take work items from this task hub",
    grpc.StatusCode.RESOURCE_EXHAUSTED: (
        "a work item may be larger than this worker accepts: raise GrpcChannelOptions.max_receive_message_length"
    ),
}


class OutageLog:
    """Reports the state of one connection.

    Args:
        logger: Where to report.
        address: The host as the user named it.
        retry_cap: Greatest delay between two tries, in seconds.
    """

    def __init__(self, logger: logging.Logger, address: str, retry_cap: float) -> None:
        self._logger = logger
        self._address = address
        self._retry_cap = retry_cap
        self._reported: str | None = None
        self._was_connected = False

    def lost(self, error: grpc.RpcError, *, silent: bool) -> None:
        """A call failed; ``silent`` says that we cancelled it because nothing was heard."""
        if silent:
            self._report("silence", "nothing was heard on the stream for too long", "reconnecting")
            return
        code = error.code() if isinstance(error, grpc.Call) else None
        details = error.details() if isinstance(error, grpc.Call) else str(error)
        name = code.name if code is not None else type(error).__name__
        advice = _ADVICE.get(code, "see the message") if code is not None else "see the message"
        self._report(name, f"{name}: {details}", advice)

    def broken(self, error: Exception) -> None:
        """Something other than a call failed while the stream was served: a fault of ours or of an interceptor."""
        name = type(error).__name__
        if name != self._reported:
            self._logger.error("Serving work items from %s failed", self._address, exc_info=error)
        self._reported = name

    def ended(self) -> None:
        """The server ended the stream in good order."""
        self._logger.info("The task hub at %s closed the stream of work items; reconnecting", self._address)

    def over(self) -> None:
        """The stream delivers."""
        if self._reported is not None:
            self._logger.info("Connected to the task hub at %s again", self._address)
        self._reported = None
        self._was_connected = True

    def _report(self, kind: str, found: str, advice: str) -> None:
        level = logging.DEBUG if kind == self._reported else logging.WARNING
        self._reported = kind
        what = "Lost the connection to" if self._was_connected else "Cannot get work items from"
        self._logger.log(
            level,
            "%s the task hub at %s (%s): %s. Trying again for as long as the worker runs, at most every %g s.",
            what,
            self._address,
            found,
            advice,
            self._retry_cap,
        )
