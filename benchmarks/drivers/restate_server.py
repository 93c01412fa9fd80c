"""A Restate server in a process of its own, the services in this one, and clients over HTTP."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import hypercorn.asyncio
import hypercorn.config

from drivers import meter
from drivers.ports import free_port
from drivers.protocol import Absent
from drivers.restate_programs import APP

SECONDS = 300.0
START_SECONDS = 60.0
LOOK_AGAIN = 0.02
WARM_UPS = 3
PROGRAM = "node_modules/@restatedev/restate-server-*/bin/restate-server"
MANY = 2**31 - 1
"""For hypercorn's bounds, as Restate's documentation has it for production."""


@dataclass(frozen=True)
class Server:
    """A running one."""

    ingress: int
    admin: int
    pid: int

    @property
    def pids(self) -> tuple[int, ...]:
        return (self.pid,)

    def meter(self) -> meter.Meter:
        return meter.Meter(self.pids)


class Client:
    """A blocking one with a connection of its own; for one thread at a time."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)

    def call(self, path: str, body: Any = None, method: str = "POST") -> Any:
        """The answer to a request with this body as JSON.

        Raises:
            RuntimeError: it is an error.
        """
        headers = {} if body is None else {"Content-Type": "application/json"}
        self._connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = self._connection.getresponse()
        text = response.read()
        if response.status >= http.client.BAD_REQUEST:
            raise RuntimeError(f"{path}: {response.status} {text.decode(errors='replace')[:200]}")
        return json.loads(text) if text else None

    def run(self, name: str, argument: Any) -> Any:
        """Start a workflow and await its result, in one call."""
        return self.call(f"/{name}/{new_key()}/run", argument)

    def start(self, name: str, argument: Any) -> str:
        """Start a workflow; it is durable when this returns its key."""
        key = new_key()
        self.call(f"/{name}/{key}/run/send", argument)
        return key

    def result(self, name: str, key: str) -> Any:
        """Await a workflow that was started."""
        return self.call(f"/restate/workflow/{name}/{key}/attach", method="GET")


class AsyncClient:
    """One for the running loop; use it in an ``async with`` block."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    async def __aenter__(self) -> AsyncClient:
        timeout = aiohttp.ClientTimeout(total=SECONDS)
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def call(self, path: str, body: Any = None, method: str = "POST") -> Any:
        """As ``Client.call``."""
        # It would name a type for no body, which handlers without an argument refuse.
        sent: dict[str, Any] = {"skip_auto_headers": ("Content-Type",)} if body is None else {"json": body}
        async with self._session.request(method, self._url + path, **sent) as response:
            text = await response.text()
        if response.status >= http.client.BAD_REQUEST:
            raise RuntimeError(f"{path}: {response.status} {text[:200]}")
        return json.loads(text) if text else None

    async def run(self, name: str, argument: Any) -> Any:
        return await self.call(f"/{name}/{new_key()}/run", argument)

    async def start(self, name: str, argument: Any) -> str:
        key = new_key()
        await self.call(f"/{name}/{key}/run/send", argument)
        return key

    async def result(self, name: str, key: str) -> Any:
        return await self.call(f"/restate/workflow/{name}/{key}/attach", method="GET")


def new_key() -> str:
    return uuid.uuid4().hex


@contextmanager
def running(folder: Path) -> Iterator[Server]:
    """A server with an empty store that knows no services yet.

    Raises:
        Absent: its program is not in this environment.
    """
    program = next(Path(sys.prefix).glob(PROGRAM), None)
    if program is None:
        raise Absent(f"npm has installed no server for this machine ({PROGRAM})")
    fabric, ingress, admin = (free_port() for _ in range(3))
    options = {
        "RESTATE_DISABLE_TELEMETRY": "true",
        "RESTATE_LISTEN_MODE": "tcp",
        "RESTATE_BIND_IP": "127.0.0.1",
        "RESTATE_BIND_PORT": str(fabric),
        "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ingress}",
        "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin}",
        # A thousand is its default; workflows above it would wait until others had been idle for a minute.
        "RESTATE_WORKER__INVOKER__CONCURRENT_INVOCATIONS_LIMIT": "100000",
        "RESTATE_LOG_FILTER": "error",
    }
    command = [str(program), "--no-logo", "--node-name", "bench", "--base-dir", str(folder / "restate")]
    # What it says is shown if it does not start.
    with (folder / "restate.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **options})
    try:
        _wait_until_healthy(server, admin, folder / "restate.log")
        yield Server(ingress, admin, server.pid)
    finally:
        server.kill()
        server.wait()


@contextmanager
def services(server: Server) -> Iterator[None]:
    """The services of the suite answer on a thread of this process, and the server knows them."""
    config = hypercorn.config.Config()
    port = free_port()
    config.bind = [f"127.0.0.1:{port}"]
    config.h2_max_concurrent_streams = config.keep_alive_max_requests = config.keep_alive_timeout = MANY
    loop, ends = asyncio.new_event_loop(), asyncio.Event()
    serving = hypercorn.asyncio.serve(APP, config, shutdown_trigger=ends.wait)
    thread = threading.Thread(target=loop.run_until_complete, args=(serving,), name="services")
    thread.start()
    try:
        _wait_for_port(port)
        Client(server.admin).call("/deployments", {"uri": f"http://127.0.0.1:{port}"})
        yield
    finally:
        loop.call_soon_threadsafe(ends.set)
        thread.join()


@contextmanager
def opened(folder: Path) -> Iterator[Server]:
    """A server with its services; a few workflows have run when this returns."""
    with running(folder) as server, services(server):
        client = Client(server.ingress)
        for number in range(WARM_UPS):
            client.run("single", number)
        yield server


def _wait_until_healthy(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        try:
            Client(port).call("/health", method="GET")
            return
        except (OSError, RuntimeError, http.client.HTTPException):
            time.sleep(LOOK_AGAIN)
    raise RuntimeError(f"the server did not start: {log.read_text(errors='replace')[-300:]}")


def _wait_for_port(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(LOOK_AGAIN)
