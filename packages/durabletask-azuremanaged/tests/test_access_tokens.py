"""Access tokens: asked for late, once, and with the right scope."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any, NamedTuple

import grpc
import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from durabletask.azuremanaged.internal.access_token_manager import (
    AccessTokenManager,
    AsyncAccessTokenManager,
    token_scope,
)
from durabletask.azuremanaged.internal.durabletask_grpc_interceptor import DTSDefaultClientInterceptorImpl

HOUR = 3600


class Credential:
    """Gives numbered tokens; ``lifetime`` in seconds. Set ``error`` to make it fail, clear ``open`` to hold callers."""

    def __init__(self, lifetime: float = HOUR) -> None:
        self.lifetime = lifetime
        self.scopes: list[str] = []
        self.error: Exception | None = None
        self.asked = threading.Event()
        self.open = threading.Event()
        self.open.set()

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        self.scopes.extend(scopes)
        if not self.open.is_set():
            self.asked.set()
        assert self.open.wait(10)
        if self.error is not None:
            raise self.error
        return AccessToken(f"token-{len(self.scopes)}", int(time.time() + self.lifetime))


class AsyncCredential(Credential):
    async def get_token(self, *scopes: str, **_: Any) -> AccessToken:  # type: ignore[override]
        await asyncio.sleep(0)  # lets other tasks run, so that they meet the fetch under way
        return super().get_token(*scopes)


def text(token: AccessToken | None) -> str:
    assert token is not None
    return token.token


def test_constructing_a_manager_does_not_ask_the_credential() -> None:
    credential = Credential()
    manager = AccessTokenManager(credential)
    assert (credential.scopes, manager.is_token_expired(), manager.expiry_time) == ([], True, None)


def test_a_token_is_reused_while_more_than_the_refresh_interval_is_left() -> None:
    credential = Credential()
    manager = AccessTokenManager(credential)
    assert [text(manager.get_access_token()) for _ in range(3)] == ["token-1"] * 3
    assert manager.expiry_time is not None
    assert manager.expiry_time.timestamp() == pytest.approx(time.time() + HOUR, abs=5)


@pytest.mark.parametrize(("lifetime", "expected"), [(590, "token-2"), (620, "token-1")])
def test_a_token_is_renewed_when_less_than_600_seconds_are_left(lifetime: float, expected: str) -> None:
    manager = AccessTokenManager(Credential(lifetime))
    manager.get_access_token()
    assert text(manager.get_access_token()) == expected


def test_without_a_credential_there_is_no_token() -> None:
    assert AccessTokenManager(None).get_access_token() is None


def test_threads_that_need_a_token_together_cause_one_request() -> None:
    """Pinned behaviour 32."""
    credential = Credential()
    credential.open.clear()
    manager = AccessTokenManager(credential)
    ready = threading.Barrier(9)

    def ask() -> str:
        ready.wait(10)
        return text(manager.get_access_token())

    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(ask) for _ in range(8)]
        ready.wait(10)
        credential.open.set()
        assert {answer.result(10) for answer in answers} == {"token-1"}
    assert len(credential.scopes) == 1


async def test_tasks_that_need_a_token_together_cause_one_request() -> None:
    """Pinned behaviour 32."""
    credential = AsyncCredential()
    manager = AsyncAccessTokenManager(credential)  # type: ignore[arg-type]
    tokens = await asyncio.gather(*(manager.get_access_token() for _ in range(8)))
    assert ({text(token) for token in tokens}, len(credential.scopes)) == ({"token-1"}, 1)


def test_an_asynchronous_manager_serves_several_event_loops() -> None:
    """Pinned behaviour 32: the token fetched on one loop serves the next, whose waiters need locks of their own."""
    credential = AsyncCredential(lifetime=-1)
    manager = AsyncAccessTokenManager(credential)  # type: ignore[arg-type]

    async def ask_twice() -> None:
        await asyncio.gather(manager.get_access_token(), manager.get_access_token())

    asyncio.run(ask_twice())
    credential.lifetime = HOUR
    asyncio.run(ask_twice())
    asked = len(credential.scopes)
    asyncio.run(ask_twice())
    assert len(credential.scopes) == asked


def test_a_failing_renewal_keeps_the_token_that_is_still_valid() -> None:
    credential = Credential(lifetime=300)
    manager = AccessTokenManager(credential)
    manager.get_access_token()
    credential.error = ClientAuthenticationError("the identity service is away")
    assert text(manager.get_access_token()) == "token-1"


def test_a_failing_first_request_reaches_the_caller() -> None:
    credential = Credential()
    credential.error = ClientAuthenticationError("no such identity")
    with pytest.raises(ClientAuthenticationError, match="no such identity"):
        AccessTokenManager(credential).get_access_token()


def test_a_failing_renewal_is_reported_once_and_not_tried_again_for_every_call(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Lesson 36."""
    credential = Credential(lifetime=300)
    manager = AccessTokenManager(credential)
    manager.get_access_token()
    credential.error = ClientAuthenticationError("the identity service is away")
    for _ in range(20):
        manager.get_access_token()
    assert len(credential.scopes) == 2
    (warning,) = caplog.records
    assert "the identity service is away" in warning.getMessage()
    assert "token-1" not in warning.getMessage()


