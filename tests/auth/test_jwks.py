"""Published keys: fetched once for all, kept through an outage, and never from a stranger."""

import asyncio
import logging
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
import trustme

from hubbub.auth.jwks import (
    ATTEMPTS,
    FAILURE_LIFETIME,
    MAX_SIZE,
    MAX_STALE,
    MIN_INTERVAL,
    KeySet,
)
from hubbub.auth.keys import VerifyingKey
from hubbub.auth.tokens import Tokens
from hubbub.errors import ConfigError, InvalidToken, KeysUnavailable, TokenExpired
from tests.auth.clock import NOW, FakeClock
from tests.auth.issuer import Issuer, issuing
from tests.auth.signing import encode64, jwk, now_or_never, signed
from tests.timing import MS

TIMEOUT = 10_000 * MS
TTL = 3600.0
SLOW = r"no answer within jwks_timeout|take too long"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with issuing() as running:
        yield running


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def keys(issuer: Issuer, clock: FakeClock) -> KeySet:
    return KeySet(issuer.url, ttl=TTL, timeout=TIMEOUT, clock=clock)


def checker(issuer: Issuer, clock: FakeClock) -> Tokens:
    return Tokens(jwks=issuer.url, jwks_timeout=TIMEOUT, clock=clock)


# Tokens


async def test_token_is_checked_with_the_key_that_it_names(
    issuer: Issuer, clock: FakeClock
) -> None:
    tokens = checker(issuer, clock)

    assert not tokens.local
    for algorithm, kid in (("ES256", "k1"), ("RS256", "k2"), ("RS512", "k2")):
        claims = await tokens.connection(signed({"sub": algorithm}, algorithm, kid=kid))
        assert claims.user == algorithm
    with pytest.raises(TokenExpired):
        await tokens.connection(signed({"exp": NOW}, "ES256", kid="k1"))
    with pytest.raises(InvalidToken, match="signature is wrong"):
        await tokens.connection(signed({"exp": NOW}, "ES256", 1, kid="k1"))
    assert issuer.requests == 1


@pytest.mark.parametrize("kind", ["ES384", "ES512", "EdDSA"])
async def test_every_kind_of_key(issuer: Issuer, clock: FakeClock, kind: str) -> None:
    issuer.body = {"keys": [jwk(kind, "k")]}

    assert (await checker(issuer, clock).connection(signed({"sub": "a"}, kind, kid="k"))).user


async def test_token_must_name_its_key(issuer: Issuer, clock: FakeClock) -> None:
    for shown in (signed({}, "ES256"), signed({}, "ES256", kid="")):
        with pytest.raises(InvalidToken, match="header has no kid"):
            await checker(issuer, clock).connection(shown)
    assert issuer.requests == 0


async def test_key_of_another_algorithm_is_not_taken(issuer: Issuer, clock: FakeClock) -> None:
    issuer.body = {"keys": [jwk("RSA", "k", alg="RS256"), jwk("ES256", "k1")]}
    tokens = checker(issuer, clock)

    for shown in (
        signed({}, "RS512", kid="k"),
        signed({}, "ES256", kid="k"),
        signed({}, "RS256", kid="k1"),
    ):
        with pytest.raises(InvalidToken, match="kid names no key for"):
            await tokens.connection(shown)
    await tokens.connection(signed({}, "RS256", kid="k"))


async def test_secrets_are_never_published(issuer: Issuer, clock: FakeClock) -> None:
    shared = b"published by mistake, 32 bytes and more"
    secret = {"kty": "oct", "kid": "k", "k": encode64(shared), "alg": "HS256"}
    issuer.body = {"keys": [secret, jwk("ES256", "k1")]}

    tokens = checker(issuer, clock)
    shown = jwt.encode({}, shared, "HS256", headers={"kid": "k"})
    with pytest.raises(InvalidToken, match="kid names no key for HS256"):
        await tokens.connection(shown)
    await tokens.connection(signed({}, "ES256", kid="k1"))


# Keeping


