"""Addresses of servers that a client is pointed to, as people write them."""

import ipaddress
from dataclasses import dataclass
from typing import Self

from websockets.exceptions import InvalidURI
from websockets.uri import WebSocketURI, parse_uri

from hubbub.cli.failure import Failure

__all__ = ["ServerAddress"]

_SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """A WebSocket server.

    Attributes:
        url: Address with the scheme `ws` or `wss`; may hold a password.
        uri: The same in parts.
    """

    url: str
    uri: WebSocketURI

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an address: `ws://`, `wss://`, their `http` twins, or no scheme, meaning `ws://`.

        Raises:
            Failure: It is no address of a WebSocket server.
        """
        if not text or any(character.isspace() or character < " " for character in text):
            raise Failure(f"'{text}' is not an address: it is empty or has a space in it")
        scheme, separator, rest = text.partition("://")
        if not separator:
            scheme, rest = "ws", text
        if scheme.lower() not in _SCHEMES:
            raise Failure(f"'{scheme}://' is not a scheme of WebSocket: use ws:// or wss://")
        url = f"{_SCHEMES[scheme.lower()]}://{rest}"
        try:
            uri = parse_uri(url)
        except InvalidURI as exc:
            raise Failure(f"'{text}' is not an address: {exc.msg}") from exc
        except ValueError as exc:  # the port, brackets of IPv6, IDNA: from the standard library
            raise Failure(f"'{text}' is not an address: {exc}") from exc
        return cls(url, uri)

    @property
    def location(self) -> str:
        """Host and port, for people: no password, no query."""
        host = f"[{self.uri.host}]" if ":" in self.uri.host else self.uri.host
        return f"{host}:{self.uri.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether the server is on this machine, where no proxy can reach it for us."""
        try:
            return ipaddress.ip_address(self.uri.host).is_loopback
        except ValueError:
            return self.uri.host == "localhost" or self.uri.host.endswith(".localhost")

    def __str__(self) -> str:
        scheme = "wss" if self.uri.secure else "ws"
        return f"{scheme}://{self.location}{self.uri.path}"
