"""Control messages: what one node tells all, itself included, to do with their sessions."""

from collections.abc import Mapping

import msgspec

__all__ = [
    "Control",
    "DisconnectClients",
    "RefreshClients",
    "SubscribeClients",
    "UnsubscribeClients",
    "decode",
    "encode",
]


class _Message(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """Base of control messages: which sessions they are about.

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


Control = DisconnectClients | SubscribeClients | UnsubscribeClients | RefreshClients

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
