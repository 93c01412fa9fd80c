"""Which signatures the keys of an issuer are good for."""

from __future__ import annotations

import base64
import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from durabletask_scheduler.security import OidcOptions, SecurityError
from durabletask_scheduler.security.errors import Rejected
from durabletask_scheduler.security.issuer import JwtAuthenticator

RSA = rsa.generate_private_key(65537, 2048)
SECRET = b"a secret that only the issuer and the scheduler should know"
OF_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")


def public(key, **more):
    kinds = {rsa.RSAPrivateKey: "RSAAlgorithm", ec.EllipticCurvePrivateKey: "ECAlgorithm"}
    name = next((name for kind, name in kinds.items() if isinstance(key, kind)), "OKPAlgorithm")
    found = json.loads(getattr(jwt.algorithms, name).to_jwk(key.public_key()))
    found.pop("key_ops", None)
    return {**found, "kid": "k", **more}


def shared(**more):
    return {"kty": "oct", "kid": "k", "k": base64.urlsafe_b64encode(SECRET).decode(), **more}


@pytest.fixture
def accepting(tmp_path):
    def begin(*keys):
        (tmp_path / "keys.json").write_text(json.dumps({"keys": keys}))
        return JwtAuthenticator(OidcOptions("https://issuer.example", ("a",), keys=str(tmp_path / "keys.json")))

    return begin


def token(key, algorithm):
    body = {"iss": "https://issuer.example", "aud": "a", "sub": "app", "exp": int(time.time()) + 300}
    return jwt.encode(body, key, algorithm, headers={"kid": "k"})


@pytest.mark.parametrize("algorithm", OF_RSA)
def test_a_key_of_rsa_that_names_no_algorithm_is_good_for_all_of_them(accepting, algorithm):
    assert accepting(public(RSA)).authenticate(token(RSA, algorithm)).name == "app"


def test_a_key_that_names_its_algorithm_is_good_for_that_alone(accepting):
    known = accepting(public(RSA, alg="PS256"))
    assert known.authenticate(token(RSA, "PS256")).name == "app"
    with pytest.raises(Rejected, match="not valid"):
        known.authenticate(token(RSA, "RS256"))


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (ec.generate_private_key(ec.SECP256R1()), "ES256"),
        (ec.generate_private_key(ec.SECP384R1()), "ES384"),
        (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
    ],
)
def test_other_keys_are_good_for_the_one_algorithm_of_their_kind(accepting, key, algorithm):
    known = accepting(public(key))
    assert known.authenticate(token(key, algorithm)).name == "app"
    with pytest.raises(Rejected, match="not valid"):
        known.authenticate(token(RSA, "RS256"))


def test_a_shared_secret_is_no_key(accepting):
    with pytest.raises(SecurityError, match="has no public key that signatures can be checked with"):
        accepting(shared())
    known = accepting(public(RSA, kid="other"), shared())
    with pytest.raises(Rejected, match="a key that the issuer does not publish"):
        known.authenticate(token(SECRET, "HS256"))
