"""What stands at the port: reads the head of a request, then steps aside for its protocol.

A request with `Upgrade: websocket` continues as a WebSocket, anything else as HTTP; so both share
one port (ADR 0004). A connection is here from its acceptance to the end of its first head, and
again between two requests of HTTP (keep-alive).
"""

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING

from hubbub.server.http import HTTPService, plain_response

if TYPE_CHECKING:
    from hubbub.server.connection import ServerConnection

__all__ = ["MAX_HEAD", "Front"]

MAX_HEAD = 65536
"""Largest request head in bytes; a larger one is answered 431 (RFC 6585 §5)."""

LINGER = 2
"""Seconds that a refused client has to read the answer before its connection is closed."""

# A lone line feed is no line end in HTTP, but whoever sends it waits for an answer.
_END = re.compile(rb"\n\r?\n")
_UPGRADE = re.compile(rb"\nupgrade[ \t]*:[^\r\n]*\bwebsocket\b", re.IGNORECASE)


class Front:
    """The front of one server: its connections that wait for a head, and where they go.

    Args:
        http: Takes the requests that are no upgrade.
        open_timeout: Seconds a client has from its first byte, or from its connection, to the end
            of the head; `None`: unlimited.
    """

    def __init__(self, http: HTTPService, open_timeout: float | None) -> None:
        self.http = http
        self.open_timeout = open_timeout
        self._waiting: set[_Head] = set()
        self._opening: set[ServerConnection] = set()
        self._changed = asyncio.Event()
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many connections are here."""
        return len(self._waiting)

    def admit(self, websocket: "ServerConnection", transport: asyncio.Transport) -> None:
        """Wait for the first request of a new connection."""
        self._opening.add(websocket)
        self._wait(websocket, transport, self.open_timeout)

    def admit_again(self, websocket: "ServerConnection", transport: asyncio.Transport) -> None:
        """Wait for the next request of a connection that was HTTP so far."""
        self._wait(websocket, transport, self.http.keep_alive)

    def _wait(
        self, websocket: "ServerConnection", transport: asyncio.Transport, timeout: float | None
    ) -> None:
        head = _Head(self, websocket, transport, timeout)
        self._waiting.add(head)
        if self._closed:
            head.turn_away()

    def forget(self, head: "_Head") -> None:
        """Take note that a connection is not here any more."""
        self._waiting.discard(head)
        self._changed.set()

    def opened(self, websocket: "ServerConnection") -> None:
        """Take note that a connection is not new any more: HTTP, a WebSocket, or gone."""
        self._opening.discard(websocket)
        self._changed.set()

    async def wait_opened(self, timeout: float) -> None:  # noqa: ASYNC109 - a bound, no failure
        """Wait until no connection is new, at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self._opening:
                    self._changed.clear()
                    await self._changed.wait()

    async def close(self) -> None:
        """Turn away who has not sent a whole head: 503 if it began to, else just the end.

        Returns when they are gone.
        """
        self._closed = True
        for head in list(self._waiting):
            head.turn_away()
        while self._waiting:
            self._changed.clear()
            await self._changed.wait()


class _Head(asyncio.Protocol):
    """Collects one request head of one connection."""

    __slots__ = ("_buffer", "_front", "_refused", "_timer", "_transport", "_websocket")

    def __init__(
        self,
        front: Front,
        websocket: "ServerConnection",
        transport: asyncio.Transport,
        timeout: float | None,
    ) -> None:
        self._front = front
        self._websocket = websocket
        self._transport = transport
        self._buffer = bytearray()
        self._refused = False
        self._timer: asyncio.TimerHandle | None = None
        self._start_timer(timeout)
        transport.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        buffer = self._buffer
        began = not buffer
        if began:
            data = data.lstrip(b"\r\n")  # RFC 9112 §2.2: empty lines before a request are ignored
        searched = max(0, len(buffer) - 3)
        buffer += data
        end = _END.search(buffer, searched)
        if end is not None and end.end() <= MAX_HEAD:
            self._hand_over(end.end())
        elif len(buffer) > MAX_HEAD:
            self._refuse(431, f"The request's head is larger than {MAX_HEAD} bytes.\n")
        elif buffer and not buffer[:1].isalpha():
            # No HTTP: a TLS greeting, a port scan. Not worth waiting for the end of the head.
            self._refuse(400, "This is not an HTTP request.\n")
        elif began and buffer:
            self._start_timer(self._front.open_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        self._front.opened(self._websocket)
        self._leave()

    def turn_away(self) -> None:
        """End the connection because the server closes."""
        if self._buffer:
            self._transport.write(plain_response(503, "Server is shutting down.\n"))
            self._transport.close()
        else:
            self._transport.abort()

    def _hand_over(self, end: int) -> None:
        self._leave()
        data = bytes(self._buffer)
        if _UPGRADE.search(data, 0, end):
            self._transport.set_protocol(self._websocket)
            self._websocket.upgrade(self._transport, data[:end], data[end:])
        else:
            self._front.opened(self._websocket)
            self._front.http.adopt(self._front, self._websocket, self._transport, data)

    def _refuse(self, status: int, text: str) -> None:
        """Answer, then wait a little for the client to read the answer and leave.

        Closing at once with input unread would reset the connection, and the client lose the
        answer (RFC 9112 §9.6).
        """
        self._refused = True
        self._buffer.clear()
        self._transport.write(plain_response(status, text))
        if not self._transport.can_write_eof():
            self._transport.close()
            return
        try:
            self._transport.write_eof()
        except OSError:
            # The client had left, and its kernel reset the connection at the answer: asyncio
            # shuts the socket down at once, and hands on what the system says to that.
            self._transport.abort()
        else:
            self._start_timer(LINGER)

    def _start_timer(self, timeout: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if timeout is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(timeout, self._timed_out)

    def _timed_out(self) -> None:
        if self._buffer:
            self._refuse(408, "The request's head did not arrive in time.\n")
        else:
            self._transport.close()

    def _leave(self) -> None:
        self._start_timer(None)
        self._front.forget(self)
