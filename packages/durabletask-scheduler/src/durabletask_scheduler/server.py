"""The gRPC server: one event loop on a thread of its own, handlers built from the protocol's descriptor."""

from __future__ import annotations

import asyncio
import concurrent.futures
import socket
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from durabletask_proto import additions

from durabletask_scheduler.handlers import handler_for
from durabletask_scheduler.health import health_handler
from durabletask_scheduler.outgoing import Outgoing
from durabletask_scheduler.rpc import RPCS, SERVICE_NAME
from durabletask_scheduler.transport import Mailbox, Service

MEBIBYTE = 1024 * 1024
MAX_PENDING_CALLS = 100_000


class ServerError(Exception):
    """The server cannot be started; the message says why and what to do."""


@dataclass(frozen=True)
class ServerOptions:
    """How the server treats its connections.

    Attributes:
        max_receive_bytes: largest request; larger ones are refused with RESOURCE_EXHAUSTED. Workers answer a
            turn with one message, so this bounds what one turn can schedule.
        max_send_bytes: largest response; -1 for no limit (the receiver has its own).
        keepalive_seconds: a connection that was silent for so long is pinged.
        keepalive_timeout_seconds: a ping unanswered for so long ends the connection, so that work items held
            by a vanished peer go to another.
    """

    max_receive_bytes: int = 64 * MEBIBYTE
    max_send_bytes: int = -1
    keepalive_seconds: float = 10.0
    keepalive_timeout_seconds: float = 5.0

    @property
    def takes_frames(self) -> bool:
        """Whether frames fit, both ways; else workers are left to the calls of the protocol."""
        limits = (self.max_receive_bytes, self.max_send_bytes)
        # With what holds the parts of a frame together it is a little larger than what it carries.
        return all(limit < 0 or limit >= 2 * additions.MOST_FRAME_BYTES for limit in limits)

    def channel_arguments(self) -> list[tuple[str, int]]:
        """The same in gRPC's vocabulary."""
        return [
            ("grpc.max_receive_message_length", self.max_receive_bytes),
            ("grpc.max_send_message_length", self.max_send_bytes),
            ("grpc.keepalive_time_ms", int(self.keepalive_seconds * 1000)),
            ("grpc.keepalive_timeout_ms", int(self.keepalive_timeout_seconds * 1000)),
            # The bound that holds in fact: the one above leaves an unanswered ping a whole minute.
            ("grpc.http2.ping_timeout_ms", int(self.keepalive_timeout_seconds * 1000)),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),
            # Clients ping as often as their own options say; they must not be disconnected for it.
            ("grpc.http2.max_ping_strikes", 0),
            # A burst waits for its turn: beyond gRPC's default of 1,000 calls it would be CANCELLED without a trace.
            ("grpc.server.max_pending_requests", MAX_PENDING_CALLS),
            ("grpc.server.max_pending_requests_hard_limit", MAX_PENDING_CALLS),
            # Otherwise a second scheduler shares the port and takes half of the calls.
            ("grpc.so_reuseport", 0),
        ]


class GrpcServer:
    """Serves one service on one port.

    Args:
        service: what answers.
        host: name or address of the interface to listen on.
        port: 0 lets the system choose.
        credentials: ``grpc.ServerCredentials`` for TLS; None for plaintext.
        outgoing: of the service's engine, if it has one.
    """

    def __init__(
        self,
        service: Service,
        host: str = "127.0.0.1",
        port: int = 8080,
        options: ServerOptions | None = None,
        credentials: Any = None,
        outgoing: Outgoing | None = None,
    ) -> None:
        self._service = service
        self._host = host
        self._port = port
        self._options = options or ServerOptions()
        self._credentials = credentials
        self._outgoing = outgoing
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run_loop, name="durabletask-grpc", daemon=True)
        self._server: grpc.aio.Server | None = None
        self._ending = asyncio.Event()
        self._stopping: concurrent.futures.Future[None] | None = None

    def start(self) -> int:
        """Listen; afterwards calls are answered.

        Returns:
            the port.

        Raises:
            ServerError: the address cannot be listened on.
        """
        self._thread.start()
        try:
            port: int = self._on_loop(self._start()).result()
            return port
        except BaseException:
            self._end_loop()
            raise

    def begin_stop(self, grace: float) -> None:
        """Refuse new calls at once and give the running ones ``grace`` seconds; idempotent, does not wait."""
        if self._server is not None and self._stopping is None:
            self._stopping = self._on_loop(self._stop(self._server, grace))

    def stop(self, grace: float = 5.0) -> None:
        """Refuse new calls, wait for the running ones at most ``grace`` seconds, cancel the rest; idempotent."""
        self.begin_stop(grace)
        if self._stopping is not None and not self._loop.is_closed():
            self._stopping.result()
            self._end_loop()

    async def _start(self) -> int:
        mailbox = Mailbox(self._loop, self._outgoing)
        server = grpc.aio.server(options=self._options.channel_arguments())
        handlers: dict[str, dict[str, Any]] = {}
        announced = ((additions.STREAM_HEADER, additions.VERSION),) if self._options.takes_frames else ()
        for rpc in RPCS.values():
            handlers.setdefault(rpc.service, {})[rpc.name] = handler_for(self._service, rpc, mailbox, announced)
        services = [grpc.method_handlers_generic_handler(name, methods) for name, methods in handlers.items()]
        server.add_generic_rpc_handlers((*services, health_handler(SERVICE_NAME, self._ending)))
        address = f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"
        try:
            if self._credentials is None:
                port = server.add_insecure_port(address)
            else:
                port = server.add_secure_port(address, self._credentials)
        except RuntimeError as error:
            raise ServerError(_why_not(self._host, self._port)) from error
        await server.start()
        self._server = server
        return port

    async def _stop(self, server: grpc.aio.Server, grace: float) -> None:
        self._ending.set()
        await server.stop(grace)

    def _on_loop(self, work: Coroutine[Any, Any, Any]) -> concurrent.futures.Future[Any]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        leftover = asyncio.all_tasks(self._loop)
        for task in leftover:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*leftover, return_exceptions=True))
        self._loop.close()

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


def _why_not(host: str, port: int) -> str:
    """Why the address cannot be bound: gRPC says only that it cannot."""
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in addresses:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
                probe.listen(1)
    except OSError as error:
        return f"cannot listen on {host}:{port}: {error.strerror or error}; choose another port or host"
    except UnicodeError:
        return f"cannot listen on {host}:{port}: no host has such a name; choose another host"
    return f"cannot listen on {host}:{port}; choose another port or host"
