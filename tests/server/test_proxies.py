"""Who the client is behind proxies: headers that are believed, forged, malformed."""

import logging
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from websockets.asyncio.client import connect, unix_connect

from hubbub import ServerConnection, serve, unix_serve
from hubbub.errors import ConfigError
from hubbub.server.proxies import Forwarded, TrustedProxies

PROXY = "127.0.0.1"
TRUSTED = TrustedProxies([PROXY, "10.0.0.0/8", "fd00::/8"])


def find(
    headers: dict[str, str] | Sequence[tuple[str, str]],
    peer: str | None = PROXY,
    trusted: TrustedProxies = TRUSTED,
) -> Forwarded:
    lines = list(headers.items() if isinstance(headers, dict) else headers)
    return trusted.find_client(
        peer, "http", lambda name: [value for key, value in lines if key == name]
    )


def address(headers: dict[str, str] | Sequence[tuple[str, str]], **options: Any) -> str | None:
    return find(headers, **options).address


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:4711", "192.0.2.1"),
        ("2001:DB8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("192.0.2.1, 10.1.2.3", "192.0.2.1"),
        ("192.0.2.1, fd00::7, 10.1.2.3,127.0.0.1", "192.0.2.1"),
        ("forged, 192.0.2.1, 10.1.2.3", "192.0.2.1"),
        ("198.51.100.9, 192.0.2.1", "192.0.2.1"),
        ("10.9.9.9, 10.1.2.3", "10.9.9.9"),  # a client beside the proxies
        ("192.0.2.1, ", "192.0.2.1"),
        # Nobody is named: the peer stands.
        ("", PROXY),
        ("unknown", PROXY),
        ("_hidden", PROXY),
        ("192.0.2.1, unknown", PROXY),
        ("192.0.2.1, 10.1.2.3, what", PROXY),
        ("fe80::1%<b>", PROXY),
        ("192.0.2.256", PROXY),
        ("1", PROXY),
        ("192.0.2.1:", PROXY),
    ],
)
def test_client_is_the_first_from_the_right_that_is_not_trusted(value: str, expected: str) -> None:
    assert address({"X-Forwarded-For": value}) == expected


def test_lines_of_a_list_are_one_list() -> None:
    lines = [("X-Forwarded-For", "192.0.2.1"), ("X-Forwarded-For", "10.1.2.3")]

    assert address(lines) == "192.0.2.1"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("for=192.0.2.1", "192.0.2.1"),
        ("For=192.0.2.1;Proto=https;by=10.1.2.3", "192.0.2.1"),
        ('for="[2001:db8::1]:4711"', "2001:db8::1"),
        ('for="192.0.2.1:4711" ; host="a,b;c"', PROXY),
        ("for=192.0.2.1:4711", "192.0.2.1"),
        ('for=forged;host="x, for=192.0.2.9", for=192.0.2.1, for=10.1.2.3', "192.0.2.1"),
        ('for="192\\.0.2.1"', "192.0.2.1"),
        ("by=10.1.2.3", PROXY),
        ("for=unknown", PROXY),
        ('for="_mystery"', PROXY),
        ('for="192.0.2.9, for=192.0.2.1', PROXY),
        ("for=192.0.2.1;for=192.0.2.2", PROXY),
        ("for=", PROXY),
        ("192.0.2.1", PROXY),
        ("for=192.0.2.1;proto=gopher", PROXY),
    ],
)
def test_forwarded_of_the_standard_is_read(value: str, expected: str) -> None:
    assert address({"Forwarded": value}) == expected


def test_headers_that_disagree_are_not_believed() -> None:
    both = {"X-Forwarded-For": "192.0.2.1", "Forwarded": "for=192.0.2.1;proto=https"}

    assert find(both) == Forwarded("192.0.2.1", "http", None)
    assert address({**both, "Forwarded": "for=198.51.100.9"}) == PROXY
    assert address({**both, "Forwarded": '"'}) == PROXY


@pytest.mark.parametrize("peer", ["192.0.2.7", "11.0.0.1", None, "not of IP"])
def test_headers_of_untrusted_peers_are_ignored(peer: str | None) -> None:
    headers = {
        "Host": "example.org",
        "X-Forwarded-For": "198.51.100.9",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "forged.example",
    }
    expected = None if peer in (None, "not of IP") else peer

    assert find(headers, peer) == Forwarded(expected, "http", "example.org")
    assert find({"Forwarded": "for=198.51.100.9;proto=https"}, peer)[:2] == (expected, "http")


def test_peers_are_known_by_their_mapped_address() -> None:
    assert address({"X-Forwarded-For": "192.0.2.1"}, peer="::ffff:10.0.0.1") == "192.0.2.1"
    assert address({}, peer="::ffff:192.0.2.7") == "192.0.2.7"


