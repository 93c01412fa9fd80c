"""Tokens of an OpenID Connect issuer over real TLS: a local issuer signs them, and publishes its keys."""

from __future__ import annotations

import base64
import http.server
import json
import logging
import sys
import threading
import time

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from durabletask_proto import orchestrator_service_pb2 as pb
from durabletask_scheduler.security import OidcOptions, Security, SecurityError, TlsFiles
from google.protobuf.empty_pb2 import Empty

WAIT = 10
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
PERMISSION_DENIED = grpc.StatusCode.PERMISSION_DENIED
AUDIENCE = "api://durabletask"
WORK = pb.GetWorkItemsRequest()


class Issuer:
    """Signs tokens with RSA and publishes the keys of :attr:`published` over HTTP on this machine."""

    def __init__(self):
        self.keys = {"first": rsa.generate_private_key(65537, 2048)}
        self.published = ["first"]
        self.fetches = 0
        issuer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                issuer.fetches += self.path == "/keys"
                answer = issuer.pages().get(self.path)
                self.send_response(200 if answer else 404)
                self.end_headers()
                self.wfile.write(json.dumps(answer).encode())

            def log_message(self, *arguments):
                """Nothing on the terminal."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def pages(self):
        return {"/.well-known/openid-configuration": {"jwks_uri": f"{self.url}/keys"}, "/keys": self.key_set()}

    def key_set(self):
        keys = []
        for key_id in self.published:
            public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.keys[key_id].public_key()))
            keys.append({**public, "kid": key_id, "use": "sig"})
        return {"keys": keys}

    def token(self, *roles, key_id="first", lifetime=300, **claims):
        now = int(time.time())
        body = {"iss": self.url, "aud": AUDIENCE, "sub": "app-1", "exp": now + lifetime, "roles": list(roles), **claims}
        body = {name: value for name, value in body.items() if value is not None}
        return jwt.encode(body, self.keys[key_id], "RS256", headers={"kid": key_id})

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture(scope="module")
def module_issuer():
    issuer = Issuer()
    yield issuer
    issuer.close()


@pytest.fixture
def issuer(module_issuer):
    module_issuer.published = ["first"]
    return module_issuer


@pytest.fixture
def stub_for(serve, connect, server_files):
    """Over TLS to a scheduler that accepts the issuer's tokens."""

    def begin(issuer, **options):
        accepted = OidcOptions(issuer.url, (AUDIENCE, "other"), **{"clock_skew": 0, **options})
        return connect(serve(Security(TlsFiles(*server_files), oidc=accepted)))

    return begin


@pytest.fixture
def stub(stub_for, issuer):
    return stub_for(issuer)


def bearer(token, task_hub="orders"):
    return (("authorization", f"Bearer {token}"), ("taskhub", task_hub))


def start(instance_id):
    return pb.CreateInstanceRequest(instanceId=instance_id, name="n")


def test_a_valid_token_is_accepted_by_its_roles_and_task_hubs(stub, issuer, refusal):
    token = issuer.token("operator:orders", "reader", "boss", "worker:", "Task.Read")
    stub.StartInstance(start("a"), metadata=bearer(token), timeout=WAIT)
    assert not stub.GetInstance(pb.GetInstanceRequest(instanceId="a"), metadata=bearer(token, "billing")).exists
    assert refusal(stub.StartInstance, start("a"), metadata=bearer(token, "billing"))[0] is PERMISSION_DENIED
    assert refusal(stub.GetWorkItems, WORK, metadata=bearer(token))[0] is PERMISSION_DENIED
    assert refusal(stub.Hello, Empty(), metadata=bearer(issuer.token()))[0] is PERMISSION_DENIED


def unsigned(issuer):
    return jwt.encode({"iss": issuer.url, "aud": AUDIENCE, "exp": 2**40, "roles": ["admin"]}, None, "none")


