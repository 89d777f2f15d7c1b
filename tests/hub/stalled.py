"""A client that stops reading: a socket with a small buffer, read only when told."""

import asyncio
import socket
import struct
from types import TracebackType
from typing import Self

from websockets.frames import Close, Opcode

from hubbub.protocol import json
from hubbub.protocol.replies import Reply
from hubbub.server import Server
from tests.hub.raw import TIMEOUT, address, command
from tests.server.wire import HEAD, frame

__all__ = ["StalledClient"]


class StalledClient:
    """Speaks JSON. All waits are bounded.

    Args:
        server: Where to; an address, if it is another process.
    """

    def __init__(self, server: Server | tuple[str, int]) -> None:
        self._address = server if isinstance(server, tuple) else address(server)
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self.socket = socket.socket()

    async def __aenter__(self) -> Self:
        # Before connecting: it decides what window the client offers.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.setblocking(False)
        async with asyncio.timeout(TIMEOUT):
            await self._loop.sock_connect(self.socket, self._address)
            await self._loop.sock_sendall(self.socket, HEAD)
            while b"\r\n\r\n" not in self._buffer:
                await self._fill()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.socket.close()

    async def send(self, *requests: object) -> None:
        """Send requests in one frame, numbered from 1."""
        commands = [
            json.encode_command(command(number, request))  # type: ignore[arg-type]  # a Request
            for number, request in enumerate(requests, 1)
        ]
        payload = frame(Opcode.TEXT, json.join(commands))
        async with asyncio.timeout(TIMEOUT):
            await self._loop.sock_sendall(self.socket, payload)

    async def read(self) -> list[Reply]:
        """Read one frame of replies."""
        first, payload = await self._read_frame()
        assert first == 0x80 | Opcode.TEXT, first
        return json.decode_replies(payload)

    async def read_to_close(self) -> tuple[int, int]:
        """Read everything: how many frames, and the code of the close frame behind them."""
        frames = 0
        while True:
            first, payload = await self._read_frame()
            if first == 0x80 | Opcode.CLOSE:
                return frames, Close.parse(payload).code
            frames += 1

    async def _read_frame(self) -> tuple[int, bytes]:
        async with asyncio.timeout(TIMEOUT):
            first, length = await self._exactly(2)
            if length == 126:
                (length,) = struct.unpack("!H", await self._exactly(2))
            elif length == 127:
                (length,) = struct.unpack("!Q", await self._exactly(8))
            return first, await self._exactly(length)

    async def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            await self._fill()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    async def _fill(self) -> None:
        data = await self._loop.sock_recv(self.socket, 1 << 18)
        if not data:
            raise EOFError("the server has closed the connection")
        self._buffer += data
