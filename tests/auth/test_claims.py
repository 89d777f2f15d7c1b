"""Claims: what each means, what is refused, and that problems never quote them."""

import json
import re
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbub.auth.claims import (
    MAX_LIFETIME,
    ConnectClaims,
    Expected,
    SubscribeClaims,
    read_connection,
    read_subscription,
)
from hubbub.errors import InvalidToken, TokenError, TokenExpired
from hubbub.model import Grant
from tests.auth.clock import NOW
from tests.auth.patience import patient

ANYTHING = Expected()


def connection(claims: Any, expected: Expected = ANYTHING) -> ConnectClaims:
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    return read_connection(payload, expected, NOW)


def subscription(claims: dict[str, Any], expected: Expected = ANYTHING) -> SubscribeClaims:
    return read_subscription(json.dumps(claims).encode(), expected, NOW)


def encoded(value: Any) -> str:
    return b64encode(json.dumps(value).encode()).decode()


# Identity


def test_token_without_claims_is_an_anonymous_connection_for_ever() -> None:
    assert connection({}) == ConnectClaims(user="", info=b"", meta=None, expires_at=None, grants={})


def test_null_is_absent() -> None:
    names = ["sub", "exp", "nbf", "expire_at", "aud", "iss", "info", "b64info", "channels"]
    names += ["subs", "meta", "channel"]

    assert connection(dict.fromkeys(names)) == connection({})
    names = ["sub", "exp", "expire_at", "client", "info", "b64info", "data", "b64data", "override"]
    assert subscription({**dict.fromkeys(names), "channel": "c"}) == subscription({"channel": "c"})


def test_all_claims_of_a_connection() -> None:
    claims = connection(
        {
            "sub": "42",
            "exp": NOW + 60,
            "nbf": NOW,
            "iat": NOW + 5,
            "jti": "x",
            "info": {"name": "Ann"},
            "meta": {"role": ["admin"]},
            "channels": ["a", "b", "a"],
            "caps": [{"channels": ["*"]}],
        }
    )

    assert claims == ConnectClaims(
        user="42",
        info=b'{"name":"Ann"}',
        meta={"role": ["admin"]},
        expires_at=NOW + 60,
        grants={"a": Grant(), "b": Grant()},
    )


def test_all_claims_of_a_subscription() -> None:
    claims = subscription(
        {
            "sub": "42",
            "channel": "news",
            "client": "c1",
            "exp": NOW + 60,
            "info": 1,
            "data": [1, 2],
            "override": {"presence": {"value": True}},
        }
    )

    grant = Grant(info=b"1", data=b"[1,2]", expires_at=NOW + 60, override={"presence": True})
    assert claims == SubscribeClaims(user="42", channel="news", client="c1", grant=grant)


def test_user_may_be_in_another_claim() -> None:
    expected = Expected(user_claim="uid")

    assert connection({"uid": "42", "sub": 7}, expected).user == "42"
    assert subscription({"uid": "42", "channel": "c"}, expected).user == "42"
    assert connection({"sub": "42"}, expected).user == ""
    with pytest.raises(InvalidToken, match=r"^token: uid is not a string$"):
        connection({"uid": 42}, expected)


# Server-side subscriptions


def test_subs_win_over_channels() -> None:
    subs = {
        "b": {"info": {"a": 1}, "data": "x", "override": {"join_leave": {"value": False}}},
        "a": None,
        "c": {"b64info": encoded([1]), "b64data": encoded({"d": None})},
    }
    grants = connection({"channels": ["z"], "subs": subs}).grants

    assert list(grants) == ["b", "a", "c"]
    assert grants == {
        "b": Grant(info=b'{"a":1}', data=b'"x"', override={"join_leave": False}),
        "a": Grant(),
        "c": Grant(info=b"[1]", data=b'{"d":null}'),
    }
    assert connection({"channels": ["z"], "subs": {}}).grants == {"z": Grant()}


