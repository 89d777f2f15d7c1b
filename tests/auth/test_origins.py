"""Origins: pages of the server itself and those that match, and no others."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbub.auth.origins import Origins
from hubbub.errors import ConfigError
from tests.auth.patience import patient

NONE = Origins()


def test_no_origin_is_allowed() -> None:
    for origins in (NONE, Origins(["https://example.com"])):
        assert origins.allows(None, "h", True)
        assert origins.allows(None, None, False)
    assert not NONE.allows("", "", False)


@pytest.mark.parametrize(
    ("origin", "host", "secure", "allowed"),
    [
        ("http://example.com", "example.com", False, True),
        ("http://example.com", "example.com:80", False, True),
        ("http://example.com:80", "example.com", False, True),
        ("http://EXAMPLE.com", "example.COM", False, True),
        ("http://localhost:8005", "localhost:8005", False, True),
        ("http://[::1]:8005", "[::1]:8005", False, True),
        ("https://example.com", "example.com", True, True),
        ("https://example.com", "example.com:443", True, True),
        # A proxy that ends TLS.
        ("https://example.com", "example.com", False, True),
        ("https://example.com:443", "example.com:443", False, True),
        ("https://example.com:8443", "example.com:8443", False, True),
        # A page without TLS, and a server with.
        ("http://example.com", "example.com", True, False),
        ("http://example.com:8443", "example.com:8443", True, False),
        # Others.
        ("http://example.com:8005", "example.com", False, False),
        ("http://example.com", "example.com:8005", False, False),
        ("https://example.com", "example.com:80", False, False),
        ("http://example.com", "example.com:443", False, False),
        ("http://www.example.com", "example.com", False, False),
        ("http://example.com", "www.example.com", False, False),
        ("http://example.com.evil.com", "example.com", False, False),
        ("ws://example.com", "example.com", False, False),
        ("chrome-extension://example.com", "example.com", False, False),
        ("http://example.com", None, False, False),
        ("http://example.com", "", False, False),
        ("null", "null", False, False),
        # What no browser sends.
        ("http://example.com/", "example.com", False, False),
        ("http://user@example.com", "example.com", False, False),
        ("http://user@example.com", "user@example.com", False, False),
        ("http://example.com\n", "example.com", False, False),
        ("example.com", "example.com", False, False),
        ("http://", "", False, False),
    ],
)
def test_same_origin(origin: str, host: str | None, secure: bool, allowed: bool) -> None:
    assert NONE.allows(origin, host, secure) is allowed


@pytest.mark.parametrize(
    ("pattern", "allowed", "refused"),
    [
        (
            "https://example.com",
            ["https://example.com", "https://EXAMPLE.com", "https://example.com:443"],
            [
                "http://example.com",
                "https://example.com:8443",
                "https://a.example.com",
                "https://exampleXcom",
                "https://example.com.evil.com",
                "null",
            ],
        ),
        ("HTTPS://Example.com:443", ["https://example.com"], ["https://example.com:8443"]),
        (
            "https://*.example.com",
            ["https://a.example.com", "https://a.b.example.com"],
            [
                "https://example.com",
                "https://evilexample.com",
                "http://a.example.com",
                "https://x@a.example.com",
                "https://evil.com/.example.com",
                "https://evil.com#.example.com",
                "https://evil.com?.example.com",
                "https://evil.com\\.example.com",
                "https://evil.com/https://a.example.com",
            ],
        ),
        ("http://localhost:*", ["http://localhost:1"], ["http://localhost", "https://localhost:1"]),
        ("http*://example.com", ["http://example.com", "https://example.com"], ["ws://a"]),
        ("*://example.com", ["https://example.com", "chrome-extension://example.com"], ["a://b"]),
        ("https://*", ["https://a", "https://a:1"], ["http://a", "https://a/b", "https://"]),
        ("http://[::1]:*", ["http://[::1]:80000", "http://[::1]:5"], ["http://[::2]:5"]),
        ("null", ["null"], ["https://null", "NULL", "http://a"]),
        ("*", ["null", "https://a", "anything"], []),
    ],
)
def test_patterns(pattern: str, allowed: list[str], refused: list[str]) -> None:
    origins = Origins(["https://unrelated.example", pattern])

    assert [origin for origin in allowed if not origins.allows(origin, "h", True)] == []
    assert [origin for origin in refused if origins.allows(origin, "h", True)] == []


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "**",
        "a*",
        "Null",
        "example.com",
        "//a",
        "://a",
        "https://",
        "https://a/",
        "https://a/b",
        "https://a b",
        "https://a@b",
        "https://a?b",
    ],
)
def test_pattern_that_cannot_match_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigError, match=f"^origins: {re.escape(repr(pattern))} is not of"):
        Origins([pattern])


labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,5}[a-z0-9])?", fullmatch=True)
hosts = st.lists(labels, min_size=1, max_size=4).map(".".join)
schemes = st.sampled_from(["http", "https"])
ports = st.none() | st.integers(1, 65535)
DEFAULTS = {"http": 80, "https": 443}


def origin_of(scheme: str, host: str, port: int | None) -> str:
    return f"{scheme}://{host}" + ("" if port is None else f":{port}")


@patient
@given(schemes, hosts, ports, schemes, hosts, ports)
def test_pattern_without_a_star_is_one_origin(
    scheme: str, host: str, port: int | None, scheme2: str, host2: str, port2: int | None
) -> None:
    origins = Origins([origin_of(scheme, host, port)])
    same = (scheme, host, port or DEFAULTS[scheme]) == (scheme2, host2, port2 or DEFAULTS[scheme2])

    assert origins.allows(origin_of(scheme, host, port).upper(), None, True)
    assert origins.allows(origin_of(scheme2, host2, port2), None, True) is same


@patient
@given(schemes, hosts, hosts, ports)
def test_star_before_a_domain_is_its_subdomains(
    scheme: str, domain: str, host: str, port: int | None
) -> None:
    origins = Origins([f"{scheme}://*.{domain}"])
    is_default = port in (None, DEFAULTS[scheme])

    assert origins.allows(origin_of(scheme, f"{host}.{domain}", port), None, True) is is_default
    assert origins.allows(origin_of(scheme, host, port), None, True) is (
        is_default and host.endswith(f".{domain}")
    )


@patient
@given(hosts, ports, schemes)
def test_same_origin_whatever_the_default_port_looks_like(
    host: str, port: int | None, scheme: str
) -> None:
    header = host if port is None else f"{host}:{port}"

    assert NONE.allows(origin_of(scheme, host, port), header, scheme == "https")
    assert NONE.allows(origin_of(scheme, host, port), header.upper(), False)
    if port is None:
        assert NONE.allows(origin_of(scheme, host, DEFAULTS[scheme]), header, False)
        assert NONE.allows(origin_of(scheme, host, None), f"{host}:{DEFAULTS[scheme]}", False)


anything = st.text(max_size=30) | st.text("htps:/*.a1[]@#?", max_size=20)


@patient
@given(anything, st.none() | anything, st.booleans())
def test_any_header_is_decided(origin: str, host: str | None, secure: bool) -> None:
    stars = Origins(["*://*", "https://*.a:1"])
    allowed = stars.allows(origin, host, secure)

    assert "/" not in origin.partition("://")[2] or not allowed
    assert Origins(["*"]).allows(origin, host, secure)
    if NONE.allows(origin, host, secure):
        assert host is not None
        assert origin.lower().startswith(("http://", "https://"))
        assert host.lower().partition(":")[0] in origin.lower()
