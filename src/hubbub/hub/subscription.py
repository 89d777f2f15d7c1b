"""One client's subscription to one channel."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from hubbub.hub.wires import Wire
from hubbub.model import ChannelOptions, ClientInfo, Grant, Publication
from hubbub.protocol import json
from hubbub.protocol.commands import FilterNode
from hubbub.protocol.tags import TagsFilter, compile_filter

if TYPE_CHECKING:
    from hubbub.hub.channel import Channel
    from hubbub.hub.session import Session
    from hubbub.hub.timers import WheelTimer

__all__ = ["Subscription"]


class Subscription:
    """A subscription, from the moment its channel is reserved for it.

    Attributes:
        server_side: The server made it; the client can neither refresh nor filter it.
        options: The channel's, with what the subscription's grant overrides.
        parameters: Of the channel's name.
        info: How others see this subscriber.
        grant: What the credentials or the hook said.
        wire: The session's.
        positioned: Whether it has to miss nothing, or be told.
        recoverable: Whether the client comes back with its position.
        delta: Whether it gets patches.
        events: Whether it gets joins and leaves.
        tags: Its filter, as the client sent it; `None`: everything passes.
        passes: The same as a function.
        buffer: Publications delivered since it was registered, until it is live; then `None`.
        buffered: Bytes of these; at most `Limits.backlog`, beyond which no more are kept.
        present: Its presence was entered, or is about to be.
        settled: The command that made it has done all that it had to do.
        expiry: Ends it.
        position: Offset up to which the client has everything, once it is known.
        epoch: Of that offset.
        announced: Its join was published, or is about to be.
        refreshed_by_client: It has an expiry that the client must prolong.
        ended: It is over; whoever holds it still must stop.
        gone: Done when nothing of it is left at the broker; `None` if nobody can wait for that.
        code: Why it ended (`hubbub.errors.UnsubscribeCode`), with the reason.
    """

    __slots__ = (
        "announced",
        "buffer",
        "buffered",
        "channel",
        "code",
        "declaration",
        "delta",
        "ended",
        "epoch",
        "events",
        "expiry",
        "gone",
        "grant",
        "info",
        "options",
        "parameters",
        "passes",
        "position",
        "positioned",
        "present",
        "reason",
        "recoverable",
        "refreshed_by_client",
        "server_side",
        "session",
        "settled",
        "tags",
        "wire",
    )

    def __init__(
        self,
        session: Session,
        channel: str,
        declaration: Channel[Any],
        parameters: dict[str, str | int],
        *,
        server_side: bool,
    ) -> None:
        self.session = session
        self.channel = channel
        self.declaration = declaration
        self.parameters = parameters
        self.server_side = server_side
        self.options: ChannelOptions = declaration.options
        self.wire: Wire = session.outbox.wire
        self.grant = Grant()
        self.info = session.info
        self.positioned = False
        self.recoverable = False
        self.delta = False
        self.events = False
        self.tags: FilterNode | None = None
        self.passes: TagsFilter | None = None
        self.buffer: list[Publication] | None = []
        self.buffered = 0
        self.position = 0
        self.epoch = ""
        self.present = False
        self.announced = False
        self.settled = False
        self.ended = False
        self.gone: asyncio.Future[None] | None = None
        self.code = 0
        self.reason = ""
        self.refreshed_by_client = False
        self.expiry: WheelTimer | None = None

    def apply(self, grant: Grant) -> None:
        """Take over what the credentials or the hook said.

        Raises:
            PayloadError: The grant's info is no JSON.
        """
        self.options = self.declaration.overridden(grant.override)
        self.renew(grant)

    def renew(self, grant: Grant) -> None:
        """Take over what is new about the subscriber; the options stay as they were.

        Raises:
            PayloadError: The grant's info is no JSON.
        """
        who = self.session.info
        # On one line, whatever a hook has made it of: it goes into messages as it is.
        info = bytes(json.embed(grant.info))
        self.info = ClientInfo(who.user, who.client, who.conn_info, info) if info else who
        self.grant = grant

    def keep(self, publication: Publication) -> None:
        """Keep a publication until the subscription is live."""
        if self.buffer is not None:
            self.buffered += len(publication.data)
            if not self.overflowed:
                self.buffer.append(publication)

    @property
    def overflowed(self) -> bool:
        """Whether more was published than could be kept, before the subscription was live."""
        return self.buffered > self.session.node.limits.backlog

    def filter_by(self, tags: FilterNode) -> None:
        """Let only publications pass that a filter lets pass.

        Raises:
            FilterError: The filter is malformed.
        """
        self.passes = compile_filter(tags)
        self.tags = tags
