"""Access tokens for the scheduler: fetched with the first call, cached, and renewed by one caller at a time."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import weakref
from datetime import datetime, timedelta, timezone

from azure.core.credentials import AccessToken, TokenCredential
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError

PUBLIC_RESOURCE = "https://durabletask.io"
US_GOVERNMENT_RESOURCE = "https://durabletask.azure.us"
US_GOVERNMENT_REGIONS = ("usgov", "usdod")
SCOPE_SUFFIX = "/.default"

_logger = logging.getLogger("durabletask-token_manager")


def token_scope(resource_id: str | None) -> str:
    """Return the scope to ask a token for.

    Args:
        resource_id: the resource, with or without trailing slashes and ``/.default``. None for the scheduler's own:
            that of the US government cloud when the environment's ``REGION_NAME`` says so, else the public one.

    Raises:
        ValueError: the resource is empty.
    """
    if resource_id is None:
        in_us_government = os.environ.get("REGION_NAME", "").lower().startswith(US_GOVERNMENT_REGIONS)
        resource_id = US_GOVERNMENT_RESOURCE if in_us_government else PUBLIC_RESOURCE
    resource = resource_id.strip().rstrip("/").removesuffix(SCOPE_SUFFIX).rstrip("/")
    if not resource:
        raise ValueError(
            f"resource_id must name a resource such as {PUBLIC_RESOURCE!r}, found {resource_id!r}: "
            "name one, or leave it out."
        )
    return resource + SCOPE_SUFFIX


class _TokenCache:
    """The token in hand and when to renew it; shared by the synchronous and the asynchronous manager."""

    def __init__(self, refresh_interval_seconds: int, resource_id: str | None) -> None:
        self._margin = timedelta(seconds=refresh_interval_seconds)
        self._scope = token_scope(resource_id)
        self._token: AccessToken | None = None
        self.expiry_time: datetime | None = None
        """When the token in hand stops being valid (aware, UTC); ``None`` before the first one."""

    def is_token_expired(self) -> bool:
        """Tell whether a token must be fetched: none is in hand, or less than the refresh interval is left of it."""
        return self.expiry_time is None or datetime.now(timezone.utc) >= self.expiry_time - self._margin

    def _store(self, token: AccessToken) -> None:
        self._token = token
        self.expiry_time = datetime.fromtimestamp(token.expires_on, timezone.utc)

    def _keep_or_raise(self, error: AzureError) -> None:
        """Go on with a token that is still valid when its early renewal fails; the next call tries again."""
        if self.expiry_time is None or datetime.now(timezone.utc) >= self.expiry_time:
            raise error
        _logger.warning("The access token could not be renewed and is used until %s: %s", self.expiry_time, error)


class AccessTokenManager(_TokenCache):
    """Hands out the access token of a synchronous credential.

    The credential is asked with the first call, not before. Threads that meet an expiring token together
    cause one request: the first one fetches, the others wait for it.

    Args:
        token_credential: the credential, or None for none.
        refresh_interval_seconds: renew a token when fewer seconds than these are left of it.
        resource_id: see :func:`token_scope`.

    Raises:
        ValueError: ``resource_id`` is empty.
    """

    def __init__(
        self,
        token_credential: TokenCredential | None,
        refresh_interval_seconds: int = 600,
        *,
        resource_id: str | None = None,
    ) -> None:
        super().__init__(refresh_interval_seconds, resource_id)
        self._credential = token_credential
        self._lock = threading.Lock()

    def get_access_token(self) -> AccessToken | None:
        """Return a valid token, or ``None`` without a credential.

        Raises:
            azure.core.exceptions.AzureError: the credential gave none and no valid one is in hand.
        """
        if self._credential is None:
            return None
        if self.is_token_expired():
            with self._lock:
                if self.is_token_expired():
                    self.refresh_token()
        return self._token

    def refresh_token(self) -> None:
        """Fetch a new token now."""
        if self._credential is None:
            return
        try:
            self._store(self._credential.get_token(self._scope))
        except AzureError as error:
            self._keep_or_raise(error)


class AsyncAccessTokenManager(_TokenCache):
    """Hands out the access token of an asynchronous credential; arguments as for :class:`AccessTokenManager`.

    Tasks of one event loop that meet an expiring token together cause one request.
    """

    def __init__(
        self,
        token_credential: AsyncTokenCredential | None,
        refresh_interval_seconds: int = 600,
        *,
        resource_id: str | None = None,
    ) -> None:
        super().__init__(refresh_interval_seconds, resource_id)
        self._credential = token_credential
        # An asyncio.Lock belongs to the loop that first waits for it; one client may be used on several.
        self._locks: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = weakref.WeakKeyDictionary()
        self._locks_guard = threading.Lock()

    async def get_access_token(self) -> AccessToken | None:
        """Return a valid token, or ``None`` without a credential.

        Raises:
            azure.core.exceptions.AzureError: the credential gave none and no valid one is in hand.
        """
        if self._credential is None:
            return None
        if self.is_token_expired():
            async with self._lock_of_this_loop():
                if self.is_token_expired():
                    await self.refresh_token()
        return self._token

    async def refresh_token(self) -> None:
        """Fetch a new token now."""
        if self._credential is None:
            return
        try:
            self._store(await self._credential.get_token(self._scope))
        except AzureError as error:
            self._keep_or_raise(error)

    def _lock_of_this_loop(self) -> asyncio.Lock:
        with self._locks_guard:
            return self._locks.setdefault(asyncio.get_running_loop(), asyncio.Lock())
