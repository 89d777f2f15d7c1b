"""Tokens: nothing is believed that is not signed with our key, by the algorithm it is for."""

import contextlib
import hashlib
import hmac
import json
import re
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbub.auth.keys import SigningKey
from hubbub.auth.tokens import ConnectClaims, Tokens, inspect, sign
from hubbub.errors import ConfigError, Disconnect, InvalidToken, TokenError, TokenExpired
from tests.auth.clock import NOW, FakeClock
from tests.auth.patience import patient
from tests.auth.signing import (
    ASYMMETRIC,
    SECRET,
    encode64,
    now_or_never,
    private_key,
    private_pem,
    public_pem,
    signed,
    token,
)

OTHER = SECRET.replace("secret", "sesame")

CLOCK = FakeClock()  # nobody moves this one


def tokens(**options: Any) -> Tokens:
    return Tokens(**{"secret": SECRET, "clock": CLOCK, **options})


def connect(checker: Tokens, shown: str) -> ConnectClaims:
    return now_or_never(checker.connection(shown))


# Signatures


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_secret_checks_its_algorithms(algorithm: str) -> None:
    shown = token({"sub": "42"}, algorithm=algorithm)

    assert connect(tokens(), shown).user == "42"
    assert connect(tokens(secret=SECRET.encode()), shown).user == "42"
    with pytest.raises(InvalidToken, match="signature is wrong"):
        connect(tokens(secret=OTHER), shown)


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
def test_public_key_checks_its_algorithms(algorithm: str) -> None:
    shown = signed({"sub": "42"}, algorithm)

    assert connect(tokens(secret=None, public_key=public_pem(algorithm)), shown).user == "42"
    assert connect(tokens(public_key=public_pem(algorithm)), shown).user == "42"
    with pytest.raises(InvalidToken, match="signature is wrong"):
        connect(tokens(public_key=public_pem(algorithm, 1)), shown)
    with pytest.raises(InvalidToken, match=f"signed with {algorithm}, for which no key is set"):
        connect(tokens(), shown)


def test_secret_and_public_key_stand_side_by_side() -> None:
    both = tokens(public_key=public_pem("ES256"))

    assert connect(both, token({"sub": "a"})).user == "a"
    assert connect(both, signed({"sub": "b"}, "ES256")).user == "b"


def test_subscription_is_checked_in_the_same_way() -> None:
    claims = {"sub": "42", "channel": "news", "exp": NOW + 5}
    checked = now_or_never(tokens().subscription(token(claims)))

    assert (checked.user, checked.channel, checked.grant.expires_at) == ("42", "news", NOW + 5)
    with pytest.raises(InvalidToken, match="signature is wrong"):
        now_or_never(tokens().subscription(token(claims, OTHER)))
    with pytest.raises(TokenExpired):
        now_or_never(tokens().subscription(token({**claims, "exp": NOW})))


def test_public_key_is_no_secret() -> None:
    """The classic confusion: HS256 keyed with the text of the public key, which all know."""
    for kind in ("RSA", "ES256", "EdDSA"):
        pem = public_pem(kind)
        for key in (pem, pem.strip(), pem.strip() + "\n"):
            head = f"{encode64({'alg': 'HS256'})}.{encode64({'sub': 'admin'})}"
            mac = hmac.new(key.encode(), head.encode(), hashlib.sha256).digest()
            with pytest.raises(InvalidToken, match="signed with HS256, for which no key is set"):
                connect(tokens(secret=None, public_key=pem), f"{head}.{encode64(mac)}")


@pytest.mark.parametrize("algorithm", ["none", "None", "nOnE", "", "PS256", "HS1"])
@pytest.mark.parametrize("mac", [b"", b"x"])
def test_algorithm_outside_of_the_table_is_refused(algorithm: str, mac: bytes) -> None:
    shown = f"{encode64({'alg': algorithm})}.{encode64({'sub': 'admin'})}.{encode64(mac)}"

    for checker in (tokens(), tokens(secret=None), tokens(public_key=public_pem("RSA"))):
        with pytest.raises(InvalidToken, match="algorithm is not supported"):
            connect(checker, shown)


