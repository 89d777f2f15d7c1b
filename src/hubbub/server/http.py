"""HTTP on the server's port: requests that are no upgrade, answered by an ASGI app (ADR 0004).

The protocol is uvicorn's, on httptools; here is what uvicorn's own server does around it: shared
state, the Date header, the app's lifespan, the graceful end.
"""

import asyncio
import email.utils
import http
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.lifespan.on import LifespanOn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from hubbub.errors import StartupError

if TYPE_CHECKING:
    from hubbub.server.connection import ServerConnection
    from hubbub.server.front import Front

__all__ = ["HTTPService", "plain_response"]

# Seconds for a request's task to end after its connection was dropped at the server's end.
_DISCONNECT_GRACE = 1


class HTTPService:
    """Runs one ASGI app for the requests that a `Front` hands over.

    Args:
        app: ASGI 3 (or 2) application.
        server_header: Value of the `Server` header; `None`: no such header.
        keep_alive: Seconds a connection may stay open between two requests.
        layers: Make an ASGI app of the one within, from the innermost outwards.
    """

    def __init__(
        self,
        app: Any,
        *,
        server_header: str | None,
        keep_alive: float = 5,
        layers: Sequence[Callable[[ASGIApp], ASGIApp]] = (),
    ) -> None:
        self.keep_alive = keep_alive
        self.config = Config(
            app,
            http=HttpToolsProtocol,
            ws="none",
            log_config=None,
            proxy_headers=False,
            server_header=False,
            headers=[] if server_header is None else [("server", server_header)],
        )
        self.config.load()
        for layer in layers:  # around what `load` has made of an app of ASGI 2
            self.config.loaded_app = layer(self.config.loaded_app)
        self.state = ServerState()
        self.lifespan = LifespanOn(self.config)
        self._date_at = 0
        self._idle = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Run the app's lifespan startup.

        Raises:
            StartupError: The app refused to start; it logged why.
        """
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            raise StartupError("http", "the ASGI app's lifespan startup failed")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Run the app's lifespan shutdown."""
        await self.lifespan.shutdown()

    def adopt(
        self,
        front: "Front",
        websocket: "ServerConnection",
        transport: asyncio.Transport,
        data: bytes,
    ) -> None:
        """Serve a connection whose first request begins with `data`."""
        protocol = _HTTPConnection(self, front, websocket)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(data)

    def refresh_date(self) -> None:
        """Keep the Date header, which uvicorn's server renews in its main loop, true."""
        now = int(time.time())
        if now != self._date_at:
            self._date_at = now
            date = email.utils.formatdate(now, usegmt=True).encode()
            self.state.default_headers = [(b"date", date), *self.config.encoded_headers]

    async def drain(self, grace: float | None) -> None:
        """Take no further request; wait until all responses are finished.

        Args:
            grace: Seconds after which connections are dropped; `None`: unlimited. An app that
                streams without end learns it as `http.disconnect`, and is cancelled if it does
                not end on that.
        """
        for connection in list(self.state.connections):
            connection.shutdown()
        try:
            async with asyncio.timeout(grace):
                await self._wait_idle()
        except TimeoutError:
            for connection in list(self.state.connections):
                connection.transport.abort()
            try:
                async with asyncio.timeout(_DISCONNECT_GRACE):
                    await self._wait_idle()
            except TimeoutError:
                for task in self.state.tasks:
                    task.cancel()
                await self._wait_idle()

    async def _wait_idle(self) -> None:
        """Wait until no connection is open and no request, nor its background task, runs."""
        while self.state.connections:
            self._idle.clear()
            await self._idle.wait()
        if self.state.tasks:
            await asyncio.wait(self.state.tasks)

    def left(self) -> None:
        """Take note that a connection is gone."""
        if not self.state.connections:
            self._idle.set()


class _HTTPConnection(HttpToolsProtocol):
    """Uvicorn's protocol, which gives the connection back to the front after each response."""

    def __init__(self, service: HTTPService, front: "Front", websocket: "ServerConnection") -> None:
        super().__init__(service.config, service.state, service.lifespan.state)
        self._service = service
        self._front = front
        self._websocket = websocket
        self._in_message = False

    def on_message_begin(self) -> None:
        self._in_message = True
        self._service.refresh_date()
        super().on_message_begin()

    def on_message_complete(self) -> None:
        self._in_message = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # Not while a pipelined request runs or has begun to arrive, nor while the rest of a body
        # that the app did not want is still coming: these bytes are the parser's.
        done = self.cycle.response_complete and not self.pipeline and not self._in_message
        if done and not self.transport.is_closing():
            self._unset_keepalive_if_required()
            self.connections.discard(self)
            self._service.left()
            self._front.admit_again(self._websocket, self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._service.left()

    def _should_upgrade(self) -> bool:
        # The front took every upgrade to WebSocket that may be taken. What comes here is behind a
        # request still being answered, or to another protocol (h2c): answered by the app.
        return False

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: that some client offered HTTP/2 is no news to the operator."""


def plain_response(status: int, text: str) -> bytes:
    """Serialize a response for a connection that ends with it."""
    body = text.encode()
    head = (
        f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\n"
        f"Date: {email.utils.formatdate(usegmt=True)}\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + body
