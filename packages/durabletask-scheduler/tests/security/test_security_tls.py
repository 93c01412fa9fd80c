"""TLS over real sockets: who may connect, and what is said about files that are no use."""

from __future__ import annotations

import logging
import shutil

import grpc
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from durabletask_scheduler import Scheduler
from durabletask_scheduler.security import Security, SecurityError, TlsFiles
from google.protobuf.empty_pb2 import Empty

WAIT = 10
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


def test_calls_over_tls_are_answered_and_others_are_not(serve, connect, connect_plainly, refusal, server_files):
    port = serve(Security(tls=TlsFiles(*server_files)))
    assert connect(port).Hello(Empty(), timeout=WAIT) == Empty()
    assert refusal(connect_plainly(port).Hello, Empty())[0] is UNAVAILABLE


def test_a_client_that_does_not_trust_the_authority_does_not_connect(
    serve, connect, refusal, server_files, other_authority
):
    port = serve(Security(tls=TlsFiles(*server_files)))
    assert refusal(connect(port, trusting=other_authority).Hello, Empty())[0] is UNAVAILABLE


def test_clients_must_show_a_certificate_of_the_authority_that_was_named(
    serve, connect, refusal, server_files, authority, other_authority
):
    port = serve(Security(tls=TlsFiles(*server_files, client_ca=str(authority.path))))
    assert connect(port, *authority.issue("client")).Hello(Empty(), timeout=WAIT) == Empty()
    assert refusal(connect(port).Hello, Empty())[0] is UNAVAILABLE
    assert refusal(connect(port, *other_authority.issue("stranger")).Hello, Empty())[0] is UNAVAILABLE


def test_a_renewed_certificate_is_used_without_a_restart(serve, connect, refusal, authority, other_authority, tmp_path):
    old, new = authority.issue("renewed"), other_authority.issue("renewed")
    paths = [shutil.copy(path, tmp_path / name) for path, name in zip(old, ("c.pem", "k.pem"))]
    port = serve(Security(tls=TlsFiles(*map(str, paths))))
    assert connect(port).Hello(Empty(), timeout=WAIT) == Empty()
    for source, path in zip(new, paths):
        shutil.copy(source, path)
    assert connect(port, trusting=other_authority).Hello(Empty(), timeout=WAIT) == Empty()
    assert refusal(connect(port).Hello, Empty())[0] is UNAVAILABLE


def test_a_renewal_that_is_half_done_keeps_the_old_certificate_and_is_reported(
    serve, connect, authority, tmp_path, caplog
):
    paths = [shutil.copy(path, tmp_path) for path in authority.issue("half")]
    port = serve(Security(tls=TlsFiles(*paths)))
    shutil.copy(authority.issue("half-new")[0], paths[0])
    with caplog.at_level(logging.ERROR, logger="durabletask_scheduler.security"):
        assert connect(port).Hello(Empty(), timeout=WAIT) == Empty()
    assert "does not belong to the certificate" in caplog.text


def write(path, content):
    path.write_bytes(content)
    return str(path)


def locked_key(path):
    key = ec.generate_private_key(ec.SECP256R1())
    encryption = serialization.BestAvailableEncryption(b"password")
    return write(path, key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        (
            lambda own, folder: (str(folder / "none"), own[1], None),
            "cannot read the TLS certificate .*none: No such file",
        ),
        (lambda own, folder: (own[0], str(folder), None), "cannot read the TLS key .*: Is a directory"),
        (lambda own, folder: (write(folder / "c", b"text"), own[1], None), "the TLS certificate .* is not PEM"),
        (lambda own, folder: (own[1], own[0], None), "the TLS certificate .* is not PEM"),
        (lambda own, folder: (own[0], locked_key(folder / "k"), None), "password"),
        (lambda own, folder: (*own, write(folder / "a", b"text")), "client authorities .* is not PEM"),
    ],
)
def test_files_that_are_no_use_are_named(server_files, tmp_path, broken, expected):
    files = TlsFiles(*broken(server_files, tmp_path))
    with Scheduler() as scheduler, pytest.raises(SecurityError, match=expected):
        scheduler.serve(port=0, security=Security(tls=files))


def test_a_key_of_another_certificate_is_refused(server_files, authority):
    files = TlsFiles(server_files[0], authority.issue("another")[1])
    with pytest.raises(SecurityError, match=r"the TLS key .*another.key does not belong to the certificate"):
        files.check()