def test_tokens_that_live_shorter_than_the_margin_are_renewed_at_half_their_life() -> None:
    credential = Credential(lifetime=60)
    manager = AccessTokenManager(credential)
    assert {text(manager.get_access_token()) for _ in range(20)} == {"token-1", "token-2"}
    assert len(credential.scopes) == 2


def test_nobody_waits_for_a_renewal_while_the_token_in_hand_is_valid() -> None:
    credential = Credential(lifetime=300)
    manager = AccessTokenManager(credential)
    manager.get_access_token()
    credential.open.clear()
    with ThreadPoolExecutor(1) as pool:
        renewing = pool.submit(manager.get_access_token)
        assert credential.asked.wait(10)
        assert text(manager.get_access_token()) == "token-1"
        credential.open.set()
        assert text(renewing.result(10)) == "token-2"


def test_a_refused_token_is_replaced_before_it_ends() -> None:
    """Lesson 36: by however many calls it was refused, one request is made."""
    credential = Credential()
    manager = AccessTokenManager(credential)
    refused = manager.get_access_token()
    assert refused is not None
    assert [text(manager.replacement(refused)) for _ in range(3)] == ["token-2"] * 3
    assert len(credential.scopes) == 2


def test_a_refused_token_is_replaced_however_short_tokens_live() -> None:
    """Lesson 36: that short-lived tokens are kept for half their life does not keep one that is refused."""
    credential = Credential(lifetime=300)
    manager = AccessTokenManager(credential)
    manager.get_access_token()
    refused = manager.get_access_token()
    assert refused is not None
    assert (text(refused), text(manager.replacement(refused))) == ("token-2", "token-3")


def test_a_failed_request_is_held_back_for_callers_that_try_again_by_themselves() -> None:
    """Lesson 36."""
    credential = Credential()
    credential.error = ClientAuthenticationError("no such identity")
    manager = AccessTokenManager(credential, hold_after_failure=True)
    for _ in range(20):
        with pytest.raises(ClientAuthenticationError, match="no such identity"):
            manager.get_access_token()
    assert len(credential.scopes) < 5


def test_a_failed_request_is_repeated_at_once_for_other_callers() -> None:
    credential = Credential()
    credential.error = ClientAuthenticationError("no such identity")
    manager = AccessTokenManager(credential)
    with pytest.raises(ClientAuthenticationError):
        manager.get_access_token()
    credential.error = None
    assert text(manager.get_access_token()) == "token-2"