async def test_known_key_needs_no_waiting(keys: KeySet, issuer: Issuer, clock: FakeClock) -> None:
    first = await keys.find("k1", "ES256")
    clock.passed = TTL - 0.1

    assert now_or_never(keys.find("k1", "ES256")) is first
    assert issuer.requests == 1


async def test_keys_are_fetched_again_after_ttl(
    keys: KeySet, issuer: Issuer, clock: FakeClock
) -> None:
    await keys.find("k1", "ES256")
    issuer.body = {"keys": [jwk("ES256", "k9")]}
    clock.passed = TTL

    assert await keys.find("k1", "ES256") is None
    assert now_or_never(keys.find("k9", "ES256")) is not None
    assert issuer.requests == 2


async def test_unknown_key_is_asked_for_at_intervals(
    keys: KeySet, issuer: Issuer, clock: FakeClock
) -> None:
    await keys.find("k1", "ES256")
    issuer.body = {"keys": [jwk("ES256", "k1"), jwk("ES384", "new")]}

    clock.passed = MIN_INTERVAL - 0.1
    for kid in ("new", *map(str, range(100))):
        assert now_or_never(keys.find(kid, "ES384")) is None
    assert issuer.requests == 1
    clock.passed = MIN_INTERVAL
    assert await keys.find("new", "ES384") is not None
    assert now_or_never(keys.find("other", "ES384")) is None
    assert issuer.requests == 2


# One fetch for all


async def test_all_wait_for_one_fetch(keys: KeySet, issuer: Issuer) -> None:
    issuer.answering.clear()
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(keys.find("k1", "ES256")) for _ in range(50)]
        await until_asked(issuer)
        waiting += [group.create_task(keys.find("k1", "ES256")) for _ in range(50)]
        await asyncio.sleep(0)
        issuer.answering.set()

    found = {id(task.result()) for task in waiting}
    assert len(found) == 1
    assert isinstance(waiting[0].result(), VerifyingKey)
    assert issuer.requests == 1


async def test_cancelled_waiter_takes_nothing_from_others(keys: KeySet, issuer: Issuer) -> None:
    issuer.answering.clear()
    impatient = asyncio.create_task(keys.find("k1", "ES256"))
    patient = asyncio.create_task(keys.find("k1", "ES256"))
    await until_asked(issuer)
    impatient.cancel()
    await asyncio.wait([impatient])
    issuer.answering.set()

    assert await patient is not None
    assert impatient.cancelled()
    assert issuer.requests == 1


async def test_fetch_is_alone_however_long_it_takes(
    keys: KeySet, issuer: Issuer, clock: FakeClock
) -> None:
    issuer.answering.clear()
    first = asyncio.create_task(keys.find("k1", "ES256"))
    await until_asked(issuer)
    clock.passed = MIN_INTERVAL
    second = asyncio.create_task(keys.find("k1", "ES256"))
    await asyncio.sleep(0)
    issuer.answering.set()

    assert await first is await second is not None
    assert issuer.requests == 1


async def until_asked(issuer: Issuer) -> None:
    assert await asyncio.to_thread(issuer.asked.wait, TIMEOUT)


# Outages


async def test_passing_failure_is_tried_again(keys: KeySet, issuer: Issuer) -> None:
    issuer.failures = ATTEMPTS - 1

    assert await keys.find("k1", "ES256") is not None
    assert issuer.requests == ATTEMPTS


async def test_outage_from_the_start_is_temporary(
    keys: KeySet, issuer: Issuer, clock: FakeClock
) -> None:
    issuer.failures = ATTEMPTS
    with pytest.raises(KeysUnavailable, match=r"keys of 127\.0\.0\.1 cannot be had: .* 503"):
        await keys.find("k1", "ES256")
    with pytest.raises(KeysUnavailable):
        now_or_never(keys.find("k1", "ES256"))  # too soon to ask again
    clock.passed = MIN_INTERVAL

    assert await keys.find("k1", "ES256") is not None
    assert issuer.requests == ATTEMPTS + 1


