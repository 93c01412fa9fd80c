"""JSON Web Tokens of an OpenID Connect issuer, such as Microsoft Entra ID.

Roles come from a claim of the token: ``worker`` holds in every task hub, ``worker:orders`` in the hub ``orders``.
Needs PyJWT, which the extra ``auth`` of this package installs.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from durabletask_scheduler.security.errors import Rejected, SecurityError
from durabletask_scheduler.security.keys import FetchedKeys, FileKeys, Keys, KeySet, discover, is_address
from durabletask_scheduler.security.oidc import OidcOptions
from durabletask_scheduler.security.roles import EVERY_HUB, ROLES, Grant, Principal

_OF_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
ALGORITHMS = (*_OF_RSA, "ES256", "ES384", "ES512", "EdDSA")
"""Signatures with a private key only: whoever can check a token of another kind could also make one."""

_REMEMBERED = 4096
_NAMES = ("preferred_username", "appid", "azp", "client_id", "oid", "sub")


@dataclass(frozen=True)
class _Key:
    """A key as the library takes it, and the algorithms that it may be used with."""

    material: Any
    algorithms: tuple[str, ...]


class JwtAuthenticator:
    """Accepts the tokens of one issuer.

    Args:
        options: which tokens.

    Raises:
        SecurityError: PyJWT is not installed, the options are incomplete, or there are no keys.
    """

    def __init__(self, options: OidcOptions) -> None:
        if not options.issuer or not all(options.audiences) or not options.audiences:
            raise SecurityError("tokens of an issuer need --oidc-issuer and at least one --oidc-audience")
        self._jwt = _library()
        self._options = options
        self._keys = self._open_keys()
        self._lock = threading.Lock()
        self._remembered: dict[bytes, tuple[Principal, float]] = {}
        self._remembered_for: KeySet | None = None

    def authenticate(self, token: str) -> Principal:
        """Whose token it is; raises Rejected, or KeysPending."""
        keys = self._keys.current()
        known = self._recall(token, keys)
        if known is not None:
            return known
        claims = self._claims(token, keys)
        principal = Principal(_name(claims), _grants(claims.get(self._options.roles_claim)))
        self._remember(token, keys, principal, float(claims["exp"]))
        return principal

    def current(self, principal: Principal) -> Principal | None:
        """The same: tokens of an issuer end by themselves, which cuts no stream that they opened."""
        return principal

    def _open_keys(self) -> Keys:
        source = self._options.keys or discover(self._options.issuer)
        if is_address(source):
            return FetchedKeys(source, self._parse_keys, retry_seconds=self._options.retry_seconds)
        return FileKeys(source, self._parse_keys)

    def _parse_keys(self, content: bytes) -> KeySet:
        try:
            document = json.loads(content.decode("utf-8"))
            found = self._jwt.PyJWKSet.from_dict(document)
            keys = {
                key.key_id or "": _Key(key.key, _algorithms(key, _named_algorithms(document)))
                for key in found.keys
                if key.public_key_use in (None, "sig")
            }
        except (self._jwt.PyJWTError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise SecurityError(f"the key set of {self._options.issuer} cannot be used: {error}") from error
        usable = {key_id: key for key_id, key in keys.items() if key.algorithms}
        if not usable:
            raise SecurityError(
                f"the key set of {self._options.issuer} has no public key that signatures can be checked with; "
                f"expected one for {', '.join(ALGORITHMS)}"
            )
        return usable

    def _claims(self, token: str, keys: KeySet) -> dict[str, Any]:
        options = self._options
        try:
            key = keys.get(str(self._jwt.get_unverified_header(token).get("kid") or ""))
            if key is None:
                self._keys.missing()
                raise Rejected("the token is signed with a key that the issuer does not publish")
            claims: dict[str, Any] = self._jwt.decode(
                token,
                key.material,
                algorithms=list(key.algorithms),
                audience=list(options.audiences),
                issuer=options.issuer,
                leeway=options.clock_skew,
                options={"require": ["exp", "iss", "aud"]},
            )
        except (self._jwt.PyJWTError, RecursionError) as error:
            raise Rejected(f"the token of an issuer is not valid: {error}") from error
        return claims

    def _recall(self, token: str, keys: KeySet) -> Principal | None:
        with self._lock:
            if self._remembered_for is not keys:
                self._remembered.clear()
                self._remembered_for = keys
            known = self._remembered.get(_digest(token))
        return known[0] if known is not None and time.time() < known[1] else None

    def _remember(self, token: str, keys: KeySet, principal: Principal, expires: float) -> None:
        """Checking a signature costs as much as a small call, and workers show one token thousands of times."""
        with self._lock:
            if self._remembered_for is not keys:
                return
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.pop(next(iter(self._remembered)))
            self._remembered[_digest(token)] = (principal, expires)


def _named_algorithms(document: Any) -> frozenset[str]:
    """The ids of the keys that name the algorithm they are for."""
    return frozenset(
        str(key.get("kid") or "") for key in document["keys"] if isinstance(key, dict) and key.get("alg") is not None
    )


def _algorithms(key: Any, named: frozenset[str]) -> tuple[str, ...]:
    # The library takes a key of RSA that names none to be for RS256, whatever its issuer signs with.
    if key.key_type == "RSA" and str(key.key_id or "") not in named:
        return _OF_RSA
    return (key.algorithm_name,) if key.algorithm_name in ALGORITHMS else ()


def _library() -> Any:
    try:
        import jwt
        import jwt.algorithms
    except ImportError as error:
        raise SecurityError(_NEEDS) from error
    if not jwt.algorithms.has_crypto:
        raise SecurityError(_NEEDS)
    return jwt


_NEEDS = "tokens of an issuer need PyJWT and cryptography: pip install durabletask-scheduler[auth]"


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _name(claims: dict[str, Any]) -> str:
    return next((str(claims[claim]) for claim in _NAMES if claims.get(claim)), "(unnamed)")


def _grants(values: object) -> tuple[Grant, ...]:
    """The grants of a claim; values that are not ours belong to other applications."""
    names: Iterable[object] = values.split() if isinstance(values, str) else values if isinstance(values, list) else ()
    grants = []
    for value in names:
        role, separator, task_hub = str(value).partition(":")
        if role in ROLES and (task_hub or not separator):
            grants.append(Grant(frozenset((role,)), task_hub or EVERY_HUB))
    return tuple(grants)