def test_threads_that_wait_for_a_request_share_its_failure() -> None:
    credential = Credential()
    credential.error = ClientAuthenticationError("no such identity")
    credential.open.clear()
    manager = AccessTokenManager(credential)
    ready = threading.Barrier(9)

    def ask() -> str:
        ready.wait(10)
        with pytest.raises(ClientAuthenticationError) as failure:
            manager.get_access_token()
        return str(failure.value)

    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(ask) for _ in range(8)]
        ready.wait(10)
        assert credential.asked.wait(10)
        until_inside(manager, 8)
        credential.open.set()
        assert {answer.result(10) for answer in answers} == {"no such identity"}
    assert len(credential.scopes) < 8


def until_inside(manager: AccessTokenManager, threads: int) -> None:
    """Wait until so many threads are in a call of the manager; it has no event for that."""
    code = type(manager).get_access_token.__code__

    def is_inside(frame: FrameType | None) -> bool:
        return frame is not None and (frame.f_code is code or is_inside(frame.f_back))

    deadline = time.monotonic() + 10
    while sum(map(is_inside, sys._current_frames().values())) < threads:
        assert time.monotonic() < deadline, "the threads never met in the manager"
        os.sched_yield()


def test_neither_tokens_nor_the_headers_made_of_them_show_in_a_repr() -> None:
    token = AccessTokenManager(Credential()).get_access_token()
    assert token is not None
    assert token == AccessToken("token-1", token.expires_on)
    seen: list[Any] = []

    class Details(NamedTuple):
        method: str = "/m"
        timeout: float | None = None
        metadata: Any = None
        credentials: Any = None

    DTSDefaultClientInterceptorImpl(Credential(), "hub").intercept_unary_stream(
        lambda details, _: seen.append(details) or Ended(), Details(), b""
    )
    assert dict(seen[0].metadata)["authorization"] == "Bearer token-1"
    for shown in (repr(token), str(token), f"{seen[0]}", repr(seen[0].metadata)):
        assert "hidden" in shown
        assert "token-1" not in shown


class Ended:
    """A call that is over."""

    def add_callback(self, _: Any) -> bool:
        return False

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.OK


async def test_an_asynchronous_failing_renewal_keeps_the_token_until_it_ends() -> None:
    credential = AsyncCredential(lifetime=300)
    manager = AsyncAccessTokenManager(credential)  # type: ignore[arg-type]
    await manager.get_access_token()
    credential.error = ClientAuthenticationError("the identity service is away")
    assert text(await manager.get_access_token()) == "token-1"
    assert await AsyncAccessTokenManager(None).get_access_token() is None


SCOPES = [
    (None, "", "https://durabletask.io/.default"),
    (None, "westeurope", "https://durabletask.io/.default"),
    (None, "USGov Virginia", "https://durabletask.azure.us/.default"),
    (None, "usdodcentral", "https://durabletask.azure.us/.default"),
    ("https://mine.example", "usgovvirginia", "https://mine.example/.default"),
    (" https://mine.example// ", "", "https://mine.example/.default"),
    ("https://mine.example/.default", "", "https://mine.example/.default"),
    ("https://mine.example/.default/", "", "https://mine.example/.default"),
]


@pytest.mark.parametrize(("resource_id", "region", "scope"), SCOPES)
def test_the_scope_follows_the_resource_and_the_cloud(
    resource_id: str | None, region: str, scope: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGION_NAME", region)
    assert token_scope(resource_id) == scope
    credential = Credential()
    AccessTokenManager(credential, resource_id=resource_id).get_access_token()
    assert credential.scopes == [scope]


@pytest.mark.parametrize("resource_id", ["", "  ", "/", "/.default"])
def test_an_empty_resource_is_refused_even_without_a_credential(resource_id: str) -> None:
    with pytest.raises(ValueError, match="resource_id must name a resource"):
        AccessTokenManager(None, resource_id=resource_id)
