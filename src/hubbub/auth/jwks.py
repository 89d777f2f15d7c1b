"""Public keys that an issuer publishes at a URL: a JWK set (RFC 7517 §5), fetched and kept.

How long keys are believed. For `ttl` seconds they are used without a question. After that the next
token has them fetched again, and waits for it; if that fails they go on working for `MAX_STALE`
seconds, so that an outage of the issuer does not become one of ours, and for the next
`FAILURE_LIFETIME` seconds nobody waits for the attempts that follow. A key that nobody knows has
the set fetched as well: that is how issuers change keys. Attempts are `MIN_INTERVAL` seconds apart
whatever comes, so that made-up keys cost the issuer nothing, and there is never more than one.

A fetch runs in a thread of its own that ends with it. Waiters wait for its end, not for it: one
that is cancelled takes nothing from the others.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener, url2pathname

import msgspec

from hubbub.auth.keys import VerifyingKey
from hubbub.clock import Clock
from hubbub.errors import ConfigError, HubbubError, KeysUnavailable

__all__ = ["ATTEMPTS", "FAILURE_LIFETIME", "MAX_SIZE", "MAX_STALE", "MIN_INTERVAL", "KeySet"]

MAX_SIZE: Final = 262_144
"""Largest key set in bytes."""

MAX_STALE: Final = 86_400.0
"""Seconds that keys go on working after their `ttl`, while they cannot be fetched."""

MIN_INTERVAL: Final = 5.0
"""Seconds from the start of one fetch to that of the next, at least."""

FAILURE_LIFETIME: Final = 60.0
"""Seconds from the start of a fetch that failed in which keys past their `ttl` are used at once."""

ATTEMPTS: Final = 3
"""Requests of one fetch, until one succeeds."""

_PAUSE: Final = 0.1  # seconds between two attempts
_CHUNK: Final = 65_536

_logger = logging.getLogger("hubbub.auth")


class KeySet:
    """The keys at a URL.

    Args:
        url: `https:`, `http:` or `file:`. From `https:` no redirect leads to `http:`.
        ttl: Seconds between two fetches when nothing is unusual.
        timeout: Seconds for one request; a fetch makes up to `ATTEMPTS`.

    Raises:
        ConfigError: The URL is of another kind or names no host or file, or a time is not
            positive.
    """

    def __init__(self, url: str, *, ttl: float, timeout: float, clock: Clock) -> None:
        self._source = _check_url(url)
        for option, value in (("jwks_ttl", ttl), ("jwks_timeout", timeout)):
            if not value > 0:
                raise ConfigError(option, f"{value:g} is not a number of seconds above 0")
        self._url = url
        self._ttl = ttl
        self._timeout = timeout
        self._clock = clock
        self._known = _Known({}, -float("inf"))
        self._failure: str | None = None  # of the last fetch
        self._failed_at = -float("inf")  # when that one started
        self._fetch: Future[None] | None = None
        self._started_at = -float("inf")

    async def find(self, kid: str, algorithm: str) -> VerifyingKey | None:
        """Return the key of that name for that algorithm; fetch the set if need be.

        Returns:
            `None` if the issuer has no such key.

        Raises:
            KeysUnavailable: The key is not known, and the issuer does not answer; or it has not
                answered for so long that what it said is too old.

        Cancelled: the fetch goes on, for others.
        """
        wanted = (kid, algorithm)
        now = self._clock.monotonic()
        known = self._known
        key = known.keys.get(wanted)
        if key is not None and now < known.at + self._ttl:
            return key
        if not self._is_fetching and now >= self._started_at + MIN_INTERVAL:
            self._start(now)
        if key is not None and now < min(
            known.at + self._ttl + MAX_STALE, self._failed_at + FAILURE_LIFETIME
        ):
            return key
        if self._is_fetching:
            await self._wait()
        return self._look_up(wanted)

    @property
    def _is_fetching(self) -> bool:
        return self._fetch is not None and not self._fetch.done()

    def _look_up(self, wanted: tuple[str, str]) -> VerifyingKey | None:
        """Return what there is when no more can be done."""
        known = self._known
        usable = self._clock.monotonic() < known.at + self._ttl + MAX_STALE
        key = known.keys.get(wanted)
        if key is not None and usable:
            return key
        if self._is_fetching:
            raise KeysUnavailable(f"keys of {self._source} take too long to come")
        if self._failure is not None:
            raise KeysUnavailable(f"keys of {self._source} cannot be had: {self._failure}")
        return None

    async def _wait(self) -> None:
        assert self._fetch is not None
        try:
            async with asyncio.timeout(ATTEMPTS * (self._timeout + _PAUSE)):
                await asyncio.wrap_future(self._fetch)
        except TimeoutError:
            pass  # `_look_up` sees that it still runs

    def _start(self, now: float) -> None:
        self._started_at = now
        fetch: Future[None] = Future()
        fetch.set_running_or_notify_cancel()  # from here on, a waiter cannot cancel it
        threading.Thread(
            target=self._run, args=(fetch, now), name="hubbub-jwks", daemon=True
        ).start()
        self._fetch = fetch

    def _run(self, fetch: "Future[None]", now: float) -> None:
        """Fetch, in the thread; what it found is there before its end is known."""
        failure: str | None = "the fetch broke off"  # unless it ends below
        try:
            keys = _parse(_download(self._url, self._timeout))
        except _FetchError as exc:
            failure = exc.problem
            _logger.warning("cannot fetch keys from %s: %s", self._source, failure)
        else:
            failure = None
            self._known = _Known(keys, now)
            _logger.debug("= %d keys from %s", len(keys), self._source)
        finally:
            self._failure = failure
            self._failed_at = -float("inf") if failure is None else now
            fetch.set_result(None)


@dataclass(frozen=True, slots=True)
class _Known:
    """What an answer said.

    Attributes:
        keys: By name and algorithm.
        at: When it was asked for, monotonic.
    """

    keys: Mapping[tuple[str, str], VerifyingKey]
    at: float


class _FetchError(HubbubError):
    """A fetch failed.

    Attributes:
        problem: Why; without the URL, which may contain a secret.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


