"""Certificates of a local authority, and schedulers that want them or tokens."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import pathlib

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from durabletask_proto import orchestrator_service_pb2_grpc as pb_grpc
from durabletask_scheduler import Scheduler

NO_PASSWORD = serialization.NoEncryption()


def key_pem(key):
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, NO_PASSWORD)


class Authority:
    """Signs certificates for ``localhost`` and writes them, with their keys, into a folder."""

    def __init__(self, folder, name):
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.path = folder / f"{name}.pem"
        self.pem = self._certificate(self.name, self.key.public_key(), authority=True)
        self.path.write_bytes(self.pem)

    def issue(self, name):
        """The paths of a new certificate and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        certificate, key_path = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        certificate.write_bytes(self._certificate(subject, key.public_key(), authority=False))
        key_path.write_bytes(key_pem(key))
        return str(certificate), str(key_path)

    def _certificate(self, subject, public_key, *, authority):
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if not authority:
            names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


@pytest.fixture
def other_authority(tmp_path):
    """An authority that nobody trusts yet."""
    return Authority(tmp_path, "other-authority")


@pytest.fixture(scope="session")
def server_files(authority):
    return authority.issue("server")


@pytest.fixture
def serve():
    """Start a scheduler with the hubs ``orders`` (the default one) and ``billing``; the port is returned."""
    with contextlib.ExitStack() as stack:

        def begin(security, host="127.0.0.1"):
            scheduler = stack.enter_context(Scheduler(task_hubs=("orders", "billing")))
            return scheduler.serve(host, 0, security=security)

        yield begin


@pytest.fixture
def connect(authority):
    """A stub over TLS, which trusts the local authority; calls of one connection each."""
    with contextlib.ExitStack() as stack:

        def open_stub(port, certificate=None, key=None, trusting=authority):
            pair = [pathlib.Path(path).read_bytes() for path in (key, certificate)] if certificate else [None, None]
            credentials = grpc.ssl_channel_credentials(trusting.pem, *pair)
            own = [("grpc.use_local_subchannel_pool", 1)]
            channel = stack.enter_context(grpc.secure_channel(f"localhost:{port}", credentials, own))
            return pb_grpc.TaskHubSidecarServiceStub(channel)

        yield open_stub


@pytest.fixture
def connect_plainly():
    with contextlib.ExitStack() as stack:

        def open_stub(port):
            channel = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{port}"))
            return pb_grpc.TaskHubSidecarServiceStub(channel)

        yield open_stub


@pytest.fixture
def refusal():
    """The code and the text with which a call is refused."""

    def refused(stub_method, request, **more):
        with pytest.raises(grpc.RpcError) as caught:
            answer = stub_method(request, timeout=10, **more)
            if isinstance(answer, grpc.Call):
                next(answer)
        return caught.value.code(), caught.value.details()

    return refused