def signed_with_the_public_key(issuer):
    body = {"iss": issuer.url, "aud": AUDIENCE, "exp": 2**40, "roles": ["admin"]}
    secret = issuer.key_set()["keys"][0]["n"].encode()
    return jwt.encode(body, secret, "HS256", headers={"kid": "first"})


def signed_by_another(issuer):
    body = {"iss": issuer.url, "aud": AUDIENCE, "exp": 2**40, "roles": ["admin"]}
    return jwt.encode(body, ec.generate_private_key(ec.SECP256R1()), "ES256", headers={"kid": "first"})


def changed(issuer):
    header, _, signature = issuer.token("reader").split(".")
    body = jwt.decode(issuer.token("reader"), options={"verify_signature": False})
    forged = base64.urlsafe_b64encode(json.dumps({**body, "roles": ["admin"]}).encode()).rstrip(b"=").decode()
    return f"{header}.{forged}.{signature}"


def nested(issuer):
    return base64.urlsafe_b64encode(b"[" * 5000).decode() + ".e30.x"


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda issuer: issuer.token("admin", lifetime=-1), id="expired"),
        pytest.param(lambda issuer: issuer.token("admin", aud="api://elsewhere"), id="wrong audience"),
        pytest.param(lambda issuer: issuer.token("admin", iss="https://elsewhere"), id="wrong issuer"),
        pytest.param(lambda issuer: issuer.token("admin", nbf=int(time.time()) + 100), id="not yet valid"),
        pytest.param(lambda issuer: issuer.token("admin", exp=None), id="without an end"),
        pytest.param(lambda issuer: issuer.token("admin", aud=None), id="for nobody"),
        unsigned,
        signed_with_the_public_key,
        signed_by_another,
        changed,
        nested,
        pytest.param(lambda issuer: "not.a.token", id="no token"),
    ],
)
def test_tokens_that_are_not_valid_are_refused_with_one_text(stub, issuer, refusal, make):
    text = "this scheduler wants valid credentials: metadata 'authorization' with 'Bearer TOKEN'"
    assert refusal(stub.Hello, Empty(), metadata=bearer(make(issuer))) == (UNAUTHENTICATED, text)


def test_the_clocks_may_differ_by_as_much_as_was_said(stub_for, issuer):
    late = issuer.token("reader", lifetime=-5)
    stub_for(issuer, clock_skew=60).Hello(Empty(), metadata=bearer(late), timeout=WAIT)


def test_a_stream_outlives_the_token_that_it_was_opened_with_and_new_calls_need_a_valid_one(stub, issuer, refusal):
    short = issuer.token("worker", lifetime=2)
    stream = stub.GetWorkItems(WORK, metadata=bearer(short), timeout=60)
    stream.initial_metadata()
    ended = threading.Event()
    # An expiry is a moment in time: there is nothing to wait for but that moment.
    ended.wait(max(0.0, jwt.decode(short, options={"verify_signature": False})["exp"] - time.time()) + 0.05)
    assert refusal(stub.Hello, Empty(), metadata=bearer(short))[0] is UNAUTHENTICATED
    fresh = bearer(issuer.token("worker", "operator"))
    for instance_id in ("a", "b"):
        stub.StartInstance(start(instance_id), metadata=fresh, timeout=WAIT)
        item = next(stream)
        assert item.orchestratorRequest.instanceId == instance_id
        answer = pb.OrchestratorResponse(instanceId=instance_id, completionToken=item.completionToken)
        assert refusal(stub.CompleteOrchestratorTask, answer, metadata=bearer(short))[0] is UNAUTHENTICATED
        stub.CompleteOrchestratorTask(answer, metadata=fresh, timeout=WAIT)


