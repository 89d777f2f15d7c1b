"""The client's bytes: upgrade and frames (RFC 6455 §4, §5), built once, outside the windows."""

from dataclasses import dataclass

__all__ = [
    "BINARY",
    "CLOSE",
    "HANDSHAKE_END",
    "HANDSHAKE_RESPONSE",
    "PING",
    "PONG",
    "TEXT",
    "Frame",
    "check_upgrade",
    "parse_frame",
    "serialize_frame",
    "serialize_upgrade",
]

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA

HANDSHAKE_END = b"\r\n\r\n"

# The key and its answer are the example of RFC 6455 §1.3: the same for each connection, so that
# the load side need not hash, while a server cannot know.
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

HANDSHAKE_RESPONSE = (
    b"HTTP/1.1 101 Switching Protocols\r\n"
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n\r\n" % ACCEPT
)


@dataclass(frozen=True, slots=True)
class Frame:
    opcode: int
    payload: bytes
    size: int  # of the whole frame, header included


def serialize_upgrade(port: int, path: str) -> bytes:
    """Ask for a WebSocket without extensions: nobody compresses."""
    return (
        b"GET %b HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
        b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: %b\r\nSec-WebSocket-Version: 13\r\n\r\n" % (path.encode(), port, KEY)
    )


def check_upgrade(response: bytes) -> None:
    """Raise ValueError unless a response head is the 101 for our key, without extensions."""
    head = response.lower()
    if not head.startswith(b"http/1.1 101 ") or ACCEPT not in response:
        raise ValueError(f"upgrade refused: {response[:80]!r}")
    if b"sec-websocket-extensions" in head:
        raise ValueError("an extension was negotiated that nobody offered")


def serialize_frame(opcode: int, payload: bytes, mask: bytes = b"") -> bytes:
    """Build a final frame: masked, as a client has to, if a mask of four bytes is given."""
    masked = 0x80 if mask else 0
    if len(payload) < 126:
        header = bytes((0x80 | opcode, masked | len(payload)))
    else:
        header = bytes((0x80 | opcode, masked | 126)) + len(payload).to_bytes(2, "big")
    return header + mask + (_apply_mask(payload, mask) if mask else payload)


def parse_frame(data: bytes) -> Frame | None:
    """Parse the frame at the start of the data; None: it is not complete.

    Raises:
        ValueError: The frame is a fragment, compressed, or larger than the benchmark sends.
    """
    if len(data) < 2:
        return None
    if data[0] & 0xF0 != 0x80 or data[1] & 0x7F == 127:
        raise ValueError(f"unexpected frame: {data[:16]!r}")
    length, start = data[1] & 0x7F, 2
    if length == 126:
        length, start = int.from_bytes(data[2:4], "big"), 4
    mask = b""
    if data[1] & 0x80:
        mask, start = data[start : start + 4], start + 4
    if len(data) < start + length:
        return None
    payload = data[start : start + length]
    return Frame(data[0] & 0x0F, _apply_mask(payload, mask) if mask else payload, start + length)


def _apply_mask(payload: bytes, mask: bytes) -> bytes:
    # As whole numbers: a hundred times as fast as byte by byte, and some loads mask as they go.
    length = len(payload)
    repeated = (mask * (length // 4 + 1))[:length]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    return masked.to_bytes(length, "big")