async def test_known_keys_outlast_an_outage(keys: KeySet, issuer: Issuer, clock: FakeClock) -> None:
    first = await keys.find("k1", "ES256")
    issuer.status = 404
    clock.passed = TTL
    assert await keys.find("k1", "ES256") is first  # after it has seen that nothing newer comes
    assert issuer.requests == 2

    assert now_or_never(keys.find("k1", "ES256")) is first
    with pytest.raises(KeysUnavailable):  # it may exist by now, who knows
        now_or_never(keys.find("k3", "ES256"))

    clock.passed = TTL + MAX_STALE - 0.1
    assert await keys.find("k1", "ES256") is first
    clock.passed = TTL + MAX_STALE
    with pytest.raises(KeysUnavailable):
        await keys.find("k1", "ES256")
    issuer.status = 200
    clock.passed += MIN_INTERVAL
    assert await keys.find("k1", "ES256") is not None


async def test_during_an_outage_nobody_waits_for_the_next_attempt(
    keys: KeySet, issuer: Issuer, clock: FakeClock
) -> None:
    first = await keys.find("k1", "ES256")
    issuer.status = 404
    clock.passed = TTL
    await keys.find("k1", "ES256")
    issuer.answering.clear()
    issuer.asked.clear()
    clock.passed += FAILURE_LIFETIME - 0.1

    assert now_or_never(keys.find("k1", "ES256")) is first
    await until_asked(issuer)  # it asks all the same
    issuer.status = 200
    issuer.body = {"keys": [jwk("ES256", "k1", 1)]}
    issuer.answering.set()
    second = await keys.find("unknown", "ES256")
    assert second is None
    assert now_or_never(keys.find("k1", "ES256")) is not first


async def test_long_after_a_failure_tokens_wait_again(
    keys: KeySet, issuer: Issuer, clock: FakeClock
) -> None:
    first = await keys.find("k1", "ES256")
    issuer.status = 404
    clock.passed = TTL
    await keys.find("k1", "ES256")
    issuer.status = 200
    clock.passed += FAILURE_LIFETIME

    assert await keys.find("k1", "ES256") not in (None, first)


async def test_slow_issuer_is_not_waited_for(issuer: Issuer, clock: FakeClock) -> None:
    keys = KeySet(issuer.url, ttl=TTL, timeout=50 * MS, clock=clock)
    issuer.answering.clear()

    async with asyncio.timeout(TIMEOUT):
        with pytest.raises(KeysUnavailable, match=SLOW):
            await keys.find("k1", "ES256")


async def test_endless_answer_is_not_waited_for(issuer: Issuer, clock: FakeClock) -> None:
    keys = KeySet(issuer.url, ttl=TTL, timeout=100 * MS, clock=clock)
    issuer.drips = True

    async with asyncio.timeout(TIMEOUT):
        with pytest.raises(KeysUnavailable, match=SLOW):
            await keys.find("k1", "ES256")
    for thread in threading.enumerate():
        if thread.name == "hubbub-jwks":
            await asyncio.to_thread(thread.join, TIMEOUT)
            assert not thread.is_alive()


async def test_nobody_listens(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    with issuing() as gone:
        pass
    keys = KeySet(f"{gone.url}?token=secret", ttl=TTL, timeout=TIMEOUT, clock=clock)

    with caplog.at_level(logging.WARNING), pytest.raises(KeysUnavailable, match="refused"):
        await keys.find("k1", "ES256")
    assert "cannot fetch keys from 127.0.0.1" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "is not a JWK set"),
        (b"<html>", "is not a JWK set"),
        (b"\xff\x00", "is not a JWK set"),
        (b"[" * 50_000, "is not a JWK set"),
        ([], "is not a JWK set"),
        ({}, "is not a JWK set"),
        ({"keys": {}}, "is not a JWK set"),
        ({"keys": []}, "has no key that can be used"),
        ({"keys": [None, 5, {}, {"kid": "k1"}]}, "has no key that can be used"),
        ({"keys": [jwk("ES256", "k1") | {"kid": 5}]}, "has no key that can be used"),
        ({"keys": [], "x": "x" * MAX_SIZE}, f"larger than {MAX_SIZE} bytes"),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_garbage_is_an_outage(
    keys: KeySet, issuer: Issuer, clock: FakeClock, body: Any, problem: str
) -> None:
    first = await keys.find("k1", "ES256")
    issuer.body = body
    clock.passed = TTL

    assert await keys.find("k1", "ES256") is first
    with pytest.raises(KeysUnavailable, match=problem):
        await keys.find("k9", "ES256")
    assert issuer.requests == 2


