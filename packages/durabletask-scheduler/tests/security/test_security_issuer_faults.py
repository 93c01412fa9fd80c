"""Issuers that answer with something else than keys, or without an end."""

from __future__ import annotations

import contextlib
import json
import socket
import threading

import pytest
from durabletask_scheduler.security import OidcOptions, Security, SecurityError, keys

WAIT = 10
HEAD = b"HTTP/1.0 200 OK\r\n\r\n"


@pytest.fixture
def answering():
    """The address of a server that answers every request with these bytes, and then ends the connection."""
    with contextlib.ExitStack() as stack:

        def begin(answer, go_on=lambda connection: None):
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def run():
                with contextlib.suppress(OSError):
                    while True:
                        connection, _ = listener.accept()
                        with connection:
                            connection.recv(4096)
                            connection.sendall(answer)
                            go_on(connection)

            thread = threading.Thread(target=run)
            thread.start()
            stack.callback(thread.join, WAIT)
            stack.callback(listener.shutdown, socket.SHUT_RDWR)
            return f"http://127.0.0.1:{listener.getsockname()[1]}"

        yield begin


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"SSH-2.0-server\r\n", id="another protocol"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", id="cut off"),
    ],
)
def test_an_issuer_that_does_not_answer_properly_is_one_clear_error(serve, answering, answer):
    address = answering(answer)
    with pytest.raises(SecurityError, match=f"cannot fetch {address}/.well-known/openid-configuration: "):
        serve(Security(oidc=OidcOptions(address, ("a",))))


@pytest.mark.parametrize("address", ["https://[issuer", "https://the issuer"])
def test_an_address_that_is_none_is_one_clear_error(address):
    with pytest.raises(SecurityError, match="cannot fetch "):
        keys.fetch(address)


@pytest.mark.parametrize("named", [None, 7, "keys.json", "/etc/hostname"])
def test_an_issuer_cannot_name_a_file_of_the_scheduler_as_its_keys(answering, named):
    address = answering(HEAD + json.dumps({"jwks_uri": named}).encode())
    with pytest.raises(SecurityError, match="does not name the issuer's keys"):
        keys.discover(address)


def test_an_answer_without_an_end_is_given_up(answering, monkeypatch):
    monkeypatch.setattr(keys, "FETCH_TIMEOUT", 0.3)
    given_up = threading.Event()

    def drip(connection):
        while not given_up.wait(0.02):
            connection.sendall(b" ")

    address = answering(HEAD, drip)
    outcome = []

    def fetch():
        try:
            outcome.append(keys.fetch(address))
        except SecurityError as error:
            outcome.append(str(error))

    thread = threading.Thread(target=fetch, daemon=True)
    thread.start()
    thread.join(WAIT)
    given_up.set()
    assert outcome == [f"cannot fetch {address}: the answer had no end after 0.3 s"]
