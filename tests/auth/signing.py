"""Keys of every kind, and tokens signed with PyJWT: what the outside world sends us."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Coroutine
from functools import cache
from typing import Any, TypeVar

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

__all__ = [
    "ASYMMETRIC",
    "SECRET",
    "encode64",
    "jwk",
    "now_or_never",
    "private_pem",
    "public_pem",
    "signed",
    "token",
]

SECRET = "a secret of sixty-four bytes, as long as the digest of HS512 asks."
ASYMMETRIC = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA")

T = TypeVar("T")


@cache
def private_key(kind: str, number: int = 0) -> Any:
    """The private key for an algorithm or of a kind; another number is another key."""
    match kind:
        case "RS256" | "RS384" | "RS512" | "PS256" | "RSA":
            return _rsa(number)
        case "RSA-1024":
            return rsa.generate_private_key(65537, 1024)
        case "ES256":
            return ec.generate_private_key(ec.SECP256R1())
        case "ES384":
            return ec.generate_private_key(ec.SECP384R1())
        case "ES512":
            return ec.generate_private_key(ec.SECP521R1())
        case "ES256K":
            return ec.generate_private_key(ec.SECP256K1())
        case "EdDSA":
            return ed25519.Ed25519PrivateKey.generate()
        case "Ed448":
            return ed448.Ed448PrivateKey.generate()
    raise AssertionError(kind)


@cache
def _rsa(number: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def private_pem(kind: str, number: int = 0, password: bytes | None = None) -> str:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    key = private_key(kind, number)
    return str(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode())


def public_pem(kind: str, number: int = 0) -> str:
    key = private_key(kind, number).public_key()
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return str(pem.decode())


def jwk(kind: str, kid: str, number: int = 0, **members: Any) -> dict[str, Any]:
    """The public key as a member of a JWK set."""
    algorithm = {"Ed448": "EdDSA", "RSA": "RS256"}.get(kind, kind)
    public = private_key(kind, number).public_key()
    made = dict(jwt.get_algorithm_by_name(algorithm).to_jwk(public, as_dict=True))
    return {**made, "kid": kid, **members}


def token(claims: dict[str, Any], secret: str = SECRET, algorithm: str = "HS256") -> str:
    return jwt.encode(claims, secret, algorithm)


def signed(claims: dict[str, Any], algorithm: str, number: int = 0, kid: str | None = None) -> str:
    headers = None if kid is None else {"kid": kid}
    return jwt.encode(claims, private_key(algorithm, number), algorithm, headers=headers)


def encode64(value: Any) -> str:
    """A part of a token, from bytes or from what becomes JSON."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def now_or_never(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine returns that must not suspend."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        value: T = end.value
        return value
    coroutine.close()
    raise AssertionError("the coroutine suspended")
