"""The client's side of the wire, by hand: frames as bytes, a socket, a transport in memory."""

import asyncio
import contextlib
import secrets
import struct
from collections.abc import Callable
from typing import Any

from websockets.frames import Close, CloseCode, Opcode
from websockets.speedups import apply_mask

from tests.timing import MS

__all__ = [
    "HEAD",
    "MemoryTransport",
    "Peer",
    "close_frame",
    "frame",
    "request_head",
    "until",
]


def request_head(path: str = "/", method: str = "GET", **headers: str | None) -> bytes:
    """Serialize an opening handshake's request; a header given as `None` is left out.

    Underscores in names stand for hyphens: `sec_websocket_version="12"`.
    """
    fields: dict[str, str | None] = {
        "host": "localhost",
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
        "sec-websocket-version": "13",
    }
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode()


HEAD = request_head()


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = b"\x01\x02\x03\x04",
    length: int | None = None,
) -> bytes:
    """Serialize a client's frame, valid or not (RFC 6455 §5.2).

    Args:
        mask: `None` leaves the payload unmasked.
        length: What the header says, if it lies.
    """
    first = fin << 7 | rsv << 4 | opcode
    said = len(payload) if length is None else length
    bit = 0x80 if mask is not None else 0
    if said < 126:
        head = struct.pack("!BB", first, bit | said)
    elif said < 65536:
        head = struct.pack("!BBH", first, bit | 126, said)
    else:
        head = struct.pack("!BBQ", first, bit | 127, said)
    if mask is None:
        return head + payload
    return head + mask + apply_mask(payload, mask)


def close_frame(code: int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> bytes:
    """Serialize a client's close frame."""
    return frame(Opcode.CLOSE, Close(code, reason).serialize(), mask=secrets.token_bytes(4))


class MemoryTransport(asyncio.Transport):
    """A transport without a socket, for protocols fed by hand: it keeps what they write."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.loop = asyncio.get_running_loop()
        self.written = bytearray()
        self.half_closed = False
        self.closing = False
        self.reading = True
        self.protocol: Any = None
        self.lost: asyncio.Future[None] = self.loop.create_future()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self.protocol
        return protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.half_closed:
            raise RuntimeError("Cannot call write() after write_eof()")
        if not self.closing:
            self.written += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.half_closed = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            self.loop.call_soon(self._lose)

    def abort(self) -> None:
        self.close()

    def _lose(self) -> None:
        self.protocol.connection_lost(None)
        self.lost.set_result(None)

    def end(self) -> None:
        """Bring the end of the peer's stream, as a socket would."""
        if not self.closing:
            self.protocol.eof_received()
            self.close()


class Peer:
    """A client on a real socket that can misbehave. All waits are bounded."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.buffer = b""

    @classmethod
    async def connect(cls, server: Any, **kwargs: Any) -> "Peer":
        """Open a TCP connection to a server of hubbub or websockets; nothing is sent."""
        port = server.sockets[0].getsockname()[1]
        return cls(*await asyncio.open_connection("127.0.0.1", port, **kwargs))

    @classmethod
    async def open(cls, server: Any, head: bytes = HEAD, **kwargs: Any) -> "Peer":
        """Open a WebSocket."""
        peer = await cls.connect(server, **kwargs)
        peer.writer.write(head)
        response = await peer.read_head()
        assert response.startswith(b"HTTP/1.1 101 "), response
        return peer

    async def __aenter__(self) -> "Peer":
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.writer.transport.abort()
        with contextlib.suppress(OSError):  # reset by the server: tests look at what came before
            await self.writer.wait_closed()

    def send(self, *frames: bytes) -> None:
        """Write without waiting."""
        self.writer.write(b"".join(frames))

    async def read_head(self) -> bytes:
        """Read an HTTP head, with its empty line."""
        async with asyncio.timeout(5000 * MS):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def read_frame(self) -> tuple[int, bytes]:
        """Read a server's frame: its first byte and its payload."""
        async with asyncio.timeout(5000 * MS):
            first, second = await self.reader.readexactly(2)
            length = second
            if second == 126:
                (length,) = struct.unpack("!H", await self.reader.readexactly(2))
            elif second == 127:
                (length,) = struct.unpack("!Q", await self.reader.readexactly(8))
            return first, await self.reader.readexactly(length)

    async def read_close(self) -> tuple[int, str]:
        """Read up to a close frame: its code and reason."""
        while True:
            first, payload = await self.read_frame()
            if first == 0x88:
                close = Close.parse(payload)
                return close.code, close.reason

    async def read_to_end(self, seconds: float = 5000 * MS) -> bytes:
        """Read until the server ends the connection."""
        async with asyncio.timeout(seconds):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""


Condition = Callable[[], bool]


async def until(condition: Condition, seconds: float = 5000 * MS) -> None:
    """Wait for a state that sends no event, looking at each turn of the event loop."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(MS)
