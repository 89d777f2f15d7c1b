import pytest

from hubbub.cli.address import ServerAddress
from hubbub.cli.failure import Failure


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("localhost:8005", "ws://localhost:8005"),
        ("ws://localhost:8005/chat?a=b", "ws://localhost:8005/chat?a=b"),
        ("http://localhost", "ws://localhost"),
        ("HTTPS://example.com/", "wss://example.com/"),
        ("[::1]:8005", "ws://[::1]:8005"),
    ],
)
def test_parse_maps_to_websocket_schemes(text: str, url: str) -> None:
    assert ServerAddress.parse(text).url == url


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        ("local host", "space"),
        ("ftp://localhost", "ftp:// is not a scheme|'ftp://' is not a scheme"),
        ("ws://", "hostname"),
        ("localhost:99999", "99999|Port out of range"),
        ("localhost:http", "Port could not be cast|'http'"),
        ("localhost#top", "fragment"),
        ("[::1", "Invalid IPv6"),
    ],
)
def test_parse_refuses_what_is_no_address(text: str, problem: str) -> None:
    with pytest.raises(Failure, match=problem):
        ServerAddress.parse(text)


def test_shown_address_has_no_password() -> None:
    address = ServerAddress.parse("wss://ann:secret@example.com/chat?token=secret")

    assert str(address) == "wss://example.com:443/chat"


@pytest.mark.parametrize(
    ("text", "is_loopback"),
    [
        ("localhost", True),
        ("app.localhost", True),
        ("127.0.0.9", True),
        ("[::1]:80", True),
        ("example.com", False),
        ("10.0.0.1", False),
    ],
)
def test_loopback_addresses_are_known(text: str, is_loopback: bool) -> None:
    assert ServerAddress.parse(text).is_loopback is is_loopback
