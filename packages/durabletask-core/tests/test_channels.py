"""Addresses, and how channels treat interceptors, loops, closing and servers that are away."""

import asyncio
import logging
import socket
import time
from typing import Any

import grpc
import pytest
from durabletask.client import AsyncTaskHubGrpcClient, TaskHubGrpcClient
from durabletask.grpc_options import GrpcChannelOptions
from durabletask.internal import grpc_interceptor, shared
from durabletask.transport.channels import Address, ChannelSettings, default_host_address, parse_address

ADDRESSES = [
    (None, False, Address("localhost:4001", False)),
    (None, True, Address("localhost:4001", True)),
    ("host:1", False, Address("host:1", False)),
    ("host:1", True, Address("host:1", True)),
    ("https://host:1", False, Address("host:1", True)),
    ("GRPCS://host:1", False, Address("host:1", True)),
    ("http://host:1", True, Address("host:1", False)),
    ("Grpc://host:1", True, Address("host:1", False)),
    ("dns:///host:1", True, Address("dns:///host:1", True)),
]


@pytest.mark.parametrize(("address", "secure", "expected"), ADDRESSES)
def test_a_scheme_decides_about_tls_and_is_stripped(address: str | None, secure: bool, expected: Address) -> None:
    assert parse_address(address, secure) == expected


@pytest.mark.parametrize("address", ["", "http://"])
@pytest.mark.parametrize("client", [TaskHubGrpcClient, AsyncTaskHubGrpcClient])
def test_an_address_without_a_host_is_an_error_of_the_constructor(client: Any, address: str) -> None:
    with pytest.raises(ValueError, match="must name a host"):
        client(host_address=address)


def test_the_default_address_is_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DURABLETASK_HOST", "elsewhere:1")
    assert default_host_address() == shared.get_default_host_address() == "localhost:4001"


def test_no_option_is_passed_unless_asked_for() -> None:
    assert ChannelSettings().grpc_options() is None
    assert ChannelSettings(channel_options=GrpcChannelOptions(keepalive_time_ms=5)).grpc_options() == [
        ("grpc.keepalive_time_ms", 5)
    ]


class Hub(grpc.GenericRpcHandler):
    """Answers every unary call with an empty message, every stream with one, and remembers the metadata."""

    def __init__(self) -> None:
        self.metadata: list[list[tuple[str, Any]]] = []

    def service(self, details: Any) -> Any:
        self.metadata.append([entry for entry in details.invocation_metadata if entry[0].startswith("x-test")])
        if "GetWorkItems" in details.method:
            return grpc.unary_stream_rpc_method_handler(lambda request, context: iter([b""]))
        return grpc.unary_unary_rpc_method_handler(lambda request, context: b"")


@pytest.fixture
def hub(request: pytest.FixtureRequest) -> Any:
    from concurrent.futures import ThreadPoolExecutor

    handler = Hub()
    server = grpc.server(ThreadPoolExecutor(2), handlers=[handler])
    handler.address = f"localhost:{server.add_insecure_port('localhost:0')}"  # type: ignore[attr-defined]
    server.start()
    yield handler
    server.stop(None).wait()


class Stamping(grpc_interceptor.DefaultClientInterceptorImpl):
    """An interceptor of a user, by the documented hook."""

    def _intercept_call(self, client_call_details: grpc.ClientCallDetails) -> grpc.ClientCallDetails:
        self._metadata = [("x-test-hook", client_call_details.method)]
        return super()._intercept_call(client_call_details)


class AsyncStamping(grpc_interceptor.DefaultAsyncClientInterceptorImpl):
    async def _intercept_call(self, client_call_details: Any) -> Any:
        self._metadata = [("x-test-hook", "called")]
        return await super()._intercept_call(client_call_details)


def test_interceptors_serve_unary_and_streaming_calls_on_threads(hub: Any) -> None:
    interceptors = [Stamping(), grpc_interceptor.DefaultClientInterceptorImpl([("x-test-fixed", "1")])]
    with shared.get_grpc_channel(hub.address, interceptors=interceptors) as channel:
        channel.unary_unary("/TaskHubSidecarService/Hello")(b"")
        list(channel.unary_stream("/TaskHubSidecarService/GetWorkItems")(b""))
    assert hub.metadata == [
        [("x-test-hook", f"/TaskHubSidecarService/{rpc}"), ("x-test-fixed", "1")] for rpc in ("Hello", "GetWorkItems")
    ]


