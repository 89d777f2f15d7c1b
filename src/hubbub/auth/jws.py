"""Compact JWS, the envelope of a token: three parts of base64url (RFC 7515 §7.1)."""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from typing import Any

import msgspec

from hubbub.auth.keys import ALGORITHMS, SigningKey
from hubbub.errors import InvalidToken

__all__ = ["Header", "Jws", "parse", "serialize", "split"]


class Header(msgspec.Struct, frozen=True):
    """What is said of the signature (RFC 7515 §4.1); nobody vouches for it.

    Attributes:
        alg: One of `ALGORITHMS`, as far as `parse` returned it.
        kid: Names the key; `None`: not said.
        crit: Extensions that must be understood; hubbub understands none.
    """

    alg: str
    kid: str | None = None
    crit: Any = msgspec.UNSET


@dataclass(frozen=True, slots=True)
class Jws:
    """A token taken apart, its signature not checked.

    Attributes:
        payload: What is claimed, as bytes.
        signed: What the signature is of.
    """

    header: Header
    payload: bytes
    signed: bytes
    signature: bytes


_header = msgspec.json.Decoder(Header)


def parse(token: str) -> Jws:
    """Take a token apart.

    Raises:
        InvalidToken: It is malformed, needs an extension, or its algorithm is not supported.
    """
    head, payload, signature = split(token)
    try:
        header = _header.decode(head)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as exc:
        raise InvalidToken("header is not a JSON object with a string alg") from exc
    if header.alg not in ALGORITHMS:
        raise InvalidToken("algorithm is not supported")
    if header.crit is not msgspec.UNSET:
        # RFC 7515 §4.1.11: what is critical and not understood makes the token invalid.
        raise InvalidToken("header has crit, and no extension is supported")
    return Jws(header, payload, token.rpartition(".")[0].encode("ascii"), signature)


def split(token: str) -> tuple[bytes, bytes, bytes]:
    """Return header, payload and signature as they are inside of the base64.

    It is read strictly, without padding and unused bits: one token has one spelling.

    Raises:
        InvalidToken: It is not of this form.
    """
    parts = token.split(".", 3)
    if len(parts) != 3:
        raise InvalidToken("does not consist of three parts with dots between")
    header, payload, signature = parts
    return _decode(header, "header"), _decode(payload, "payload"), _decode(signature, "signature")


def serialize(payload: bytes, key: SigningKey, algorithm: str, kid: str | None = None) -> str:
    """Sign a payload, the JSON of a token's claims.

    Raises:
        ValueError: The key is not for that algorithm.
    """
    header = {"alg": algorithm, "typ": "JWT"}
    if kid is not None:
        header["kid"] = kid
    signed = _encode(msgspec.json.encode(header)) + b"." + _encode(payload)
    return (signed + b"." + _encode(key.sign(signed, algorithm))).decode("ascii")


def _encode(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")


def _decode(part: str, name: str) -> bytes:
    try:
        text = part.encode("ascii")
        data = urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    except (UnicodeEncodeError, binascii.Error) as exc:
        raise InvalidToken(f"{name} is not base64url") from exc
    if _encode(data) != text:  # the decoder skips what is not of the alphabet
        raise InvalidToken(f"{name} is not base64url")
    return data
