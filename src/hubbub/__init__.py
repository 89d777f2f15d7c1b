"""The real-time server for Python."""

from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK

from hubbub.auth.tokens import Tokens
from hubbub.errors import (
    BrokerError,
    CommandError,
    ConfigError,
    Disconnect,
    DisconnectCode,
    ErrorCode,
    HubbubError,
    InvalidMessage,
    PermissionDenied,
    PositionLost,
    UnknownChannel,
    UnsubscribeCode,
    WriteLimitExceeded,
)
from hubbub.hub import Channel, Client, Hub, Listening
from hubbub.model import (
    ChannelOptions,
    ClientInfo,
    ClusterChannels,
    Grant,
    History,
    Limits,
    NodeInfo,
    Position,
    PresenceStats,
    Publication,
    User,
)
from hubbub.protocol.commands import ConnectRequest
from hubbub.server import Server, ServerConnection, basic_auth, broadcast, serve, unix_serve

__all__ = [
    "BrokerError",
    "Channel",
    "ChannelOptions",
    "Client",
    "ClientInfo",
    "ClusterChannels",
    "CommandError",
    "ConfigError",
    "ConnectRequest",
    "ConnectionClosed",
    "ConnectionClosedError",
    "ConnectionClosedOK",
    "Disconnect",
    "DisconnectCode",
    "ErrorCode",
    "Grant",
    "History",
    "Hub",
    "HubbubError",
    "InvalidMessage",
    "Limits",
    "Listening",
    "NodeInfo",
    "PermissionDenied",
    "Position",
    "PositionLost",
    "PresenceStats",
    "Publication",
    "Server",
    "ServerConnection",
    "Tokens",
    "UnknownChannel",
    "UnsubscribeCode",
    "User",
    "WriteLimitExceeded",
    "__version__",
    "basic_auth",
    "broadcast",
    "serve",
    "unix_serve",
]

__version__ = "0.1.0.dev0"
