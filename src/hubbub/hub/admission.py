"""Whether a client may connect, and in which format it speaks: what its HTTP request says."""

from __future__ import annotations

import urllib.parse
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from websockets.datastructures import Headers
from websockets.typing import Subprotocol

from hubbub.auth.origins import Origins

if TYPE_CHECKING:
    from hubbub.hub.node import Node

__all__ = ["Manner", "Refusal", "manner_of", "offered_subprotocols", "refuse"]

PROTOBUF = Subprotocol("centrifuge-protobuf")
JSON = Subprotocol("centrifuge-json")


class Refusal(NamedTuple):
    """An answer of HTTP instead of an upgrade."""

    status: int
    text: str


class Manner(NamedTuple):
    """How a client wants to be spoken to.

    Attributes:
        subprotocol: To be echoed in the response; `None`: the client offers none of ours.
        binary: Protobuf instead of JSON.
        frame_pings: Pings of WebSocket instead of the client protocol's, a help for debugging.
    """

    subprotocol: Subprotocol | None
    binary: bool
    frame_pings: bool


def refuse(
    node: Node, origins: Origins, headers: Headers, *, host: str | None, secure: bool
) -> Refusal | None:
    """Decide whether a client may connect; `None`: it may.

    Args:
        host: That the client asked for.
        secure: Whether the client speaks TLS, as far as it is known.
    """
    if not node.running or node.draining:
        return Refusal(503, "Shutting down.\n")
    limit = node.limits.connections
    if limit is not None and len(node.registry.connections) >= limit:
        return Refusal(503, f"Too many connections: connections={limit}.\n")
    origin = headers.get("Origin")
    if not origins.allows(origin, host, secure):
        node.logger.info("refused origin %s", ascii(origin))
        return Refusal(403, "Origin not allowed: the hub's option origins does not list it.\n")
    return None


def offered_subprotocols(headers: Headers) -> list[Subprotocol]:
    """Return which subprotocols a client offers, of those that we speak, ours first."""
    values = ",".join(headers.get_all("Sec-WebSocket-Protocol"))
    return _ours([name.strip() for name in values.split(",")])


def manner_of(path: str, subprotocols: Sequence[str]) -> Manner:
    """Tell how a client wants to be spoken to.

    Args:
        path: With the query.
        subprotocols: That the client offers, or the one that was chosen.
    """
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(path).query)
    subprotocol = next(iter(_ours(subprotocols)), None)
    formats = (*query.get("format", ()), *query.get("cf_protocol", ()))
    return Manner(
        subprotocol,
        binary=subprotocol == PROTOBUF or "protobuf" in formats,
        frame_pings=query.get("cf_ws_frame_ping_pong") == ["true"],
    )


def _ours(names: Sequence[str]) -> list[Subprotocol]:
    return [name for name in (PROTOBUF, JSON) if name in names]