class _Answer(msgspec.Struct, frozen=True):
    keys: list[Any]


_answer = msgspec.json.Decoder(_Answer)


class _SafeRedirects(HTTPRedirectHandler):
    """Follow no redirect out of TLS, or to another protocol than HTTP."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        allowed = {"https"} if req.type == "https" else {"https", "http"}
        if urlsplit(newurl).scheme not in allowed:
            return None  # the answer is then the error that it looks like: HTTP 302
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_url(url: str) -> str:
    """Return how to call the place in messages: its host, or the path of the file."""
    try:
        parts = urlsplit(url)
        if parts.scheme == "file" and parts.path:
            return parts.path
        if "@" in parts.netloc:
            raise ConfigError("jwks", "has a user name or password, which is not supported")
        if parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0:
            return parts.hostname
    except ValueError as exc:  # urlsplit and its port
        raise ConfigError("jwks", f"is not a URL: {exc}") from exc
    raise ConfigError("jwks", "is not an https:, http: or file: URL")


def _download(url: str, timeout: float) -> bytes:
    if url.startswith("file:"):
        try:
            with Path(url2pathname(urlsplit(url).path)).open("rb") as file:
                return _bounded(file.read(MAX_SIZE + 1))
        except (OSError, ValueError) as exc:
            raise _FetchError(f"cannot be read: {exc}") from exc
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _request(url, timeout)
        except HTTPError as exc:
            exc.close()
            if exc.code < 500 or attempt == ATTEMPTS:
                raise _FetchError(f"HTTP status {exc.code}") from exc
        except OSError as exc:
            reason = exc.reason if isinstance(exc, URLError) else exc
            if isinstance(reason, TimeoutError):
                reason = f"no answer within jwks_timeout={timeout:g} s"
            if attempt == ATTEMPTS:
                raise _FetchError(str(reason)) from exc
        except (HTTPException, ValueError) as exc:
            # Its text may quote the URL or the answer.
            raise _FetchError(f"no proper HTTP: {type(exc).__name__}") from exc
        time.sleep(_PAUSE)
    raise AssertionError  # unreachable: the last attempt returns or raises


def _request(url: str, timeout: float) -> bytes:
    # The timeout of a socket starts anew with every packet; a server may send one now and then.
    deadline = time.monotonic() + timeout
    request = Request(url, headers={"Accept": "application/json", "User-Agent": "hubbub"})  # noqa: S310  # `_check_url` saw to the scheme
    body = bytearray()
    with build_opener(_SafeRedirects).open(request, timeout=timeout) as response:
        while chunk := response.read1(_CHUNK):
            body += _bounded(chunk, len(body))
            if time.monotonic() > deadline:
                raise TimeoutError
    return bytes(body)


def _bounded(data: bytes, before: int = 0) -> bytes:
    if before + len(data) > MAX_SIZE:
        raise _FetchError(f"the key set is larger than {MAX_SIZE} bytes")
    return data


def _parse(answer: bytes) -> dict[tuple[str, str], VerifyingKey]:
    """Read a key set; keys without a name and those of no use for signatures are left out.

    A set without any key that we can use is a failure: its issuer could sign nothing, so that
    something is wrong there, and what was known goes on working for a while.
    """
    try:
        members = _answer.decode(answer).keys
    except (msgspec.DecodeError, RecursionError, UnicodeError) as exc:
        raise _FetchError("the answer is not a JWK set") from exc
    keys: dict[tuple[str, str], VerifyingKey] = {}
    for jwk in members:
        kid = jwk.get("kid") if isinstance(jwk, dict) else None
        if isinstance(kid, str) and (key := VerifyingKey.from_jwk(jwk)) is not None:
            for algorithm in key.algorithms:
                keys.setdefault((kid, algorithm), key)
    if not keys:
        raise _FetchError("the JWK set has no key that can be used")
    return keys
