"""The hub as an ASGI app: to be mounted into another app, under any ASGI server.

The protocol and the sessions are the same. The server's own API stands between them and the
socket, so a delivery costs a task's turn and a call per subscriber instead of one write.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp, Receive, Scope, Send
from websockets.datastructures import Headers
from websockets.frames import CloseCode
from websockets.http11 import Request

from hubbub.auth.origins import Origins
from hubbub.errors import DisconnectCode
from hubbub.hub.admission import manner_of, refuse
from hubbub.hub.outbox import Changes
from hubbub.hub.session import Session
from hubbub.hub.wires import Wire, message_wire
from hubbub.model import Limits

if TYPE_CHECKING:
    from hubbub.hub.node import Node

__all__ = ["asgi_app"]

CLOSE_TIMEOUT = 5.0
"""Seconds that what waits has to be sent before a close."""


def asgi_app(node: Node, origins: Origins) -> ASGIApp:
    """Make an ASGI app of a hub that somebody else runs."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await _converse(node, origins, scope, receive, send)
        elif scope["type"] == "http":
            body = b"This is a WebSocket endpoint of hubbub.\n"
            headers = [(b"content-type", b"text/plain"), (b"upgrade", b"websocket")]
            await send({"type": "http.response.start", "status": 426, "headers": headers})
            await send({"type": "http.response.body", "body": body})
        else:
            raise RuntimeError(
                f"a hub takes no {scope['type']}: mount it, and enter it in the lifespan of the app"
            )

    return app


async def _converse(
    node: Node, origins: Origins, scope: Scope, receive: Receive, send: Send
) -> None:
    request = _request(scope)
    await receive()  # websocket.connect
    headers, secure = request.headers, scope.get("scheme") == "wss"
    refusal = refuse(node, origins, headers, host=headers.get("Host"), secure=secure)
    if refusal is not None:
        # Before it is accepted a close is answered with 403, whatever the reason.
        await send({"type": "websocket.close", "code": CloseCode.POLICY_VIOLATION})
        return
    manner = manner_of(request.path, scope.get("subprotocols", ()))
    wire = message_wire(binary=manner.binary)
    await send({"type": "websocket.accept", "subprotocol": manner.subprotocol})
    outbox = ASGIOutbox(wire, node.limits, request, scope.get("client"), send)
    # Servers have pings of their own, which nobody can switch off from here.
    session = Session(node, outbox)
    try:
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(outbox.run())
            try:
                await _receive_all(session, outbox, receive)
            finally:
                outbox.end()
                await asyncio.wait([sending], timeout=CLOSE_TIMEOUT)
                sending.cancel()
    except* _StalledError:
        pass  # returning is what drops the connection


async def _receive_all(session: Session, outbox: ASGIOutbox, receive: Receive) -> None:
    """Pass on what the client sends, until it is gone or the session has ended."""
    limit = session.node.limits.message_size
    while True:
        await outbox.may_read.wait()
        message = await receive()
        if message["type"] != "websocket.receive":
            return
        text, data = message.get("text"), message.get("bytes")
        frame = data if text is None else text.encode()
        if frame is None:
            continue
        if len(frame) > limit:
            outbox.close(CloseCode.MESSAGE_TOO_BIG, f"over message_size={limit}", flush=True)
            return
        session.receive(frame)
        if session.closed:
            await outbox.closed.wait()
            return


class _StalledError(Exception):
    """The client takes nothing: whoever waits for it must stop."""


class ASGIOutbox:
    """Messages that wait for the server's `send` (`Outbox`).

    Attributes:
        may_read: Cleared while the client's messages are to wait.
        closed: Set when nothing more will be sent.
    """

    def __init__(
        self, wire: Wire, limits: Limits, request: Request, remote_address: Any, send: Send
    ) -> None:
        self.wire = wire
        self.descriptor = -1
        self.write: Callable[[bytes], object] = self._keep
        self.request = request
        self.remote_address = remote_address
        self.client_address = remote_address[0] or None if remote_address else None
        self.may_read = asyncio.Event()
        self.may_read.set()
        self.closed = asyncio.Event()
        self._limits = limits
        self._send = send
        self._messages: deque[bytes] = deque()
        self._size = 0
        self._wake = asyncio.Event()
        self._close: tuple[int, str] | None = None
        self._ended = False
        self._on_fail: Callable[[DisconnectCode], object] = _nothing
        self._on_end: Callable[[], object] = _nothing
        self._changes = Changes()

    @property
    def waiting(self) -> int:
        """Bytes that the server has not taken yet."""
        return self._size

    def begin(
        self,
        *,
        changes: Changes,
        on_fail: Callable[[DisconnectCode], object],
        on_end: Callable[[], object],
    ) -> None:
        """Learn whom to tell."""
        self._changes = changes
        self._on_fail = on_fail
        self._on_end = on_end

    async def run(self) -> None:
        """Send what is written, until the end."""
        key = "bytes" if self.wire.codec.BINARY else "text"
        try:
            while True:
                while self._messages:
                    message = self._messages.popleft()
                    async with asyncio.timeout(self._timeout()):
                        await self._send(
                            {
                                "type": "websocket.send",
                                key: message if key == "bytes" else message.decode(),
                            }
                        )
                    self._size -= len(message)
                if self._close is not None:
                    code, reason = self._close
                    await self._send({"type": "websocket.close", "code": code, "reason": reason})
                    return
                if self._ended:
                    return
                self._wake.clear()
                await self._wake.wait()
        except TimeoutError as exc:
            self._on_fail(DisconnectCode.WRITE_ERROR)
            raise _StalledError from exc
        except (OSError, RuntimeError):
            # Servers raise either when the client is gone.
            self.end()
        finally:
            self.closed.set()
            self.may_read.set()

    def close(self, code: int, reason: str, *, flush: bool) -> None:
        """Close behind what waits, if `flush`."""
        if not flush:
            self._messages.clear()
            self._size = 0
        self.write = _nothing
        self._changes.count += 1
        self._close = (code, reason)
        self._wake.set()

    def drop(self) -> None:
        """End without a word, as far as the server lets us."""
        self.close(CloseCode.GOING_AWAY, "", flush=False)

    def end(self) -> None:
        """Take note that the client is gone, or that the close frame is all that is left."""
        self.write = _nothing
        self._changes.count += 1
        if self._close is None:
            self._messages.clear()
        self._ended = True
        self._wake.set()
        on_end, self._on_end, self._on_fail = self._on_end, _nothing, _nothing
        on_end()

    def pause_reading(self) -> None:
        """Let the client's next messages wait."""
        self.may_read.clear()

    def resume_reading(self) -> None:
        """Take the client's messages again."""
        self.may_read.set()

    def _timeout(self) -> float | None:
        return self._limits.write_timeout if self._close is None else CLOSE_TIMEOUT

    def _keep(self, message: bytes) -> None:
        self._size += len(message)
        if self._size > self._limits.backlog:
            self.write = _nothing
            self._changes.count += 1
            self._messages.clear()
            # Not from here: the caller may be in the middle of a loop over all subscribers.
            asyncio.get_running_loop().call_soon(self._on_fail, DisconnectCode.SLOW)
            return
        self._messages.append(message)
        self._wake.set()


def _request(scope: Scope) -> Request:
    """Make of an ASGI scope the request that hooks see."""
    query = scope.get("query_string", b"").decode("latin-1")
    headers = Headers(
        (name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]
    )
    return Request(f"{scope['path']}?{query}" if query else scope["path"], headers)


def _nothing(*args: object) -> None:
    """Take the place of who is told or written to, once there is nothing to tell or write."""
