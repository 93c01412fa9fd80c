"""Access tokens for the scheduler: fetched with the first call, cached, and renewed by one caller at a time."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
import weakref
from datetime import datetime, timedelta, timezone

from azure.core.credentials import AccessToken, TokenCredential
from azure.core.credentials_async import AsyncTokenCredential

PUBLIC_RESOURCE = "https://durabletask.io"
US_GOVERNMENT_RESOURCE = "https://durabletask.azure.us"
US_GOVERNMENT_REGIONS = ("usgov", "usdod")
SCOPE_SUFFIX = "/.default"

RENEWAL_RETRY_SECONDS = 30.0
"""A renewal that failed is tried again after this long at most, while the token in hand is still valid."""
REFUSED_AGAIN_SECONDS = 1.0
"""Time between two renewals that were asked for because the server refused the token."""
FIRST_HOLD_SECONDS = 1.0

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


class _HiddenToken(AccessToken):
    """An access token whose ``repr`` does not show it, for logs and for tools that show local variables."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"AccessToken(token=<hidden>, expires_on={self.expires_on})"


class _TokenCache:
    """The token in hand and when to renew it; shared by the synchronous and the asynchronous manager."""

    def __init__(self, refresh_interval_seconds: int, resource_id: str | None, hold_after_failure: bool) -> None:
        self._margin = timedelta(seconds=refresh_interval_seconds)
        self._scope = token_scope(resource_id)
        self._token: AccessToken | None = None
        self._refused: str | None = None
        self._not_before = 0.0
        self._not_before_for_refused = 0.0
        self._failures = 0
        self._failures_in_a_row = 0
        self._last_failure: Exception | None = None
        self._hold_after_failure = hold_after_failure
        self._held_until = 0.0
        self.expiry_time: datetime | None = None
        """When the token in hand stops being valid (aware, UTC); ``None`` before the first one."""

    def is_token_expired(self) -> bool:
        """Tell whether a token must be fetched: none is in hand, or less than the refresh interval is left of it."""
        return self.expiry_time is None or datetime.now(timezone.utc) >= self.expiry_time - self._margin

    def refuse(self, token: AccessToken) -> None:
        """Take note that the server refused ``token``; the next call fetches another. Never blocks."""
        self._refused = token.token

    def _is_usable(self) -> bool:
        """Whether calls may go on with the token in hand."""
        if self._token is None or self.expiry_time is None or self._token.token == self._refused:
            return False
        return datetime.now(timezone.utc) < self.expiry_time

    def _must_renew(self) -> bool:
        if self._is_usable():
            return self.is_token_expired() and time.monotonic() >= self._not_before
        if self._token is None or self._token.token != self._refused:
            return True
        # A credential may give a refused token again and again; asking it for every call would change nothing.
        return time.monotonic() >= self._not_before_for_refused

    def _store(self, token: AccessToken) -> None:
        had_one, now = self._token is not None, time.monotonic()
        self._not_before_for_refused = 0.0 if self._refused is None else now + REFUSED_AGAIN_SECONDS
        self._token = _HiddenToken(token.token, token.expires_on)
        self.expiry_time = datetime.fromtimestamp(token.expires_on, timezone.utc)
        # A renewal that is itself due: the tokens live shorter than the margin, so half their life must do.
        self._not_before = now + self._seconds_left() / 2 if had_one and self.is_token_expired() else 0.0
        self._failures_in_a_row = 0
        self._last_failure = None
        if self._refused != token.token:
            self._refused = None

    def _seconds_left(self) -> float:
        if self.expiry_time is None:
            return 0.0
        return max(0.0, (self.expiry_time - datetime.now(timezone.utc)).total_seconds())

    def _keep_or_raise(self, error: Exception) -> None:
        """Go on with a token that is still valid when its early renewal fails; a later call tries again."""
        self._failures += 1
        self._last_failure = error
        repeated, self._failures_in_a_row = self._failures_in_a_row, self._failures_in_a_row + 1
        if not self._is_usable():
            delay = min(RENEWAL_RETRY_SECONDS, FIRST_HOLD_SECONDS * 2.0 ** min(repeated, 10))
            self._held_until = time.monotonic() + delay if self._hold_after_failure else 0.0
            raise error
        self._not_before = time.monotonic() + min(RENEWAL_RETRY_SECONDS, self._seconds_left() / 2)
        _logger.log(
            logging.DEBUG if repeated else logging.WARNING,
            "The access token could not be renewed (%s: %s). It is used until %s; the credential is asked again at "
            "least every %g s.",
            type(error).__name__,
            error,
            self.expiry_time,
            RENEWAL_RETRY_SECONDS,
        )

    def _raise_shared_failure(self, failures_seen: int) -> None:
        """Share the failure of the request that was waited for, or that is too recent to try again."""
        if self._last_failure is None or self._is_usable():
            return
        if self._failures != failures_seen or time.monotonic() < self._held_until:
            raise self._last_failure


