"""Connections of hubbub's own server, from the request of the upgrade to the session."""

from __future__ import annotations

import http
from typing import TYPE_CHECKING

from websockets.extensions.permessage_deflate import (
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)
from websockets.http11 import Request, Response
from websockets.protocol import OPEN

from hubbub.auth.origins import Origins
from hubbub.errors import DisconnectCode
from hubbub.hub.admission import manner_of, offered_subprotocols, refuse
from hubbub.hub.session import Session
from hubbub.hub.websocket import WebSocketOutbox
from hubbub.hub.wires import websocket_wire
from hubbub.server.connection import ServerConnection

if TYPE_CHECKING:
    from hubbub.hub.node import Node

__all__ = ["admit", "receive"]

CLOSE_TIMEOUT = 5.0
"""Seconds that a client has to answer a close frame."""

FRAME_PING_INTERVAL = 25.0
FRAME_PING_TIMEOUT = 10.0
"""Seconds between WebSocket pings, and for their pongs, where the client asks for them."""


def admit(
    node: Node, origins: Origins, connection: ServerConnection, request: Request
) -> Response | None:
    """Decide whether a client may connect, and set up its connection, before the upgrade."""
    client = connection.forwarded
    refusal = refuse(
        node, origins, request.headers, host=client.host, secure=client.scheme == "https"
    )
    if refusal is not None:
        return connection.respond(http.HTTPStatus(refusal.status), refusal.text)
    protocol = connection.protocol
    # A client that offers none of ours gets none; one that does must get one.
    protocol.available_subprotocols = offered_subprotocols(request.headers) or None
    # Shared frames are legal with this extension alone.
    protocol.available_extensions = [
        factory
        for factory in protocol.available_extensions or ()
        if isinstance(factory, ServerPerMessageDeflateFactory)
    ]
    protocol.max_message_size = node.limits.message_size
    connection.close_timeout = CLOSE_TIMEOUT
    # The client protocol has pings of its own.
    connection.ping_interval = None
    if manner_of(request.path, ()).frame_pings:
        connection.ping_interval = FRAME_PING_INTERVAL
        connection.ping_timeout = FRAME_PING_TIMEOUT
    return None


async def receive(node: Node, connection: ServerConnection) -> None:
    """Have a session with a client, until its connection has ended."""
    if connection.protocol.state is not OPEN:
        return
    if not node.running:
        _fail(connection, DisconnectCode.SHUTDOWN)
        return
    assert connection.request is not None, "the handshake is over"
    manner = manner_of(connection.request.path, [connection.subprotocol or ""])
    deflate = any(
        isinstance(extension, PerMessageDeflate)
        and extension.local_no_context_takeover
        and extension.local_max_window_bits >= 12
        for extension in connection.protocol.extensions
    )
    try:
        wire = websocket_wire(binary=manner.binary, deflate=deflate)
    except ImportError as exc:
        node.logger.warning("%s", exc)
        _fail(connection, DisconnectCode.INAPPROPRIATE_PROTOCOL)
        return
    session = Session(
        node, WebSocketOutbox(connection, wire, node.limits), pings=not manner.frame_pings
    )
    connection.on_message(session.receive, decode=False)
    await connection.wait_closed()


def _fail(connection: ServerConnection, code: DisconnectCode) -> None:
    connection.fail(code, code.reason)  # type: ignore[arg-type]  # any code will do
