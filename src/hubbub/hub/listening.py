"""A subscriber in this process: an asynchronous iterator over a channel's publications."""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from hubbub.errors import PositionLost
from hubbub.hub.recovery import follow, recover_stream
from hubbub.model import Position, Publication

if TYPE_CHECKING:
    from hubbub.hub.channel import Channel
    from hubbub.hub.group import Group
    from hubbub.hub.node import Node

__all__ = ["Listening"]


class Listening:
    """A subscription of this process, from entering to leaving its block.

    Attributes:
        position: After the publication that was taken last; `None` before the first in a channel
            without history.
    """

    def __init__(
        self, node: Node, channel: str, declaration: Channel[Any], since: Position | None
    ) -> None:
        self._node = node
        self._channel = channel
        self._declaration = declaration
        self._since = since
        self._group: Group | None = None
        self._waiting: deque[Publication] = deque()
        self._arrived: asyncio.Future[None] | None = None
        self._delivered: Position | None = None  # up to here in _waiting; None: nothing to check
        self._lost: PositionLost | None = None
        self._reading = False
        self._ended = False
        self.position = since

    async def __aenter__(self) -> Self:
        """Subscribe; nothing published from now on is missed.

        Raises:
            PositionLost: `since` is too far back, or of another stream.
            RuntimeError: The hub is not running.
            BrokerError: The broker failed.
        """
        node = self._node
        if not node.running:
            raise RuntimeError("the hub is not running")
        group = self._group = node.registry.group(self._channel, self._declaration)
        group.listeners[self._take] = None
        self._reading = True
        try:
            await node.links.link(self._channel)
            if self._declaration.options.history:
                await self._read()
            self._reading = False
        except BaseException:
            self._leave()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave()

    def __aiter__(self) -> Self:
        """Iterate until the hub stops."""
        return self

    async def __anext__(self) -> Publication:
        """Wait for the next publication.

        Raises:
            PositionLost: Something was missed; what came before it has been returned.

        Cancelled: no publication is lost; the next call returns it.
        """
        while not self._waiting:
            if self._lost is not None:
                raise self._lost
            if self._ended:
                raise StopAsyncIteration
            if self._arrived is not None:
                raise RuntimeError("another task waits for the next publication already")
            self._arrived = asyncio.get_running_loop().create_future()
            try:
                await self._arrived
            finally:
                self._arrived = None
        publication = self._waiting.popleft()
        if publication.offset:
            self.position = publication.position
        return publication

    async def _read(self) -> None:
        """Find where the stream stands, and what came after `since`."""
        node, since = self._node, self._since
        meta_ttl = self._declaration.options.meta_ttl
        if since is None:
            read = await node.broker.history(self._channel, limit=0, meta_ttl=meta_ttl)
            missed: tuple[Publication, ...] | None = ()
            self.position = read.position
        else:
            read = await node.broker.history(self._channel, since=since, meta_ttl=meta_ttl)
            missed = recover_stream(since, read)
        if missed is None:
            raise PositionLost(self._channel, f"what came after {since} is not kept any more")
        delivered = follow(read.position, self._waiting)
        if delivered is None:
            raise PositionLost(self._channel, "what was published meanwhile does not follow")
        self._waiting = deque((*missed, *delivered))
        # What was published without history has no position.
        positions = [each.position for each in delivered if each.offset]
        self._delivered = positions[-1] if positions else read.position

    def _take(self, publication: Publication | Position | None) -> None:
        """Take what is delivered, or where the stream stands; `None` when the hub stops."""
        if publication is None:
            self._ended = True
        elif isinstance(publication, Position):
            self._compare(publication)
        elif self._lost is None:
            self._append(publication)
        self._wake()

    def _compare(self, top: Position) -> None:
        delivered = self._delivered
        if self._reading or delivered is None or self._lost is not None:
            return
        if top.epoch != delivered.epoch or top.offset > delivered.offset:
            self._lost = PositionLost(self._channel, f"nothing came between {delivered} and {top}")

    def _wake(self) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    def _append(self, publication: Publication) -> None:
        most = self._node.limits.in_process
        if len(self._waiting) >= most:
            self._lost = PositionLost(self._channel, f"over in_process={most} publications wait")
            return
        if publication.offset and not self._reading and self._delivered is not None:
            epoch, offset = self._delivered.epoch, self._delivered.offset
            if publication.epoch == epoch and publication.offset <= offset:
                return
            if publication.epoch != epoch or publication.offset > offset + 1:
                self._lost = PositionLost(
                    self._channel, f"offset {publication.offset} came after {offset}"
                )
                return
            self._delivered = publication.position
        self._waiting.append(publication)

    def _leave(self) -> None:
        if self._group is not None:
            self._group.listeners.pop(self._take, None)
            self._node.release(self._group)
            self._group = None
        self._ended = True
        self._waiting.clear()
        self._wake()