async def test_interceptors_serve_unary_and_streaming_calls_on_asyncio(hub: Any) -> None:
    """gRPC files an asyncio interceptor of several kinds under the first; ours serve all of them."""
    interceptors = [AsyncStamping(), grpc_interceptor.DefaultAsyncClientInterceptorImpl([("x-test-fixed", "1")])]
    async with shared.get_async_grpc_channel(hub.address, interceptors=interceptors) as channel:
        await channel.unary_unary("/TaskHubSidecarService/Hello")(b"")
        assert [m async for m in channel.unary_stream("/TaskHubSidecarService/GetWorkItems")(b"")] == [b""]
    assert hub.metadata == [[("x-test-hook", "called"), ("x-test-fixed", "1")]] * 2


def test_a_supplied_channel_is_used_as_it_is_and_left_open(hub: Any) -> None:
    """Pinned 29"""
    with grpc.insecure_channel(hub.address) as channel:
        client = TaskHubGrpcClient(channel=channel, metadata=[("x-test-fixed", "1")])
        for _ in range(2):
            with client:
                assert client.get_orchestration_state("i") is None
        channel.unary_unary("/TaskHubSidecarService/Hello")(b"")
    assert hub.metadata == [[], [], []]


async def test_a_supplied_asyncio_channel_is_used_as_it_is_and_left_open(hub: Any) -> None:
    """Pinned 29"""
    async with grpc.aio.insecure_channel(hub.address) as channel:
        client = AsyncTaskHubGrpcClient(channel=channel, metadata=[("x-test-fixed", "1")])
        for _ in range(2):
            async with client:
                assert await client.get_orchestration_state("i") is None
    assert hub.metadata == [[], []]


def test_an_asyncio_client_is_made_without_a_loop_and_opened_by_its_first_call(hub: Any) -> None:
    """Pinned 28"""
    client = AsyncTaskHubGrpcClient(host_address=hub.address)

    async def use() -> None:
        assert await client.get_orchestration_state("i") is None
        await client.close()
        await client.close()
        with pytest.raises(RuntimeError, match="client is closed"):
            await client.get_orchestration_state("i")

    asyncio.run(use())


def test_a_closed_client_says_so(hub: Any) -> None:
    client = TaskHubGrpcClient(host_address=hub.address)
    client.close()
    client.close()
    with client, pytest.raises(RuntimeError, match="client is closed"):
        client.get_orchestration_state("i")


class Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {record.getMessage()}")


@pytest.fixture
def nobody() -> str:
    """The address of a port on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.mark.parametrize("kind", ["threads", "asyncio"])
def test_a_server_that_is_away_is_one_clear_error_and_not_a_hang(nobody: str, kind: str) -> None:
    logger, records = logging.Logger("test"), Records()
    logger.addHandler(records)

    async def on_asyncio() -> None:
        async with AsyncTaskHubGrpcClient(host_address=nobody, logger=logger) as client:
            await client.schedule_new_orchestration("o")

    def on_threads() -> None:
        with TaskHubGrpcClient(host_address=nobody, logger=logger) as client:
            client.schedule_new_orchestration("o")

    began = time.monotonic()
    with pytest.raises(grpc.RpcError) as caught:
        asyncio.run(on_asyncio()) if kind == "asyncio" else on_threads()
    assert time.monotonic() - began < 20
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    (line,) = [line for line in records.lines if line.startswith("ERROR")]
    assert f"StartInstance did not reach a task hub at {nobody}" in line
    assert "Check that the scheduler runs there" in line
    notes = getattr(caught.value, "__notes__", None)
    assert notes is None or nobody in notes[0]


def test_an_outage_is_reported_once_until_a_call_succeeds(nobody: str) -> None:
    logger, records = logging.Logger("test"), Records()
    logger.addHandler(records)
    with TaskHubGrpcClient(host_address=nobody, logger=logger) as client:
        for _ in range(3):
            with pytest.raises(grpc.RpcError):
                client.get_orchestration_state("i")
    assert sum(line.startswith("ERROR") for line in records.lines) == 1
