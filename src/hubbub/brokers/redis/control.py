"""Control messages: a stream of its own, so that a node that was cut off gets them afterwards."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from hubbub.brokers.redis import codec
from hubbub.brokers.redis.names import CONTROL
from hubbub.errors import BrokerError
from hubbub.model import Position, Publication

if TYPE_CHECKING:
    from hubbub.brokers.redis.broker import RedisBroker

__all__ = ["Control"]

SIZE = 10_000
TTL = 300.0
META_TTL = 86_400.0
RETRY_DELAY = 1.0

logger = logging.getLogger("hubbub.brokers")


class Control:
    """Sends control messages, and gives those of all nodes to the broker, each once, in order."""

    def __init__(self, broker: RedisBroker) -> None:
        self._broker = broker
        self._position: Position | None = None
        self._work = asyncio.Event()

    async def begin(self) -> None:
        """Take what is sent from now on.

        Raises:
            BrokerError: The broker failed.
        """
        self._position = None
        self._work = asyncio.Event()  # of this loop: the broker may have run in another
        await self._broker.link_control()
        self._position = (await self._broker.read(CONTROL, limit=0, meta_ttl=META_TTL)).position

    async def run(self) -> None:
        """Read what was missed, whenever something may have been."""
        while True:
            await self._work.wait()
            self._work.clear()
            try:
                await self._read()
            except BrokerError as exc:
                logger.debug("control messages were not read: %s", exc)
                self._work.set()
                await asyncio.sleep(RETRY_DELAY)

    async def send(self, message: bytes) -> None:
        """Have a message given to every node.

        Raises:
            BrokerError: It was not sent, or may not have been.
        """
        body = codec.encode_publication(Publication(message))
        await self._broker.append(CONTROL, body, size=SIZE, ttl=TTL, meta_ttl=META_TTL)

    def take(self, message: bytes) -> None:
        """Take what was published in the stream."""
        position = self._position
        if position is None:
            return  # sent before this node began
        try:
            publication = codec.decode_event(message)
        except ValueError as exc:
            logger.error("a control message cannot be read: %s", exc)
            return
        if not isinstance(publication, Publication):
            return
        follows = publication.offset == position.offset + 1
        if publication.epoch == position.epoch and follows:
            self._apply(publication)
        elif publication.epoch != position.epoch or publication.offset > position.offset:
            self.suspect()

    def suspect(self) -> None:
        """Read the stream: something may have been missed."""
        self._work.set()

    async def _read(self) -> None:
        position = self._position
        if position is None:
            return
        page = await self._broker.read(CONTROL, since=position, meta_ttl=META_TTL)
        if page.position.epoch != position.epoch:
            # The stream has begun anew, and all of the new one was sent meanwhile.
            position = self._position = Position(page.position.epoch, 0)
            page = await self._broker.read(CONTROL, since=position, meta_ttl=META_TTL)
        first = page.publications[0].offset if page.publications else page.position.offset + 1
        if first > position.offset + 1:
            missed = first - position.offset - 1
            logger.error("%d control messages were missed: they are too old", missed)
        for publication in page.publications:
            here = self._position
            if here is not None and publication.offset > here.offset:
                self._apply(publication)
        here = self._position
        if here is not None and here.offset < page.position.offset:
            self._position = page.position

    def _apply(self, publication: Publication) -> None:
        self._position = publication.position
        self._broker.give(publication.data)
