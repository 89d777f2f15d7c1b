"""Reaching a hub: the addresses of its nodes, and connections to one after the other."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect

from hubbub import __version__
from hubbub.cli.address import ServerAddress
from hubbub.cli.dialing import OPEN_TIMEOUT, dialing, tls_context

__all__ = ["HubDialer", "hub_address"]

# Where a hub is by custom, and where an address without a path means.
_PATH: Final = "/connection/websocket"

_MAX_SIZE: Final = 2**24  # of a message in bytes
_CLOSE_TIMEOUT: Final = 2.0


def hub_address(text: str) -> ServerAddress:
    """Read the address of a hub; without a path it means the customary one.

    Raises:
        Failure: It is no address of a WebSocket server.
    """
    address = ServerAddress.parse(text)
    if address.uri.path not in ("", "/"):
        return address
    return ServerAddress.parse(urlsplit(address.url)._replace(path=_PATH).geturl())


class HubDialer:
    """Opens connections to a hub, each to the next of its addresses.

    Args:
        addresses: At least one.
        headers: For the opening handshake.
        insecure: Accept any TLS certificate.
        compression: Whether to offer it.
        first: Which address comes first; any number counts, modulo how many there are.
        slots: Shared by dialers that may open only so many connections at once.

    Attributes:
        address: Where the last connection went, or the first one will go.

    Raises:
        Failure: `insecure` makes no sense for an address.
    """

    def __init__(
        self,
        addresses: Sequence[ServerAddress],
        *,
        headers: Sequence[tuple[str, str]] = (),
        insecure: bool = False,
        compression: bool = True,
        first: int = 0,
        slots: asyncio.Semaphore | None = None,
    ) -> None:
        self._doors = [(address, tls_context(address, insecure=insecure)) for address in addresses]
        self._next = first % len(self._doors)
        self._slots = slots
        self._options: dict[str, Any] = {
            "additional_headers": headers,
            "user_agent_header": f"hubbub/{__version__}",
            "open_timeout": OPEN_TIMEOUT,
            "close_timeout": _CLOSE_TIMEOUT,
            "ping_interval": None,  # the client protocol has pings of its own
            "max_size": _MAX_SIZE,
            "compression": "deflate" if compression else None,
        }
        self.address = self._doors[self._next][0]

    async def dial(self) -> ClientConnection:
        """Open a connection.

        Raises:
            Failure: It cannot be opened.
        """
        self.address, tls = self._doors[self._next]
        self._next = (self._next + 1) % len(self._doors)
        with dialing(self.address):
            async with self._slots or contextlib.nullcontext():
                return await connect(
                    self.address.url,
                    ssl=tls,
                    proxy=None if self.address.is_loopback else True,
                    **self._options,
                )
