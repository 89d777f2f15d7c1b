"""Hubs that serve real connections in the test's own event loop, and are steered by the test."""

import asyncio
import os
import socket
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from hubbub import Client, Hub, Server, serve

__all__ = ["Door", "Hubs", "Served", "name_users"]

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Served:
    """A hub that listens."""

    hub: Hub
    server: Server
    port: int

    @property
    def url(self) -> str:
        return f"ws://{HOST}:{self.port}/connection/websocket"

    def abort(self) -> None:
        """Cut all connections, as a network does; nobody is told, and nothing more arrives."""
        for connection in self.server.connections:
            descriptor = connection.transport.get_extra_info("socket").fileno()
            with socket.socket(fileno=os.dup(descriptor)) as sock:
                sock.shutdown(socket.SHUT_RDWR)
            connection.transport.abort()

    async def stop(self) -> None:
        """Shut down, and wait until the port is free."""
        self.server.close()
        await self.server.wait_closed()


class Hubs:
    """Starts servers, and stops them at the latest when its block ends."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack

    async def start(self, hub: Hub, port: int = 0) -> Served:
        """Serve a hub on a port of localhost; 0: any free one."""
        server = await self._stack.enter_async_context(serve(hub, HOST, port))
        return Served(hub, server, server.sockets[0].getsockname()[1])


class Door:
    """An `on_connect` that lets clients wait while it is closed, so that they are surely away."""

    def __init__(self, hub: Hub) -> None:
        self._open = asyncio.Event()
        self._open.set()
        hub.on_connect(self.enter)

    async def enter(self, client: Client) -> None:
        await self._open.wait()

    def close(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()


def name_users(hub: Hub) -> None:
    """Have the user id of a client be what it sends as its token."""

    @hub.on_connect
    def name(client: Client, request: Any) -> str:
        return str(request.token)
