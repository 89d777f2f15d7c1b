from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from hubbub import Hub, serve
from tests.hub.raw import RawClient, address

HOST = "127.0.0.1"


async def status(hub: Hub, origin: str | None) -> int:
    """Return how an upgrade of a page of this origin is answered."""
    async with serve(hub, HOST, 0) as server:
        if origin is not None:
            origin = origin.replace("PORT", str(address(server)[1]))
        options: dict[str, Any] = {"origin": origin}
        client = RawClient(server, **options)
        try:
            await client.__aenter__()
        except InvalidStatus as exc:
            return exc.response.status_code
        await client.connect()
        await client.__aexit__(None, None, None)
        return 101


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        (None, 101),
        ("http://127.0.0.1:PORT", 101),
        ("https://127.0.0.1:PORT", 101),  # a proxy may end TLS
        ("http://127.0.0.1", 403),
        ("http://127.0.0.1:1", 403),
        ("http://localhost:PORT", 403),
        ("https://example.com", 403),
        ("https://evil.example/127.0.0.1:PORT", 403),
        ("null", 403),
        ("", 403),
    ],
)
async def test_own_origin_alone_may_connect(origin: str | None, expected: int) -> None:
    assert await status(Hub(), origin) == expected


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("https://example.com", 101),
        ("https://EXAMPLE.com", 101),
        ("https://app.example.org", 101),
        ("http://127.0.0.1:PORT", 101),
        ("http://example.com", 403),
        ("https://example.com.evil.net", 403),
        ("https://example.org", 403),
    ],
)
async def test_listed_origins_may_connect(origin: str, expected: int) -> None:
    hub = Hub(origins=["https://example.com", "https://*.example.org"])

    assert await status(hub, origin) == expected


async def test_all_origins_may_connect() -> None:
    assert await status(Hub(origins=["*"]), "https://anything.example") == 101


@pytest.mark.parametrize("trusted", [["127.0.0.1"], []])
@pytest.mark.parametrize(
    ("origin", "scheme", "expected"),
    [
        ("https://chat.example", "https", 101),
        ("http://chat.example", "https", 403),  # a page without TLS, of a server that has it
        ("http://chat.example", "http", 101),
        ("https://evil.example", "https", 403),
    ],
)
async def test_own_origin_is_what_a_trusted_proxy_says(
    trusted: list[str], origin: str, scheme: str, expected: int
) -> None:
    said = {
        "X-Forwarded-For": "192.0.2.1",
        "X-Forwarded-Host": "chat.example",
        "X-Forwarded-Proto": scheme,
    }
    hub = Hub()
    async with serve(hub, HOST, 0, trusted_proxies=trusted) as server:
        options: dict[str, Any] = {"origin": origin, "additional_headers": said}
        client = RawClient(server, **options)
        if trusted and expected == 101:
            async with client:
                await client.connect()

                assert [each.address for each in hub.clients()] == ["192.0.2.1"]
        else:
            with pytest.raises(InvalidStatus):
                await client.__aenter__()
