"""Clients and workers against our scheduler over TLS, which checks the tokens of a local issuer."""

from __future__ import annotations

import itertools
import json
import logging
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from azure.core.credentials import AccessToken
from cryptography.hazmat.primitives.asymmetric import ec
from durabletask.azuremanaged.client import AsyncDurableTaskSchedulerClient, DurableTaskSchedulerClient
from durabletask.azuremanaged.worker import DurableTaskSchedulerWorker
from durabletask.client import OrchestrationStatus
from durabletask.grpc_options import GrpcChannelOptions, GrpcWorkerResiliencyOptions
from durabletask_proto import additions
from durabletask_scheduler import Scheduler
from durabletask_scheduler.security import OidcOptions, Security, TlsFiles
from durabletask_scheduler.security.tokens import new_token, token_line
from durabletask_scheduler.server import ServerOptions

ISSUER, AUDIENCE = "https://issuer.example", "https://durabletask.io"
PATIENCE = 30.0
SECRET_PAYLOAD = "the-card-number-is-4111"
QUICK = GrpcWorkerResiliencyOptions(reconnect_backoff_base_seconds=0.05, reconnect_backoff_cap_seconds=0.2)


class Issuer:
    """Signs tokens with a key of this test run; a credential of azure-core for clients and workers of one thread each.

    Args:
        lifetime: of its tokens, in seconds.
        claims: in place of the ones of a good token.
    """

    def __init__(self, key: ec.EllipticCurvePrivateKey, lifetime: float = 3600, **claims: Any) -> None:
        self._key = key
        self._lifetime = lifetime
        self._claims = claims
        self._numbers = itertools.count()
        self.ends: list[int] = []
        self.tokens: list[str] = []

    def get_token(self, *_: str, **__: Any) -> AccessToken:
        end = math.ceil(time.time() + self._lifetime)
        body = {"iss": ISSUER, "aud": AUDIENCE, "exp": end, "roles": ["operator", "worker"], **self._claims}
        token = jwt.encode({**body, "jti": str(next(self._numbers))}, self._key, "ES256", headers={"kid": "k"})
        self.ends.append(end)
        self.tokens.append(token)
        return AccessToken(token, end)

    @property
    def ended(self) -> int:
        """How many of its tokens are past their end."""
        return sum(end <= time.time() for end in self.ends)


class AsyncCredential:
    """A synchronous credential for asynchronous clients."""

    def __init__(self, credential: Any) -> None:
        self._credential = credential

    async def get_token(self, *_: str, **__: Any) -> AccessToken:
        token: AccessToken = self._credential.get_token()
        return token


