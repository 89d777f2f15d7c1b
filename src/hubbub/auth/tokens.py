"""Tokens (JWT, RFC 7519) that clients show: whose they are, and whether to believe them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from hubbub.auth.claims import (
    ConnectClaims,
    Expected,
    SubscribeClaims,
    read_connection,
    read_subscription,
)
from hubbub.auth.jwks import KeySet
from hubbub.auth.jws import Jws, parse, serialize, split
from hubbub.auth.keys import SigningKey, VerifyingKey
from hubbub.clock import Clock, SystemClock
from hubbub.errors import ConfigError, Disconnect, DisconnectCode, InvalidToken

__all__ = ["ConnectClaims", "SubscribeClaims", "Tokens", "UncheckedToken", "inspect", "sign"]

_SYSTEM_CLOCK: Final = SystemClock()


class Tokens:
    """Checks tokens with the keys of an operator.

    A signature is checked before any claim is believed, and only with keys that the token's
    algorithm belongs to. Without any key all tokens are invalid.

    Args:
        secret: For HS256, HS384 and HS512.
        previous_secret: The secret before this one, for tokens signed with it that are still
            around.
        previous_until: Unix time in seconds from which the previous secret is not taken any more.
            `None`: it is always taken.
        public_key: PEM of an RSA key (RS256, RS384, RS512), an EC key (ES256, ES384 or ES512, by
            its curve) or an Ed25519 key (EdDSA). A secret may be set as well.
        jwks: URL of a JWK set, in place of the keys above: `https:`, `http:` or `file:`. Tokens
            must then name their key (`kid`).
        audience: What `aud` must be or contain; a pattern must match the whole of it. `None`: `aud`
            is not looked at.
        issuer: What `iss` must be, in the same way.
        user_claim: Name of the claim with the user id.
        jwks_ttl: Seconds that fetched keys are used before they are fetched again
            (`hubbub.auth.jwks`).
        jwks_timeout: Seconds for one request of them.
        anonymous_users: Whether connection tokens may lack a user id.

    Attributes:
        local: Whether checking never suspends, since all keys are here.

    Raises:
        ConfigError: A key cannot be used, is missing, or contradicts another.
    """

    def __init__(
        self,
        *,
        secret: str | bytes | None = None,
        previous_secret: str | bytes | None = None,
        previous_until: float | None = None,
        public_key: str | bytes | None = None,
        jwks: str | None = None,
        audience: str | re.Pattern[str] | None = None,
        issuer: str | re.Pattern[str] | None = None,
        user_claim: str = "sub",
        jwks_ttl: float = 3600.0,
        jwks_timeout: float = 1.0,
        anonymous_users: bool = True,
        clock: Clock = _SYSTEM_CLOCK,
    ) -> None:
        own = (secret, previous_secret, public_key)
        if jwks is not None and any(key is not None for key in own):
            raise ConfigError("jwks", "is used alone: set no secret and no public_key")
        if previous_secret is not None and secret is None:
            raise ConfigError("previous_secret", "needs secret, the one that follows it")
        if previous_until is not None and previous_secret is None:
            raise ConfigError("previous_until", "needs previous_secret, which it ends")
        if not user_claim:
            raise ConfigError("user_claim", "is empty")
        self._keys: list[VerifyingKey] = []
        if secret is not None:
            self._keys.append(VerifyingKey.from_secret(secret))
        if public_key is not None:
            self._keys.append(VerifyingKey.from_pem(public_key))
        self._previous: VerifyingKey | None = None
        if previous_secret is not None:
            self._previous = VerifyingKey.from_secret(previous_secret, "previous_secret")
        self._previous_until = float("inf") if previous_until is None else previous_until
        self._published: KeySet | None = None
        if jwks is not None:
            self._published = KeySet(jwks, ttl=jwks_ttl, timeout=jwks_timeout, clock=clock)
        self._expected = Expected(audience=audience, issuer=issuer, user_claim=user_claim)
        self._anonymous_users = anonymous_users
        self._clock = clock
        self.local = self._published is None

    async def connection(self, token: str) -> ConnectClaims:
        """Check a connection token.

        Raises:
            TokenExpired: Its signature is right, but its time is over or has not come.
            InvalidToken: It is anything else that we do not accept.
            KeysUnavailable: The key set cannot be fetched.
            Disconnect: It has no user id, and anonymous users are not allowed (3507).

        Cancelled: nothing is left behind.
        """
        claims = read_connection(await self.verify(token), self._expected, self._clock.time())
        if not claims.user and not self._anonymous_users:
            raise Disconnect(DisconnectCode.PERMISSION_DENIED)
        return claims

    async def subscription(self, token: str) -> SubscribeClaims:
        """Check a subscription token; its user, channel and client are for the caller to compare.

        Raises:
            TokenExpired: Its signature is right, but its time is over or has not come.
            InvalidToken: It is anything else that we do not accept.
            KeysUnavailable: The key set cannot be fetched.

        Cancelled: nothing is left behind.
        """
        return read_subscription(await self.verify(token), self._expected, self._clock.time())

    async def verify(self, token: str) -> bytes:
        """Check the signature of a token alone, and return its payload.

        Raises:
            InvalidToken: It is malformed, or not signed with one of our keys.
            KeysUnavailable: The key set cannot be fetched.

        Cancelled: nothing is left behind.
        """
        jws = parse(token)
        if self._published is None:
            self._verify_with_own_keys(jws)
        else:
            await self._verify_with_published_key(jws, self._published)
        return jws.payload

    def _verify_with_own_keys(self, jws: Jws) -> None:
        algorithm = jws.header.alg
        keys = [key for key in self._keys if algorithm in key.algorithms]
        if not keys:
            raise InvalidToken(f"signed with {algorithm}, for which no key is set")
        if self._previous is not None and self._clock.time() < self._previous_until:
            keys.append(self._previous)  # it is for the algorithms of the secret, or for none here
        if not any(key.verifies(jws.signed, jws.signature, algorithm) for key in keys):
            raise InvalidToken("signature is wrong")

    async def _verify_with_published_key(self, jws: Jws, published: KeySet) -> None:
        if not jws.header.kid:
            raise InvalidToken("header has no kid, which names the key of the set")
        key = await published.find(jws.header.kid, jws.header.alg)
        if key is None:
            raise InvalidToken(f"kid names no key for {jws.header.alg} in the set")
        if not key.verifies(jws.signed, jws.signature, jws.header.alg):
            raise InvalidToken("signature is wrong")


@dataclass(frozen=True, slots=True)
class UncheckedToken:
    """What a token says, which anybody may have written."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any]


