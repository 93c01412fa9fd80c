"""Who calls: found out from a call's metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from durabletask_scheduler.security.errors import Rejected
from durabletask_scheduler.security.roles import ADMIN, EVERY_HUB, Grant, Principal

AUTHORIZATION = "authorization"


class Callers(Protocol):
    """Knows callers. Any thread may ask; it does not block."""

    def identify(self, metadata: Mapping[str, str]) -> Principal:
        """Whose call it is.

        Raises:
            Rejected: nobody's that is known.
            KeysPending: not known yet.
        """
        ...

    def current(self, principal: Principal) -> Principal | None:
        """The principal as of now; None if it was revoked, which the end of a token's lifetime is not."""
        ...


class Authenticator(Protocol):
    """Knows tokens of one sort. Any thread may ask; it does not block."""

    def authenticate(self, token: str) -> Principal:
        """Whose token it is; raises as :meth:`Callers.identify`."""
        ...

    def current(self, principal: Principal) -> Principal | None:
        """As :meth:`Callers.current`; the principals of others are returned as they are."""
        ...


class BearerTokens:
    """Callers that show a token in the ``authorization`` metadata, which one of the authenticators accepts."""

    def __init__(self, authenticators: Sequence[Authenticator]) -> None:
        self._authenticators = tuple(authenticators)

    def identify(self, metadata: Mapping[str, str]) -> Principal:
        token = _bearer_token(metadata)
        reasons = []
        for authenticator in self._authenticators:
            try:
                return authenticator.authenticate(token)
            except Rejected as error:
                reasons.append(str(error))
        raise Rejected("; ".join(reasons))

    def current(self, principal: Principal) -> Principal | None:
        now: Principal | None = principal
        for authenticator in self._authenticators:
            now = authenticator.current(now) if now is not None else None
        return now


class Anyone:
    """Whoever could connect, who may then do everything.

    Args:
        name: what the audit log calls them.
    """

    def __init__(self, name: str) -> None:
        self._principal = Principal(name, (Grant(frozenset((ADMIN,)), EVERY_HUB),))

    def identify(self, metadata: Mapping[str, str]) -> Principal:
        return self._principal

    def current(self, principal: Principal) -> Principal | None:
        return principal


def _bearer_token(metadata: Mapping[str, str]) -> str:
    value = metadata.get(AUTHORIZATION)
    if value is None:
        raise Rejected(f"no metadata '{AUTHORIZATION}'")
    scheme, _, token = value.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Rejected(f"metadata '{AUTHORIZATION}' is not 'Bearer TOKEN'")
    return token.strip()
