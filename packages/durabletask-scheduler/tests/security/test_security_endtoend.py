"""A worker and a client over TLS, whose tokens live for a second or two and are renewed with the calls."""

from __future__ import annotations

import json
import threading
import time

import grpc
import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from durabletask.client import OrchestrationStatus, TaskHubGrpcClient
from durabletask.worker import TaskHubGrpcWorker
from durabletask_scheduler.security import OidcOptions, Security, TlsFiles

LIFETIME = 1
RUN_SECONDS = 5


class ShortLivedTokens(grpc.AuthMetadataPlugin):
    """Gives calls a token that is renewed when it has ended, never earlier than needed."""

    def __init__(self, key):
        self.key = key
        self.made = 0
        self.expires = 0.0
        self.token = ""
        self.turn = threading.Lock()

    def __call__(self, context, callback):
        with self.turn:
            callback((("authorization", f"Bearer {self.current()}"),), None)

    def current(self):
        now = time.time()
        if now > self.expires - 0.5:
            self.expires = int(now) + 1 + LIFETIME
            roles = ["worker:orders", "operator:orders"]
            body = {"iss": "https://issuer", "aud": "hub", "exp": self.expires, "roles": roles}
            self.token = jwt.encode(body, self.key, "ES256", headers={"kid": "k"})
            self.made += 1
        return self.token


def double(_, number):
    return number * 2


def chain(ctx, number):
    for _ in range(3):
        number = yield ctx.call_activity(double, input=number)
    return number


def test_a_worker_lives_through_many_lifetimes_of_its_tokens(serve, authority, server_files, tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    public = {**json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key())), "kid": "k", "alg": "ES256"}
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [public]}))
    accepted = OidcOptions("https://issuer", ("hub",), keys=str(tmp_path / "keys.json"), clock_skew=0)
    port = serve(Security(TlsFiles(*server_files), oidc=accepted))
    tokens = ShortLivedTokens(key)
    credentials = grpc.composite_channel_credentials(
        grpc.ssl_channel_credentials(authority.pem), grpc.metadata_call_credentials(tokens)
    )
    channel = grpc.secure_channel(f"localhost:{port}", credentials)
    with channel, TaskHubGrpcWorker(channel=channel) as worker:
        worker.add_orchestrator(chain)
        worker.add_activity(double)
        worker.start()
        client = TaskHubGrpcClient(channel=channel)
        end, done = time.monotonic() + RUN_SECONDS, 0
        while time.monotonic() < end:
            instance_id = client.schedule_new_orchestration(chain, input=1)
            state = client.wait_for_orchestration_completion(instance_id, timeout=30)
            assert (state.runtime_status, state.serialized_output) == (OrchestrationStatus.COMPLETED, "8")
            done += 1
    assert tokens.made >= 3 and done > tokens.made