def test_every_option_can_be_overridden() -> None:
    names = ["presence", "join_leave", "force_push_join_leave"]
    names += ["force_recovery", "force_positioning"]
    override: dict[str, Any] = {name: {"value": True} for name in names}

    assert subscription({"channel": "c", "override": override}).grant.override == dict.fromkeys(
        names, True
    )
    # JSON made from Protobuf leaves false out.
    override = {"presence": {}, "join_leave": None, "unknown": 5}
    assert subscription({"channel": "c", "override": override}).grant.override == {
        "presence": False
    }


# Payloads


def test_payloads_are_compact_and_keep_their_spelling() -> None:
    text = b'{"info": {"n" : 1.00,\n"big":1e400, "t": "a b\\u00e9 \xc3\xa9", "d":1, "d":2}}'

    assert connection(text).info == (
        b'{"n":1.00,"big":1e400,"t":"a b\\u00e9 \xc3\xa9","d":1,"d":2}'
    )


def test_base64_wins_over_plain() -> None:
    plain = {"channel": "c", "info": 1, "data": 2}
    both = {**plain, "b64info": encoded({"a": 3}), "b64data": encoded([4])}

    grant = subscription(both).grant
    assert (grant.info, grant.data) == (b'{"a":3}', b"[4]")
    assert connection({"info": 1, "b64info": encoded({"a": 3})}).info == b'{"a":3}'
    assert connection({"info": 1, "b64info": ""}).info == b"1"


# Times


@pytest.mark.parametrize(
    ("times", "expires_at"),
    [
        ({}, None),
        ({"exp": NOW + 1}, NOW + 1),
        ({"exp": NOW + 0.5}, NOW + 0.5),
        ({"exp": NOW + MAX_LIFETIME + 1}, NOW + MAX_LIFETIME),
        ({"exp": NOW + 1, "expire_at": NOW + 9}, NOW + 9),
        ({"exp": NOW + 1, "expire_at": 0}, None),
        ({"exp": NOW + 1, "expire_at": NOW - 9}, NOW - 9),
        ({"expire_at": 1e300}, NOW + MAX_LIFETIME),
        ({"nbf": NOW}, None),
    ],
)
def test_expiry(times: dict[str, float], expires_at: float | None) -> None:
    assert connection(times).expires_at == expires_at
    assert subscription({"channel": "c", **times}).grant.expires_at == expires_at


@pytest.mark.parametrize(
    ("times", "problem"),
    [
        ({"exp": NOW}, "exp is over"),
        ({"exp": 0}, "exp is over"),
        ({"exp": -1e300}, "exp is over"),
        ({"exp": NOW - 1, "expire_at": 0}, "exp is over"),
        ({"nbf": NOW + 0.5}, "nbf has not come"),
    ],
)
def test_token_out_of_its_time_is_expired(times: dict[str, float], problem: str) -> None:
    with pytest.raises(TokenExpired, match=problem):
        connection(times)
    with pytest.raises(TokenExpired, match=problem):
        subscription({"channel": "c", **times})


def test_expired_token_for_somebody_else_is_invalid() -> None:
    with pytest.raises(InvalidToken):
        connection({"exp": 0, "aud": "them"}, Expected(audience="us"))
    with pytest.raises(InvalidToken):
        connection({"exp": 0, "info": 1, "b64info": "?"})


# Audience and issuer


@pytest.mark.parametrize(
    ("claim", "expected", "accepted"),
    [
        (None, None, True),
        ("us", None, True),
        ("us", "us", True),
        (["them", "us"], "us", True),
        ("us", re.compile("u."), True),
        (["them", "us"], re.compile("u."), True),
        (None, "us", False),
        ([], "us", False),
        ("us2", "us", False),
        ("", "us", False),
        ("us2", re.compile("u."), False),
        ("bus", re.compile("u."), False),
        (None, re.compile(".*"), False),
    ],
)
def test_audience_and_issuer(
    claim: Any, expected: str | re.Pattern[str] | None, accepted: bool
) -> None:
    cases = [("aud", Expected(audience=expected))]
    if not isinstance(claim, list):
        cases.append(("iss", Expected(issuer=expected)))
    for name, what in cases:
        claims = {} if claim is None else {name: claim}
        if accepted:
            connection(claims, what)
            subscription({**claims, "channel": "c"}, what)
        else:
            with pytest.raises(InvalidToken, match=f"^token: {name} is not the"):
                connection(claims, what)
            with pytest.raises(InvalidToken, match=f"^token: {name} is not the"):
                subscription({**claims, "channel": "c"}, what)