class Fixed:
    """Gives one text as its token."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.asked = 0

    def get_token(self, *_: str, **__: Any) -> AccessToken:
        self.asked += 1
        return AccessToken(self.token, int(time.time()) + 3600)


class Site:
    """A scheduler with the task hubs ``orders`` and ``billing``, and what one needs to reach it."""

    def __init__(self, folder: Path, certificates: Any, stack: ExitStack, options: ServerOptions) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self.key.public_key()))
        (folder / "keys.json").write_text(json.dumps({"keys": [{**public, "kid": "k", "alg": "ES256"}]}))
        (folder / "server.crt").write_bytes(certificates.server.certificate)
        (folder / "server.key").write_bytes(certificates.server.key)
        self.token_file = folder / "tokens"
        self.token_file.write_text("")
        self.roots = GrpcChannelOptions(root_certificates=certificates.authority)
        self._scheduler = stack.enter_context(Scheduler(task_hubs=("orders", "billing"), server_options=options))
        self.port = self._scheduler.serve(
            "127.0.0.1",
            0,
            security=Security(
                TlsFiles(str(folder / "server.crt"), str(folder / "server.key")),
                str(self.token_file),
                OidcOptions(ISSUER, (AUDIENCE,), keys=str(folder / "keys.json"), clock_skew=0),
                token_check_seconds=0,
            ),
        )

    def open_port(self) -> int:
        """A port of the same scheduler without TLS and tokens."""
        return self._scheduler.serve("127.0.0.1", 0)

    def issuer(self, lifetime: float = 3600, **claims: Any) -> Issuer:
        return Issuer(self.key, lifetime, **claims)

    def connection(self, credential: Any, taskhub: str = "orders") -> dict[str, Any]:
        return {
            "host_address": f"https://127.0.0.1:{self.port}",
            "taskhub": taskhub,
            "token_credential": credential,
            "channel_options": self.roots,
        }


@pytest.fixture
def site(tmp_path: Path, certificates: Any) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path, certificates, stack, ServerOptions())


@pytest.fixture
def site_without_frames(tmp_path: Path, certificates: Any) -> Iterator[Site]:
    """Its workers answer by calls, each with a token."""
    with ExitStack() as stack:
        yield Site(tmp_path, certificates, stack, ServerOptions(max_receive_bytes=additions.MOST_FRAME_BYTES - 1))


class Activities:
    """Counts how often each activity was executed, by its input."""

    def __init__(self) -> None:
        self.executed: dict[Any, int] = {}
        self._lock = threading.Lock()

    def square(self, ctx: Any, number: int) -> int:
        with self._lock:
            key = (ctx.orchestration_id, ctx.task_id)
            self.executed[key] = self.executed.get(key, 0) + 1
        return number * number


def three_squares(ctx: Any, number: int) -> Any:
    total = 0
    for each in range(number, number + 3):
        total += yield ctx.call_activity("square", input=each)
    return total


def complaints(records: list[logging.LogRecord], logger: str) -> list[str]:
    return [each.getMessage() for each in records if each.name == logger and each.levelno >= logging.WARNING]


def test_ten_lifetimes_of_tokens_pass_under_load_without_one_failed_work_item(
    site_without_frames: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """Lesson 36: the tokens of worker and client live for one to two seconds, and four threads keep them busy."""
    site = site_without_frames
    of_worker, of_client, activities = site.issuer(1), site.issuer(1), Activities()
    logger = logging.getLogger("test-ten-lifetimes-over-tls")
    worker = DurableTaskSchedulerWorker(**site.connection(of_worker), resiliency_options=QUICK, logger=logger)
    worker.add_orchestrator(three_squares)
    worker.add_activity(activities.square, name="square")
    ids: list[str] = []

    def load(client: DurableTaskSchedulerClient) -> None:
        while min(of_worker.ended, of_client.ended) < 10 or time.monotonic() < end:
            instance_id = client.schedule_new_orchestration(three_squares, input=3)
            state = client.wait_for_orchestration_completion(instance_id, timeout=PATIENCE)
            assert state is not None
            assert (state.runtime_status, state.get_output()) == (OrchestrationStatus.COMPLETED, 9 + 16 + 25)
            ids.append(instance_id)

    with caplog.at_level(logging.INFO), worker, DurableTaskSchedulerClient(**site.connection(of_client)) as client:
        worker.start()
        end = time.monotonic() + 20
        with ThreadPoolExecutor(4) as threads:
            for done in [threads.submit(load, client) for _ in range(4)]:
                done.result(PATIENCE * 2)
    assert min(of_worker.ended, of_client.ended) >= 10
    assert len(ids) > 10
    assert activities.executed == dict.fromkeys(itertools.product(ids, (1, 2, 3)), 1)
    assert complaints(caplog.records, logger.name) == []
    assert not any(token in caplog.text for token in (*of_worker.tokens, *of_client.tokens))


def test_a_stream_goes_on_when_the_token_it_was_opened_with_has_ended(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """Lesson 36: the worker's stream stays open, and so does the way for what it completes then."""
    issuer, activities = site.issuer(1), Activities()
    worker = DurableTaskSchedulerWorker(**site.connection(issuer), resiliency_options=QUICK)
    worker.add_orchestrator(three_squares)
    worker.add_activity(activities.square, name="square")
    with (
        caplog.at_level(logging.INFO, "durabletask_scheduler.audit"),
        worker,
        DurableTaskSchedulerClient(**site.connection(site.issuer())) as client,
    ):
        worker.start()
        for all_ended in (False, True):
            while all_ended and issuer.ended < len(issuer.tokens):
                client.get_orchestration_state("nobody")
            state = client.wait_for_orchestration_completion(
                client.schedule_new_orchestration(three_squares, input=3), timeout=PATIENCE
            )
            assert state is not None and state.get_output() == 50
    assert len(activities.executed) == 6
    opened = [record.getMessage() for record in caplog.records if "outcome=OPENED" in record.getMessage()]
    assert len(opened) == 1, opened