def test_a_new_signing_key_is_fetched_when_a_token_names_it(stub_for, issuer, refusal):
    stub = stub_for(issuer, retry_seconds=0)
    issuer.keys.setdefault("second", rsa.generate_private_key(65537, 2048))
    issuer.published = ["second"]
    token = issuer.token("reader", key_id="second")
    pause, codes = threading.Event(), []
    for _ in range(WAIT * 50):
        try:
            stub.Hello(Empty(), metadata=bearer(token), timeout=WAIT)
            break
        except grpc.RpcError as error:
            codes.append(error.code())
            pause.wait(0.02)
    assert set(codes) == {grpc.StatusCode.UNAVAILABLE}
    assert refusal(stub.Hello, Empty(), metadata=bearer(issuer.token("reader")))[0] in (
        grpc.StatusCode.UNAVAILABLE,
        UNAUTHENTICATED,
    )


def test_made_up_key_ids_do_not_make_the_scheduler_ask_again_and_again(stub, issuer, refusal):
    issuer.keys.setdefault("unknown", rsa.generate_private_key(65537, 2048))
    before = issuer.fetches
    for _ in range(5):
        assert refusal(stub.Hello, Empty(), metadata=bearer(issuer.token("reader", key_id="unknown")))[0] is (
            UNAUTHENTICATED
        )
    assert issuer.fetches == before


def test_keys_may_come_from_a_file_and_static_tokens_work_beside(serve, connect, server_files, issuer, tmp_path):
    from durabletask_scheduler.security.tokens import new_token, token_line

    (tmp_path / "keys.json").write_text(json.dumps(issuer.key_set()))
    static = new_token()
    (tmp_path / "tokens").write_text(token_line("s", ["reader"], "*", static))
    accepted = OidcOptions("https://issuer.example", (AUDIENCE,), keys=str(tmp_path / "keys.json"))
    stub = connect(serve(Security(TlsFiles(*server_files), str(tmp_path / "tokens"), accepted)))
    for token in (static, issuer.token("reader", iss="https://issuer.example")):
        stub.Hello(Empty(), metadata=bearer(token), timeout=WAIT)


def test_the_audit_log_names_who_and_why_but_no_token(stub, issuer, refusal, caplog):
    good, bad = issuer.token("operator", preferred_username="ada"), issuer.token("operator", lifetime=-5)
    with caplog.at_level(logging.DEBUG):
        stub.StartInstance(start("a"), metadata=bearer(good), timeout=WAIT)
        refusal(stub.StartInstance, start("a"), metadata=bearer(bad))
    assert 'who="ada" what=StartInstance hub="orders" id="a" outcome=OK' in caplog.text
    assert "not valid: Signature has expired" in caplog.text
    assert good not in caplog.text and bad not in caplog.text


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"audiences": ()}, "at least one --oidc-audience"),
        ({"keys": "no/such/file"}, "cannot read the key set no/such/file"),
        ({"keys": "http://example.org/keys"}, "keys are fetched from https://"),
        ({"keys": "file:///etc/passwd"}, "keys are fetched from https://"),
        ({"keys": "{issuer}/none"}, "cannot fetch .*404"),
        ({"issuer": "{issuer}/none"}, "cannot fetch .*openid-configuration: .*404"),
        ({"issuer": "{issuer}", "keys": "{issuer}/.well-known/openid-configuration"}, "key set .* cannot be used"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_the_start(serve, issuer, options, expected):
    options = {"issuer": "https://issuer.example", "audiences": (AUDIENCE,), **options}
    options = {
        key: value.format(issuer=issuer.url) if isinstance(value, str) else value for key, value in options.items()
    }
    with pytest.raises(SecurityError, match=expected):
        serve(Security(oidc=OidcOptions(**options)))


def test_without_the_library_the_error_says_what_to_install(serve, issuer, monkeypatch):
    monkeypatch.setitem(sys.modules, "jwt", None)
    with pytest.raises(SecurityError, match=r"pip install durabletask-scheduler\[auth\]"):
        serve(Security(oidc=OidcOptions(issuer.url, (AUDIENCE,))))