def test_pss_signature_of_the_right_key_is_refused() -> None:
    shown = jwt.encode({"sub": "42"}, private_key("RSA"), "PS256")

    with pytest.raises(InvalidToken, match="algorithm is not supported"):
        connect(tokens(public_key=public_pem("RSA")), shown)


def test_empty_signature_is_wrong() -> None:
    shown = token({"sub": "42"}).rpartition(".")[0]

    with pytest.raises(InvalidToken, match="signature is wrong"):
        connect(tokens(), f"{shown}.")


def test_signature_is_checked_before_time() -> None:
    for claims in ({"exp": NOW - 1}, {"nbf": NOW + 1}, {"channel": "c"}, {"sub": 5}):
        with pytest.raises(InvalidToken, match="signature is wrong"):
            connect(tokens(), token(claims, OTHER))


def test_without_keys_all_tokens_are_invalid() -> None:
    assert Tokens().local
    with pytest.raises(InvalidToken, match="no key is set"):
        connect(Tokens(), token({}))


# The previous secret


def test_previous_secret_counts_until_its_end() -> None:
    clock = FakeClock()
    checker = tokens(secret=SECRET, previous_secret=OTHER, previous_until=NOW + 10, clock=clock)
    old, new = token({"sub": "old"}, OTHER, "HS384"), token({"sub": "new"})

    assert connect(checker, old).user == "old"
    assert connect(checker, new).user == "new"
    with pytest.raises(InvalidToken, match="signature is wrong"):
        connect(checker, token({}, SECRET + "!"))
    clock.passed = 9.9
    assert connect(checker, old).user == "old"
    clock.passed = 10.0
    with pytest.raises(InvalidToken, match="signature is wrong"):
        connect(checker, old)
    assert connect(checker, new).user == "new"


def test_previous_secret_without_an_end_counts_always() -> None:
    clock = FakeClock()
    clock.passed = 1e9
    checker = tokens(previous_secret=OTHER, clock=clock)

    assert connect(checker, token({"sub": "old"}, OTHER)).user == "old"


# Options


def test_time_is_that_of_the_clock() -> None:
    clock = FakeClock()
    checker, shown = tokens(clock=clock), token({"exp": NOW + 60})

    assert connect(checker, shown).expires_at == NOW + 60
    clock.passed = 60.0
    with pytest.raises(TokenExpired):
        connect(checker, shown)


def test_audience_issuer_and_user_claim_are_used() -> None:
    checker = tokens(audience="us", issuer=re.compile("https://.*"), user_claim="uid")
    right = {"aud": ["us"], "iss": "https://issuer", "uid": "42"}

    assert connect(checker, token(right)).user == "42"
    for wrong in ({"aud": "them"}, {"iss": "http://issuer"}):
        with pytest.raises(InvalidToken, match="expected"):
            connect(checker, token({**right, **wrong}))


def test_anonymous_users_are_kept_out_on_demand() -> None:
    assert connect(tokens(), token({})).user == ""
    checker = tokens(anonymous_users=False)
    assert connect(checker, token({"sub": "42"})).user == "42"
    for claims in ({}, {"sub": ""}):
        with pytest.raises(Disconnect) as caught:
            connect(checker, token(claims))
        assert caught.value.code == 3507
    with pytest.raises(InvalidToken):
        connect(checker, token({}, OTHER))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"secret": ""}, "secret: is empty"),
        ({"secret": "a", "previous_secret": ""}, "previous_secret: is empty"),
        ({"previous_secret": "a"}, "previous_secret: needs secret"),
        ({"secret": "a", "previous_until": 1}, "previous_until: needs previous_secret"),
        ({"public_key": "a"}, "public_key: is not a public key"),
        ({"user_claim": ""}, "user_claim: is empty"),
        ({"jwks": "https://h/k", "secret": "a"}, "jwks: is used alone"),
        ({"jwks": "https://h/k", "public_key": "a"}, "jwks: is used alone"),
        ({"jwks": "ftp://h/k"}, "jwks: is not an https:, http: or file: URL"),
    ],
)
def test_options_that_contradict_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        Tokens(**options)


# Anything else


