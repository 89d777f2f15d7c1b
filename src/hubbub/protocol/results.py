"""Results: what a command that succeeded is answered with (client protocol, `…Result`).

Fields without a default are written even when they are zero: SDKs read them unconditionally. An
empty result is written as well, `{"id":7,"publish":{}}`, which is why `Reply` holds objects.
"""

from collections.abc import Mapping

import msgspec

from hubbub.protocol.values import (
    EMPTY,
    ClientInfo,
    Int64,
    Message,
    Publication,
    Uint32,
    Uint64,
    check_uint64,
)

__all__ = [
    "ConnectResult",
    "HistoryResult",
    "PingResult",
    "PresenceResult",
    "PresenceStatsResult",
    "PublishResult",
    "RPCResult",
    "RefreshResult",
    "SubRefreshResult",
    "SubscribeResult",
    "UnsubscribeResult",
    "check_expiry",
]


def check_expiry(expires: bool, ttl: int) -> None:
    """Refuse `expires` without `ttl`: an SDK would refresh in a busy loop.

    Raises:
        ValueError: `expires` is set and `ttl` is 0.
    """
    if expires and ttl < 1:
        raise ValueError("expires needs a ttl of at least 1 second")


class SubscribeResult(Message, frozen=True):
    """A subscription stands.

    Attributes:
        expires: The client must refresh within `ttl` seconds.
        ttl: Seconds, at least 1 if `expires`.
        recoverable: The SDK keeps its position and recovers when it comes back.
        epoch: Current epoch, if positioned.
        publications: What was missed, ascending offsets; only if `recovered`.
        recovered: Nothing is missing between the client's position and `publications`' end.
        offset: The client's own position if `recovered`, else the top of the stream.
        positioned: The server watches the position.
        data: From the token or the hook.
        was_recovering: The client asked for recovery.
        delta: `data` of publications may be patches; to a JSON client it is always a string.
    """

    expires: bool = False
    ttl: Uint32 = 0
    recoverable: bool = False
    epoch: str = ""
    publications: tuple[Publication, ...] = ()
    recovered: bool = False
    offset: Uint64 = 0
    positioned: bool = False
    data: msgspec.Raw = EMPTY
    was_recovering: bool = False
    delta: bool = False

    def __post_init__(self) -> None:
        check_expiry(self.expires, self.ttl)
        check_uint64(self.offset, "offset")


class ConnectResult(Message, frozen=True):
    """The session stands.

    Attributes:
        client: Id of the connection.
        version: Version of the server. Never empty, by convention.
        expires: The client must refresh within `ttl` seconds.
        ttl: Seconds, at least 1 if `expires`.
        data: From the hook.
        subs: Server-side subscriptions, by channel.
        ping: Seconds between pings; 0: none are sent.
        pong: The client must answer pings.
        session: Secret of the emulation transports; empty on WebSocket.
        node: Which node to send `/emulation` to; empty on WebSocket.
        time: Unix time in milliseconds; 0: not told.
    """

    client: str
    version: str = ""
    expires: bool = False
    ttl: Uint32 = 0
    data: msgspec.Raw = EMPTY
    subs: Mapping[str, SubscribeResult] = msgspec.field(default_factory=dict)
    ping: Uint32 = 0
    pong: bool = False
    session: str = ""
    node: str = ""
    time: Int64 = 0

    def __post_init__(self) -> None:
        check_expiry(self.expires, self.ttl)


class UnsubscribeResult(Message, frozen=True):
    """The subscription is gone, or there was none."""


class PublishResult(Message, frozen=True):
    """The broker has the publication."""


class PresenceResult(Message, frozen=True):
    """Who is in the channel, by client id."""

    presence: Mapping[str, ClientInfo]


class PresenceStatsResult(Message, frozen=True):
    """How many connections and how many distinct users are in the channel."""

    num_clients: Uint32
    num_users: Uint32


class HistoryResult(Message, frozen=True):
    """Publications of a channel, and the top of its stream.

    Attributes:
        publications: In the order asked for, at most the limit.
        epoch: Current epoch.
        offset: Offset of the newest publication ever, 0 before the first.
    """

    publications: tuple[Publication, ...]
    epoch: str
    offset: Uint64

    def __post_init__(self) -> None:
        check_uint64(self.offset, "offset")


class PingResult(Message, frozen=True):
    """Answer to a `PingRequest`."""


class RPCResult(Message, frozen=True):
    """What the method returned."""

    data: msgspec.Raw = EMPTY


class RefreshResult(Message, frozen=True):
    """The connection's new expiry; without `expires` it has none.

    Attributes:
        ttl: Seconds, at least 1 if `expires`.
    """

    client: str = ""
    version: str = ""
    expires: bool = False
    ttl: Uint32 = 0

    def __post_init__(self) -> None:
        check_expiry(self.expires, self.ttl)


class SubRefreshResult(Message, frozen=True):
    """The subscription's new expiry; without `expires` it has none.

    Attributes:
        ttl: Seconds, at least 1 if `expires`.
    """

    expires: bool = False
    ttl: Uint32 = 0

    def __post_init__(self) -> None:
        check_expiry(self.expires, self.ttl)
