"""What is on its way to one client, as a session and the fan-out see it, whatever the transport."""

from collections.abc import Callable
from typing import Any, Protocol

from websockets.http11 import Request

from hubbub.errors import DisconnectCode
from hubbub.hub.wires import Wire

__all__ = ["Changes", "Outbox"]


class Changes:
    """Counts how often `write` and `descriptor` of any outbox of a node have changed.

    Attributes:
        count: Whoever keeps a list of these looks whether it is as it was.
    """

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class Outbox(Protocol):
    """The outgoing side of a connection, and what is known of the connection.

    Frames that many clients get are one object in all their outboxes. Each outbox is bounded in
    bytes; a client over its bound, or one that takes nothing for too long, is given up (ADR 0012).

    Attributes:
        write: Takes a whole frame, and never raises. What it is changes with the connection's
            state, which `Changes` counts, so that the loop over all subscribers of a channel asks
            nobody.
        descriptor: Of the socket, while whole frames may be written straight to it: the client
            keeps up, and there is no TLS. What the socket does not take goes to `write`. Else -1.
            It changes together with `write`.
        wire: What frames are made with.
    """

    write: Callable[[bytes], object]
    descriptor: int
    wire: Wire

    @property
    def request(self) -> Request:
        """The HTTP request that opened the connection."""

    @property
    def remote_address(self) -> Any:
        """Address of the peer."""

    @property
    def client_address(self) -> str | None:
        """IP address of the client; `None`: unknown."""

    @property
    def waiting(self) -> int:
        """Bytes that the connection has not taken yet."""

    def begin(
        self,
        *,
        changes: Changes,
        on_fail: Callable[[DisconnectCode], object],
        on_end: Callable[[], object],
    ) -> None:
        """Begin to send.

        Args:
            changes: To count in.
            on_fail: Called from the event loop, once, with 3008 or 3009: the client is too slow.
            on_end: Called once when nothing more can be sent.
        """

    def close(self, code: int, reason: str, *, flush: bool) -> None:
        """Close the connection, behind what waits if `flush`; nothing is sent afterwards.

        A client that does not take it is dropped after a while.
        """

    def drop(self) -> None:
        """Drop the connection without a word."""

    def pause_reading(self) -> None:
        """Let the client's next messages wait."""

    def resume_reading(self) -> None:
        """Take the client's messages again."""
