"""OpenTelemetry spans of clients and workers, and the trace context that travels between them.

The extra ``opentelemetry`` of this package installs what this needs. Without the API of OpenTelemetry nothing of
this is imported; with the API alone, trace contexts are passed on; with its SDK and a tracer provider, spans are made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging

    from durabletask._tracing.clients import ClientTracing
    from durabletask._tracing.workers import WorkerTracing


def client_tracing(emit: bool) -> ClientTracing | None:
    """The tracing of a client, or None where OpenTelemetry is not installed.

    Args:
        emit: Whether spans are made; else the trace context of the caller is passed on.
    """
    try:
        from durabletask._tracing.clients import ClientTracing
    except ModuleNotFoundError as error:
        _require_absence(error)
        return None
    return ClientTracing(emit)


def worker_tracing(emit: bool, logger: logging.Logger) -> WorkerTracing | None:
    """The tracing of a worker that starts now, or None where OpenTelemetry is not installed.

    Args:
        emit: As for a client.
        logger: Where faults of what makes spans are reported.
    """
    try:
        from durabletask._tracing.workers import WorkerTracing
    except ModuleNotFoundError as error:
        _require_absence(error)
        return None
    return WorkerTracing(emit, logger)


def _require_absence(error: ModuleNotFoundError) -> None:
    if not (error.name or "").startswith("opentelemetry"):
        raise error
