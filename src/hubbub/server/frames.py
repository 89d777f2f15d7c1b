"""Frame headers: of what a server sends, and of what a client sends (RFC 6455 §5.2)."""

import struct

from websockets.frames import Opcode

__all__ = ["BINARY", "TEXT", "extent", "serialize"]

TEXT = 0x80 | Opcode.TEXT
"""First byte of a frame that is a whole text message: FIN and the opcode."""

BINARY = 0x80 | Opcode.BINARY
"""First byte of a frame that is a whole binary message: FIN and the opcode."""

# A table look-up and one concatenation are a third of the cost of packing a header.
_SHORT = {first: tuple(bytes((first, n)) for n in range(126)) for first in (TEXT, BINARY)}

_OPCODES = frozenset(Opcode)


def serialize(first: int, payload: bytes) -> bytes:
    """Put the header before a whole message: unmasked, final, no extension.

    Args:
        first: `TEXT` or `BINARY`.
        payload: For text: valid UTF-8.
    """
    length = len(payload)
    if length < 126:
        return _SHORT[first][length] + payload
    if length < 65536:
        return struct.pack("!BBH", first, 126, length) + payload
    return struct.pack("!BBQ", first, 127, length) + payload


def extent(data: bytes, position: int) -> int:
    """Tell how long a client's frame is, header included, in bytes.

    Args:
        data: At least two bytes from `position` on.
        position: Where the frame begins.

    Returns:
        The length; 0 when more of the header is needed to know it; 2 when these two bytes break
        the protocol already (no mask, an unknown opcode), so that no length means anything.
    """
    first, second = data[position], data[position + 1]
    if second < 0x80 or first & 0x0F not in _OPCODES:
        return 2
    length = second & 0x7F
    if length < 126:
        return 6 + length
    size = 2 if length == 126 else 8
    if len(data) - position < 2 + size:
        return 0
    return 6 + size + int.from_bytes(data[position + 2 : position + 2 + size], "big")
