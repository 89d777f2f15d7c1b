"""The envelope of tokens: one spelling, three parts, nothing in it that must be understood."""

import json
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbub.auth.jws import parse, serialize, split
from hubbub.auth.keys import SigningKey
from hubbub.errors import InvalidToken
from tests.auth.patience import patient
from tests.auth.signing import SECRET, encode64

HEADER = {"alg": "HS256", "typ": "JWT"}


@patient
@given(st.binary(max_size=100), st.none() | st.text(max_size=10))
def test_what_is_serialized_is_parsed(payload: bytes, kid: str | None) -> None:
    token = serialize(payload, SigningKey.from_secret(SECRET), "HS512", kid)
    jws = parse(token)

    assert (jws.header.alg, jws.header.kid) == ("HS512", kid)
    assert jws.payload == payload
    assert jws.signed.decode() + "." + encode64(jws.signature) == token


def test_others_read_what_is_serialized() -> None:
    token = serialize(b'{"sub":"42"}', SigningKey.from_secret(SECRET), "HS256", "k")

    assert jwt.decode(token, SECRET, ["HS256"]) == {"sub": "42"}
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT", "kid": "k"}


@pytest.mark.parametrize(
    "token", ["", ".", "a.b", "a.b.c.d", f"{encode64(HEADER)}.{encode64({})}", "a..b..c"]
)
def test_token_of_other_than_three_parts_is_refused(token: str) -> None:
    with pytest.raises(InvalidToken, match="three parts"):
        parse(token)


@pytest.mark.parametrize(
    "part",
    ["a", "YQ==", "Y Q", "YR", "YQ\n", "Y+/=", "é", "\ud800", "YQ="],
)
def test_base64_has_one_spelling(part: str) -> None:
    assert split(f"YQ.YQ.{encode64(b'')}") == (b"a", b"a", b"")
    for at, name in enumerate(("header", "payload", "signature")):
        parts = [encode64(HEADER)] * 3
        parts[at] = part
        with pytest.raises(InvalidToken, match=f"^token: {name} is not base64url$"):
            parse(".".join(parts))


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        (b"", "header is not a JSON object"),
        (b"\xff", "header is not a JSON object"),
        (b"[" * 50_000, "header is not a JSON object"),
        ([], "header is not a JSON object"),
        ({}, "with a string alg"),
        ({"alg": 5}, "with a string alg"),
        ({"alg": "HS256", "kid": 5}, "header is not"),
        ({"alg": "none"}, "algorithm is not supported"),
        ({"alg": "NONE"}, "algorithm is not supported"),
        ({"alg": "hs256"}, "algorithm is not supported"),
        ({"alg": "PS256"}, "algorithm is not supported"),
        ({"alg": "ES256K"}, "algorithm is not supported"),
        ({"alg": ""}, "algorithm is not supported"),
        ({"alg": "HS256", "crit": ["exp"]}, "crit"),
        ({"alg": "HS256", "crit": None}, "crit"),
        ({"alg": "HS256", "b64": False, "crit": ["b64"]}, "crit"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_header_that_we_do_not_understand_is_refused(header: Any, problem: str) -> None:
    with pytest.raises(InvalidToken, match=problem):
        parse(f"{encode64(header)}.{encode64({})}.{encode64(b'x')}")


def test_unknown_members_of_a_header_are_ignored() -> None:
    header = json.dumps({**HEADER, "jku": "http://evil.example", "x": [None]}).encode()

    assert parse(f"{encode64(header)}.{encode64({})}.").header.alg == "HS256"
