"""The broker of a single process: streams, presence and deliveries in its memory."""

from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import asynccontextmanager
from math import inf
from random import Random, SystemRandom
from typing import TypeAlias, assert_never

from hubbub.brokers.agenda import NEVER
from hubbub.brokers.base import Receiver
from hubbub.brokers.handover import HandOver
from hubbub.brokers.rooms import Rooms
from hubbub.brokers.stream import IDEMPOTENCY_TTL, UNUSED_TTL, Stream, make_epoch, moved
from hubbub.brokers.sweeper import Sweeper
from hubbub.clock import Clock, SystemClock
from hubbub.errors import BrokerError
from hubbub.model import (
    ClientInfo,
    History,
    Join,
    Leave,
    Position,
    PresenceStats,
    Publication,
)

__all__ = ["MemoryBroker"]

NOWHERE = Position()


class MemoryBroker:
    """Keeps everything in this process: the default, and the measure of other brokers.

    No method suspends. A publication is delivered before `publish` returns, unless `publish` was
    called from within `Receiver.deliver` or `Receiver.control`: then it is delivered after that
    call, in its turn. What the receiver raises comes out of the method that called it.

    Streams outlast `running`, so that a hub may stop and start again in one process;
    subscriptions and presence do not. Expired entries are removed when they are met, and a few at
    a time by any operation and by a timer.

    Args:
        clock: Tells when entries expire.
        random: Where the names of epochs come from.
    """

    local = True
    alone = True
    outage = None

    def __init__(self, *, clock: Clock | None = None, random: Random | None = None) -> None:
        self._clock: Clock = clock or SystemClock()
        self._monotonic = self._clock.monotonic
        self._random = random or SystemRandom()
        self._hand_over = HandOver()
        self._rooms = Rooms(self._clock)
        self._streams: dict[str, Stream] = {}
        self._results: dict[tuple[str, str], _Result] = {}
        self._sweeper = Sweeper[_Entry](self._clock, self._forget)

    @asynccontextmanager
    async def running(self, receiver: Receiver) -> AsyncGenerator[None]:
        """Deliver to a receiver; on leaving, drop subscriptions and presence.

        Raises:
            BrokerError: On entering: the broker is running already.
        """
        if self._hand_over.receiver is not None:
            raise BrokerError("memory", "it is running already")
        self._hand_over.start(receiver)
        self._sweeper.start()
        self._rooms.start()
        try:
            yield
        finally:
            self._hand_over.stop()
            self._sweeper.stop()
            self._rooms.stop()

    async def subscribe(self, channels: Collection[str]) -> None:
        """Have what happens in the channels delivered. Idempotent."""
        self._hand_over.subscribed.update(channels)

    async def unsubscribe(self, channels: Collection[str]) -> None:
        """Have no more delivered. Idempotent."""
        self._hand_over.subscribed.difference_update(channels)
        now = self._monotonic()
        for channel in channels:
            stream = self._streams.get(channel)
            if stream is not None and not stream.top:
                self._keep(stream, min(stream.ends, now + UNUSED_TTL), now)

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
        """Append a publication to the channel's stream and deliver it, as one step."""
        now = self._monotonic()
        self._sweeper.sweep(now)
        if idempotency_key:
            result = self._results.get((channel, idempotency_key))
            if result is not None and now < result.ends:
                return result.position
        accepted = True
        if history_size > 0 and history_ttl > 0:
            stream = self._stream(channel, now, now + meta_ttl)
            if version:
                accepted = stream.accept(version, version_epoch)
            if accepted:
                publication = stream.append(publication, history_size, now + history_ttl)
                self._sweeper.queue(stream, stream.publications_end, now)
            position = Position(stream.epoch, stream.top)
        else:
            position = NOWHERE
            if publication.offset or publication.epoch:
                publication = moved(publication, "", 0)
        if idempotency_key:
            # Before delivering: the receiver may publish with the same key.
            self._remember((channel, idempotency_key), position, now)
        if accepted:
            self._hand_over.deliver(channel, publication)
        return position

    async def announce(self, channel: str, event: Join | Leave) -> None:
        """Deliver a join or leave."""
        self._hand_over.deliver(channel, event)

    async def history(
        self,
        channel: str,
        *,
        since: Position | None = None,
        limit: int | None = None,
        reverse: bool = False,
        meta_ttl: float = 2_592_000.0,
    ) -> History:
        """Read a channel's stream; the first use of a channel makes one."""
        now = self._monotonic()
        self._sweeper.sweep(now)
        stream = self._stream(channel, now, now + meta_ttl)
        if not stream.top and channel not in self._hand_over.subscribed:
            self._keep(stream, now + min(meta_ttl, UNUSED_TTL), now)
        return History(stream.read(since, limit, reverse), Position(stream.epoch, stream.top))

    async def remove_history(self, channel: str) -> None:
        """Drop the publications of a stream; epoch and offset stay."""
        stream = self._streams.get(channel)
        if stream is not None:
            stream.clear()

    async def add_presence(
        self, channel: str, client: str, info: ClientInfo, ttl: float | None
    ) -> None:
        """Enter a client, or prolong its entry."""
        self._rooms.add(channel, client, info, ttl)

    async def remove_presence(self, channel: str, client: str) -> None:
        """Remove a client's entry. Idempotent."""
        self._rooms.remove(channel, client)

    async def presence(self, channel: str) -> Mapping[str, ClientInfo]:
        """Return who is in a channel, by client id: a snapshot."""
        return self._rooms.members(channel)

    async def presence_stats(self, channel: str) -> PresenceStats:
        """Count who is in a channel, in time proportional to the answer."""
        return self._rooms.stats(channel)

    async def send_control(self, message: bytes) -> None:
        """Give a message to `Receiver.control` of this node, the only one."""
        self._hand_over.control(message)

    def _stream(self, channel: str, now: float, ends: float) -> Stream:
        """Find or make a stream as it is now, and prolong it."""
        stream = self._streams.get(channel)
        if stream is None:
            stream = self._streams[channel] = Stream(channel, make_epoch(self._random))
        elif now >= stream.ends:
            stream.restart(make_epoch(self._random))
        elif now >= stream.publications_end:
            stream.clear()
        self._keep(stream, ends, now)
        return stream

    def _keep(self, stream: Stream, ends: float, now: float) -> None:
        stream.ends = ends
        self._sweeper.queue(stream, ends, now)

    def _remember(self, key: tuple[str, str], position: Position, now: float) -> None:
        """Keep what publishing with an idempotency key returned."""
        result = self._results.get(key)
        if result is None:
            result = self._results[key] = _Result(key)
        result.position = position
        result.ends = now + IDEMPOTENCY_TTL
        self._sweeper.queue(result, result.ends, now)

    def _forget(self, entry: "_Entry") -> None:
        match entry:
            case Stream():
                del self._streams[entry.channel]
            case _Result():
                del self._results[entry.key]
            case _:
                assert_never(entry)


class _Result:
    """What publishing with an idempotency key has returned.

    Attributes:
        key: Channel and idempotency key.
        position: What was returned.
        ends: When it is forgotten.
        queued: The second when the agenda has it.
    """

    __slots__ = ("ends", "key", "position", "queued")

    def __init__(self, key: tuple[str, str]) -> None:
        self.key = key
        self.position = NOWHERE
        self.ends = inf
        self.queued = NEVER

    def expire(self, now: float) -> float | None:
        """Say when it expires; `None`: it has."""
        return self.ends if now < self.ends else None


_Entry: TypeAlias = Stream | _Result
