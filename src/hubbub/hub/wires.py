"""How messages of the client protocol become frames: the format, and what goes around it.

Every connection has one wire. What is sent to many is encoded and framed once per wire.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from hubbub.protocol import json
from hubbub.protocol.base import Codec
from hubbub.server.frames import BINARY, TEXT, serialize

__all__ = ["MAX_FRAME", "Wire", "frames", "message_wire", "websocket_wire"]

MAX_FRAME = 65_536
"""Bytes up to which messages are joined into one frame; a single longer one gets its own."""

MIN_COMPRESSED = 256
"""Bytes below which compressing a frame costs more than it saves."""

_RSV1 = 0x40


class Wire(Protocol):
    """A wire format, and the frames of one transport.

    Attributes:
        codec: Encodes messages.
        ping: A whole frame.
    """

    codec: Codec
    ping: bytes

    def frame(self, payload: bytes, *, shared: bool = False) -> bytes:
        """Make the bytes to write of joined messages.

        Args:
            shared: Many will get it, so that it may be worth more effort.
        """


def frames(wire: Wire, messages: Sequence[bytes], *, shared: bool = False) -> Iterator[bytes]:
    """Make as few frames as `MAX_FRAME` allows of encoded messages."""
    if len(messages) == 1:
        yield wire.frame(messages[0], shared=shared)
        return
    batch: list[bytes] = []
    size = 0
    for message in messages:
        if batch and size + len(message) >= MAX_FRAME:
            yield wire.frame(wire.codec.join(batch), shared=shared)
            batch, size = [], 0
        batch.append(message)
        size += len(message) + 1
    yield wire.frame(wire.codec.join(batch), shared=shared)


class _WebSocketWire:
    """Unfragmented, uncompressed frames, which every connection takes (RFC 7692 §6)."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self._first = BINARY if codec.BINARY else TEXT
        self.ping = serialize(self._first, codec.PING)

    def frame(self, payload: bytes, *, shared: bool = False) -> bytes:
        return serialize(self._first, payload)


class _DeflateWire(_WebSocketWire):
    """Compressed frames for many, each from a fresh compressor with a window of 4 KiB.

    Only for connections whose server side keeps no context between messages (RFC 7692 §7.1.1.1):
    what another compressor has written would be part of theirs.
    """

    def frame(self, payload: bytes, *, shared: bool = False) -> bytes:
        if not shared or len(payload) < MIN_COMPRESSED:
            return serialize(self._first, payload)
        compressor = zlib.compressobj(wbits=-12, memLevel=5)
        compressed = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
        frame = bytearray(serialize(self._first, compressed[:-4]))
        frame[0] |= _RSV1
        return bytes(frame)


class _MessageWire:
    """Payloads of messages, for a transport that makes the frames by itself."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self.ping = codec.PING

    def frame(self, payload: bytes, *, shared: bool = False) -> bytes:
        return payload


def websocket_wire(*, binary: bool, deflate: bool) -> Wire:
    """Return the wire of a connection of our own server: the same object for all of its kind.

    Args:
        binary: Protobuf instead of JSON.
        deflate: The connection has permessage-deflate, without context takeover of the server,
            and takes a window of 4 KiB.

    Raises:
        ImportError: Protobuf needs an extra.
    """
    return _wire(_DeflateWire if deflate else _WebSocketWire, binary)


def message_wire(*, binary: bool) -> Wire:
    """Return the wire of a connection of somebody else's server.

    Raises:
        ImportError: Protobuf needs an extra.
    """
    return _wire(_MessageWire, binary)


def _wire(kind: Callable[[Codec], Wire], binary: bool) -> Wire:
    wire = _wires.get((kind, binary))
    if wire is None:
        codec: Codec = json
        if binary:
            from hubbub.protocol import protobuf

            codec = protobuf
        wire = _wires[kind, binary] = kind(codec)
    return wire


_wires: dict[tuple[Callable[[Codec], Wire], bool], Wire] = {}
