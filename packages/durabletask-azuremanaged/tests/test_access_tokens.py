"""Access tokens: asked for late, once, and with the right scope."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from durabletask.azuremanaged.internal.access_token_manager import (
    AccessTokenManager,
    AsyncAccessTokenManager,
    token_scope,
)

HOUR = 3600


class Credential:
    """Gives numbered tokens; ``lifetime`` in seconds. Set ``error`` to make it fail, clear ``open`` to hold callers."""

    def __init__(self, lifetime: float = HOUR) -> None:
        self.lifetime = lifetime
        self.scopes: list[str] = []
        self.error: Exception | None = None
        self.open = threading.Event()
        self.open.set()

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        self.scopes.extend(scopes)
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
    credential = AsyncCredential(lifetime=1)
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
