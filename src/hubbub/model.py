"""Frozen values that all layers above the sockets speak of: positions, publications, users.

What is made for every publication is a `msgspec.Struct`, a fifth of the cost of a frozen dataclass.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict, get_args

import msgspec

__all__ = [
    "Access",
    "ChannelKeywords",
    "ChannelOptions",
    "ClientInfo",
    "ClusterChannels",
    "Grant",
    "History",
    "Join",
    "Leave",
    "Limits",
    "NodeInfo",
    "Position",
    "PresenceStats",
    "Publication",
    "User",
]

Access = Literal["nobody", "subscribers", "users", "anyone"]
"""Who may do something with a channel.

`nobody`: only the server, by its own API. `subscribers`: clients that are subscribed to the
channel. `users`: clients with a user id, subscribed or not. `anyone`: anonymous clients too.
"""

ACCESSES: tuple[Access, ...] = get_args(Access)

DAY = 86_400.0


class Position(msgspec.Struct, frozen=True, gc=False):
    """A place in a channel's stream: after the publication with this offset.

    Attributes:
        epoch: Names the stream; another epoch is another stream, whose offsets compare with
            nothing. Empty matches any.
        offset: 0 is before the first publication.
    """

    epoch: str = ""
    offset: int = 0


class ClientInfo(msgspec.Struct, frozen=True, gc=False):
    """Who published, joined, left or is present.

    Attributes:
        user: User id; empty for an anonymous user.
        client: Id of the connection, unique among all nodes.
        conn_info: JSON that the connection's credentials carry; empty: none.
        chan_info: JSON that the subscription's credentials carry; empty: none.
    """

    user: str
    client: str
    conn_info: bytes = b""
    chan_info: bytes = b""


class Publication(msgspec.Struct, frozen=True, gc=False):
    """One item of a channel.

    Attributes:
        data: The payload: JSON text, except in channels of `bytes`.
        info: The publisher, if it was a client.
        tags: For tags filters.
        delta: Whether it may be sent as a patch of the one before it.
        offset: Place in the stream, from 1; 0: published without history.
        epoch: The stream that the offset belongs to; empty without history.
        time: When it was published, Unix time in milliseconds; 0: not known.
    """

    data: bytes
    info: ClientInfo | None = None
    tags: Mapping[str, str] = msgspec.field(default_factory=dict)
    delta: bool = False
    offset: int = 0
    epoch: str = ""
    time: int = 0

    @property
    def position(self) -> Position:
        """Where the stream stands after this publication."""
        return Position(self.epoch, self.offset)


class Join(msgspec.Struct, frozen=True, gc=False):
    """Somebody subscribed to a channel."""

    info: ClientInfo


class Leave(msgspec.Struct, frozen=True, gc=False):
    """Somebody's subscription to a channel ended."""

    info: ClientInfo


@dataclass(frozen=True, slots=True)
class History:
    """A page of a channel's stream.

    Attributes:
        publications: In the order asked for.
        position: The top of the stream: its epoch, and the offset of its newest publication ever.
    """

    publications: tuple[Publication, ...]
    position: Position


@dataclass(frozen=True, slots=True)
class PresenceStats:
    """How many connections and how many distinct users are in a channel.

    Attributes:
        users: All anonymous connections together count as one.
    """

    clients: int
    users: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeInfo:
    """One process with a hub, of those that share a broker.

    Attributes:
        uid: A UUID, another one each time the hub is entered.
        name: Its host's name and its process id, `web-1:4711`.
        version: Of hubbub, `hubbub 1.2.3`.
        clients: Connected ones.
        users: Distinct ones; all anonymous clients together count as one.
        subscriptions: Of clients to channels.
        channels: That somebody there is subscribed to.
        uptime: Seconds since the hub was entered.
    """

    uid: str
    name: str
    version: str
    clients: int
    users: int
    subscriptions: int
    channels: int
    uptime: float