# What is malformed


def test_channel_makes_it_a_token_for_a_subscription() -> None:
    with pytest.raises(InvalidToken, match="has a channel claim"):
        connection({"channel": "news"})
    for claims in ({}, {"channel": ""}, {"channel": None}):
        with pytest.raises(InvalidToken, match="has no channel claim"):
            subscription(claims)
        connection(claims)


@pytest.mark.parametrize(
    ("claims", "named"),
    [
        ({"sub": 42}, "sub"),
        ({"exp": "SECRET"}, "exp"),
        ({"exp": True}, "exp"),
        ({"nbf": []}, "nbf"),
        ({"expire_at": "SECRET"}, "expire_at"),
        ({"aud": 5}, "aud"),
        ({"aud": ["SECRET", 5]}, "aud"),
        ({"iss": ["SECRET"]}, "iss"),
        ({"channels": "SECRET"}, "channels"),
        ({"channels": ["SECRET", 5]}, "channels"),
        ({"channels": [""]}, "channels"),
        ({"subs": ["SECRET"]}, "subs"),
        ({"subs": {"SECRET": 5}}, "subs"),
        ({"subs": {"": {}}}, "subs"),
        ({"subs": {"SECRET": {"override": {"presence": True}}}}, "presence"),
        ({"subs": {"SECRET": {"override": {"presence": {"value": "SECRET"}}}}}, "value"),
        ({"subs": {"SECRET": {"b64data": "SECRET"}}}, "subs: b64data is not base64"),
        ({"b64info": "SECRET!"}, "b64info is not base64"),
        ({"b64info": "U0VDUkVU\n"}, "info is not base64"),
        ({"b64info": "U0VDUkVU"}, "info is not JSON"),
        ({"b64info": "Ilx1ZDgwMCI="}, "info is not JSON"),
        ({"b64info": "Iv8i"}, "info is not JSON"),
        ({"b64info": b64encode(b"[" * 50_000).decode()}, "info is not JSON"),
        ({"b64info": "é"}, "info is not base64"),
        ({"b64info": 5}, "b64info"),
        ({"channel": 5}, "channel"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_malformed_claim_is_named_and_not_quoted(claims: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidToken, match=named) as caught:
        connection(claims)

    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"5",
        b"[]",
        b"null",
        b'{"sub":"a"',
        b'{"sub":"a"} x',
        b'{"info":"\xff"}',
        b'{"info":"\\ud800"}',
        b'{"info":{"a":01}}',
        b'{"info":NaN}',
        b'{"exp":1e999}',
        b'{"exp":' + b"9" * 400 + b"}",
        b'{"meta":' + b"9" * 5000 + b"}",
        b'{"meta":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"info":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    ],
    ids=lambda value: str(value)[:30],
)
def test_payload_that_is_no_object_is_invalid(payload: bytes) -> None:
    with pytest.raises(InvalidToken):
        connection(payload)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
REGISTERED = ["sub", "exp", "nbf", "expire_at", "aud", "iss", "channel"]
PAYLOADS = ["info", "b64info", "data", "b64data", "meta"]
names = st.sampled_from([*REGISTERED, *PAYLOADS, "channels", "subs", "override", "client"])


@patient
@given(st.dictionaries(names, json_values))
def test_any_claims_are_read_or_refused(claims: dict[str, Any]) -> None:
    payload = json.dumps(claims).encode()
    for read in (read_connection, read_subscription):
        try:
            found = read(payload, ANYTHING, NOW)
        except TokenError:
            continue
        info = found.info if isinstance(found, ConnectClaims) else found.grant.info
        assert not info or json.loads(info) is not None


@patient
@given(json_values)
def test_info_means_what_was_signed(value: Any) -> None:
    info = connection({"info": value}).info

    assert value == (json.loads(info) if info else None)
    assert b"\n" not in info
    assert info == connection({"b64info": encoded(value)}).info
