"""The standard gRPC health service (``grpc.health.v1.Health``), for probes of orchestrating platforms.

Its two messages have one field each, so they are read and written here without generated code and
without another dependency: a request is ``string service = 1``, a response ``ServingStatus status = 1``.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

_SERVING = b"\x08\x01"
_NOT_SERVING = b"\x08\x02"
_SERVICE_UNKNOWN = b"\x08\x03"


def health_handler(service_name: str, stopping: asyncio.Event) -> Any:
    """Handlers that report the server as a whole, and ``service_name``, as SERVING until ``stopping`` is set.

    From then on they report NOT_SERVING, and watchers are sent away, for whom a stopping server would wait.

    ``Check`` of another name is refused with NOT_FOUND, ``Watch`` of it reports SERVICE_UNKNOWN, as the health
    protocol demands.
    """
    known = {b"", _request_for("").encode(), _request_for(service_name).encode()}

    async def check(request: bytes, context: Any) -> bytes:
        if request not in known:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"only {service_name!r} and '' are known here")
        return _NOT_SERVING if stopping.is_set() else _SERVING

    async def watch(request: bytes, context: Any) -> None:
        await context.write(_SERVING if request in known else _SERVICE_UNKNOWN)
        await stopping.wait()
        if request in known:
            await context.write(_NOT_SERVING)

    handlers = {
        "Check": grpc.unary_unary_rpc_method_handler(check),
        "Watch": grpc.unary_stream_rpc_method_handler(watch),
    }
    return grpc.method_handlers_generic_handler("grpc.health.v1.Health", handlers)


def _request_for(service_name: str) -> str:
    return f"\x0a{chr(len(service_name))}{service_name}"
