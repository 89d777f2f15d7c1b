"""Sockets: the handler API of `websockets` with a hot path, one port for WebSocket and HTTP."""

from websockets.asyncio.server import basic_auth

from hubbub.server.broadcast import broadcast
from hubbub.server.connection import ServerConnection
from hubbub.server.server import Server, serve, unix_serve

__all__ = ["Server", "ServerConnection", "basic_auth", "broadcast", "serve", "unix_serve"]
