"""The security of a port as one value: what is wanted of callers, and whether the port may be opened like that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from durabletask_scheduler.security.callers import Anyone, Authenticator, BearerTokens, Callers
from durabletask_scheduler.security.errors import SecurityError
from durabletask_scheduler.security.guard import Guard
from durabletask_scheduler.security.hosts import is_loopback
from durabletask_scheduler.security.oidc import OidcOptions
from durabletask_scheduler.security.tls import TlsFiles
from durabletask_scheduler.security.tokens import TokenFile
from durabletask_scheduler.security.watched import CHECK_SECONDS
from durabletask_scheduler.transport import Service


@dataclass(frozen=True)
class Security:
    """How a port is protected. The default suits the loopback interface alone: no TLS, and everybody may do everything.

    Attributes:
        tls: the files for TLS; None for plaintext. With ``client_ca`` only holders of a certificate can connect;
            without tokens beside it they may do everything.
        token_file: path of the file with the hashes of static bearer tokens.
        oidc: accept tokens of an OpenID Connect issuer, too.
        allow_unauthenticated: open the port beyond loopback although callers are not authenticated.
        allow_plaintext: take tokens beyond loopback without TLS, because a proxy in front ends TLS.
        token_check_seconds: how often the token file is looked at, at most; a token is revoked so much later.
    """

    tls: TlsFiles | None = None
    token_file: str | None = None
    oidc: OidcOptions | None = None
    allow_unauthenticated: bool = False
    allow_plaintext: bool = False
    token_check_seconds: float = CHECK_SECONDS

    @property
    def wants_tokens(self) -> bool:
        """Whether callers need a bearer token."""
        return self.token_file is not None or self.oidc is not None

    @property
    def wants_certificates(self) -> bool:
        """Whether callers need a client certificate."""
        return self.tls is not None and self.tls.client_ca is not None

    @property
    def scheme(self) -> str:
        """Of the port's address: ``http`` or ``https``."""
        return "http" if self.tls is None else "https"

    def is_open(self, host: str) -> bool:
        """Whether others could use a port on this interface without being authenticated."""
        return not (is_loopback(host) or self.wants_tokens or self.wants_certificates)

    def check(self, host: str) -> None:
        """Whether a port on this interface may be opened like this.

        Raises:
            SecurityError: others could reach it unauthenticated, or their tokens would travel in clear text.
        """
        if self.is_open(host) and not self.allow_unauthenticated:
            raise SecurityError(
                f"{host} is reachable from other machines and there is no authentication: give --token-file, "
                "--oidc-issuer or --tls-client-ca, or --allow-unauthenticated if whoever can connect may do everything"
            )
        if self.wants_tokens and self.tls is None and not (is_loopback(host) or self.allow_plaintext):
            raise SecurityError(
                f"tokens would travel to {host} in clear text: give --tls-cert and --tls-key, "
                "or --allow-plaintext if a proxy in front of the scheduler ends TLS"
            )

    def credentials(self) -> Any:
        """``grpc.ServerCredentials``, or None for plaintext; raises SecurityError if the files cannot be used."""
        return None if self.tls is None else self.tls.credentials()

    def guard(self, service: Service, default_task_hub: str) -> Service:
        """The service as callers of the port may use it; itself if nothing is wanted of them.

        Raises:
            SecurityError: a file or an address given in the settings cannot be used.
        """
        callers = self._callers()
        return service if callers is None else Guard(service, callers, default_task_hub)

    def _callers(self) -> Callers | None:
        if self.wants_tokens:
            return BearerTokens(self._authenticators())
        if self.wants_certificates:
            return Anyone("(client certificate)")
        return Anyone("(unauthenticated)") if self.allow_unauthenticated else None

    def _authenticators(self) -> list[Authenticator]:
        found: list[Authenticator] = []
        if self.token_file is not None:
            found.append(TokenFile(self.token_file, check_seconds=self.token_check_seconds))
        if self.oidc is not None:
            # Only now: it brings an HTTP client and a library of its own.
            from durabletask_scheduler.security.issuer import JwtAuthenticator

            found.append(JwtAuthenticator(self.oidc))
        return found
