"""Replies and pushes: what a server sends (client protocol, `Reply` and `Push`).

A reply with an id answers a command. A reply without one carries a push; if it carries none it is
a ping, and the client answers it: an empty reply is never sent for anything else.
"""

from collections.abc import Mapping

import msgspec

from hubbub.protocol.results import (
    ConnectResult,
    HistoryResult,
    PingResult,
    PresenceResult,
    PresenceStatsResult,
    PublishResult,
    RefreshResult,
    RPCResult,
    SubRefreshResult,
    SubscribeResult,
    UnsubscribeResult,
    check_expiry,
)
from hubbub.protocol.values import (
    EMPTY,
    ClientInfo,
    Error,
    Int64,
    Message,
    Publication,
    Uint32,
    Uint64,
    check_uint64,
)

__all__ = [
    "ConnectPush",
    "DisconnectPush",
    "JoinPush",
    "LeavePush",
    "MessagePush",
    "Push",
    "RefreshPush",
    "Reply",
    "SubscribePush",
    "UnsubscribePush",
]


class JoinPush(Message, frozen=True):
    """Somebody subscribed."""

    info: ClientInfo


class LeavePush(Message, frozen=True):
    """Somebody's subscription ended."""

    info: ClientInfo


class UnsubscribePush(Message, frozen=True):
    """The server ended a subscription (`hubbub.errors.UnsubscribeCode`).

    Only for a channel that the client holds, and always with the channel: SDKs throw otherwise.
    Neither field may be zero, for the same reason.
    """

    code: Uint32
    reason: str

    def __post_init__(self) -> None:
        if not self.code or not self.reason:
            raise ValueError("an unsubscribe push needs a code and a reason: SDKs index them")


class MessagePush(Message, frozen=True):
    """A message to the connection, of no channel."""

    data: msgspec.Raw = EMPTY


class SubscribePush(Message, frozen=True):
    """A server-side subscription was added; the fields are those of `SubscribeResult`."""

    recoverable: bool = False
    epoch: str = ""
    offset: Uint64 = 0
    positioned: bool = False
    data: msgspec.Raw = EMPTY

    def __post_init__(self) -> None:
        check_uint64(self.offset, "offset")


class ConnectPush(Message, frozen=True):
    """The session stands, on a unidirectional transport; the fields of `ConnectResult`."""

    client: str
    version: str = ""
    data: msgspec.Raw = EMPTY
    subs: Mapping[str, SubscribeResult] = msgspec.field(default_factory=dict)
    expires: bool = False
    ttl: Uint32 = 0
    ping: Uint32 = 0
    pong: bool = False
    session: str = ""
    node: str = ""
    time: Int64 = 0

    def __post_init__(self) -> None:
        check_expiry(self.expires, self.ttl)


class DisconnectPush(Message, frozen=True):
    """The session ends, on a transport without close frames (`hubbub.errors.DisconnectCode`)."""

    code: Uint32
    reason: str

    def __post_init__(self) -> None:
        if not self.code or not self.reason:
            raise ValueError("a disconnect push needs a code and a reason: SDKs index them")


class RefreshPush(Message, frozen=True):
    """The server prolonged the connection.

    Attributes:
        ttl: Seconds, at least 1 if `expires`.
    """

    expires: bool = False
    ttl: Uint32 = 0

    def __post_init__(self) -> None:
        check_expiry(self.expires, self.ttl)


class Push(Message, frozen=True):
    """What the server says unasked: a channel, unless of the connection, and one payload."""

    channel: str = ""
    pub: Publication | None = None
    join: JoinPush | None = None
    leave: LeavePush | None = None
    unsubscribe: UnsubscribePush | None = None
    message: MessagePush | None = None
    subscribe: SubscribePush | None = None
    connect: ConnectPush | None = None
    disconnect: DisconnectPush | None = None
    refresh: RefreshPush | None = None


class Reply(Message, frozen=True):
    """What a server sends: the result or the error of a command, a push, or nothing: a ping."""

    id: Uint32 = 0
    error: Error | None = None
    push: Push | None = None
    connect: ConnectResult | None = None
    subscribe: SubscribeResult | None = None
    unsubscribe: UnsubscribeResult | None = None
    publish: PublishResult | None = None
    presence: PresenceResult | None = None
    presence_stats: PresenceStatsResult | None = None
    history: HistoryResult | None = None
    ping: PingResult | None = None
    rpc: RPCResult | None = None
    refresh: RefreshResult | None = None
    sub_refresh: SubRefreshResult | None = None
