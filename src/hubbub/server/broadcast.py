"""One message to many connections: framed once, one write each."""

from collections.abc import Iterable

from websockets.asyncio import server as parent
from websockets.asyncio.connection import Connection
from websockets.protocol import OPEN
from websockets.typing import BytesLike, DataLike

from hubbub.server.connection import ServerConnection
from hubbub.server.frames import BINARY, TEXT, serialize

__all__ = ["broadcast"]


def broadcast(
    connections: Iterable[Connection],
    message: DataLike,
    *,
    text: bool | None = None,
    raise_exceptions: bool = False,
) -> None:
    """Send a message to several connections, without waiting for any.

    Connections that are not open are skipped, and so, with a warning, is one on which sending
    fails or a fragmented message is under way. Nothing holds back a broadcast that is faster than
    a peer reads: its messages pile up until the peer took nothing for `ping_timeout`.

    Args:
        connections: Connections of this module or of `websockets`, servers' or clients'.
        message: `str` goes as a text frame, bytes-like as a binary frame.
        text: `True` or `False` forces text or binary frames; text must be valid UTF-8.
        raise_exceptions: Raise what failed, all together, instead of logging a warning for each.

    Raises:
        TypeError: The message has another type.
        ExceptionGroup: Of `RuntimeError` and `ConcurrencyError`, with `raise_exceptions`.
    """
    if isinstance(message, str):
        first, payload = BINARY if text is False else TEXT, message.encode()
    elif isinstance(message, BytesLike):
        first, payload = TEXT if text is True else BINARY, bytes(message)
    else:
        raise TypeError("data must be str or bytes")

    frame = serialize(first, payload)
    # Connections that need the parent's way: an extension, another class, a failure to report.
    rest: list[Connection] = []
    exceptions: list[Exception] = []
    for connection in connections:
        if (
            isinstance(connection, ServerConnection)
            and connection.plain
            and connection.send_in_progress is None
        ):
            if connection.protocol.state is OPEN:
                try:
                    connection.transport.write(frame)
                except Exception as exc:
                    connection.logger.warning("skipped broadcast: failed to write: %s", exc)
                    failure = RuntimeError("failed to write message")
                    failure.__cause__ = exc
                    exceptions.append(failure)
        else:
            rest.append(connection)
    try:
        parent.broadcast(rest, payload, text=first == TEXT, raise_exceptions=raise_exceptions)
    except ExceptionGroup as group:
        exceptions.extend(group.exceptions)
    if raise_exceptions and exceptions:
        raise ExceptionGroup("skipped broadcast", exceptions)