class AccessTokenManager(_TokenCache):
    """Hands out the access token of a synchronous credential.

    The credential is asked with the first call, not before. Threads that need a token together cause one request:
    the first one fetches; the others wait for it, or go on with the token in hand while that is valid.

    Args:
        token_credential: the credential, or None for none.
        refresh_interval_seconds: renew a token when fewer seconds than these are left of it. Tokens that live
            shorter than that are renewed at half their life.
        resource_id: see :func:`token_scope`.
        hold_after_failure: whether a failed request is repeated no sooner than 1 second later, doubling to 30; calls
            in between raise the same error at once. For callers that try again by themselves.

    Raises:
        ValueError: ``resource_id`` is empty.
    """

    def __init__(
        self,
        token_credential: TokenCredential | None,
        refresh_interval_seconds: int = 600,
        *,
        resource_id: str | None = None,
        hold_after_failure: bool = False,
    ) -> None:
        super().__init__(refresh_interval_seconds, resource_id, hold_after_failure)
        self._credential = token_credential
        self._lock = threading.Lock()

    def get_access_token(self) -> AccessToken | None:
        """Return a valid token, or ``None`` without a credential.

        Raises:
            Exception: what the credential raised, when no valid token is in hand; ``AzureError`` from azure-identity.
        """
        if self._credential is None:
            return None
        if self._must_renew():
            failures = self._failures
            if not self._lock.acquire(blocking=not self._is_usable()):
                return self._token
            try:
                self._raise_shared_failure(failures)
                if self._must_renew():
                    self.refresh_token()
            finally:
                self._lock.release()
        return self._token

    def replacement(self, refused: AccessToken) -> AccessToken | None:
        """Return another token after the server refused this one, or None if there is no other.

        Raises:
            Exception: as :meth:`get_access_token`.
        """
        self.refuse(refused)
        token = self.get_access_token()
        return None if token is None or token.token == refused.token else token

    def refresh_token(self) -> None:
        """Fetch a new token now."""
        if self._credential is None:
            return
        try:
            self._store(self._credential.get_token(self._scope))
        except Exception as error:
            self._keep_or_raise(error)


class AsyncAccessTokenManager(_TokenCache):
    """Hands out the access token of an asynchronous credential; arguments as for :class:`AccessTokenManager`.

    Tasks of one event loop that need a token together cause one request.
    """

    def __init__(
        self,
        token_credential: AsyncTokenCredential | None,
        refresh_interval_seconds: int = 600,
        *,
        resource_id: str | None = None,
    ) -> None:
        super().__init__(refresh_interval_seconds, resource_id, hold_after_failure=False)
        self._credential = token_credential
        # An asyncio.Lock belongs to the loop that first waits for it; one client may be used on several.
        self._locks: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = weakref.WeakKeyDictionary()
        self._locks_guard = threading.Lock()

    async def get_access_token(self) -> AccessToken | None:
        """Return a valid token, or ``None`` without a credential.

        Raises:
            Exception: what the credential raised, when no valid token is in hand; ``AzureError`` from azure-identity.
        """
        if self._credential is None:
            return None
        if self._must_renew():
            failures, lock = self._failures, self._lock_of_this_loop()
            if lock.locked() and self._is_usable():
                return self._token
            async with lock:
                self._raise_shared_failure(failures)
                if self._must_renew():
                    await self.refresh_token()
        return self._token

    async def replacement(self, refused: AccessToken) -> AccessToken | None:
        """Return another token after the server refused this one, or None if there is no other.

        Raises:
            Exception: as :meth:`get_access_token`.
        """
        self.refuse(refused)
        token = await self.get_access_token()
        return None if token is None or token.token == refused.token else token

    async def refresh_token(self) -> None:
        """Fetch a new token now."""
        if self._credential is None:
            return
        try:
            self._store(await self._credential.get_token(self._scope))
        except Exception as error:
            self._keep_or_raise(error)

    def _lock_of_this_loop(self) -> asyncio.Lock:
        with self._locks_guard:
            return self._locks.setdefault(asyncio.get_running_loop(), asyncio.Lock())
