"""Which keys are taken, what they are for, and what is refused as a key."""

import base64
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbub.auth.keys import ALGORITHMS, SigningKey, VerifyingKey
from hubbub.errors import ConfigError
from tests.auth.patience import patient
from tests.auth.signing import ASYMMETRIC, SECRET, jwk, private_pem, public_pem

FAMILIES = {
    "RS256": ("RS256", "RS384", "RS512"),
    "ES256": ("ES256",),
    "ES384": ("ES384",),
    "ES512": ("ES512",),
    "EdDSA": ("EdDSA",),
}


@pytest.mark.parametrize(("kind", "algorithms"), FAMILIES.items())
def test_algorithms_follow_from_the_key(kind: str, algorithms: tuple[str, ...]) -> None:
    assert algorithms == SigningKey.from_pem(private_pem(kind)).algorithms
    assert algorithms == VerifyingKey.from_pem(public_pem(kind)).algorithms
    published = VerifyingKey.from_jwk(jwk(kind, "k"))
    assert published is not None
    assert algorithms == published.algorithms


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_signature_is_verified_by_the_matching_key_alone(algorithm: str) -> None:
    private, public, other = keys(algorithm)
    signature = private.sign(b"message", algorithm)

    assert public.verifies(b"message", signature, algorithm)
    assert not public.verifies(b"messagE", signature, algorithm)
    assert not public.verifies(b"message", signature[:-1], algorithm)
    assert not public.verifies(b"message", b"", algorithm)
    assert not other.verifies(b"message", signature, algorithm)
    for wrong in {*ALGORITHMS, "none", "PS256", ""} - {algorithm}:
        assert not public.verifies(b"message", signature, wrong)


def keys(algorithm: str) -> tuple[SigningKey, VerifyingKey, VerifyingKey]:
    """A private key, its public half, and that of another one."""
    if algorithm in ASYMMETRIC:
        return (
            SigningKey.from_pem(private_pem(algorithm)),
            VerifyingKey.from_pem(public_pem(algorithm)),
            VerifyingKey.from_pem(public_pem(algorithm, 1)),
        )
    secret, other = SECRET, "another"
    return (
        SigningKey.from_secret(secret),
        VerifyingKey.from_secret(secret),
        VerifyingKey.from_secret(other),
    )


def test_key_does_not_sign_with_what_it_is_not_for() -> None:
    with pytest.raises(ValueError, match="HS256 is not one of RS256, RS384, RS512"):
        SigningKey.from_pem(private_pem("RSA")).sign(b"", "HS256")


@pytest.mark.parametrize(
    ("secret", "problem"),
    [
        ("", "is empty"),
        (b"", "is empty"),
        ("\ud800", "is not UTF-8"),
        (public_pem("RSA"), "not a secret"),
        (private_pem("EdDSA"), "not a secret"),
        ('{"kty": "oct", "k": "c2VjcmV0"}', "not a secret"),
    ],
)
def test_secret_that_is_none_is_refused(secret: str | bytes, problem: str) -> None:
    for kind in (VerifyingKey, SigningKey):
        with pytest.raises(ConfigError, match=f"^--secret: .*{problem}"):
            kind.from_secret(secret, "--secret")


def test_short_secret_is_taken() -> None:
    assert VerifyingKey.from_secret("s").algorithms == ("HS256", "HS384", "HS512")


@pytest.mark.parametrize(
    ("pem", "problem"),
    [
        ("", "is not a public key in PEM form"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "is not a public key"),
        ("\ud800", "is not UTF-8"),
        (private_pem("RSA"), "is a private key: give its public half"),
        (public_pem("RSA-1024"), "RSA of 2048 bits or more"),
        (public_pem("ES256K"), "EC on P-256"),
        (public_pem("Ed448"), "or Ed25519"),
    ],
)
def test_pem_that_is_no_public_key_is_refused(pem: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        VerifyingKey.from_pem(pem)


@pytest.mark.parametrize(
    ("pem", "problem"),
    [
        ("", "is not a private key in PEM form"),
        (public_pem("RSA"), "is not a private key"),
        (private_pem("RSA", password=b"x"), "is protected by a password"),
        (private_pem("RSA-1024"), "RSA of 2048 bits or more"),
    ],
)
def test_pem_that_is_no_private_key_is_refused(pem: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        SigningKey.from_pem(pem)


def test_alg_of_a_jwk_leaves_one_algorithm() -> None:
    key = VerifyingKey.from_jwk(jwk("RS256", "k", alg="RS384"))

    assert key is not None
    assert key.algorithms == ("RS384",)
    assert VerifyingKey.from_jwk(jwk("RS256", "k", alg="PS256")) is None
    assert VerifyingKey.from_jwk(jwk("ES256", "k", alg="ES384")) is None


@pytest.mark.parametrize(
    "members",
    [
        {"use": "enc"},
        {"use": ["sig"]},
        {"key_ops": ["sign"]},
        {"key_ops": "verify"},
        {"kty": "RSA"},
        {"kty": "oct", "k": "c2VjcmV0"},
        {"kty": None},
        {"kty": ["EC"]},
        {"crv": "P-384"},
        {"x": "AAAA"},
        {"x": 5},
        {"y": None},
        {"alg": ["ES256"]},
    ],
    ids=str,
)
def test_jwk_of_no_use_is_left_out(members: dict[str, Any]) -> None:
    assert VerifyingKey.from_jwk(jwk("ES256", "k", use="sig", key_ops=["verify"])) is not None
    assert VerifyingKey.from_jwk(jwk("ES256", "k") | members) is None


def test_jwk_on_another_curve_is_left_out() -> None:
    assert VerifyingKey.from_jwk(jwk("Ed448", "k")) is None
    assert VerifyingKey.from_jwk(jwk("ES256K", "k")) is None


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_private_jwk_verifies_as_its_public_half(algorithm: str) -> None:
    maker = jwt.get_algorithm_by_name(algorithm)
    private = maker.to_jwk(maker.prepare_key(private_pem(algorithm)), as_dict=True)
    key = VerifyingKey.from_jwk({**private, "key_ops": ["sign", "verify"]})
    signature = SigningKey.from_pem(private_pem(algorithm)).sign(b"message", algorithm)

    assert "d" in private
    assert key is not None
    assert key.verifies(b"message", signature, algorithm)


members = st.sampled_from(["kty", "crv", "x", "y", "n", "e", "d", "alg", "use", "key_ops"])
values = st.one_of(
    st.sampled_from(["RSA", "EC", "OKP", "P-256", "Ed25519", "AQAB", "", "=", "ES256"]),
    st.binary(max_size=70).map(lambda data: base64.urlsafe_b64encode(data).decode()),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
        max_leaves=3,
    ),
)


@patient
@given(st.dictionaries(members, values), st.sampled_from(["RS256", "ES256", "EdDSA", None]))
def test_from_jwk_raises_nothing(changes: dict[str, Any], kind: str | None) -> None:
    start = {} if kind is None else jwk(kind, "k")

    VerifyingKey.from_jwk(start | changes)
