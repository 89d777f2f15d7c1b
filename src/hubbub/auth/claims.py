"""What a token says once its signature is right: claims, read strictly into values.

Connection tokens and subscription tokens are the client protocol's (sections 13.2 and 13.3), the
registered claims those of RFC 7519 §4.1. A claim that is null is absent; unknown ones are ignored.
Problems name the claim and never quote what it says.
"""

import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import msgspec

from hubbub.errors import InvalidToken, TokenExpired
from hubbub.model import Grant

__all__ = [
    "MAX_LIFETIME",
    "ConnectClaims",
    "Expected",
    "SubscribeClaims",
    "read_connection",
    "read_subscription",
]

MAX_LIFETIME: Final = 365 * 86_400.0
"""Seconds that a connection or subscription lasts at most before it must be refreshed.

Only what says that it ends is cut; without any expiry it lasts for ever.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectClaims:
    """What a connection token says.

    Attributes:
        user: User id; empty: anonymous.
        info: JSON without white space that others see of the connection; empty: none.
        meta: For the application, on this server only; `None`: nothing.
        expires_at: Unix time in seconds when the connection ends unless refreshed, at most
            `MAX_LIFETIME` ahead; `None`: never.
        grants: Channels that the server subscribes the client to, in the token's order.
    """

    user: str
    info: bytes = b""
    meta: Any = None
    expires_at: float | None = None
    grants: Mapping[str, Grant] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscribeClaims:
    """What a subscription token says. Whether it is this client's is for the caller to compare.

    Attributes:
        user: Must be the connection's user, also when both are empty.
        channel: Must be the channel asked for; never empty.
        client: Must be the connection's id; empty: any.
        grant: What the subscription is granted; it expires at most `MAX_LIFETIME` ahead.
    """

    user: str
    channel: str
    client: str = ""
    grant: Grant


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What tokens must say to be ours.

    Attributes:
        audience: Must be, or match as a whole, one of `aud`. `None`: anything, also nothing.
        issuer: The same of `iss`.
        user_claim: The claim that has the user id.
    """

    audience: str | re.Pattern[str] | None = None
    issuer: str | re.Pattern[str] | None = None
    user_claim: str = "sub"


def read_connection(payload: bytes, expected: Expected, now: float) -> ConnectClaims:
    """Read the claims of a connection token.

    Args:
        payload: The payload of a token with a right signature.
        now: Unix time in seconds.

    Raises:
        InvalidToken: The claims are malformed, or not what is expected.
        TokenExpired: `exp` is over, or `nbf` has not come.
    """
    claims = _decode(_connection, payload)
    user = _user(payload, expected.user_claim)
    if claims.channel:
        raise InvalidToken("has a channel claim: it is for a subscription, not a connection")
    grants: dict[str, Grant] = {}
    if claims.subs:
        grants = {
            channel: _grant(sub or _Subscription(), "subs: ")
            for channel, sub in claims.subs.items()
        }
    elif claims.channels:
        grants = dict.fromkeys(claims.channels, Grant())
    if "" in grants:
        raise InvalidToken("subs or channels has an empty name")
    info = _payload(claims.info, claims.b64info, "", "info")
    _check(claims, expected, now)
    return ConnectClaims(
        user=user,
        info=info,
        meta=claims.meta,
        expires_at=_expires_at(claims, now),
        grants=grants,
    )


def read_subscription(payload: bytes, expected: Expected, now: float) -> SubscribeClaims:
    """Read the claims of a subscription token; as `read_connection`."""
    claims = _decode(_subscription, payload)
    user = _user(payload, expected.user_claim)
    if not claims.channel:
        raise InvalidToken("has no channel claim")
    grant = _grant(claims, "", _expires_at(claims, now))
    _check(claims, expected, now)
    return SubscribeClaims(
        user=user, channel=claims.channel, client=claims.client or "", grant=grant
    )


_NULL = msgspec.Raw(b"null")


class _Flag(msgspec.Struct, frozen=True):
    """A boolean with a presence of its own; no value is false, as in JSON made from Protobuf."""

    value: bool | None = None


class _Override(msgspec.Struct, frozen=True):
    """Names are those of `Grant.override`."""

    presence: _Flag | None = None
    join_leave: _Flag | None = None
    force_push_join_leave: _Flag | None = None
    force_recovery: _Flag | None = None
    force_positioning: _Flag | None = None


