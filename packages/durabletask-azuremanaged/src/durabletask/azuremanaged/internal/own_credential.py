"""Credentials that nobody else uses, so that the client that got one closes it."""

from __future__ import annotations

from typing import Any

from azure.core.credentials import AccessToken


class OwnCredential:
    """A synchronous credential that ends with its client.

    Args:
        credential: one of azure-identity.
    """

    def __init__(self, credential: Any) -> None:
        self._credential = credential
        self._closed = False

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        """As ``azure.core.credentials.TokenCredential``."""
        token: AccessToken = self._credential.get_token(*scopes, **options)
        return token

    def close(self) -> None:
        """Close the credential; a second time does nothing."""
        closed, self._closed = self._closed, True
        if not closed:
            self._credential.close()


class OwnAsyncCredential:
    """An asynchronous credential that ends with its client; see :class:`OwnCredential`."""

    def __init__(self, credential: Any) -> None:
        self._credential = credential
        self._closed = False

    async def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        """As ``azure.core.credentials_async.AsyncTokenCredential``."""
        token: AccessToken = await self._credential.get_token(*scopes, **options)
        return token

    async def close(self) -> None:
        """Close the credential; a second time does nothing."""
        closed, self._closed = self._closed, True
        if not closed:
            await self._credential.close()

    async def __aenter__(self) -> OwnAsyncCredential:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