def expired(site: Site) -> Any:
    return site.issuer(-60)


def for_others(site: Site) -> Any:
    return site.issuer(aud="https://elsewhere.example")


def of_another_hub(site: Site) -> Any:
    return site.issuer(roles=["operator:billing", "worker:billing"])


def revoked(site: Site) -> Any:
    """A static token that has been in the file until just now."""
    credential = Fixed(new_token())
    site.token_file.write_text(token_line("shop", ["operator", "worker"], "*", credential.token))
    with DurableTaskSchedulerClient(**site.connection(credential)) as client:
        assert client.get_orchestration_state("i") is None
    site.token_file.write_text("# nobody\n")
    return credential


def missing(site: Site) -> Any:
    return None


WANTED = "this scheduler wants valid credentials: metadata 'authorization' with 'Bearer TOKEN'"
NOT_HERE = "these credentials do not permit {} in task hub 'orders'"
REFUSALS: list[Any] = [
    (expired, "UNAUTHENTICATED", WANTED),
    (for_others, "UNAUTHENTICATED", WANTED),
    (of_another_hub, "PERMISSION_DENIED", NOT_HERE),
    (revoked, "UNAUTHENTICATED", WANTED),
    (missing, "UNAUTHENTICATED", WANTED),
]


@pytest.mark.parametrize(("credential", "code", "text"), REFUSALS)
def test_a_client_is_told_why_it_is_refused(
    site: Site, credential: Callable[[Site], Any], code: str, text: str
) -> None:
    with (
        DurableTaskSchedulerClient(**site.connection(credential(site))) as client,
        pytest.raises(grpc.RpcError) as refusal,
    ):
        client.get_orchestration_state("i")
    assert (refusal.value.code().name, refusal.value.details()) == (code, text.format("GetInstance"))  # type: ignore[attr-defined]


@pytest.mark.parametrize(("credential", "code", "text"), REFUSALS)
async def test_so_is_an_asynchronous_client_also_of_its_streams(
    site: Site, credential: Callable[[Site], Any], code: str, text: str
) -> None:
    found = credential(site)
    asynchronous = None if found is None else AsyncCredential(found)
    async with AsyncDurableTaskSchedulerClient(**site.connection(asynchronous)) as client:
        for call, name in (
            (client.get_orchestration_state, "GetInstance"),
            (client.get_orchestration_history, "StreamInstanceHistory"),
        ):
            with pytest.raises(grpc.RpcError) as refusal:
                await call("i")
            assert (refusal.value.code().name, refusal.value.details()) == (code, text.format(name))  # type: ignore[attr-defined]


