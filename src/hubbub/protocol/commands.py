"""Commands: what a client asks (client protocol, `Command` and its requests).

Not here, since hubbub grants none of it: maps, shared polls, compaction, compression
dictionaries. Their fields are ignored as any unknown field is; `type` alone is kept, so that a
subscription of a kind that does not exist here can be refused.
"""

from collections.abc import Mapping

import msgspec

from hubbub.protocol.values import (
    EMPTY,
    Int32,
    Int64,
    Message,
    StreamPosition,
    Uint32,
    Uint64,
    check_uint64,
)

__all__ = [
    "Command",
    "ConnectRequest",
    "FilterNode",
    "HistoryRequest",
    "PingRequest",
    "PresenceRequest",
    "PresenceStatsRequest",
    "PublishRequest",
    "RPCRequest",
    "RefreshRequest",
    "Request",
    "SendRequest",
    "SubRefreshRequest",
    "SubscribeRequest",
    "UnsubscribeRequest",
]


class FilterNode(Message, frozen=True):
    """A node of a tags filter (`hubbub.protocol.tags` says what it means).

    Attributes:
        op: `and`, `or`, `not`, or empty for a leaf.
        key: Which tag a leaf compares.
        cmp: How: `eq neq sw ew ct gt gte lt lte in nin ex nex`.
        val: With what; `vals` instead for `in` and `nin`.
        nodes: Children of `and`, `or`, `not`.
    """

    op: str = ""
    key: str = ""
    cmp: str = ""
    val: str = ""
    vals: tuple[str, ...] = ()
    nodes: tuple["FilterNode", ...] = ()


class SubscribeRequest(Message, frozen=True):
    """Subscribe to a channel; within `ConnectRequest.subs`, the state of a server-side one.

    Attributes:
        token: Subscription JWT; empty: none.
        recover: Try to recover what came after (`epoch`, `offset`).
        epoch: Last known epoch; empty matches any.
        offset: Last seen offset.
        data: For the application's hook.
        positioned: Ask for positioning.
        recoverable: Ask for recovery.
        join_leave: Ask for join and leave pushes.
        delta: Empty or `fossil`; anything else is a violation.
        tf: Tags filter.
        flag: Bit 0 (1) offers compaction, bit 1 (2) asks for error 112 instead of a result that
            did not recover.
        type: 0 is a stream, the only kind there is here.
    """

    channel: str = ""
    token: str = ""
    recover: bool = False
    epoch: str = ""
    offset: Uint64 = 0
    data: msgspec.Raw = EMPTY
    positioned: bool = False
    recoverable: bool = False
    join_leave: bool = False
    delta: str = ""
    tf: FilterNode | None = None
    flag: Int64 = 0
    type: Int32 = 0

    def __post_init__(self) -> None:
        check_uint64(self.offset, "offset")


class ConnectRequest(Message, frozen=True):
    """Open the session; the first command of every connection.

    Attributes:
        token: Connection JWT; empty: none.
        data: For the application's hook.
        subs: Where the client stands in its server-side subscriptions, by channel.
        name: Name of the SDK, for information.
        version: Version of the application, for information.
        headers: Emulated HTTP headers. Untrusted.
        flag: Features of the connection that the client offers.
        profile: A hint. Untrusted.
    """

    token: str = ""
    data: msgspec.Raw = EMPTY
    subs: Mapping[str, SubscribeRequest] = msgspec.field(default_factory=dict)
    name: str = ""
    version: str = ""
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    flag: Int64 = 0
    profile: str = ""


class UnsubscribeRequest(Message, frozen=True):
    """End a subscription."""

    channel: str = ""


class PublishRequest(Message, frozen=True):
    """Publish to a channel.

    Attributes:
        type: 0 is a stream, the only kind there is here.
    """

    channel: str = ""
    data: msgspec.Raw = EMPTY
    type: Int32 = 0


class PresenceRequest(Message, frozen=True):
    """Ask who is in a channel."""

    channel: str = ""


class PresenceStatsRequest(Message, frozen=True):
    """Ask how many are in a channel."""

    channel: str = ""


class HistoryRequest(Message, frozen=True):
    """Ask for publications of a channel.

    Attributes:
        limit: Most publications; 0 for the position only, negative for all that are allowed.
        since: Only what comes after it (before it if `reverse`).
        reverse: Newest first.
    """

    channel: str = ""
    limit: Int32 = 0
    since: StreamPosition | None = None
    reverse: bool = False


class PingRequest(Message, frozen=True):
    """Ask for a ping result. No SDK does; a pong is a command without an id."""


class SendRequest(Message, frozen=True):
    """Send a message to the server that has no reply."""

    data: msgspec.Raw = EMPTY


class RPCRequest(Message, frozen=True):
    """Call a method of the application."""

    data: msgspec.Raw = EMPTY
    method: str = ""


class RefreshRequest(Message, frozen=True):
    """Prolong the connection with a new token."""

    token: str = ""


class SubRefreshRequest(Message, frozen=True):
    """Prolong a subscription with a new token.

    Attributes:
        channel: Empty from `centrifuge-python` 0.5, whose token alone names the channel.
        type: 0 refreshes; 1 and 2 belong to shared polls.
    """

    channel: str = ""
    token: str = ""
    type: Int32 = 0


Request = (
    ConnectRequest
    | SubscribeRequest
    | UnsubscribeRequest
    | PublishRequest
    | PresenceRequest
    | PresenceStatsRequest
    | HistoryRequest
    | PingRequest
    | SendRequest
    | RPCRequest
    | RefreshRequest
    | SubRefreshRequest
)


class Command(Message, frozen=True):
    """What a client sends: an id and one request; without either, a pong."""

    id: Uint32 = 0
    connect: ConnectRequest | None = None
    subscribe: SubscribeRequest | None = None
    unsubscribe: UnsubscribeRequest | None = None
    publish: PublishRequest | None = None
    presence: PresenceRequest | None = None
    presence_stats: PresenceStatsRequest | None = None
    history: HistoryRequest | None = None
    ping: PingRequest | None = None
    send: SendRequest | None = None
    rpc: RPCRequest | None = None
    refresh: RefreshRequest | None = None
    sub_refresh: SubRefreshRequest | None = None

    @property
    def is_pong(self) -> bool:
        """Whether this answers a ping: no id and no `send`, whatever else it carries."""
        return not self.id and self.send is None

    @property
    def request(self) -> Request | None:
        """The request to execute: the first that is present, in the order of the protocol.

        `None` for a pong's empty command, and for a command of a kind unknown here.
        """
        return (
            self.connect
            or self.subscribe
            or self.unsubscribe
            or self.publish
            or self.presence
            or self.presence_stats
            or self.history
            or self.rpc
            or self.send
            or self.refresh
            or self.sub_refresh
            or self.ping
        )