def inspect(token: str) -> UncheckedToken:
    """Read a token for a person, without asking who signed it.

    Raises:
        InvalidToken: It is not of three parts, or header or payload are not JSON objects.
    """
    header, payload, _ = split(token)
    return UncheckedToken(_object(header, "header"), _object(payload, "payload"))


def sign(
    claims: Mapping[str, Any],
    key: SigningKey | str | bytes,
    algorithm: str | None = None,
    *,
    kid: str | None = None,
) -> str:
    """Make a token.

    Args:
        claims: What it says; anything that msgspec writes as JSON. Times are Unix seconds.
        key: A secret, or a key (`SigningKey.from_pem`).
        algorithm: `None`: the first of the key: HS256 for a secret.
        kid: Name of the key, for those who check with a JWK set.

    Raises:
        ConfigError: The secret is empty, or no secret.
        ValueError: The key is not for that algorithm.
        TypeError: A claim cannot be written as JSON.
    """
    if not isinstance(key, SigningKey):
        key = SigningKey.from_secret(key)
    return serialize(msgspec.json.encode(claims), key, algorithm or key.algorithms[0], kid)


_objects = msgspec.json.Decoder(dict[str, Any])


def _object(text: bytes, name: str) -> dict[str, Any]:
    try:
        return _objects.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as exc:
        raise InvalidToken(f"{name} is not a JSON object") from exc
