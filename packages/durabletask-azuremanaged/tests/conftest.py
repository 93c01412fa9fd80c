"""Certificates made for one test run, and a gateway that speaks TLS, checks tokens and records every header."""

from __future__ import annotations

import datetime
import ipaddress
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from durabletask_proto import additions
from durabletask_scheduler import Scheduler


@dataclass(frozen=True)
class Identity:
    """A private key and its certificate, both PEM."""

    key: bytes
    certificate: bytes


@dataclass(frozen=True)
class Certificates:
    """An authority of our own, a server at 127.0.0.1 and localhost that it vouches for, and a client."""

    authority: bytes
    server: Identity
    client: Identity


class Authority:
    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = self._named("Test Authority")
        self.certificate = self._sign(self._name, self._key.public_key(), x509.BasicConstraints(True, None))

    @staticmethod
    def _named(name: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

    def _sign(self, subject: x509.Name, public_key: Any, *extensions: x509.ExtensionType) -> bytes:
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str) -> Identity:
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName(
            [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        )
        encoded = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Identity(encoded, self._sign(self._named(name), key.public_key(), names))


@pytest.fixture(scope="session")
def certificates() -> Certificates:
    authority = Authority()
    return Certificates(authority.certificate, authority.issue("server"), authority.issue("client"))


Handler = Callable[[Any, Any], Any]
STREAMS = ("GetWorkItems", "StreamInstanceHistory")


class Gateway(grpc.GenericRpcHandler):
    """Forwards every call to a scheduler as it came, if ``check`` finds nothing wrong with its token.

    ``check`` gets the token and returns when it ends (seconds since 1970), or None to refuse it. A stream that is open
    when its token ends is ended as UNAUTHENTICATED. What ``hides`` names is not announced: by default what our
    scheduler adds to the protocol.
    """

    def __init__(self, target: str, check: Callable[[str], float | None]) -> None:
        self.check = check
        self.calls: list[tuple[str, list[tuple[str, str]]]] = []
        self.refused: list[str] = []
        self.hides = {additions.HEADER, additions.STREAM_HEADER}
        self.opened_stream = threading.Condition()
        self.streams = 0
        self._channel = grpc.insecure_channel(target)
        self._timers: list[threading.Timer] = []

    def close(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._channel.close()

    def service(self, details: Any) -> Any:
        metadata = [(key, str(value)) for key, value in details.invocation_metadata]
        self.calls.append((details.method.rpartition("/")[2], metadata))
        token = dict(metadata).get("authorization", "").removeprefix("Bearer ")
        headers = [(key, value) for key, value in metadata if key in ("taskhub", "workerid")]
        if details.method.rpartition("/")[2] in STREAMS:
            to_scheduler = self._channel.unary_stream(details.method)
            return grpc.unary_stream_rpc_method_handler(self._stream(to_scheduler, details.method, token, headers))
        if details.method.rpartition("/")[2] == "Work":
            to_scheduler = self._channel.stream_stream(details.method)
            return grpc.stream_stream_rpc_method_handler(self._stream(to_scheduler, details.method, token, headers))
        return grpc.unary_unary_rpc_method_handler(self._unary(details.method, token, headers))

    def _end_of(self, token: str, method: str, context: Any) -> float:
        end = self.check(token)
        if end is None or end <= time.time():
            self.refused.append(method.rpartition("/")[2])
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token is not valid")
        assert end is not None
        return end

    def _unary(self, method: str, token: str, headers: Any) -> Handler:
        def answer(request: bytes, context: Any) -> Any:
            self._end_of(token, method, context)
            try:
                response, call = self._channel.unary_unary(method).with_call(request, metadata=headers, timeout=60)
            except grpc.RpcError as error:
                context.abort(error.code(), error.details())
            announced = [(key, value) for key, value in call.initial_metadata() if key not in self.hides]
            context.send_initial_metadata(announced)
            return response

        return answer

    def _stream(self, to_scheduler: Any, method: str, token: str, headers: Any) -> Handler:
        def answer(request: Any, context: Any) -> Any:
            end = self._end_of(token, method, context)
            call = to_scheduler(request, metadata=headers)
            timer = threading.Timer(end - time.time(), call.cancel)
            self._timers.append(timer)
            timer.start()
            context.add_callback(call.cancel)
            with self.opened_stream:
                self.streams += 1
                self.opened_stream.notify_all()
            try:
                yield from call
            except grpc.RpcError as error:
                if end <= time.time():
                    context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token has expired")
                context.abort(error.code(), error.details() or "")

        return answer


@dataclass(frozen=True)
class Secured:
    """A scheduler behind a gateway; ``address`` is ``https://``."""

    gateway: Gateway
    address: str


@pytest.fixture
def secured(certificates: Certificates) -> Iterator[Secured]:
    """Our scheduler behind TLS; its gateway takes any token until a test sets another ``check``."""
    server_credentials = grpc.ssl_server_credentials([(certificates.server.key, certificates.server.certificate)])
    with Scheduler(":memory:") as scheduler:
        gateway = Gateway(f"127.0.0.1:{scheduler.serve('127.0.0.1', 0)}", lambda _: time.time() + 3600)
        server = grpc.server(futures.ThreadPoolExecutor(32), handlers=[gateway])
        port = server.add_secure_port("127.0.0.1:0", server_credentials)
        server.start()
        yield Secured(gateway, f"https://127.0.0.1:{port}")
        server.stop(0).wait()
        gateway.close()
