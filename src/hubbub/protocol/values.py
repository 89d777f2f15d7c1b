"""Values that commands, results and pushes of the client protocol share.

Every message is a frozen `msgspec.Struct`. The types say what both wire formats need: a field
without a default is always written, any other is left out while it holds its default, and the
bounds of an integer are those of its Protobuf type (`hubbub.protocol.schema`).

Payloads are opaque: `msgspec.Raw` holds the JSON text or the Protobuf bytes as they came, and no
layer parses them unless somebody asks. Take the bytes with `bytes(message.data)`, which copies: a
`Raw` that was decoded from JSON keeps the whole command in memory.
"""

from collections.abc import Mapping
from typing import Annotated

import msgspec

__all__ = [
    "EMPTY",
    "ClientInfo",
    "Error",
    "Int32",
    "Int64",
    "Message",
    "Publication",
    "StreamPosition",
    "Uint32",
    "Uint64",
    "check_uint64",
    "payload",
]

Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Uint32 = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
Uint64 = Annotated[int, msgspec.Meta(ge=0)]  # msgspec knows no bound above 2**63, see check_uint64

# The only empty payload there is: msgspec leaves a field out when it *is* its default, and a
# second empty Raw would be written as nothing after a colon.
EMPTY = msgspec.Raw(b"")


def payload(data: bytes) -> msgspec.Raw:
    """Wrap the bytes of a payload for a message; no bytes are `EMPTY`, an absent payload."""
    return msgspec.Raw(data) if data else EMPTY


def check_uint64(value: int, name: str) -> None:
    """Refuse what no Protobuf client could read.

    Raises:
        ValueError: The value is over 2**64 - 1.
    """
    if value >> 64:
        raise ValueError(f"{name} is over 2**64 - 1")


class Message(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Base of all messages.

    Equal by value, not hashable where there is a payload. Invisible to the garbage collector:
    values built from the bottom up cannot form a cycle.
    """


class StreamPosition(Message, frozen=True):
    """A place in a channel's stream: after the publication with this offset."""

    offset: Uint64 = 0
    epoch: str = ""

    def __post_init__(self) -> None:
        check_uint64(self.offset, "offset")


class ClientInfo(Message, frozen=True):
    """Who published, joined, left or is present.

    Attributes:
        user: User id; empty for an anonymous user.
        client: Id of the connection.
        conn_info: What the connection's credentials say of it.
        chan_info: What the subscription's credentials say of it.
    """

    user: str
    client: str
    conn_info: msgspec.Raw = EMPTY
    chan_info: msgspec.Raw = EMPTY


class Publication(Message, frozen=True):
    """One item of a channel, as clients see it.

    Attributes:
        data: The payload; a patch if `delta`. To a JSON client with delta on, always a JSON
            string (`hubbub.protocol.json.quote`).
        info: The publisher, if it was a client.
        offset: Place in the stream, from 1; 0 without history.
        tags: For tags filters (`hubbub.protocol.tags`).
        delta: `data` is a patch of the previous publication's payload (`hubbub.protocol.fossil`).
        time: Unix time in milliseconds; 0: not told.
        epoch: Only on the live publication with offset 1, which tells clients the epoch.
    """

    data: msgspec.Raw = EMPTY
    info: ClientInfo | None = None
    offset: Uint64 = 0
    tags: Mapping[str, str] = msgspec.field(default_factory=dict)
    delta: bool = False
    time: Int64 = 0
    epoch: str = ""

    def __post_init__(self) -> None:
        check_uint64(self.offset, "offset")


class Error(Message, frozen=True):
    """Why a command failed (`hubbub.errors.ErrorCode`).

    Attributes:
        code: From 100; smaller ones are the SDKs' own.
        message: Never empty: SDKs index it.
        temporary: The SDK may try again.
    """

    code: Uint32
    message: str
    temporary: bool = False

    def __post_init__(self) -> None:
        if not self.message:
            raise ValueError("an error needs a message: SDKs index it")
