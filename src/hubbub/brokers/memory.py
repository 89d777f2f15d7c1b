"""The broker of a single process: streams, presence and deliveries in its memory."""

from collections import deque
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import asynccontextmanager
from math import inf
from random import Random, SystemRandom
from string import ascii_letters
from typing import TypeAlias, assert_never

from hubbub.brokers.agenda import NEVER, Agenda
from hubbub.brokers.base import Event, Receiver
from hubbub.brokers.stream import Stream, moved
from hubbub.clock import Clock, SystemClock, Timer
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

EPOCH_LENGTH = 8
IDEMPOTENCY_TTL = 300.0

# Seconds that the epoch of a stream is kept in which nothing was ever published and to which nobody
# is subscribed. There is nothing to lose in it, and clients may look at any number of channels.
UNUSED_TTL = 300.0

# Expired entries that one operation removes: more than it can add, so that memory is bounded even
# if the loop never gets to run the timer; and that one call of the timer removes.
SWEEP_PER_OPERATION = 4
SWEEP_PER_TIMER = 1_000

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
        self._receiver: Receiver | None = None
        self._subscribed = set[str]()
        self._streams: dict[str, Stream] = {}
        self._rooms: dict[str, _Room] = {}
        self._results: dict[tuple[str, str], _Result] = {}
        self._agenda = Agenda[_Entry]()
        self._timer: Timer | None = None
        self._timer_second = NEVER
        # What the receiver has yet to be given; channel `None`: a control message.
        self._waiting: deque[tuple[str, Event] | tuple[None, bytes]] = deque()
        self._calling = False

    @asynccontextmanager
    async def running(self, receiver: Receiver) -> AsyncGenerator[None]:
        """Deliver to a receiver; on leaving, drop subscriptions and presence.

        Raises:
            BrokerError: On entering: the broker is running already.
        """
        if self._receiver is not None:
            raise BrokerError("memory", "it is running already")
        self._receiver = receiver
        self._set_timer()
        try:
            yield
        finally:
            self._receiver = None
            self._cancel_timer()
            self._subscribed.clear()
            for room in self._rooms.values():
                self._agenda.remove(room)
            self._rooms.clear()

    async def subscribe(self, channels: Collection[str]) -> None:
        """Have what happens in the channels delivered. Idempotent."""
        self._subscribed.update(channels)

    async def unsubscribe(self, channels: Collection[str]) -> None:
        """Have no more delivered. Idempotent."""
        self._subscribed.difference_update(channels)
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
        if now >= self._agenda.next:
            self._agenda.sweep(now, SWEEP_PER_OPERATION, self._forget)
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
                if stream.publications_end < stream.queued:
                    self._queue(stream, stream.publications_end, now)
            position = Position(stream.epoch, stream.top)
        else:
            position = NOWHERE
            if publication.offset or publication.epoch:
                publication = moved(publication, "", 0)
        if idempotency_key:
            # Before delivering: the receiver may publish with the same key.
            self._remember((channel, idempotency_key), position, now)
        if accepted and channel in self._subscribed:
            self._waiting.append((channel, publication))
            self._hand_over()
        return position

    async def announce(self, channel: str, event: Join | Leave) -> None:
        """Deliver a join or leave."""
        if channel in self._subscribed:
            self._waiting.append((channel, event))
            self._hand_over()

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
        if now >= self._agenda.next:
            self._agenda.sweep(now, SWEEP_PER_OPERATION, self._forget)
        stream = self._stream(channel, now, now + meta_ttl)
        if not stream.top and channel not in self._subscribed:
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
        now = self._monotonic()
        if now >= self._agenda.next:
            self._agenda.sweep(now, SWEEP_PER_OPERATION, self._forget)
        room = self._rooms.get(channel)
        if room is None:
            room = self._rooms[channel] = _Room(channel)
        ends = inf if ttl is None else now + ttl
        room.entries[client] = (info, ends)
        if ends < room.first_end:
            room.first_end = ends
            self._queue(room, ends, now)

    async def remove_presence(self, channel: str, client: str) -> None:
        """Remove a client's entry. Idempotent."""
        room = self._rooms.get(channel)
        if room is not None:
            room.entries.pop(client, None)
            if not room.entries:
                self._forget(room)

    async def presence(self, channel: str) -> Mapping[str, ClientInfo]:
        """Return who is in a channel, by client id: a snapshot."""
        room = self._room(channel)
        if room is None:
            return {}
        return {client: info for client, (info, _) in room.entries.items()}

    async def presence_stats(self, channel: str) -> PresenceStats:
        """Count who is in a channel, in time proportional to the answer."""
        room = self._room(channel)
        if room is None:
            return PresenceStats(0, 0)
        users = {info.user for info, _ in room.entries.values()}
        return PresenceStats(len(room.entries), len(users))

    async def send_control(self, message: bytes) -> None:
        """Give a message to `Receiver.control` of this node, the only one."""
        if self._receiver is not None:
            self._waiting.append((None, message))
            self._hand_over()

    def _hand_over(self) -> None:
        """Call the receiver with what waits, unless it is in a call: that one goes on then."""
        if self._calling:
            return
        waiting = self._waiting
        self._calling = True
        try:
            while waiting:
                item = waiting.popleft()
                receiver = self._receiver
                assert receiver is not None, "nothing waits unless running"
                if item[0] is None:
                    receiver.control(item[1])
                else:
                    receiver.deliver(item[0], item[1])
        finally:
            self._calling = False
            if waiting:  # the receiver failed: what others published meanwhile is not lost
                self._hand_over()

    def _stream(self, channel: str, now: float, ends: float) -> Stream:
        """Find or make a stream as it is now, and prolong it."""
        stream = self._streams.get(channel)
        if stream is None:
            stream = self._streams[channel] = Stream(channel, self._epoch())
        elif now >= stream.ends:
            stream.restart(self._epoch())
        elif now >= stream.publications_end:
            stream.clear()
        self._keep(stream, ends, now)
        return stream

    def _keep(self, stream: Stream, ends: float, now: float) -> None:
        stream.ends = ends
        if ends < stream.queued:
            self._queue(stream, ends, now)

    def _epoch(self) -> str:
        number = self._random.randrange(len(ascii_letters) ** EPOCH_LENGTH)
        letters = ""
        for _ in range(EPOCH_LENGTH):
            number, letter = divmod(number, len(ascii_letters))
            letters += ascii_letters[letter]
        return letters

    def _room(self, channel: str) -> "_Room | None":
        """Find who is present now."""
        room = self._rooms.get(channel)
        if room is not None:
            room.expire(self._monotonic())
        return room

    def _remember(self, key: tuple[str, str], position: Position, now: float) -> None:
        """Keep what publishing with an idempotency key returned."""
        result = self._results.get(key)
        if result is None:
            result = self._results[key] = _Result(key)
        result.position = position
        result.ends = now + IDEMPOTENCY_TTL
        if result.ends < result.queued:
            self._queue(result, result.ends, now)

    def _forget(self, entry: "_Entry") -> None:
        match entry:
            case Stream():
                del self._streams[entry.channel]
            case _Room():
                del self._rooms[entry.channel]
            case _Result():
                del self._results[entry.key]
            case _:
                assert_never(entry)
        self._agenda.remove(entry)

    def _queue(self, entry: "_Entry", due: float, now: float) -> None:
        self._agenda.queue(entry, due, now)
        if self._agenda.next < self._timer_second and self._receiver is not None:
            self._set_timer()

    def _set_timer(self) -> None:
        """Wake when the next entry is due."""
        self._cancel_timer()
        second = self._agenda.next
        if second < NEVER:
            self._timer_second = second
            delay = max(0.0, second - self._monotonic())
            self._timer = self._clock.call_later(delay, self._wake)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_second = None, NEVER

    def _wake(self) -> None:
        self._timer, self._timer_second = None, NEVER
        self._agenda.sweep(self._monotonic(), SWEEP_PER_TIMER, self._forget)
        self._set_timer()


class _Room:
    """Who is present in a channel.

    Attributes:
        entries: By client id; with when they expire.
        first_end: No entry expires before.
        queued: The second when the agenda has it.
    """

    __slots__ = ("channel", "entries", "first_end", "queued")

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.entries: dict[str, tuple[ClientInfo, float]] = {}
        self.first_end = inf
        self.queued = NEVER

    def expire(self, now: float) -> float | None:
        """Remove entries that have expired, and say when more will; `None`: nobody is left."""
        if now >= self.first_end:
            entries = {client: entry for client, entry in self.entries.items() if now < entry[1]}
            self.entries = entries
            self.first_end = min((ends for _, ends in entries.values()), default=inf)
        return self.first_end if self.entries else None


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


_Entry: TypeAlias = Stream | _Room | _Result
