"""The real-time server for Python."""

from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK

from hubbub.errors import HubbubError, WriteLimitExceeded
from hubbub.server import Server, ServerConnection, basic_auth, broadcast, serve, unix_serve

__all__ = [
    "ConnectionClosed",
    "ConnectionClosedError",
    "ConnectionClosedOK",
    "HubbubError",
    "Server",
    "ServerConnection",
    "WriteLimitExceeded",
    "__version__",
    "basic_auth",
    "broadcast",
    "serve",
    "unix_serve",
]

__version__ = "0.1.0.dev0"
