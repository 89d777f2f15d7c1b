"""Several listening sockets as one, for the server."""

import asyncio
import socket
from collections.abc import Sequence

__all__ = ["Listeners"]


class Listeners:
    """What the server needs of `asyncio.Server`, over several of them; never none."""

    def __init__(self, servers: Sequence[asyncio.Server]) -> None:
        self._servers = tuple(servers)

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """All listening sockets."""
        return tuple(sock for server in self._servers for sock in server.sockets)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop that accepts."""
        return self._servers[0].get_loop()

    def is_serving(self) -> bool:
        """Whether connections are accepted."""
        return self._servers[0].is_serving()

    async def start_serving(self) -> None:
        """Accept connections. Idempotent."""
        for server in self._servers:
            await server.start_serving()

    def close(self) -> None:
        """Stop accepting, and close the sockets. Idempotent."""
        for server in self._servers:
            server.close()

    async def wait_closed(self) -> None:
        """Wait for the connections that were accepted to end."""
        for server in self._servers:
            await server.wait_closed()
