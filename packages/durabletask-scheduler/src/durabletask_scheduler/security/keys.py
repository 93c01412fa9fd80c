"""The keys that an issuer signs tokens with: a JSON Web Key Set from a file or an address."""

from __future__ import annotations

import http.client
import json
import logging
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from durabletask_scheduler.security.errors import KeysPending, SecurityError
from durabletask_scheduler.security.hosts import is_loopback
from durabletask_scheduler.security.watched import MAX_BYTES, WatchedFile

REFRESH_SECONDS = 3600.0
"""Keys of this age are fetched again, which nobody waits for."""

RETRY_SECONDS = 30.0
"""Pause between two fetches: whoever sends tokens with made-up key ids causes no more than that."""

FETCH_TIMEOUT = 10.0
"""For a connection to send something, and, after its headers, for the whole answer."""

_READ_BYTES = 64 * 1024

logger = logging.getLogger("durabletask_scheduler.security")

KeySet = Mapping[str, Any]
"""Keys by id; a set with one key without an id has it under ``""``."""

ParseKeys = Callable[[bytes], KeySet]


class Keys(Protocol):
    """Where keys come from. Does not block."""

    def current(self) -> KeySet:
        """The keys; the same object until they are read again."""
        ...

    def missing(self) -> None:
        """A token names a key that is not among them.

        Raises:
            KeysPending: they are being fetched again, so it may be soon.
        """
        ...


class FileKeys:
    """Keys of a file, which is read again when it changes; raises SecurityError if it cannot be used at first."""

    def __init__(self, path: str, parse: ParseKeys) -> None:
        self._file = WatchedFile("the key set", path, parse)

    def current(self) -> KeySet:
        return self._file.value()

    def missing(self) -> None:
        """The file was just looked at: there is nothing to wait for."""


class FetchedKeys:
    """Keys of an address: fetched at once, again every hour, and when a token names an unknown one.

    Args:
        address: ``https://``, or ``http://`` on this machine.
        parse: turns the answer into keys, or raises SecurityError.

    Raises:
        SecurityError: the address cannot be used, or does not answer with keys.
    """

    def __init__(self, address: str, parse: ParseKeys, *, retry_seconds: float = RETRY_SECONDS) -> None:
        self._address = address
        self._parse = parse
        self._retry_seconds = retry_seconds
        self._lock = threading.Lock()
        self._fetching = False
        self._keys = parse(fetch(address))
        self._fetched_at = time.monotonic()

    def current(self) -> KeySet:
        if time.monotonic() - self._fetched_at > REFRESH_SECONDS:
            self._begin()
        return self._keys

    def missing(self) -> None:
        if self._begin():
            raise KeysPending("the token names an unknown signing key; the keys are being fetched again")

    def _begin(self) -> bool:
        """Whether a fetch is under way now."""
        with self._lock:
            if self._fetching:
                return True
            if time.monotonic() - self._fetched_at < self._retry_seconds:
                return False
            self._fetching = True
        threading.Thread(target=self._fetch, name="durabletask-keys", daemon=True).start()
        return True

    def _fetch(self) -> None:
        try:
            self._keys = self._parse(fetch(self._address))
        except SecurityError as error:
            logger.error("%s; the keys that are known stay in force", error)
        finally:
            # Also after a failure, so that the next one waits its time.
            self._fetched_at = time.monotonic()
            self._fetching = False


def discover(issuer: str) -> str:
    """The address of an issuer's keys, by OpenID Connect discovery.

    Raises:
        SecurityError: the issuer does not say.
    """
    address = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
    try:
        found = json.loads(fetch(address))["jwks_uri"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _names_no_keys(address) from error
    # A path would be read from the scheduler's own disk.
    if not isinstance(found, str) or not is_address(found):
        raise _names_no_keys(address)
    return found


def _names_no_keys(address: str) -> SecurityError:
    return SecurityError(f"{address} does not name the issuer's keys (an address as jwks_uri); give --oidc-jwks")


def is_address(text: str) -> bool:
    """Whether this is an address rather than a path."""
    return "://" in text


def fetch(address: str) -> bytes:
    """What an address answers with.

    Raises:
        SecurityError: it is not ``https``, or there is no good answer.
    """
    try:
        _require_safe(address)
        with urllib.request.build_opener(_SafeRedirects).open(address, timeout=FETCH_TIMEOUT) as answer:
            content = _read(answer)
    except http.client.HTTPException as error:
        raise SecurityError(f"cannot fetch {address}: no good HTTP ({type(error).__name__}: {error})") from error
    except (OSError, ValueError) as error:
        raise SecurityError(f"cannot fetch {address}: {error}") from error
    if len(content) > MAX_BYTES:
        raise SecurityError(f"{address} answers with more than {MAX_BYTES} bytes; give the address of a key set")
    return content


def _read(answer: Any) -> bytes:
    """The answer, up to one byte more than is allowed; raises TimeoutError."""
    # The timeout of a connection begins anew with every byte.
    deadline = time.monotonic() + FETCH_TIMEOUT
    content = bytearray()
    while len(content) <= MAX_BYTES and (part := answer.read1(_READ_BYTES)):
        content += part
        if time.monotonic() > deadline:
            raise TimeoutError(f"the answer had no end after {FETCH_TIMEOUT:g} s")
    return bytes(content)


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        _require_safe(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _require_safe(address: str) -> None:
    parts = urllib.parse.urlsplit(address)
    if parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        return
    raise SecurityError(
        f"keys are fetched from https:// addresses alone, or http:// on this machine; found {address!r}"
    )