class _Subscription(msgspec.Struct, frozen=True):
    """What is granted, in `subs` or by a subscription token."""

    info: msgspec.Raw = _NULL
    b64info: str | None = None
    data: msgspec.Raw = _NULL
    b64data: str | None = None
    override: _Override | None = None


class _Registered(msgspec.Struct, frozen=True):
    """Claims of both kinds of token."""

    exp: float | None = None
    nbf: float | None = None
    expire_at: float | None = None
    aud: str | list[str] | None = None
    iss: str | None = None
    channel: str | None = None
    info: msgspec.Raw = _NULL
    b64info: str | None = None


class _ConnectionToken(_Registered, frozen=True):
    subs: dict[str, _Subscription | None] | None = None
    channels: list[str] | None = None
    meta: Any = None


class _SubscriptionToken(_Registered, frozen=True):
    client: str | None = None
    data: msgspec.Raw = _NULL
    b64data: str | None = None
    override: _Override | None = None


_T = TypeVar("_T")
_connection = msgspec.json.Decoder(_ConnectionToken)
_subscription = msgspec.json.Decoder(_SubscriptionToken)
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_text = msgspec.json.Decoder(str | None)
_raw = msgspec.json.Decoder(msgspec.Raw)


def _decode(decoder: "msgspec.json.Decoder[_T]", payload: bytes) -> _T:
    try:
        return decoder.decode(payload)
    except UnicodeError as exc:
        raise InvalidToken("claims are not UTF-8") from exc
    except RecursionError as exc:
        raise InvalidToken("claims are nested too deeply") from exc
    except msgspec.DecodeError as exc:
        raise InvalidToken(f"claims: {exc}") from exc  # names types and the claim, no values


def _user(payload: bytes, name: str) -> str:
    raw = _decode(_members, payload).get(name, _NULL)
    try:
        return _text.decode(raw) or ""
    except (msgspec.DecodeError, UnicodeError) as exc:
        raise InvalidToken(f"{name} is not a string") from exc


def _check(claims: _Registered, expected: Expected, now: float) -> None:
    """Refuse what is not for us before what is over: a new one would not be for us either."""
    audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud or []
    if not _is_expected(expected.audience, audiences):
        raise InvalidToken("aud is not the audience expected")
    if not _is_expected(expected.issuer, [] if claims.iss is None else [claims.iss]):
        raise InvalidToken("iss is not the issuer expected")
    if claims.exp is not None and claims.exp <= now:
        raise TokenExpired("exp is over")
    if claims.nbf is not None and claims.nbf > now:
        raise TokenExpired("nbf has not come")


def _is_expected(expected: str | re.Pattern[str] | None, said: Sequence[str]) -> bool:
    match expected:
        case None:
            return True
        case str():
            return expected in said
    return any(expected.fullmatch(value) for value in said)


def _expires_at(claims: _Registered, now: float) -> float | None:
    at = claims.exp if claims.expire_at is None else claims.expire_at
    if at is None or claims.expire_at == 0:
        return None
    return min(at, now + MAX_LIFETIME)


def _grant(
    said: _Subscription | _SubscriptionToken, where: str, expires_at: float | None = None
) -> Grant:
    flags = {} if said.override is None else msgspec.structs.asdict(said.override)
    return Grant(
        info=_payload(said.info, said.b64info, where, "info"),
        data=_payload(said.data, said.b64data, where, "data"),
        expires_at=expires_at,
        override={name: bool(flag.value) for name, flag in flags.items() if flag is not None},
    )


def _payload(plain: msgspec.Raw, encoded: str | None, where: str, name: str) -> bytes:
    """Return JSON without white space, from one of two claims; the one in base64 wins."""
    text = bytes(plain)
    if encoded:
        name = f"b64{name}"
        try:
            text = b64decode(encoded, validate=True)
        except ValueError as exc:  # binascii.Error is one
            raise InvalidToken(f"{where}{name} is not base64") from exc
    try:
        text.decode()  # msgspec skips what it does not look into, UTF-8 or not
        _raw.decode(text)
        compact = msgspec.json.format(text, indent=-1)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as exc:
        raise InvalidToken(f"{where}{name} is not JSON") from exc
    return b"" if compact == b"null" else compact