@patient
@given(st.text())
def test_any_text_is_refused(text: str) -> None:
    for checker in (tokens(), tokens(public_key=public_pem("ES256"))):
        with pytest.raises(InvalidToken):
            connect(checker, text)
        with pytest.raises(InvalidToken):
            now_or_never(checker.subscription(text))


TOKEN = token({"sub": "42", "info": {"name": "Ann"}})
EC_TOKEN = signed({"sub": "42"}, "ES256")
CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."


@patient
@given(
    st.sampled_from([TOKEN, EC_TOKEN]),
    st.integers(0, len(EC_TOKEN)),
    st.sampled_from([*CHARACTERS, "=", "+", " ", "\n", "\0", "é", ""]),
    st.booleans(),
)
def test_mutated_token_is_refused(shown: str, at: int, character: str, inserts: bool) -> None:
    checker = tokens(public_key=public_pem("ES256"))
    assert connect(checker, shown).user == "42"
    mutated = shown[:at] + character + shown[at + (not inserts) :]
    if mutated == shown:
        return

    with pytest.raises(InvalidToken) as caught:
        connect(checker, mutated)
    assert mutated[:10] not in str(caught.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@patient
@given(json_values, json_values)
def test_rightly_signed_nonsense_is_read_or_refused(header: Any, payload: Any) -> None:
    head = {"alg": "HS256", **header} if isinstance(header, dict) else header
    start = f"{encode64(head)}.{encode64(payload)}"
    mac = hmac.new(SECRET.encode(), start.encode(), hashlib.sha256).digest()
    with contextlib.suppress(TokenError):  # what is refused, is refused by nothing else
        connect(tokens(), f"{start}.{encode64(mac)}")


# Making and reading


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512", *ASYMMETRIC])
def test_others_accept_what_is_signed(algorithm: str) -> None:
    is_secret = algorithm.startswith("HS")
    key = SECRET if is_secret else SigningKey.from_pem(private_pem(algorithm))
    shown = sign({"sub": "42", "info": {"é": 1}}, key, algorithm, kid="k")

    assert jwt.decode(shown, SECRET if is_secret else public_pem(algorithm), [algorithm]) == {
        "sub": "42",
        "info": {"é": 1},
    }
    checker = tokens(public_key=None if is_secret else public_pem(algorithm))
    assert connect(checker, shown).info == '{"é":1}'.encode()


def test_algorithm_is_by_default_the_first_of_the_key() -> None:
    assert inspect(sign({}, SECRET)).header["alg"] == "HS256"
    assert inspect(sign({}, SigningKey.from_pem(private_pem("ES384")))).header["alg"] == "ES384"


def test_sign_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ConfigError, match="secret: is empty"):
        sign({}, "")
    with pytest.raises(ValueError, match="RS256 is not one of HS256"):
        sign({}, SECRET, "RS256")
    with pytest.raises(TypeError):
        sign({"sub": object()}, SECRET)


def test_inspect_shows_what_nobody_vouches_for() -> None:
    head = encode64({"alg": "none", "kid": "k"})
    found = inspect(f"{head}.{encode64({'sub': '42', 'exp': 0})}.")

    assert found.header == {"alg": "none", "kid": "k"}
    assert found.claims == {"sub": "42", "exp": 0}


@pytest.mark.parametrize(
    ("header", "payload", "problem"),
    [([], {}, "header is not"), ({}, 5, "payload is not"), ({}, b"\xff", "payload is not")],
)
def test_inspect_refuses_what_is_no_token(header: Any, payload: Any, problem: str) -> None:
    with pytest.raises(InvalidToken, match=problem):
        inspect(f"{encode64(header)}.{encode64(payload)}.")


@patient
@given(st.text())
def test_inspect_of_any_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidToken):
        inspect(text)


def test_errors_say_nothing_of_the_token() -> None:
    shown = token({"sub": "SECRET", "exp": 5, "aud": "SECRET", "channel": "SECRET"})
    for checker in (tokens(), tokens(secret=OTHER), tokens(audience="x")):
        with pytest.raises(TokenError) as caught:
            connect(checker, shown)
        assert "SECRET" not in str(caught.value)
        assert json.dumps("SECRET") not in repr(caught.value)
