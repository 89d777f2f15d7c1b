"""Who is present in channels, as brokers keep it that are alone."""

from collections.abc import Mapping
from math import inf

from hubbub.brokers.agenda import NEVER
from hubbub.brokers.sweeper import Sweeper
from hubbub.clock import Clock
from hubbub.model import ClientInfo, PresenceStats

__all__ = ["Rooms"]


class Rooms:
    """Presence by channel, in the memory of this process."""

    def __init__(self, clock: Clock) -> None:
        self._monotonic = clock.monotonic
        self._rooms: dict[str, _Room] = {}
        self._sweeper = Sweeper[_Room](clock, self._forget)

    def start(self) -> None:
        """Remove expired entries by a timer from now on; needs a running event loop."""
        self._sweeper.start()

    def stop(self) -> None:
        """Empty all rooms."""
        self._sweeper.stop()
        for room in self._rooms.values():
            self._sweeper.remove(room)
        self._rooms.clear()

    def add(self, channel: str, client: str, info: ClientInfo, ttl: float | None) -> None:
        """Enter a client, or prolong its entry; the arguments are `Broker.add_presence`'s."""
        now = self._monotonic()
        self._sweeper.sweep(now)
        room = self._rooms.get(channel)
        if room is None:
            room = self._rooms[channel] = _Room(channel)
        ends = inf if ttl is None else now + ttl
        room.entries[client] = (info, ends)
        if ends < room.first_end:
            room.first_end = ends
            self._sweeper.queue(room, ends, now)

    def remove(self, channel: str, client: str) -> None:
        """Remove a client's entry. Idempotent."""
        room = self._rooms.get(channel)
        if room is not None:
            room.entries.pop(client, None)
            if not room.entries:
                self._sweeper.remove(room)
                self._forget(room)

    def members(self, channel: str) -> Mapping[str, ClientInfo]:
        """Return who is in a channel, by client id: a snapshot."""
        room = self._room(channel)
        if room is None:
            return {}
        return {client: info for client, (info, _) in room.entries.items()}

    def stats(self, channel: str) -> PresenceStats:
        """Count who is in a channel, in time proportional to the answer."""
        room = self._room(channel)
        if room is None:
            return PresenceStats(0, 0)
        users = {info.user for info, _ in room.entries.values()}
        return PresenceStats(len(room.entries), len(users))

    def _room(self, channel: str) -> "_Room | None":
        """Find who is present now."""
        room = self._rooms.get(channel)
        if room is not None:
            room.expire(self._monotonic())
        return room

    def _forget(self, room: "_Room") -> None:
        del self._rooms[room.channel]


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
