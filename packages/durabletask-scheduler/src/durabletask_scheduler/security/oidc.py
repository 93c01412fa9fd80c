"""Which tokens of an OpenID Connect issuer a port accepts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OidcOptions:
    """Which tokens are accepted.

    Attributes:
        issuer: the ``iss`` of the tokens, exactly.
        audiences: their ``aud`` must be one of these.
        keys: path or address of the issuer's key set; None asks the issuer for the address.
        roles_claim: the claim that lists roles.
        clock_skew: seconds by which the issuer's clock may differ from ours.
        retry_seconds: pause between two fetches of keys.
    """

    issuer: str
    audiences: tuple[str, ...]
    keys: str | None = None
    roles_claim: str = "roles"
    clock_skew: float = 60.0
    retry_seconds: float = 30.0
