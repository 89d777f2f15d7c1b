"""What SDKs said of a hub, judged: every acknowledged publication once, in order, or told so.

This is not the judgement of `hubbub verify`, and knows nothing of it: it keeps everything, and asks
plain questions of the whole at the end.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

__all__ = ["Evidence", "Key"]

Key = tuple[str, int]
"""A publication: who published it, and as its how manieth."""


@dataclass(slots=True)
class _Seat:
    """One subscriber in one channel.

    Attributes:
        seen: What it got, in its order.
        told_so: How often it was told that it missed something.
    """

    epoch: str = ""
    offset: int = 0
    seen: list[Key] = field(default_factory=list)
    told_so: int = 0
    stands: bool = False


class Evidence:
    """Facts go in as they happen; `faults` are what is wrong with them.

    Attributes:
        recoveries: Subscriptions that were told `recovered: true`.
        told_so: Subscriptions that were told that they missed something.
        deliveries: Publications that subscribers got.
        acked: What was acknowledged, by channel, in the order of that.
    """

    def __init__(self) -> None:
        self.recoveries = 0
        self.told_so = 0
        self.deliveries = 0
        self.acked: defaultdict[str, list[Key]] = defaultdict(list)
        self._faults: Counter[str] = Counter()
        self._seats: dict[tuple[str, str], _Seat] = {}
        # By channel and epoch: what is at an offset, as whoever came first said.
        self._streams: dict[tuple[str, str], dict[int, Key]] = {}

    def acknowledged(self, channel: str, key: Key) -> None:
        """Note that a publication was acknowledged; the next of its publisher is sent later."""
        self.acked[channel].append(key)

    def subscribed(
        self, who: str, channel: str, epoch: str, offset: int, *, recovered: bool
    ) -> None:
        """Note what a subscriber was told on subscribing."""
        seat = self._seats.setdefault((who, channel), _Seat())
        if recovered:
            self.recoveries += 1
            if not seat.stands or seat.epoch != epoch:
                self._fault(f"{who} was told recovered: true in {channel}, of another stream")
            return  # goes on from where it stood: what it missed comes now
        if seat.stands:
            self.told_so += 1
            seat.told_so += 1
        seat.epoch, seat.offset, seat.stands = epoch, offset, True

    def delivered(self, who: str, channel: str, offset: int, key: Key) -> None:
        """Note that a subscriber got a publication."""
        self.deliveries += 1
        seat = self._seats.setdefault((who, channel), _Seat())
        if offset != seat.offset + 1:
            what = "again" if offset <= seat.offset else "too early: something is lost"
            self._fault(f"{who} got offset {offset} after {seat.offset} in {channel}, {what}")
        seat.offset = max(offset, seat.offset)
        seat.seen.append(key)
        known = self._streams.setdefault((channel, seat.epoch), {}).setdefault(offset, key)
        if known != key:
            self._fault(f"{who} got {key} at offset {offset} of {channel}, others {known}")

    def ended(self, who: str, why: str) -> None:
        """Note that an SDK has given up."""
        self._fault(f"{who} was ended: {why}")

    def has(self, who: str, channel: str, key: Key) -> bool:
        """Whether a subscriber got a publication."""
        seat = self._seats.get((who, channel))
        return seat is not None and key in seat.seen[-100:]

    def faults(self) -> list[str]:
        """Judge the whole, now that nothing more comes."""
        faults = list(self._faults)
        for (who, channel), seat in self._seats.items():
            acked = self.acked[channel]
            for key, count in Counter(seat.seen).items():
                if count > 1:
                    faults.append(f"{who} got {key} {count} times in {channel}")
            if not seat.told_so:
                seen = set(seat.seen)
                lost = [key for key in acked if key not in seen]
                if lost:
                    faults.append(f"{who} lost {len(lost)} in {channel}, the first is {lost[0]}")
            faults += self._disorder(who, channel, seat, set(acked))
        for channel, keys in self.acked.items():
            faults += self._vanished(channel, keys)
        return faults

    @staticmethod
    def _disorder(who: str, channel: str, seat: _Seat, acked: set[Key]) -> list[str]:
        """Find acknowledged publications that came after later ones of their publisher."""
        newest: dict[str, int] = {}
        faults = []
        for publisher, number in seat.seen:
            if (publisher, number) not in acked:
                continue  # nobody was told when, or whether
            if number < newest.get(publisher, -1):
                faults.append(f"{who} got {publisher} {number} late in {channel}")
            newest[publisher] = max(number, newest.get(publisher, -1))
        return faults

    def _vanished(self, channel: str, acked: list[Key]) -> list[str]:
        """Find what was acknowledged, and is nowhere; excused if everybody was told so."""
        seats = [seat for (_, name), seat in self._seats.items() if name == channel]
        if all(seat.told_so for seat in seats):
            return []
        seen = {key for seat in seats for key in seat.seen}
        return [f"{key} of {channel} has vanished" for key in acked if key not in seen]

    def _fault(self, text: str) -> None:
        self._faults[text] += 1
