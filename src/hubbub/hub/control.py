"""Control messages: what one node tells all, itself included.

Most are about sessions, wherever they are; some are about the nodes themselves.
"""

from collections.abc import Mapping

import msgspec

__all__ = [
    "ChannelsAnswer",
    "ChannelsQuestion",
    "ClientsMessage",
    "ClusterMessage",
    "Control",
    "DisconnectClients",
    "NodeGone",
    "NodeReport",
    "RefreshClients",
    "SubscribeClients",
    "UnsubscribeClients",
    "decode",
    "encode",
]


class _Message(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """Base of messages about sessions: which ones.

    Attributes:
        user: All sessions of the user; `None`: of everybody.
        client: Only the session with this id.
    """

    user: str | None = None
    client: str | None = None


class DisconnectClients(_Message, frozen=True):
    """End sessions, except those whose ids are listed."""

    code: int = 0
    reason: str = ""
    spare: tuple[str, ...] = ()


class SubscribeClients(_Message, frozen=True):
    """Subscribe sessions to a channel from the server's side."""

    channel: str = ""
    info: bytes = b""
    data: bytes = b""
    expires_at: float | None = None
    override: Mapping[str, bool] = {}
    offset: int | None = None
    epoch: str = ""


class UnsubscribeClients(_Message, frozen=True):
    """End subscriptions to a channel; of all channels without one."""

    channel: str = ""
    code: int = 0
    reason: str = ""


class RefreshClients(_Message, frozen=True):
    """Change when sessions expire, and how others see them."""

    expires_at: float | None = None
    info: bytes | None = None


class NodeReport(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """A node is there, and what it has (`NodeInfo`).

    Attributes:
        asks: Whether the others are to report at once: it has just come.
    """

    uid: str
    name: str
    version: str
    clients: int
    users: int
    subscriptions: int
    channels: int
    uptime: float
    asks: bool = False


class NodeGone(msgspec.Struct, frozen=True, tag=True):
    """A node leaves."""

    uid: str


class ChannelsQuestion(msgspec.Struct, frozen=True, tag=True):
    """A node wants to know the others' channels.

    Attributes:
        question: Names it in the answers.
        uid: Who asks.
        pattern: Of names, as in a shell.
    """

    question: str
    uid: str
    pattern: str


class ChannelsAnswer(msgspec.Struct, frozen=True, tag=True):
    """A part of a node's channels, with the number of their clients.

    Attributes:
        uid: Who answers.
        part: Which one, from 0.
        parts: How many there are, 1 or more.
    """

    question: str
    uid: str
    channels: Mapping[str, int]
    part: int
    parts: int


ClientsMessage = DisconnectClients | SubscribeClients | UnsubscribeClients | RefreshClients
ClusterMessage = NodeReport | NodeGone | ChannelsQuestion | ChannelsAnswer
Control = ClientsMessage | ClusterMessage

_decoder = msgspec.json.Decoder(Control)


def encode(message: Control) -> bytes:
    """Encode a message for the broker."""
    return msgspec.json.encode(message)


def decode(data: bytes) -> Control:
    """Decode what the broker brought.

    Raises:
        msgspec.MsgspecError: Another version of hubbub sent what this one does not know.
    """
    message: Control = _decoder.decode(data)
    return message