def test_unix_socket_is_trusted_by_its_name() -> None:
    trusted = TrustedProxies(["unix"])

    assert address({"X-Forwarded-For": "192.0.2.1"}, peer=None, trusted=trusted) == "192.0.2.1"
    assert address({}, peer=None, trusted=trusted) is None
    assert address({"X-Forwarded-For": "192.0.2.1"}, trusted=trusted) == PROXY


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"X-Forwarded-Proto": "https"}, "https"),
        ({"X-Forwarded-Proto": "WSS"}, "https"),
        ({"X-Forwarded-Proto": "http, https", "X-Forwarded-For": "192.0.2.9, 192.0.2.1"}, "https"),
        ({"X-Forwarded-Proto": "https,http", "X-Forwarded-For": "192.0.2.1, 10.1.1.1"}, "https"),
        ({"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.1, 10.1.1.1"}, "https"),
        ({"X-Forwarded-Proto": "gopher", "X-Forwarded-For": "192.0.2.1"}, "http"),
        ({"Forwarded": "for=192.0.2.1;proto=https, for=10.1.1.1;proto=http"}, "https"),
    ],
)
def test_scheme_is_the_clients(headers: dict[str, str], expected: str) -> None:
    assert find(headers).scheme == expected


def test_host_is_the_clients() -> None:
    host = {"Host": "backend:8005"}

    assert find(host).host == "backend:8005"
    assert find({**host, "X-Forwarded-Host": "example.org"}).host == "example.org"
    assert find({**host, "X-Forwarded-Host": "a/b"}).host == "backend:8005"
    assert find({**host, "Forwarded": 'for=192.0.2.1;host="example.org:81"'}).host == (
        "example.org:81"
    )
    assert find([("Host", "a"), ("Host", "b")]).host is None


def test_what_is_not_believed_is_logged_for_who_looks(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "hubbub.server")
    find({"X-Forwarded-For": "\x1b[2J"})

    (record,) = caplog.records
    assert record.levelno == logging.DEBUG
    assert "127.0.0.1" in record.getMessage()
    assert "\x1b" not in record.getMessage()


@pytest.mark.parametrize("name", ["localhost", "10.0.0.1/8", "*", "", "10.0.0.0/33"])
def test_what_is_no_proxy_is_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigError, match=r"trusted_proxies: .*unix"):
        TrustedProxies([name])
    with pytest.raises(ConfigError, match="list"):
        serve(tell, PROXY, 0, trusted_proxies="10.0.0.0/8")


ADDRESSES = st.ip_addresses().map(str)


@given(st.text(), st.lists(ADDRESSES.filter(lambda a: a.startswith("10.")), max_size=3))
def test_nothing_left_of_an_untrusted_address_counts(junk: str, proxies: list[str]) -> None:
    value = ", ".join([junk, "192.0.2.1", *proxies])

    assert address({"X-Forwarded-For": value}) == "192.0.2.1"


@given(st.text(st.characters(codec="latin-1")), st.text(st.characters(codec="latin-1")))
def test_any_text_names_an_address_or_nobody(x: str, standard: str) -> None:
    found = find({"X-Forwarded-For": x, "Forwarded": standard, "X-Forwarded-Host": x})

    assert found == find({}, found.address)._replace(host=found.host)


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@given(ADDRESSES, st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_quoted_values_may_have_anything_in_them(client: str, other: str) -> None:
    node = f'"[{client}]"' if ":" in client else client
    value = f"by={quoted(other)};for={node};x={quoted(other)}, for=10.1.2.3"

    assert address({"Forwarded": value}) == address({"X-Forwarded-For": client})


# Through real sockets.


async def tell(websocket: ServerConnection) -> None:
    client = websocket.forwarded
    assert websocket.client_address == client.address
    await websocket.send(f"{client.address} {client.scheme}")


async def describe(request: Request) -> Response:
    client = request.scope["client"]
    return JSONResponse([client and client[0], request.scope["scheme"], client and client[1]])


APP = Starlette(routes=[Route("/", describe)])


@pytest.mark.parametrize("trusted", [["127.0.0.0/8"], []])
async def test_websockets_and_the_app_see_the_same_client(trusted: list[str]) -> None:
    said = {"X-Forwarded-For": "198.51.100.9, 192.0.2.1", "X-Forwarded-Proto": "https"}
    expected = ["192.0.2.1", "https"] if trusted else [PROXY, "http"]
    async with serve(tell, PROXY, 0, http=APP, trusted_proxies=trusted) as server:
        port = server.sockets[0].getsockname()[1]
        async with connect(f"ws://{PROXY}:{port}", additional_headers=said) as websocket:
            by_websocket = await websocket.recv()
        async with httpx.AsyncClient(base_url=f"http://{PROXY}:{port}") as client:
            by_http = (await client.get("/", headers=said)).json()
            direct = (await client.get("/")).json()

    assert by_websocket == " ".join(expected)
    assert by_http[:2] == expected
    assert (by_http[2] == 0) == bool(trusted)
    assert direct[0] == PROXY
    assert direct[2] != 0


@pytest.mark.parametrize(("trusted", "expected"), [(["unix"], "192.0.2.1"), ([PROXY], None)])
async def test_unix_sockets_have_the_client_that_the_proxy_names(
    tmp_path_factory: pytest.TempPathFactory, trusted: list[str], expected: str | None
) -> None:
    path = tmp_path_factory.mktemp("s") / "s"
    said = {"X-Forwarded-For": "192.0.2.1"}
    async with unix_serve(tell, path, http=APP, trusted_proxies=trusted):
        async with unix_connect(str(path), additional_headers=said) as websocket:
            by_websocket = await websocket.recv()
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        async with httpx.AsyncClient(base_url="http://hub", transport=transport) as client:
            by_http = (await client.get("/", headers=said)).json()

    assert by_websocket == f"{expected} http"
    assert by_http[0] == expected
