"""What travels: the exact headers in their order, and nothing that somebody else could read."""

from __future__ import annotations

import logging
import os
import re
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from typing import Any

import grpc
import pytest
from azure.core.credentials import AccessToken
from durabletask.azuremanaged.client import AsyncDurableTaskSchedulerClient, DurableTaskSchedulerClient
from durabletask.azuremanaged.worker import DurableTaskSchedulerWorker
from durabletask.grpc_options import GrpcChannelOptions

SECRET = "eyJ-this-token-is-secret"
USER_AGENT = f"durabletask-python/{metadata.version('durabletask-azuremanaged')}"
FAR_FUTURE = 4_000_000_000
OF_CLIENT = [("taskhub", "default"), ("x-user-agent", USER_AGENT), ("authorization", f"Bearer {SECRET}")]


class Credential:
    def get_token(self, *_: str, **__: Any) -> AccessToken:
        return AccessToken(SECRET, FAR_FUTURE)


class AsyncCredential:
    async def get_token(self, *_: str, **__: Any) -> AccessToken:
        return AccessToken(SECRET, FAR_FUTURE)


def of_ours(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Headers without those that gRPC itself adds."""
    return [entry for entry in headers if entry[0] != "user-agent" and not entry[0].startswith("grpc-")]


def keywords(secured: Any, certificates: Any) -> dict[str, Any]:
    return {
        "host_address": secured.address,
        "taskhub": "default",
        "channel_options": GrpcChannelOptions(root_certificates=certificates.authority),
    }


def test_a_client_sends_exactly_these_headers_with_unary_and_streaming_calls(secured: Any, certificates: Any) -> None:
    """Pinned behaviour 32."""
    with DurableTaskSchedulerClient(token_credential=Credential(), **keywords(secured, certificates)) as client:
        assert client.get_orchestration_state("i") is None
        with pytest.raises(grpc.RpcError, match="NOT_FOUND"):
            client.get_orchestration_history("i")
    assert [name for name, _ in secured.gateway.calls] == ["GetInstance", "StreamInstanceHistory"]
    assert [of_ours(headers) for _, headers in secured.gateway.calls] == [OF_CLIENT] * 2


async def test_an_asynchronous_client_sends_exactly_the_same(secured: Any, certificates: Any) -> None:
    """Pinned behaviour 32."""
    client = AsyncDurableTaskSchedulerClient(token_credential=AsyncCredential(), **keywords(secured, certificates))  # type: ignore[arg-type]
    async with client:
        assert await client.get_orchestration_state("i") is None
        with pytest.raises(grpc.RpcError):
            await client.get_orchestration_history("i")
    assert [name for name, _ in secured.gateway.calls] == ["GetInstance", "StreamInstanceHistory"]
    assert [of_ours(headers) for _, headers in secured.gateway.calls] == [OF_CLIENT] * 2


def echo(ctx: Any, value: Any) -> Any:
    return value


@pytest.mark.parametrize(
    ("hides", "calls"),
    [
        (None, {"Hello", "GetWorkItems", "CompleteOrchestratorTask"}),
        (set(), {"Hello", "Work"}),
    ],
    ids=["protocol", "additions"],
)
def test_a_worker_names_itself_with_every_call_it_makes(
    secured: Any, certificates: Any, hides: set[str] | None, calls: set[str]
) -> None:
    """Pinned behaviour 32: unary calls, the streams of either kind, and the completions that nobody waits for."""
    secured.gateway.hides = secured.gateway.hides if hides is None else hides
    options = keywords(secured, certificates)
    worker = DurableTaskSchedulerWorker(token_credential=Credential(), **options)
    worker.add_orchestrator(echo)
    with worker, DurableTaskSchedulerClient(token_credential=Credential(), **options) as client:
        worker.start()
        state = client.wait_for_orchestration_completion(client.schedule_new_orchestration(echo, input=7), timeout=30)
        assert state is not None and state.get_output() == 7
        # Before it stops: what the stream has not settled by then goes by a call.
        seen = list(secured.gateway.calls)
    of_worker = {name: of_ours(headers) for name, headers in seen if "workerid" in dict(headers)}
    assert set(of_worker) == calls
    uuid = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    for name, headers in of_worker.items():
        assert headers == [OF_CLIENT[0], OF_CLIENT[1], ("workerid", headers[2][1]), OF_CLIENT[2]], name
        assert re.fullmatch(rf"{re.escape(socket.gethostname())}:{os.getpid()}:{uuid}", headers[2][1])
    assert len({headers[2] for headers in of_worker.values()}) == 1


class Wire:
    """A TCP port that keeps every byte it is sent and answers none."""

    def __init__(self) -> None:
        self.received = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def _read(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while data := connection.recv(65536):
                self.received += data

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def wire() -> Iterator[Wire]:
    wire = Wire()
    yield wire
    wire.close()


def test_nothing_travels_before_the_channel_is_encrypted(wire: Wire) -> None:
    """R21: all that reaches a server that does not answer is the hello of TLS."""
    client = DurableTaskSchedulerClient(
        host_address=f"localhost:{wire.port}", taskhub="my-task-hub", token_credential=Credential()
    )
    with suppress(grpc.RpcError, TimeoutError):
        client.wait_for_orchestration_start("i", timeout=1)
    received = wire.received
    client.close()
    assert received.startswith(b"\x16\x03")
    assert not any(text in received for text in (SECRET.encode(), b"my-task-hub", b"TaskHubSidecarService"))


THROUGH_A_PROXY = """
    import sys, grpc, test_packets
    from durabletask.azuremanaged.client import DurableTaskSchedulerClient
    from durabletask.grpc_options import GrpcChannelOptions
    credential = test_packets.Credential() if sys.argv[2] == "with" else None
    client = DurableTaskSchedulerClient(
        host_address=f"http://localhost:{sys.argv[1]}", taskhub="default", token_credential=credential
    )
    try:
        client.wait_for_orchestration_start("i", timeout=2)
    except (grpc.RpcError, TimeoutError):
        pass
"""


@pytest.mark.parametrize(("credential", "asked"), [("with", False), ("without", True)])
def test_no_proxy_gets_the_tokens_that_are_meant_for_this_machine(wire: Wire, credential: str, asked: bool) -> None:
    """gRPC would send even calls to localhost through the proxy of the environment."""
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        unused = nobody.getsockname()[1]
    environment = {**os.environ, "http_proxy": f"http://127.0.0.1:{wire.port}", "PYTHONPATH": os.path.dirname(__file__)}
    environment.pop("no_proxy", None)
    command = [sys.executable, "-c", textwrap.dedent(THROUGH_A_PROXY), str(unused), credential]
    subprocess.run(command, env=environment, check=True, timeout=60)
    assert bool(wire.received) is asked
    assert SECRET.encode() not in wire.received


def test_clear_text_to_another_machine_needs_an_explicit_word(caplog: pytest.LogCaptureFixture) -> None:
    """R21."""
    options = {"host_address": "http://scheduler.example:80", "taskhub": "default", "token_credential": Credential()}
    with pytest.raises(ValueError, match="allow_insecure_token=True"):
        DurableTaskSchedulerClient(**options)  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING):
        DurableTaskSchedulerClient(**options, allow_insecure_token=True).close()  # type: ignore[arg-type]
    assert "in clear text" in caplog.text


def test_a_client_that_does_not_know_the_authority_does_not_send_its_token(
    secured: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        DurableTaskSchedulerClient(
            host_address=secured.address, taskhub="default", token_credential=Credential()
        ) as client,
        pytest.raises(grpc.RpcError, match="UNAVAILABLE"),
    ):
        client.get_orchestration_state("i")
    assert secured.gateway.calls == []
    assert SECRET not in caplog.text


@pytest.fixture
def mutual(certificates: Any) -> Iterator[str]:
    """A TLS server that only talks to clients of our authority; it answers any unary call with nothing."""
    from concurrent import futures

    class Anything(grpc.GenericRpcHandler):
        def service(self, _: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(lambda request, context: b"")

    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[Anything()])
    pair = (certificates.server.key, certificates.server.certificate)
    port = server.add_secure_port(
        "127.0.0.1:0", grpc.ssl_server_credentials([pair], certificates.authority, require_client_auth=True)
    )
    server.start()
    yield f"https://localhost:{port}"
    server.stop(0).wait()


async def test_client_certificates_open_a_server_that_asks_for_them(mutual: str, certificates: Any) -> None:
    both = GrpcChannelOptions(
        root_certificates=certificates.authority,
        client_certificate=certificates.client.certificate,
        client_key=certificates.client.key,
    )
    only_roots = GrpcChannelOptions(root_certificates=certificates.authority)

    def client(options: GrpcChannelOptions) -> DurableTaskSchedulerClient:
        return DurableTaskSchedulerClient(
            host_address=mutual, taskhub="default", token_credential=None, channel_options=options
        )

    with client(both) as trusted:
        assert trusted.get_orchestration_state("i") is None
    with client(only_roots) as stranger, pytest.raises(grpc.RpcError, match="UNAVAILABLE"):
        stranger.get_orchestration_state("i")
    async with AsyncDurableTaskSchedulerClient(
        host_address=mutual, taskhub="default", token_credential=None, channel_options=both
    ) as asynchronous:
        assert await asynchronous.get_orchestration_state("i") is None
    assert "BEGIN" not in repr(both)


@pytest.mark.parametrize(
    "make", [DurableTaskSchedulerClient, AsyncDurableTaskSchedulerClient, DurableTaskSchedulerWorker]
)
def test_certificates_on_a_plaintext_channel_are_a_mistake(make: Any, certificates: Any) -> None:
    options = GrpcChannelOptions(root_certificates=certificates.authority)
    with pytest.raises(ValueError, match=r"hold certificates.*https://"):
        make(host_address="http://localhost:8080", taskhub="default", token_credential=None, channel_options=options)
