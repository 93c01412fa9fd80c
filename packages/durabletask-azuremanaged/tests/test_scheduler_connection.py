"""Clients and workers of the scheduler, seen from a server on loopback: which headers arrive, and which never do."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from importlib import metadata
from typing import Any

import durabletask.azuremanaged
import grpc
import pytest
from azure.core.credentials import AccessToken
from durabletask.azuremanaged.client import AsyncDurableTaskSchedulerClient, DurableTaskSchedulerClient
from durabletask.azuremanaged.internal.durabletask_grpc_interceptor import DTSDefaultClientInterceptorImpl
from durabletask.azuremanaged.worker import DurableTaskSchedulerWorker
from durabletask.internal.grpc_interceptor import DefaultClientInterceptorImpl
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_proto import orchestrator_service_pb2_grpc as pb_grpc

USER_AGENT = f"durabletask-python/{metadata.version('durabletask-azuremanaged')}"
FAR_FUTURE = 4_000_000_000
REMOTE = "scheduler.example:443"


class Credential:
    def __init__(self) -> None:
        self.requests = 0

    def get_token(self, *_: str, **__: Any) -> AccessToken:
        self.requests += 1
        return AccessToken("secret", FAR_FUTURE)


class AsyncCredential(Credential):
    async def get_token(self, *_: str, **__: Any) -> AccessToken:  # type: ignore[override]
        return super().get_token()


class RecordingServer(pb_grpc.TaskHubSidecarServiceServicer):
    """Answers what the tests call, and keeps the headers of every call by its method."""

    def __init__(self) -> None:
        self.headers: dict[str, list[tuple[str, str]]] = {}
        self.asked_for_work = threading.Event()
        self.closing = threading.Event()

    def _record(self, method: str, context: grpc.ServicerContext) -> None:
        self.headers[method] = [(key, str(value)) for key, value in context.invocation_metadata()]

    def Hello(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._record("Hello", context)
        return request

    def GetInstance(self, request: Any, context: grpc.ServicerContext) -> pb.GetInstanceResponse:
        self._record("GetInstance", context)
        return pb.GetInstanceResponse(exists=False)

    def GetWorkItems(self, request: Any, context: grpc.ServicerContext) -> Iterator[pb.WorkItem]:
        self._record("GetWorkItems", context)
        self.asked_for_work.set()
        context.add_callback(self.closing.set)
        self.closing.wait(30)
        return iter(())

    def of_ours(self, method: str) -> list[tuple[str, str]]:
        names = ("taskhub", "x-user-agent", "workerid", "authorization")
        return [(key, value) for key, value in self.headers[method] if key in names]


@pytest.fixture
def server() -> Iterator[tuple[RecordingServer, str]]:
    recording = RecordingServer()
    grpc_server = grpc.server(futures.ThreadPoolExecutor(4))
    pb_grpc.add_TaskHubSidecarServiceServicer_to_server(recording, grpc_server)
    port = grpc_server.add_insecure_port("127.0.0.1:0")
    grpc_server.start()
    yield recording, f"http://127.0.0.1:{port}"
    recording.closing.set()
    grpc_server.stop(0).wait()


def test_a_client_sends_hub_user_agent_and_token_in_this_order(server: tuple[RecordingServer, str]) -> None:
    """Pinned behaviour 32: no token in the constructor, one for the first call, none for the second."""
    recording, address = server
    credential = Credential()
    with DurableTaskSchedulerClient(host_address=address, taskhub="orders", token_credential=credential) as client:
        assert credential.requests == 0
        assert client.get_orchestration_state("i") is None
        assert client.get_orchestration_state("i") is None
    assert recording.of_ours("GetInstance") == [
        ("taskhub", "orders"),
        ("x-user-agent", USER_AGENT),
        ("authorization", "Bearer secret"),
    ]
    assert credential.requests == 1
    assert dict(recording.headers["GetInstance"])["user-agent"] != USER_AGENT


async def test_an_asynchronous_client_sends_the_same(server: tuple[RecordingServer, str]) -> None:
    recording, address = server
    credential = AsyncCredential()
    client = AsyncDurableTaskSchedulerClient(
        host_address=address,
        taskhub="orders",
        token_credential=credential,  # type: ignore[arg-type]
    )
    async with client:
        assert credential.requests == 0
        assert await client.get_orchestration_state("i") is None
    assert recording.of_ours("GetInstance") == [
        ("taskhub", "orders"),
        ("x-user-agent", USER_AGENT),
        ("authorization", "Bearer secret"),
    ]


def test_an_asynchronous_client_is_constructed_without_an_event_loop() -> None:
    """Pinned behaviour 28."""
    client = AsyncDurableTaskSchedulerClient(host_address=REMOTE, taskhub="orders", token_credential=None)
    assert isinstance(client, AsyncDurableTaskSchedulerClient)


def test_without_a_credential_no_authorization_is_sent(server: tuple[RecordingServer, str]) -> None:
    recording, address = server
    with DurableTaskSchedulerClient(host_address=address, taskhub="orders", token_credential=None) as client:
        client.get_orchestration_state("i")
    assert [key for key, _ in recording.of_ours("GetInstance")] == ["taskhub", "x-user-agent"]


def test_a_worker_names_itself_on_its_streams_too(server: tuple[RecordingServer, str]) -> None:
    recording, address = server
    worker = DurableTaskSchedulerWorker(host_address=address, taskhub="orders", token_credential=Credential())
    with worker:
        worker.start()
        assert recording.asked_for_work.wait(20)
    for method in ("Hello", "GetWorkItems"):
        headers = recording.of_ours(method)
        assert [key for key, _ in headers] == ["taskhub", "x-user-agent", "workerid", "authorization"]
        pattern = rf"{re.escape(socket.gethostname())}:{os.getpid()}:[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}"
        assert re.fullmatch(pattern, dict(headers)["workerid"])


def test_a_worker_never_cuts_timers_into_shorter_ones() -> None:
    worker = DurableTaskSchedulerWorker(host_address=REMOTE, taskhub="orders", token_credential=None)
    assert worker.maximum_timer_interval is None


def test_interceptors_of_the_user_run_first(server: tuple[RecordingServer, str]) -> None:
    recording, address = server
    own = DefaultClientInterceptorImpl([("taskhub", "of-the-user")])
    with DurableTaskSchedulerClient(
        host_address=address, taskhub="orders", token_credential=None, interceptors=[own]
    ) as client:
        client.get_orchestration_state("i")
    hubs = [value for key, value in recording.of_ours("GetInstance") if key == "taskhub"]
    assert hubs == ["of-the-user", "orders"]


def test_a_channel_of_the_user_is_used_as_it_is(server: tuple[RecordingServer, str]) -> None:
    recording, address = server
    with grpc.insecure_channel(address.removeprefix("http://")) as channel:
        client = DurableTaskSchedulerClient(
            host_address=REMOTE,
            taskhub="orders",
            token_credential=Credential(),
            channel=channel,
            secure_channel=False,
        )
        client.get_orchestration_state("i")
    assert recording.of_ours("GetInstance") == []


MAKERS: list[Callable[..., Any]] = [
    DurableTaskSchedulerClient,
    AsyncDurableTaskSchedulerClient,
    DurableTaskSchedulerWorker,
]
CLEAR_TEXT = [
    (f"http://{REMOTE}", True),
    (f"HTTP://{REMOTE}", True),
    (f"grpc://{REMOTE}", True),
    (REMOTE, False),
    ("http://localhost.example:8080", True),
    ("http://10.0.0.1:8080", True),
    ("dns:///scheduler.example:80", False),
]
PROTECTED = [
    (REMOTE, True),
    (f"https://{REMOTE}", False),
    (f"GRPCS://{REMOTE}", False),
    ("http://localhost:8080", True),
    ("http://127.0.0.1:8080", True),
    ("http://[::1]:8080", True),
    ("127.8.9.1:8080", False),
    ("localhost", False),
    ("unix:/tmp/scheduler.sock", False),
]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(("address", "secure"), CLEAR_TEXT)
def test_a_token_is_never_sent_to_another_machine_in_clear_text(
    make: Callable[..., Any], address: str, secure: bool
) -> None:
    """R21."""
    with pytest.raises(ValueError, match=r"clear text.*https://"):
        make(host_address=address, taskhub="orders", token_credential=Credential(), secure_channel=secure)
    make(host_address=address, taskhub="orders", token_credential=None, secure_channel=secure)


@pytest.mark.parametrize(("address", "secure"), PROTECTED)
def test_a_token_may_travel_encrypted_or_within_this_machine(address: str, secure: bool) -> None:
    """R21."""
    credential = Credential()
    DurableTaskSchedulerClient(
        host_address=address, taskhub="orders", token_credential=credential, secure_channel=secure
    ).close()
    assert credential.requests == 0


BAD: list[tuple[dict[str, Any], str]] = [
    *(
        ({"taskhub": empty}, f"taskhub must be the name of a task hub, found {empty!r}: pass the name, e.g. 'default'.")
        for empty in ("", "  ")
    ),
    *(
        (
            {"resource_id": empty},
            f"resource_id must name a resource such as 'https://durabletask.io', found {empty!r}: name one, or leave "
            "it out.",
        )
        for empty in ("", "/", " /.default")
    ),
]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(("given", "message"), BAD)
def test_bad_arguments_are_refused_by_the_constructor(
    make: Callable[..., Any], given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError) as refusal:
        make(**{"host_address": REMOTE, "taskhub": "orders", "token_credential": None, **given})
    assert str(refusal.value) == message


def test_the_user_agent_says_unknown_when_the_distribution_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, server: tuple[RecordingServer, str]
) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    recording, address = server
    interceptor = DTSDefaultClientInterceptorImpl(None, "orders")
    with grpc.insecure_channel(address.removeprefix("http://")) as channel:
        stub = pb_grpc.TaskHubSidecarServiceStub(grpc.intercept_channel(channel, interceptor))
        stub.GetInstance(pb.GetInstanceRequest(instanceId="i"))
    assert ("x-user-agent", "durabletask-python/unknown") in recording.of_ours("GetInstance")


def test_the_package_itself_exports_nothing_and_the_client_does_not_load_the_worker() -> None:
    """Pinned behaviour 27."""
    assert [name for name in vars(durabletask.azuremanaged) if name.startswith("Durable")] == []
    program = "import sys, durabletask.azuremanaged.client; sys.exit('durabletask.worker' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0
