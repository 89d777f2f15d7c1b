"""What a broker is: the contract that every one fulfils (ADR 0010).

`hubbub.testing.check_broker` tests it. A broker carries what is published in a channel to every
node that subscribed to it, keeps history and presence, and carries control messages to all nodes.
"""

from collections.abc import Collection, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from hubbub.model import (
    ClientInfo,
    History,
    Join,
    Leave,
    Position,
    PresenceStats,
    Publication,
)

__all__ = ["Broker", "Event", "Receiver"]

Event = Publication | Join | Leave
"""What happens in a channel."""


class Receiver(Protocol):
    """What a broker calls on its node, always in the event loop, never within another call."""

    def deliver(self, channel: str, event: Event) -> None:
        """Take what happened in a channel that the node is subscribed to.

        Publications come with their position, in the order of their offsets per channel.
        """

    def control(self, message: bytes) -> None:
        """Take a control message of some node, this one included."""

    def suspect(self, channels: Collection[str] | None) -> None:
        """Learn that publications may have been missed: compare positions.

        Args:
            channels: Where. `None`: in all that the node is subscribed to.
        """


class Broker(Protocol):
    """A broker. Methods are called between entering and leaving `running` only.

    Cancelled: reading has done nothing; anything else may have happened, or may not.

    Attributes:
        local: Everything lives in this process and no method ever suspends: the hub runs commands
            without a task. Whoever is local is alone.
        alone: No other node exists: a second one on the same store is refused on entering
            `running`, or has a store of its own. Presence ends with the connections that made it,
            and nothing is lost on the way: the hub prolongs no presence and checks no positions.
        outage: Why nothing can be published or read at the moment, in words for an operator;
            `None`: the broker works, as far as it can tell.
    """

    local: bool
    alone: bool

    @property
    def outage(self) -> str | None: ...  # noqa: D102 - above

    def running(self, receiver: Receiver) -> AbstractAsyncContextManager[None]:
        """Connect on entering, disconnect on leaving; `receiver` is called in between only.

        Raises:
            BrokerError: On entering: the broker cannot be used.
        """

    async def subscribe(self, channels: Collection[str]) -> None:
        """Have what happens in the channels delivered; nothing after the return is missed.

        Idempotent. The order of `deliver` and the return is not defined: an event of a channel
        may be delivered before this returns.
        """

    async def unsubscribe(self, channels: Collection[str]) -> None:
        """Have no more delivered; what is on its way may still arrive. Idempotent."""

    async def publish(
        self,
        channel: str,
        publication: Publication,
        *,
        history_size: int = 0,
        history_ttl: float = 0.0,
        meta_ttl: float = 2_592_000.0,
        idempotency_key: str = "",
        version: int = 0,
        version_epoch: str = "",
    ) -> Position:
        """Append a publication to the channel's stream and deliver it, as one step.

        With history the publication gets the stream's epoch and the next offset. The stream keeps
        at most `history_size` publications, all of them until `history_ttl` has passed since the
        last one. Without, it is delivered only, and the stream is not touched.

        Args:
            publication: Its `offset` and `epoch` are ignored.
            history_size: Publications to keep; 0: no history.
            history_ttl: Seconds to keep them; 0: no history.
            meta_ttl: Seconds to keep epoch and offset after the last use of the stream.
            idempotency_key: A publication with the key of one in the same channel within the last
                5 minutes is dropped, and the position of the first is returned. Empty: none.
            version: With history: dropped unless it is above the version of the last publication
                that had one and the same `version_epoch`; the top is returned. 0: none. Keep in
                mind that an empty `version_epoch` compares with any.

        Returns:
            Where the stream stands after the publication; `Position("", 0)` without history.
        """

    async def announce(self, channel: str, event: Join | Leave) -> None:
        """Deliver a join or leave. It leaves no trace in the stream."""

    async def history(
        self,
        channel: str,
        *,
        since: Position | None = None,
        limit: int | None = None,
        reverse: bool = False,
        meta_ttl: float = 2_592_000.0,
    ) -> History:
        """Read a channel's stream; the first use of a channel makes one.

        Args:
            since: Only publications with an offset above it, or below it if `reverse`. Where
                these are gone, reading begins with the oldest that is kept. If its epoch is
                neither empty nor the stream's, there are no publications in the result.
            limit: Most publications; 0: only the position. `None`: all that are kept.
            reverse: Newest first.
        """

    async def remove_history(self, channel: str) -> None:
        """Drop the publications of a stream; epoch and offset stay."""

    async def add_presence(
        self, channel: str, client: str, info: ClientInfo, ttl: float | None
    ) -> None:
        """Enter a client, or prolong its entry.

        Args:
            client: Id of the connection; a second entry for it replaces the first.
            ttl: Seconds until the entry ends by itself. `None`: it stays until it is removed.
        """

    async def remove_presence(self, channel: str, client: str) -> None:
        """Remove a client's entry. Idempotent."""

    async def presence(self, channel: str) -> Mapping[str, ClientInfo]:
        """Return who is in a channel, by client id: a snapshot."""

    async def presence_stats(self, channel: str) -> PresenceStats:
        """Count who is in a channel."""

    async def send_control(self, message: bytes) -> None:
        """Have a message given to `Receiver.control` of every node, this one included."""