async def test_bad_keys_do_not_spoil_the_good_ones(keys: KeySet, issuer: Issuer) -> None:
    issuer.body = {"keys": [None, {"kid": "k1", "kty": "EC"}, jwk("ES256", "k1")]}

    assert await keys.find("k1", "ES256") is not None


async def test_server_that_speaks_no_http(clock: FakeClock) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 SECRET ESMTP\r\n")
        await reader.readline()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}/"
        keys = KeySet(url, ttl=TTL, timeout=TIMEOUT, clock=clock)
        with pytest.raises(KeysUnavailable, match="no proper HTTP: BadStatusLine"):
            await keys.find("k1", "ES256")


# Where keys come from


async def test_redirect_is_followed(issuer: Issuer, clock: FakeClock) -> None:
    with issuing() as front:
        front.status, front.headers = 302, {"Location": issuer.url}
        keys = KeySet(front.url, ttl=TTL, timeout=TIMEOUT, clock=clock)

        assert await keys.find("k1", "ES256") is not None


@pytest.mark.parametrize("location", ["ftp://127.0.0.1/keys", "file:///etc/hostname"])
async def test_redirect_to_another_protocol_is_not_followed(
    keys: KeySet, issuer: Issuer, location: str
) -> None:
    issuer.status, issuer.headers = 302, {"Location": location}

    with pytest.raises(KeysUnavailable, match="HTTP status 302"):
        await keys.find("k1", "ES256")


async def test_redirect_out_of_tls_is_not_followed(
    issuer: Issuer, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with issuing(context) as secure:
        distrusting = KeySet(secure.url, ttl=TTL, timeout=TIMEOUT, clock=clock)
        with pytest.raises(KeysUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
            await distrusting.find("k1", "ES256")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        keys = KeySet(secure.url, ttl=TTL, timeout=TIMEOUT, clock=clock)
        assert await keys.find("k1", "ES256") is not None
        secure.status, secure.headers = 302, {"Location": issuer.url}
        redirected = KeySet(secure.url, ttl=TTL, timeout=TIMEOUT, clock=clock)
        with pytest.raises(KeysUnavailable, match="HTTP status 302"):
            await redirected.find("k1", "ES256")
    assert issuer.requests == 0


async def test_keys_from_a_file(clock: FakeClock, tmp_path: Path) -> None:
    path = tmp_path / "key set.json"
    keys = KeySet(path.as_uri(), ttl=TTL, timeout=TIMEOUT, clock=clock)
    with pytest.raises(KeysUnavailable, match=r"cannot be read: .*No such file"):
        await keys.find("k1", "ES256")
    path.write_text('{"keys": [' + str(jwk("ES256", "k1")).replace("'", '"') + "]}")
    clock.passed = MIN_INTERVAL

    assert await keys.find("k1", "ES256") is not None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "keys",
        "//h/k",
        "ftp://h/k",
        "data:,{}",
        "file:",
        "http://[",
        "http://h:0/",
        "http://h:99999/",
        "https://",
        "https:///k",
        "https://user:secret@h/k",
    ],
)
def test_url_that_cannot_be_is_refused(url: str, clock: FakeClock) -> None:
    with pytest.raises(ConfigError, match=r"^jwks: ") as caught:
        KeySet(url, ttl=TTL, timeout=TIMEOUT, clock=clock)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_times_are_positive(seconds: float, clock: FakeClock) -> None:
    with pytest.raises(ConfigError, match=r"^jwks_ttl: "):
        KeySet("https://h/", ttl=seconds, timeout=1, clock=clock)
    with pytest.raises(ConfigError, match=r"^jwks_timeout: "):
        KeySet("https://h/", ttl=1, timeout=seconds, clock=clock)
