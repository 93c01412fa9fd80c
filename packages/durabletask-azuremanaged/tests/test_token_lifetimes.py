"""Tokens that end, are revoked or cannot be had, in front of our scheduler behind TLS."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import time
from typing import Any

import grpc
import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from durabletask.azuremanaged.client import AsyncDurableTaskSchedulerClient, DurableTaskSchedulerClient
from durabletask.azuremanaged.worker import DurableTaskSchedulerWorker
from durabletask.client import NewOrchestration
from durabletask.grpc_options import GrpcChannelOptions, GrpcWorkerResiliencyOptions

HOUR = 3600.0
PATIENCE = 20.0
QUICK = GrpcWorkerResiliencyOptions(reconnect_backoff_base_seconds=0.05, reconnect_backoff_cap_seconds=0.2)


class Issuer:
    """Gives tokens that live ``lifetime`` seconds, and knows which of them are valid."""

    def __init__(self, lifetime: float = HOUR) -> None:
        self.lifetime = lifetime
        self.error: Exception | None = None
        self.asked = 0
        self.failed = threading.Event()
        self._ends: dict[str, float] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def get_token(self, *_: str, **__: Any) -> AccessToken:
        with self._lock:
            self.asked += 1
            if self.error is not None:
                self.failed.set()
                raise self.error
            token, end = f"secret-token-{next(self._numbers)}", time.time() + self.lifetime
            self._ends[token] = end
            return AccessToken(token, end)  # type: ignore[arg-type]

    def revoke_all(self) -> None:
        with self._lock:
            self._ends.clear()

    def check(self, token: str) -> float | None:
        with self._lock:
            return self._ends.get(token)


class AsyncIssuer(Issuer):
    async def get_token(self, *_: str, **__: Any) -> AccessToken:  # type: ignore[override]
        return super().get_token()


class Same(Issuer):
    """Gives the same token again and again, also after it was revoked."""

    def get_token(self, *_: str, **__: Any) -> AccessToken:
        self.asked += 1
        return AccessToken("secret-token-of-old", int(time.time() + HOUR))


@pytest.fixture
def connection(secured: Any, certificates: Any) -> dict[str, Any]:
    return {
        "host_address": secured.address,
        "taskhub": "default",
        "channel_options": GrpcChannelOptions(root_certificates=certificates.authority),
    }


def test_a_refused_unary_call_is_made_once_more_with_a_fresh_token(secured: Any, connection: dict[str, Any]) -> None:
    """Lesson 36."""
    issuer = Issuer()
    secured.gateway.check = issuer.check
    with DurableTaskSchedulerClient(token_credential=issuer, **connection) as client:
        assert client.get_orchestration_state("i") is None
        issuer.revoke_all()
        assert client.get_orchestration_state("i") is None
        assert client.get_orchestration_state("i") is None
    assert (issuer.asked, secured.gateway.refused) == (2, ["GetInstance"])


async def test_a_refused_asynchronous_call_is_made_once_more_too(secured: Any, connection: dict[str, Any]) -> None:
    """Lesson 36: several calls that are refused together cause one request for a token."""
    issuer = AsyncIssuer()
    secured.gateway.check = issuer.check
    async with AsyncDurableTaskSchedulerClient(token_credential=issuer, **connection) as client:  # type: ignore[arg-type]
        await client.get_orchestration_state("i")
        issuer.revoke_all()
        assert await asyncio.gather(*(client.get_orchestration_state("i") for _ in range(8))) == [None] * 8
        issuer.revoke_all()
        with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
            await client.get_orchestration_history("i")
    assert issuer.asked == 2


def test_many_calls_at_once_are_made_once_more_together(secured: Any, connection: dict[str, Any]) -> None:
    """Lesson 36: calls whose results are awaited later."""
    issuer = Issuer()
    secured.gateway.check = issuer.check
    with DurableTaskSchedulerClient(token_credential=issuer, **connection) as client:
        client.get_orchestration_state("i")
        issuer.revoke_all()
        ids = client.schedule_new_orchestrations([NewOrchestration("nobody", input=i) for i in range(8)])
        assert len(set(ids)) == 8
    assert issuer.asked == 2


def test_a_credential_that_knows_no_other_token_is_not_asked_in_a_loop(
    secured: Any, connection: dict[str, Any]
) -> None:
    """Lesson 36: each call reaches the server once, and the credential is asked about once a second."""
    same = Same()
    secured.gateway.check = lambda token: None
    with DurableTaskSchedulerClient(token_credential=same, **connection) as client:
        for _ in range(20):
            with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
                client.get_orchestration_state("i")
    assert len(secured.gateway.refused) == 20
    assert same.asked < 10


def echo(ctx: Any, value: Any) -> Any:
    return value


def square(ctx: Any, value: int) -> int:
    return value * value


def squares(ctx: Any, count: int) -> Any:
    total = 0
    for i in range(count):
        total += yield ctx.call_activity(square, input=i)
    return total


def test_a_stream_whose_token_is_refused_is_opened_again_with_a_fresh_one(
    secured: Any, connection: dict[str, Any]
) -> None:
    """Lesson 36."""
    issuer = Issuer()
    secured.gateway.check = issuer.check
    worker = DurableTaskSchedulerWorker(token_credential=issuer, resiliency_options=QUICK, **connection)
    worker.add_orchestrator(echo)
    issuer.lifetime = 1.5
    with worker:
        worker.start()
        with secured.gateway.opened_stream:
            assert secured.gateway.opened_stream.wait_for(lambda: secured.gateway.streams >= 3, PATIENCE)
    tokens = {dict(headers)["authorization"] for name, headers in secured.gateway.calls if name == "GetWorkItems"}
    assert len(tokens) >= 3


def test_a_worker_outlives_ten_tokens_under_load_without_one_failed_work_item(
    secured: Any, connection: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    issuer = Issuer(lifetime=1.2)
    logger = logging.getLogger("test-ten-lifetimes")
    worker = DurableTaskSchedulerWorker(token_credential=issuer, resiliency_options=QUICK, logger=logger, **connection)
    worker.add_orchestrator(squares)
    worker.add_activity(square)
    finished = 0
    clients = Issuer(HOUR)
    secured.gateway.check = lambda token: issuer.check(token) or clients.check(token.removesuffix("-of-clients"))
    clients_tokens = _Suffixed(clients)
    with (
        caplog.at_level(logging.DEBUG),
        worker,
        DurableTaskSchedulerClient(token_credential=clients_tokens, **connection) as client,
    ):
        worker.start()
        end = time.monotonic() + 10 * issuer.lifetime + 1
        while time.monotonic() < end:
            ids = [client.schedule_new_orchestration(squares, input=5) for _ in range(8)]
            for instance_id in ids:
                state = client.wait_for_orchestration_completion(instance_id, timeout=30)
                assert state is not None and state.failure_details is None
                assert state.get_output() == 30
            finished += len(ids)
    ended = [
        token for token in range(1, issuer.asked + 1) if (issuer.check(f"secret-token-{token}") or 0) < time.time()
    ]
    assert len(ended) >= 10
    assert finished >= 16
    assert "secret-token" not in caplog.text
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


class _Suffixed:
    """Gives the tokens of an issuer under other names, so that two issuers do not mix."""

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer

    def get_token(self, *_: str, **__: Any) -> AccessToken:
        token = self._issuer.get_token()
        return AccessToken(f"{token.token}-of-clients", token.expires_on)


def test_a_worker_says_once_that_it_waits_for_its_credential_and_goes_on_when_it_has_a_token(
    secured: Any, connection: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Lesson 36: the message of the credential, what the worker waits for, and a back-off in between."""
    issuer = Issuer()
    issuer.error = ClientAuthenticationError("no managed identity is assigned to this machine")
    secured.gateway.check = issuer.check
    logger = logging.getLogger("test-credential-fails")
    worker = DurableTaskSchedulerWorker(token_credential=issuer, resiliency_options=QUICK, logger=logger, **connection)
    worker.add_orchestrator(echo)
    with caplog.at_level(logging.INFO), worker:
        worker.start()
        assert issuer.failed.wait(PATIENCE)
        issuer.failed.clear()
        assert issuer.failed.wait(PATIENCE)
        asked = issuer.asked
        issuer.error = None
        with secured.gateway.opened_stream:
            assert secured.gateway.opened_stream.wait_for(lambda: secured.gateway.streams, PATIENCE)
    assert asked <= 3
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warning == (
        f"Cannot get work items from the task hub at {connection['host_address']} (UNAUTHENTICATED: the credential "
        "gave no access token (ClientAuthenticationError: no managed identity is assigned to this machine)): check "
        "the credential of this worker. Trying again for as long as the worker runs, at most every 0.2 s."
    )


def test_a_client_raises_what_its_credential_raised(connection: dict[str, Any]) -> None:
    issuer = Issuer()
    issuer.error = ClientAuthenticationError("no managed identity")
    with (
        DurableTaskSchedulerClient(token_credential=issuer, **connection) as client,
        pytest.raises(ClientAuthenticationError, match="no managed identity"),
    ):
        client.get_orchestration_state("i")