class Lines(logging.Handler):
    """Keeps what is logged, and tells when there is something."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []
        self.some = threading.Event()
        self.logger = logging.Logger("of-one-worker")
        self.logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())
        self.some.set()


@pytest.mark.parametrize(("credential", "code", "text"), REFUSALS)
def test_a_worker_says_once_why_it_is_refused_and_goes_on_when_it_is_not(
    site: Site, credential: Callable[[Site], Any], code: str, text: str
) -> None:
    """The missing header stays missing; of the others a good token ends the wait."""
    found, lines = credential(site), Lines()
    switching = _Switching(found)
    worker = DurableTaskSchedulerWorker(
        **site.connection(None if found is None else switching), resiliency_options=QUICK, logger=lines.logger
    )
    worker.add_orchestrator(three_squares)
    worker.add_activity(Activities().square, name="square")
    with worker, DurableTaskSchedulerClient(**site.connection(site.issuer())) as client:
        worker.start()
        assert lines.some.wait(PATIENCE)
        if found is not None:
            switching.credential = site.issuer()
            state = client.wait_for_orchestration_completion(
                client.schedule_new_orchestration(three_squares, input=3), timeout=PATIENCE
            )
            assert state is not None and state.get_output() == 50
    (line,) = lines.texts
    assert code in line
    assert text.format("Hello") in line or text.format("GetWorkItems") in line


class _Switching:
    """Gives the tokens of a credential that may be exchanged; they are renewed at once."""

    def __init__(self, credential: Any) -> None:
        self.credential = credential

    def get_token(self, *_: str, **__: Any) -> AccessToken:
        token: AccessToken = self.credential.get_token()
        return AccessToken(token.token, min(token.expires_on, int(time.time()) + 1))


def test_an_unknown_task_hub_is_named(site: Site) -> None:
    with (
        DurableTaskSchedulerClient(**site.connection(site.issuer(), "no-such-hub")) as client,
        pytest.raises(grpc.RpcError) as refusal,
    ):
        client.get_orchestration_state("i")
    assert refusal.value.code() is grpc.StatusCode.NOT_FOUND  # type: ignore[attr-defined]
    assert "no-such-hub" in refusal.value.details()  # type: ignore[attr-defined]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_clear_text_and_tls_do_not_meet(site: Site, scheme: str) -> None:
    """A client without TLS at the port with it, and a client with TLS at a port without it."""
    port = site.port if scheme == "http" else site.open_port()
    credential = Fixed("secret")
    with (
        DurableTaskSchedulerClient(
            host_address=f"{scheme}://127.0.0.1:{port}", taskhub="orders", token_credential=credential
        ) as client,
        pytest.raises(grpc.RpcError) as refusal,
    ):
        client.get_orchestration_state("i")
    assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE  # type: ignore[attr-defined]
    assert "secret" not in str(refusal.value)


class Tap:
    """A TCP port before another one; it keeps every byte that passes, in both directions."""

    def __init__(self, port: int) -> None:
        self.passed = bytearray()
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self.passed += data
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        for each in (self._listener, *self._sockets):
            each.close()


@pytest.mark.parametrize("encrypted", [True, False], ids=["tls", "clear text"])
async def test_neither_tokens_nor_payloads_can_be_read_on_the_way(site: Site, encrypted: bool) -> None:
    """With TLS nothing can be read of what worker and clients send and get; without it all can, so the tap works."""
    tap = Tap(site.port if encrypted else site.open_port())
    credential = site.issuer()
    connection = {
        **site.connection(credential),
        "host_address": f"{'https' if encrypted else 'http'}://127.0.0.1:{tap.port}",
        "channel_options": site.roots if encrypted else None,
    }
    worker = DurableTaskSchedulerWorker(**connection)
    worker.add_orchestrator(lambda ctx, value: value, name="echo")
    asynchronous = {**connection, "token_credential": AsyncCredential(credential)}
    with worker, DurableTaskSchedulerClient(**connection) as client:
        worker.start()
        instance_id = client.schedule_new_orchestration("echo", input=SECRET_PAYLOAD)
        state = client.wait_for_orchestration_completion(instance_id, timeout=PATIENCE)
        assert state is not None and state.get_output() == SECRET_PAYLOAD
        async with AsyncDurableTaskSchedulerClient(**asynchronous) as async_client:
            assert len(await async_client.get_orchestration_history(instance_id)) > 2
    tap.close()
    readable = {
        "payload": SECRET_PAYLOAD.encode() in tap.passed,
        "token": any(token.encode() in tap.passed for token in credential.tokens),
        "call": b"TaskHubSidecarService" in tap.passed,
        "task hub": b"orders" in tap.passed,
    }
    assert len(tap.passed) > 2000
    assert set(readable.values()) == {not encrypted}, readable
