"""Frames to a WebSocket connection: written at once, or kept while the client does not keep up."""

import asyncio
import os
from collections import deque
from collections.abc import Callable
from typing import Any

from websockets.http11 import Request

from hubbub.errors import DisconnectCode
from hubbub.hub.outbox import Changes
from hubbub.hub.wires import Wire
from hubbub.model import Limits
from hubbub.server.connection import ServerConnection
from hubbub.server.unsent import unsent

__all__ = ["WebSocketOutbox"]


class WebSocketOutbox:
    """The outgoing side of a connection of hubbub's own server, and its watcher (`Outbox`)."""

    __slots__ = (
        "_changes",
        "_connection",
        "_direct",
        "_frames",
        "_limits",
        "_loop",
        "_on_end",
        "_on_fail",
        "_size",
        "_stall",
        "descriptor",
        "wire",
        "write",
    )

    def __init__(
        self,
        connection: ServerConnection,
        wire: Wire,
        limits: Limits,
    ) -> None:
        self.wire = wire
        self._connection = connection
        self._limits = limits
        self._on_fail: Callable[[DisconnectCode], object] = _nothing
        self._on_end: Callable[[], object] = _nothing
        self._changes = Changes()
        self._loop = connection.loop
        self._frames: deque[bytes] | None = None
        self._size = 0
        self._stall: asyncio.TimerHandle | None = None
        self._direct = self.descriptor = -1
        self.write: Callable[[bytes], object] = connection.transport.write

    def begin(
        self,
        *,
        changes: Changes,
        on_fail: Callable[[DisconnectCode], object],
        on_end: Callable[[], object],
    ) -> None:
        """Watch the connection."""
        self._changes = changes
        self._on_fail = on_fail
        self._on_end = on_end
        transport = self._connection.transport
        self._direct = _descriptor_of(transport)
        if self._direct >= 0:
            # From now on there is nothing in the transport that frames could overtake, or it is
            # paused. (With TLS, 0 would pause it for good.)
            transport.set_write_buffer_limits(high=0)
        if self._connection.paused:
            self.writing_paused()
        else:
            self.descriptor = self._direct
        self._connection.watch(self)

    @property
    def request(self) -> Request:
        """The HTTP request that opened the connection."""
        assert self._connection.request is not None, "a session begins after the handshake"
        return self._connection.request

    @property
    def remote_address(self) -> Any:
        """Address of the peer."""
        return self._connection.remote_address

    @property
    def client_address(self) -> str | None:
        """IP address of the client."""
        return self._connection.client_address

    @property
    def waiting(self) -> int:
        """Bytes that the connection has not taken yet."""
        return self._size

    @property
    def paused(self) -> bool:
        """Whether the client does not keep up at the moment."""
        return self.write == self._keep

    def writing_paused(self) -> None:
        """Keep frames from now on."""
        self.write = self._keep
        self.descriptor = -1
        self._changes.count += 1
        if self._stall is None:
            self._watch_stall(None)

    def writing_resumed(self) -> None:
        """Write what was kept."""
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        if self.write != self._keep:
            return
        transport = self._connection.transport
        while self._frames and not self._connection.paused:
            frame = self._frames.popleft()
            self._size -= len(frame)
            transport.write(frame)
        if not self._connection.paused:
            self._frames = None
            self.write = transport.write
            self.descriptor = self._direct
            self._changes.count += 1

    def closing(self) -> None:
        """Take note that nothing more can be sent."""
        self._stop()
        on_end, self._on_end, self._on_fail = self._on_end, _nothing, _nothing
        on_end()

    def close(self, code: int, reason: str, *, flush: bool) -> None:
        """Send a close frame, behind what was kept if `flush`, and nothing afterwards.

        A client that does not take it is dropped after the connection's `close_timeout`.
        """
        frames = self._frames if flush else None
        self._stop()
        if frames:
            self._connection.transport.write(b"".join(frames))
        self._connection.fail(code, reason)  # type: ignore[arg-type]  # any code will do

    def drop(self) -> None:
        """Drop the connection without a close frame."""
        self._stop()
        self._connection.transport.abort()

    def pause_reading(self) -> None:
        """Let the client's next messages wait."""
        self._connection.pause_reading()

    def resume_reading(self) -> None:
        """Take the client's messages again."""
        self._connection.resume_reading()

    def _keep(self, frame: bytes) -> None:
        self._size += len(frame)
        if self._size > self._limits.backlog:
            self._give_up(DisconnectCode.SLOW)
            return
        if self._frames is None:
            self._frames = deque()
        self._frames.append(frame)

    def _give_up(self, code: DisconnectCode) -> None:
        self._stop()
        # Not from here: the caller may be in the middle of a loop over all subscribers.
        self._loop.call_soon(self._on_fail, code)

    def _watch_stall(self, waited: int | None) -> None:
        """Give up a client that took nothing of what waits for a whole `write_timeout`."""
        waiting = unsent(self._connection.transport)
        if waited is not None and waiting >= waited:
            self._stall = None
            self._give_up(DisconnectCode.WRITE_ERROR)
        else:
            self._stall = self._loop.call_later(
                self._limits.write_timeout, self._watch_stall, waiting
            )

    def _stop(self) -> None:
        self.write = _discard
        self.descriptor = -1
        self._changes.count += 1
        self._frames = None
        self._size = 0
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None


def _descriptor_of(transport: asyncio.WriteTransport) -> int:
    """Return the socket's descriptor if the peer reads what is written to it as it is, else -1."""
    sock = transport.get_extra_info("socket")
    direct = sock is not None and transport.get_extra_info("ssl_object") is None
    return sock.fileno() if direct and os.name == "posix" else -1


def _nothing(*args: object) -> None:
    """Take the place of who is told, once there is nothing to tell: a cycle less to collect."""


def _discard(frame: bytes) -> None:
    """Take the place of `write` once nothing more can be sent."""
