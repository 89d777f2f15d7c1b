"""Keys that sign tokens or check their signatures, each with the algorithms it is for.

The algorithm follows from the key, never from the token alone: a public key is no secret, so a
token that claims HS256 must never be checked with one (RFC 8725 §3.1). Algorithms are those of
RFC 7518 §3 and EdDSA with Ed25519 (RFC 8037 §3.1); `none` and RSASSA-PSS are not among them.
"""

from collections.abc import Mapping
from typing import Any, Final, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from jwt import PyJWTError, get_algorithm_by_name

from hubbub.errors import ConfigError

__all__ = ["ALGORITHMS", "MIN_RSA_BITS", "SigningKey", "VerifyingKey"]

MIN_RSA_BITS: Final = 2048
"""Smallest RSA key (RFC 7518 §3.3)."""

_HMAC: Final = ("HS256", "HS384", "HS512")
_RSA: Final = ("RS256", "RS384", "RS512")
_ED25519: Final = ("EdDSA",)
_CURVES: Final = {"secp256r1": ("ES256",), "secp384r1": ("ES384",), "secp521r1": ("ES512",)}

ALGORITHMS: Final = (*_HMAC, *_RSA, "ES256", "ES384", "ES512", *_ED25519)
"""All that a token may be signed with."""

# Members of a JWK that make a public key (RFC 7518 §6, RFC 8037 §2), and any algorithm that reads
# keys of the type. Private members are left out: with them it would be a private key.
_JWK_MEMBERS: Final = {
    "RSA": ("RS256", ("kty", "n", "e")),
    "EC": ("ES256", ("kty", "crv", "x", "y")),
    "OKP": ("EdDSA", ("kty", "crv", "x")),
}

_KINDS: Final = f"RSA of {MIN_RSA_BITS} bits or more, EC on P-256, P-384 or P-521, or Ed25519"


class VerifyingKey:
    """Checks signatures.

    Attributes:
        algorithms: What the key is for; at least one.
    """

    __slots__ = ("_material", "algorithms")

    def __init__(self, algorithms: tuple[str, ...], material: Any) -> None:
        self.algorithms = algorithms
        self._material = material

    @classmethod
    def from_secret(cls, secret: str | bytes, option: str = "secret") -> Self:
        """Take a shared secret, for HS256, HS384 and HS512.

        Args:
            option: What the operator calls it.

        Raises:
            ConfigError: It is empty, or is a PEM or JSON key, which is no secret.
        """
        return cls(_HMAC, _secret(secret, option))

    @classmethod
    def from_pem(cls, pem: str | bytes, option: str = "public_key") -> Self:
        """Take a public key.

        Args:
            option: What the operator calls it.

        Raises:
            ConfigError: It is not the PEM of a public key, or of a kind that no algorithm is for.
        """
        data = _encoded(pem, option)
        if b"PRIVATE KEY-----" in data:
            raise ConfigError(option, "is a private key: give its public half")
        try:
            key = load_pem_public_key(data)
        except (ValueError, UnsupportedAlgorithm) as exc:
            raise ConfigError(option, "is not a public key in PEM form") from exc
        return cls(_algorithms(key, option), key)

    @classmethod
    def from_jwk(cls, jwk: Mapping[str, Any]) -> Self | None:
        """Take a member of a JWK set (RFC 7517 §4); its `alg` leaves the key that one algorithm.

        Returns:
            `None` if it is malformed, not for signatures, or not a public key of a known kind.
        """
        kind = jwk.get("kty")
        if not isinstance(kind, str) or kind not in _JWK_MEMBERS or not _is_for_signatures(jwk):
            return None
        reader, members = _JWK_MEMBERS[kind]
        public = {name: jwk[name] for name in members if name in jwk}
        try:
            key = get_algorithm_by_name(reader).from_jwk(public)
            algorithms = _algorithms(key, "jwks")
        except (PyJWTError, ConfigError, TypeError, ValueError, UnsupportedAlgorithm):
            return None
        if (algorithm := jwk.get("alg")) is not None:
            if algorithm not in algorithms:
                return None
            algorithms = (algorithm,)
        return cls(algorithms, key)

    def verifies(self, signed: bytes, signature: bytes, algorithm: str) -> bool:
        """Tell whether the owner of this key made a signature, with an algorithm that it is for."""
        return algorithm in self.algorithms and get_algorithm_by_name(algorithm).verify(
            signed, self._material, signature
        )


class SigningKey:
    """Makes signatures.

    Attributes:
        algorithms: What the key is for, the best choice first; at least one.
    """

    __slots__ = ("_material", "algorithms")

    def __init__(self, algorithms: tuple[str, ...], material: Any) -> None:
        self.algorithms = algorithms
        self._material = material

    @classmethod
    def from_secret(cls, secret: str | bytes, option: str = "secret") -> Self:
        """Take a shared secret; as `VerifyingKey.from_secret`."""
        return cls(_HMAC, _secret(secret, option))

    @classmethod
    def from_pem(cls, pem: str | bytes, option: str = "private_key") -> Self:
        """Take a private key that no password protects.

        Args:
            option: What the operator calls it.

        Raises:
            ConfigError: It is not the PEM of such a key, or of a kind that no algorithm is for.
        """
        try:
            key = load_pem_private_key(_encoded(pem, option), password=None)
        except TypeError as exc:
            raise ConfigError(option, "is protected by a password: remove it") from exc
        except (ValueError, UnsupportedAlgorithm) as exc:
            raise ConfigError(option, "is not a private key in PEM form") from exc
        return cls(_algorithms(key, option), key)

    def sign(self, message: bytes, algorithm: str) -> bytes:
        """Make the signature of a message.

        Raises:
            ValueError: The key is not for that algorithm.
        """
        if algorithm not in self.algorithms:
            raise ValueError(f"{algorithm} is not one of {', '.join(self.algorithms)}")
        return get_algorithm_by_name(algorithm).sign(message, self._material)


def _secret(secret: str | bytes, option: str) -> bytes:
    if not secret:
        raise ConfigError(option, "is empty")
    try:
        # Refuses what has the form of an asymmetric key. Once here instead of once a token.
        return get_algorithm_by_name("HS256").prepare_key(_encoded(secret, option))  # type: ignore[no-any-return]  # bytes, of HMAC
    except PyJWTError as exc:
        raise ConfigError(option, "is a key in PEM, DER, SSH or JWK form, not a secret") from exc


def _encoded(text: str | bytes, option: str) -> bytes:
    try:
        return text.encode() if isinstance(text, str) else text
    except UnicodeEncodeError as exc:
        raise ConfigError(option, "is not UTF-8") from exc


def _algorithms(key: object, option: str) -> tuple[str, ...]:
    """Return what a public or private key is for.

    Raises:
        ConfigError: Nothing.
    """
    algorithms: tuple[str, ...] = ()
    match key:
        case RSAPublicKey() | RSAPrivateKey() if key.key_size >= MIN_RSA_BITS:
            algorithms = _RSA
        case EllipticCurvePublicKey() | EllipticCurvePrivateKey():
            algorithms = _CURVES.get(key.curve.name, ())
        case Ed25519PublicKey() | Ed25519PrivateKey():
            algorithms = _ED25519
    if not algorithms:
        raise ConfigError(option, f"is not a key for signatures that are supported: {_KINDS}")
    return algorithms


def _is_for_signatures(jwk: Mapping[str, Any]) -> bool:
    operations = jwk.get("key_ops")
    return jwk.get("use") in (None, "sig") and (
        operations is None or (isinstance(operations, list) and "verify" in operations)
    )