@dataclass(frozen=True, slots=True)
class ClusterChannels:
    """Channels of all nodes that answered.

    Attributes:
        clients: How many are subscribed, by channel; channels without any are not in it.
        silent: Nodes that did not answer in time, and whose clients are not counted. Empty: this
            is the whole.
    """

    clients: Mapping[str, int]
    silent: tuple[NodeInfo, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a subscription's credentials or its hook say of it.

    Attributes:
        info: JSON that others see of this subscriber in the channel (`ClientInfo.chan_info`).
        data: JSON for the client, in the result of its subscribe command.
        expires_at: Unix time in seconds when it ends unless refreshed; `None`: never.
        override: Options of the channel that are different for this subscription: `presence`,
            `join_leave`, `force_push_join_leave`, `force_recovery`, `force_positioning`.
    """

    info: bytes = b""
    data: bytes = b""
    expires_at: float | None = None
    override: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class User:
    """Who a client is, as `on_connect` returns it.

    Attributes:
        id: Empty: anonymous.
        info: What others see of the connection (`ClientInfo.conn_info`); anything that is JSON.
            `None`: nothing.
        expires_at: Unix time in seconds when the connection ends unless refreshed; `None`: never.
        channels: Channels that the server subscribes the client to, or a mapping of them to what
            these subscriptions are granted.
        data: For the client, in the result of its connect command; `None`: nothing.
        meta: For the application, on this server only (`Client.meta`).
    """

    id: str = ""
    info: Any = None
    expires_at: float | None = None
    channels: Sequence[str] | Mapping[str, Grant] = ()
    data: Any = None
    meta: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelOptions:
    """How the channels of one pattern behave.

    Attributes:
        history: Publications kept per channel; 0: none.
        ttl: Seconds that they are kept after the newest.
        meta_ttl: Seconds that epoch and offset are kept after the last use.
        recovery: Whether clients that come back get what they missed. `True`: always; `"asked"`:
            those that ask for it; `"cache"`: the newest publication only, whatever was missed;
            `None`: `True` if there is history.
        positioning: Whether the server watches that subscribers miss nothing, and tells them if
            they did. `True`, `"asked"`; `None`: `True` if there is history. Always with recovery.
        auto_recover: With `recovery="cache"`: a new subscriber gets the newest publication too.
        presence: Whether it is known who is subscribed.
        join_leave: Whether subscribers are told who joins and leaves. `True`: all of them;
            `"asked"`: those that ask for it and may read presence.
        delta: Whether clients that ask for it get patches instead of whole payloads.
        tags_filter: Whether clients may filter by tags.
        subscribe: Who may subscribe without a subscription token; a hook is asked as well.
        publish: Who may publish; a hook is asked as well. `None`: nobody, or with a hook anyone
            whom it lets.
        read_history: Who may read the history.
        read_presence: Who may read presence.
        user_limited: Whether the users listed after the name's last `#` may subscribe, and they
            alone.
        unicode: Whether names may be other than ASCII.
    """

    history: int = 0
    ttl: float = 300.0
    meta_ttl: float = 30 * DAY
    recovery: bool | Literal["asked", "cache"] | None = None
    positioning: bool | Literal["asked"] | None = None
    auto_recover: bool = False
    presence: bool = False
    join_leave: bool | Literal["asked"] = False
    delta: bool = False
    tags_filter: bool = False
    subscribe: Access = "anyone"
    publish: Access | None = None
    read_history: Access = "subscribers"
    read_presence: Access = "subscribers"
    user_limited: bool = False
    unicode: bool = False

    def __post_init__(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            ValueError: An option is out of range, or needs another.
        """
        if self.history < 0:
            raise ValueError(f"history={self.history}: publications to keep, 0 for none")
        for name, seconds in (("ttl", self.ttl), ("meta_ttl", self.meta_ttl)):
            if not seconds > 0:
                raise ValueError(f"{name}={seconds}: seconds, above 0")
        for name, value in (("recovery", self.recovery), ("positioning", self.positioning)):
            if value and not self.history:
                raise ValueError(f"{name}={value!r} needs history=1 or more")
        if self.auto_recover and self.recovery != "cache":
            raise ValueError("auto_recover=True needs recovery='cache'")
        if self.delta and not self.history:
            raise ValueError("delta=True needs history=1 or more")
        for name in ("subscribe", "publish", "read_history", "read_presence"):
            access = getattr(self, name)
            if access not in ACCESSES and not (access is None and name == "publish"):
                raise ValueError(f"{name}={access!r} is none of {', '.join(ACCESSES)}")

    @property
    def recovers(self) -> bool | Literal["asked", "cache"]:
        """What `recovery` comes down to."""
        return self.history > 0 if self.recovery is None else self.recovery

    @property
    def positions(self) -> bool | Literal["asked"]:
        """What `positioning` comes down to."""
        return self.history > 0 if self.positioning is None else self.positioning


class ChannelKeywords(TypedDict, total=False):
    """The fields of `ChannelOptions` as keyword arguments."""

    history: int
    ttl: float
    meta_ttl: float
    recovery: bool | Literal["asked", "cache"] | None
    positioning: bool | Literal["asked"] | None
    auto_recover: bool
    presence: bool
    join_leave: bool | Literal["asked"]
    delta: bool
    tags_filter: bool
    subscribe: Access
    publish: Access | None
    read_history: Access
    read_presence: Access
    user_limited: bool
    unicode: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of what clients may ask of a hub. `None` is no limit.

    Attributes:
        channels: Subscriptions of one connection; one more is error 106.
        channel_length: Bytes of a channel's name; more is error 107.
        message_size: Bytes of a message from a client; more ends the connection with 1009.
        backlog: Bytes that may wait to be sent to one client; more ends it with 3008.
        write_timeout: Seconds that a client may take nothing of what waits; then 3009.
        connections: Connections of this node; one more is refused with HTTP 503.
        user_connections: Connections of one user to this node; one more ends with 3504.
            Anonymous ones do not count.
        commands_per_second: Commands of one connection; more are answered with error 111, and as
            many of these in a row as `commands_burst` end the connection with 3013.
        commands_burst: Commands at once that are no excess.
        history: Publications of one history command.
        recovery: Publications that a client may have missed and still recovers.
        queued: Bytes of commands that may wait behind one that is slow; more pauses reading.
        in_process: Publications that may wait for a subscriber in this process; one more ends it.
    """

    channels: int = 128
    channel_length: int = 255
    message_size: int = 65_536
    backlog: int = 1_048_576
    write_timeout: float = 1.0
    connections: int | None = None
    user_connections: int | None = None
    commands_per_second: float | None = None
    commands_burst: int = 100
    history: int = 300
    recovery: int = 300
    queued: int = 65_536
    in_process: int = 10_000
