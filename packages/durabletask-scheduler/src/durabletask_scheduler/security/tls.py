"""TLS for a port: the scheduler's certificate, and whose certificates it accepts."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import grpc

from durabletask_scheduler.security.errors import SecurityError
from durabletask_scheduler.security.watched import read_bytes, signature

logger = logging.getLogger("durabletask_scheduler.security")

_CERTIFICATE = "the TLS certificate"
_KEY = "the TLS key"
_CLIENT_CA = "the certificates of client authorities"


@dataclass(frozen=True)
class TlsFiles:
    """Files in PEM. Changed ones (a renewed certificate) are used for connections made from then on.

    Attributes:
        certificate: the certificate, followed by those of intermediate authorities.
        key: its private key, without a password.
        client_ca: if given, clients must show a certificate that one of these authorities has signed.
    """

    certificate: str
    key: str
    client_ca: str | None = None

    def check(self) -> None:
        """Look at the files.

        Raises:
            SecurityError: one cannot be read or is not PEM, or the key does not belong to the certificate.
        """
        _check_pair(self.certificate, self.key)
        if self.client_ca is not None:
            _check_authorities(self.client_ca)

    def credentials(self) -> Any:
        """What gRPC wants of a port.

        Returns:
            ``grpc.ServerCredentials``.

        Raises:
            SecurityError: see :meth:`check`.
        """
        fetcher = _Fetcher(self)
        return grpc.dynamic_ssl_server_credentials(
            fetcher.first, fetcher.fetch, require_client_authentication=self.client_ca is not None
        )

    def paths(self) -> list[str]:
        """The files that are in use."""
        return [path for path in (self.certificate, self.key, self.client_ca) if path is not None]

    def configuration(self) -> Any:
        """The content as ``grpc.ServerCertificateConfiguration``; raises SecurityError as :meth:`check`."""
        self.check()
        pair = (read_bytes(_KEY, self.key), read_bytes(_CERTIFICATE, self.certificate))
        roots = None if self.client_ca is None else read_bytes(_CLIENT_CA, self.client_ca)
        return grpc.ssl_server_certificate_configuration([pair], root_certificates=roots)


class _Fetcher:
    """Answers gRPC, which asks before every handshake, with a new configuration if the files have changed."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._seen = _signatures(files)
        self.first = files.configuration()

    def fetch(self) -> Any:
        signatures = _signatures(self._files)
        if signatures == self._seen:
            return None
        self._seen = signatures
        try:
            configuration = self._files.configuration()
        except SecurityError as error:
            logger.error("%s; what was read before stays in force", error)
            return None
        logger.info("the TLS files were read again")
        return configuration


def _signatures(files: TlsFiles) -> list[object]:
    return [signature(path) for path in files.paths()]


def _check_pair(certificate: str, key: str) -> None:
    import ssl

    _require_pem(_CERTIFICATE, certificate, b"CERTIFICATE-----")
    _require_pem(_KEY, key, b"PRIVATE KEY-----")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # An empty password instead of a prompt on the terminal.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise SecurityError(f"the TLS key {key} does not belong to the certificate {certificate}") from error
        hint = "is the key protected by a password, or one of them damaged?"
        raise SecurityError(f"cannot use the TLS certificate {certificate} with the key {key}; {hint}") from error
    except ValueError as error:
        raise SecurityError(f"{_KEY} {key} is protected by a password; give one that is not") from error


def _check_authorities(path: str) -> None:
    import ssl

    _require_pem(_CLIENT_CA, path, b"CERTIFICATE-----")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(path)
    except ssl.SSLError as error:
        raise SecurityError(f"{_CLIENT_CA} in {path} cannot be used: {error.reason or error}") from error


def _require_pem(what: str, path: str, marker: bytes) -> None:
    if marker not in read_bytes(what, path):
        raise SecurityError(f"{what} {path} is not PEM; expected '-----BEGIN ...{marker.decode()}'")
