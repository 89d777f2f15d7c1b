"""A WebSocket client made of a plain socket: it shows the bytes on the wire."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.timing import MS

__all__ = ["ACCEPT", "Head", "RawClient"]

# RFC 6455 §1.3: the sample key, and the answer to it.
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

READ_TIMEOUT = 10_000 * MS


@dataclass(frozen=True, slots=True)
class Head:
    """The head of an HTTP response.

    Attributes:
        headers: By their names as spelt; no test server repeats one.
    """

    status_line: str
    headers: Mapping[str, str]


class RawClient:
    """One connection. Reads are exact, and wait for bytes at most `READ_TIMEOUT`."""

    def __init__(self, connection: socket.socket, port: int) -> None:
        self.connection = connection
        self.connection.settimeout(READ_TIMEOUT)
        self.file = connection.makefile("rb")
        self.port = port

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.file.close()
        self.connection.close()

    def shake_hands(self) -> Head:
        """Ask for the upgrade, and return the head of the response."""
        self.connection.sendall(
            (
                "GET / HTTP/1.1\r\n"
                f"Host: localhost:{self.port}\r\n"
                "Upgrade: websocket\r\n"
                "Connection: Upgrade\r\n"
                f"Sec-WebSocket-Key: {KEY}\r\n"
                "Sec-WebSocket-Version: 13\r\n"
                "\r\n"
            ).encode()
        )
        lines: list[str] = []
        while (line := self.file.readline()) != b"\r\n":
            assert line.endswith(b"\r\n"), f"the head ends early: {lines} {line!r}"
            lines.append(line.decode().removesuffix("\r\n"))
        status_line, *fields = lines
        headers = dict(field.split(": ", 1) for field in fields)
        assert len(headers) == len(fields), f"a header is repeated: {fields}"
        return Head(status_line, headers)

    def read(self, size: int) -> bytes:
        """Read so many bytes; fewer if the server ends the connection before."""
        return self.file.read(size)

    def read_to_end(self) -> bytes:
        """Read until the server ends the TCP connection."""
        return self.file.read()

    def send_close(self, code: int) -> None:
        """Send a close frame, masked as a client must (RFC 6455 §5.3)."""
        mask = bytes.fromhex("37 fa 21 3d")
        payload = bytes(byte ^ key for byte, key in zip(code.to_bytes(2), mask, strict=False))
        self.connection.sendall(b"\x88\x82" + mask + payload)
