"""What publishers and subscribers saw of a hub, and whether it kept its promises.

Facts go in, in the order in which they were learned; faults come out. Three rules find them:

1. A subscriber that stands, or was told `recovered: true`, sees offsets without a gap, each once.
2. Whoever sees an offset of an epoch sees the same publication there.
3. A publication that was acknowledged before another one of its channel was sent has the smaller
   offset. If it has none when the stream, followed without a gap, has got to the other, it is gone.

By 1 and 2 the stream is checked once for all of its subscribers: memory does not grow with their
number times what was published. A subscriber that is told `recovered: false` begins anew. What
nobody followed without a gap is excused from rule 3: everybody was told so.
"""

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from hubbub.cli.deliveries import Deliveries

__all__ = ["MAX_FINDINGS", "MAX_KEPT", "MAX_PENDING", "Fault", "Finding", "Sent", "Verification"]

MAX_KEPT: Final = 100_000
"""Most publications of a channel that are remembered for subscribers which may yet recover them."""

MAX_PENDING: Final = 10_000
"""Most publications of a channel that are remembered while nobody has seen them."""

MAX_FINDINGS: Final = 100
"""Most findings that are described; all are counted."""

# Publications between two looks at what can be forgotten.
_TRIM_EVERY: Final = 256


class Fault(StrEnum):
    """What a hub must not do."""

    LOST = "lost"
    """A subscriber did not get a publication that is in the stream."""

    VANISHED = "vanished"
    """A publication was acknowledged, and is not in the stream."""

    DUPLICATED = "duplicated"
    """A subscriber got a publication again, or it is in the stream twice."""

    REORDERED = "reordered"
    """A publication came, or is in the stream, after one that is later."""

    DIVERGED = "diverged"
    """Two subscribers got different publications of the same offset."""

    SILENT_EPOCH = "silent epoch"
    """The epoch changed under a subscription that stood."""

    FALSE_RECOVERY = "false recovery"
    """A subscriber was told `recovered: true`, and it was not so."""

    STRAY = "stray"
    """A publication came that does not belong there."""

    DEAF = "deaf"
    """A subscriber that stands in a channel did not hear what was published last of all."""

    ABSENT = "absent"
    """A client did not get back into its channels in time, or was ended for good."""

    PRESENCE = "presence"
    """Who is present is not who is subscribed."""

    ACTION = "action"
    """What was to be done to the hub during the run failed."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault, with what is known of it.

    Attributes:
        channel: Empty: it is of none.
        client: Number of the subscriber that saw it; `None`: it is of none.
    """

    fault: Fault
    channel: str
    client: int | None
    text: str


@dataclass(slots=True, eq=False)
class Sent:
    """A publication that was sent once, and never again.

    Attributes:
        sent_at: When, on the clock of facts.
        acked_at: When it was acknowledged. `None`: it was not, and may be in the stream or not.
        is_seen: Whether it was found in the stream.
        is_excused: Whether it may be missing: everybody was told so, or nobody was there.
        is_canary: Whether it was sent to see who hears it, when all others had been.
    """

    publisher: int
    number: int
    sent_at: int
    acked_at: int | None = None
    is_seen: bool = False
    is_excused: bool = False
    is_canary: bool = False

    @property
    def key(self) -> tuple[int, int]:
        """Tell it from all others of its channel."""
        return self.publisher, self.number


class Verification:
    """Checks one run.

    Args:
        max_kept: See `MAX_KEPT`. What is forgotten is not compared (rule 2), nothing else.
        max_pending: See `MAX_PENDING`. One that was acknowledged counts as vanished then.

    Attributes:
        faults: How many there were of each kind.
        findings: The first of them.
        sent: Publications that were sent.
        acknowledged: Of these, acknowledged.
        deliveries: Publications that subscribers got.
        recoveries: Subscriptions that were told `recovered: true`.
        told_so: Subscriptions that were told they missed something.
        excused: Acknowledged publications that nobody got, since everybody was told so.
        uncompared: Deliveries of publications that had been forgotten.
    """

    def __init__(self, *, max_kept: int = MAX_KEPT, max_pending: int = MAX_PENDING) -> None:
        self.faults: Counter[Fault] = Counter()
        self.findings: list[Finding] = []
        self.sent = 0
        self.acknowledged = 0
        self.deliveries = 0
        self.recoveries = 0
        self.told_so = 0
        self.excused = 0
        self.uncompared = 0
        self._max_kept = max_kept
        self._max_pending = max_pending
        self._now = 0
        self._streams: dict[str, _Stream] = {}

    @property
    def kept(self) -> int:
        """How many publications are remembered."""
        return sum(
            len(stream.pending) + sum(len(ledger.items) for ledger in stream.ledgers.values())
            for stream in self._streams.values()
        )

    def report(
        self, fault: Fault, text: str, channel: str = "", client: int | None = None, count: int = 1
    ) -> None:
        """Count faults, and describe them unless there are too many."""
        self.faults[fault] += count
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(fault, channel, client, text))

    # Publishers.

    def send(self, channel: str, publisher: int, *, is_canary: bool = False) -> Sent:
        """Note that a publisher is about to publish; return what tells the publication."""
        stream = self._stream(channel)
        number = stream.numbers.get(publisher, 0)
        stream.numbers[publisher] = number + 1
        self._now += 1
        # Where nobody follows, nobody can tell what is missing.
        followed = bool(stream.stands)
        sent = Sent(publisher, number, self._now, is_excused=not followed, is_canary=is_canary)
        stream.pending[sent.key] = sent
        self.sent += 1
        if len(stream.pending) > self._max_pending:
            self._forget(stream, next(iter(stream.pending.values())))
        return sent

    def acknowledge(self, channel: str, sent: Sent) -> None:
        """Note that a publication was acknowledged."""
        self._now += 1
        sent.acked_at = self._now
        self.acknowledged += 1
        stream = self._stream(channel)
        if sent.key in stream.pending:
            stream.acked[sent.key] = sent

    # Subscribers.

    def subscribed(
        self,
        client: int,
        channel: str,
        epoch: str,
        offset: int,
        *,
        recovered: bool = False,
        missed: int = 0,
    ) -> None:
        """Note that a subscription stands, and what its result said.

        Args:
            missed: How many publications came with the result; each is to be `delivered` next.
        """
        stream = self._stream(channel)
        stand = stream.stands.get(client)
        if not recovered:
            if stand is not None:
                self.told_so += 1
            self._begin(stream, client, epoch, offset)
            return
        problem = _false_recovery(stand, epoch, offset, missed)
        if stand is None or problem:
            self.report(Fault.FALSE_RECOVERY, problem, channel, client)
            self._begin(stream, client, epoch, offset)
            return
        self.recoveries += 1
        # With the first that comes live: it has to follow what was recovered.
        stand.recovering = missed + 1

    def delivered(
        self,
        client: int,
        channel: str,
        key: tuple[int, int] | None,
        offset: int,
        epoch: str = "",
    ) -> Sent | None:
        """Note that a subscriber got a publication.

        Args:
            key: Of what was sent in this channel, or in another one if its publisher is negative;
                `None`: it is somebody else's.
            epoch: As the publication told it; empty: it did not.

        Returns:
            The publication, as long as it is remembered; `None` too if it is not what it should.
        """
        self.deliveries += 1
        stream = self._stream(channel)
        stand = stream.stands.get(client)
        if stand is None or not offset:
            problem = "without a subscription" if stand is None else "without an offset"
            self.report(Fault.STRAY, f"a publication {problem}", channel, client)
            return None
        if epoch and epoch != stand.epoch:
            text = f"epoch {stand.epoch} became {epoch} at offset {offset}"
            self.report(Fault.SILENT_EPOCH, text, channel, client)
            stand = self._begin(stream, client, epoch, offset - 1)
        self._count(stream, client, stand, offset)
        return self._compare(stream, client, stream.ledgers[stand.epoch], key, offset)

    def leave(self, client: int, channel: str) -> None:
        """Note that a subscriber will not come back."""
        stream = self._stream(channel)
        if stream.stands.pop(client, None) is None:
            return
        if not stream.stands:
            stream.excuse()
        self._trim(stream)

    def finish(self) -> None:
        """Count what is missing now that nothing more comes."""
        for stream in self._streams.values():
            for ledger in stream.ledgers.values():
                self._follow(stream, ledger, max(ledger.items, default=0))
            for sent in list(stream.acked.values()):
                if sent.is_canary:
                    continue
                self._miss(stream, sent)

    # What one subscriber sees.

    def _begin(self, stream: "_Stream", client: int, epoch: str, offset: int) -> "_Stand":
        stand = stream.stands[client] = _Stand(epoch, offset)
        if epoch not in stream.ledgers:
            stream.excuse()
            stream.ledgers[epoch] = _Ledger(epoch, offset)
        self._trim(stream)
        return stand

    def _count(self, stream: "_Stream", client: int, stand: "_Stand", offset: int) -> None:
        """Apply rule 1."""
        deliveries = stand.deliveries
        expected = deliveries.next
        if offset == expected:
            deliveries.next = offset + 1
        elif deliveries.count(offset):
            if offset > expected:
                missing = f"{expected}" if offset == expected + 1 else f"{expected}..{offset - 1}"
                text = f"offset {missing} is missing before {offset}"
                if stand.recovering:
                    after = f"{text}, after recovered: true"
                    self.report(Fault.FALSE_RECOVERY, after, stream.channel, client)
                self.report(Fault.LOST, text, stream.channel, client, offset - expected)
            else:
                self.faults[Fault.LOST] -= 1
                text = f"offset {offset} came after {expected - 1}"
                self.report(Fault.REORDERED, text, stream.channel, client)
        else:
            text = f"offset {offset} came again, after {expected - 1}"
            self.report(Fault.DUPLICATED, text, stream.channel, client)
        stand.recovering -= stand.recovering > 0

    # What all of them see.

    def _compare(
        self,
        stream: "_Stream",
        client: int,
        ledger: "_Ledger",
        key: tuple[int, int] | None,
        offset: int,
    ) -> Sent | None:
        """Apply rule 2; what is new goes into the ledger."""
        if offset in ledger.items:
            item = ledger.items[offset]
            known = None if item is None else item.key
            if known != key:
                text = f"offset {offset} is {_shown(key)}, and {_shown(known)} for others"
                self.report(Fault.DIVERGED, text, stream.channel, client)
            return item if known == key else None
        if offset <= ledger.trimmed:
            self.uncompared += 1
            return None
        item = None if key is None else self._see(stream, client, key, offset)
        ledger.items[offset] = item
        if offset == ledger.frontier + 1:
            self._follow(stream, ledger, offset)
        stream.untrimmed += 1
        if stream.untrimmed >= _TRIM_EVERY or len(ledger.items) > self._max_kept:
            self._trim(stream)
        return item

    def _see(self, stream: "_Stream", client: int, key: tuple[int, int], offset: int) -> Sent:
        """Find what was sent; it is at this offset."""
        sent = stream.pending.pop(key, None)
        if sent is not None:
            stream.acked.pop(key, None)
            sent.is_seen = True
            return sent
        publisher, number = key
        where = f"at offset {offset}"
        if number >= stream.numbers.get(publisher, 0):
            self.report(Fault.STRAY, f"{_shown(key)} {where}", stream.channel, client)
        elif key in stream.missed:
            sent = stream.missed.pop(key)
            self.faults[Fault.VANISHED] -= 1
            text = f"{_shown(key)} {where}, after later ones"
            self.report(Fault.REORDERED, text, stream.channel, client)
        elif number > stream.forgotten.get(publisher, -1):
            text = f"{_shown(key)} {where}, and before: it was sent once"
            self.report(Fault.DUPLICATED, text, stream.channel, client)
        # Stands for it in the ledger, and proves nothing of others.
        return Sent(publisher, number, 0, is_seen=True)

    def _follow(self, stream: "_Stream", ledger: "_Ledger", offset: int) -> None:
        """Apply rule 3 up to an offset, and to what comes after it without a gap."""
        while ledger.frontier < offset:
            following = ledger.frontier + 1
            if following not in ledger.items:
                stream.excuse()
                following = min((at for at in ledger.items if at > following), default=offset + 1)
                ledger.frontier = min(following, offset + 1) - 1
                continue
            ledger.frontier = following
            self._pass(stream, ledger, ledger.items[following])
        while ledger.frontier + 1 in ledger.items:
            ledger.frontier += 1
            self._pass(stream, ledger, ledger.items[ledger.frontier])

    def _pass(self, stream: "_Stream", ledger: "_Ledger", item: Sent | None) -> None:
        if item is None:
            return
        if item.acked_at is not None and item.acked_at < ledger.newest_sent_at:
            text = f"{_shown(item.key)} is in the stream after later ones"
            self.report(Fault.REORDERED, text, stream.channel)
        ledger.newest_sent_at = max(ledger.newest_sent_at, item.sent_at)
        while stream.acked:
            first = next(iter(stream.acked.values()))
            assert first.acked_at is not None, "what is in `acked` was acknowledged"
            if first.acked_at > item.sent_at:
                break
            self._miss(stream, first)

    def _miss(self, stream: "_Stream", sent: Sent) -> None:
        """Give up an acknowledged publication that nobody has seen."""
        del stream.acked[sent.key], stream.pending[sent.key]
        if sent.is_excused:
            self.excused += 1
            self._remember_forgotten(stream, sent)
            return
        stream.missed[sent.key] = sent
        if len(stream.missed) > self._max_pending:
            oldest = stream.missed.pop(next(iter(stream.missed)))
            self._remember_forgotten(stream, oldest)
        text = f"{_shown(sent.key)} was acknowledged, and is not in the stream"
        self.report(Fault.VANISHED, text, stream.channel)

    # What is remembered.

    def _stream(self, channel: str) -> "_Stream":
        stream = self._streams.get(channel)
        if stream is None:
            stream = self._streams[channel] = _Stream(channel)
        return stream

    def _forget(self, stream: "_Stream", sent: Sent) -> None:
        if sent.key in stream.acked:
            self._miss(stream, sent)
        else:
            del stream.pending[sent.key]
            self._remember_forgotten(stream, sent)

    @staticmethod
    def _remember_forgotten(stream: "_Stream", sent: Sent) -> None:
        last = stream.forgotten.get(sent.publisher, -1)
        stream.forgotten[sent.publisher] = max(last, sent.number)

    def _trim(self, stream: "_Stream") -> None:
        """Forget what no subscriber needs any more, and what is too much."""
        stream.untrimmed = 0
        lowest: dict[str, int] = {}
        for stand in stream.stands.values():
            offset = stand.deliveries.next - 1
            lowest[stand.epoch] = min(offset, lowest.get(stand.epoch, offset))
        newest = next(reversed(stream.ledgers), "")
        for epoch, ledger in list(stream.ledgers.items()):
            if epoch not in lowest:
                if epoch != newest:
                    del stream.ledgers[epoch]
                continue
            low = lowest[epoch]
            if len(ledger.items) > self._max_kept:
                low = max(low, sorted(ledger.items)[-self._max_kept // 2])
            if low > ledger.frontier:
                self._follow(stream, ledger, low)
            ledger.trim(low)


@dataclass(slots=True)
class _Stand:
    """Where a subscriber stands in a channel.

    Attributes:
        recovering: Publications to come that `recovered: true` vouches for.
    """

    epoch: str
    deliveries: Deliveries
    recovering: int = 0

    def __init__(self, epoch: str, offset: int) -> None:
        self.epoch = epoch
        self.deliveries = Deliveries()
        self.deliveries.next = offset + 1
        self.recovering = 0


class _Ledger:
    """What is at each offset of an epoch.

    Attributes:
        items: By offset; `None` is somebody else's.
        frontier: Up to where rule 3 was applied.
        trimmed: Up to where everything is forgotten.
        newest_sent_at: Of what is before the frontier.
    """

    __slots__ = ("epoch", "frontier", "items", "newest_sent_at", "trimmed")

    def __init__(self, epoch: str, offset: int) -> None:
        self.epoch = epoch
        self.items: dict[int, Sent | None] = {}
        self.frontier = offset
        self.trimmed = offset
        self.newest_sent_at = 0

    def trim(self, offset: int) -> None:
        """Forget everything up to an offset."""
        if offset - self.trimmed > len(self.items):
            self.items = {at: item for at, item in self.items.items() if at > offset}
        else:
            for at in range(self.trimmed + 1, offset + 1):
                self.items.pop(at, None)
        self.trimmed = max(self.trimmed, offset)


class _Stream:
    """One channel.

    Attributes:
        numbers: The next one of each publisher.
        pending: What was sent and not seen, oldest first.
        acked: Of these, what was acknowledged, in the order of that.
        missed: What is known to have vanished.
        forgotten: The last number of each publisher up to which some are not remembered.
        ledgers: By epoch, the newest last.
        stands: By subscriber.
        untrimmed: Publications since something was forgotten last.
    """

    __slots__ = (
        "acked",
        "channel",
        "forgotten",
        "ledgers",
        "missed",
        "numbers",
        "pending",
        "stands",
        "untrimmed",
    )

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.numbers: dict[int, int] = {}
        self.pending: dict[tuple[int, int], Sent] = {}
        self.acked: dict[tuple[int, int], Sent] = {}
        self.missed: dict[tuple[int, int], Sent] = {}
        self.forgotten: dict[int, int] = {}
        self.ledgers: dict[str, _Ledger] = {}
        self.stands: dict[int, _Stand] = {}
        self.untrimmed = 0

    def excuse(self) -> None:
        """Let what is on its way be missing: a part of the stream is followed by nobody."""
        for sent in self.pending.values():
            sent.is_excused = True


def _false_recovery(stand: _Stand | None, epoch: str, offset: int, missed: int) -> str:
    """Say what is wrong with a `recovered: true`; empty: nothing so far."""
    if stand is None:
        return "recovered: true, without a position before"
    if epoch != stand.epoch:
        return f"recovered: true, but epoch {stand.epoch} became {epoch}"
    position = stand.deliveries.next - 1
    # The position that was asked for; some servers tell the one after what was missed.
    if offset not in (position, position + missed):
        return f"recovered: true with offset {offset} and {missed} missed, but stood at {position}"
    return ""


def _shown(key: tuple[int, int] | None) -> str:
    if key is None:
        return "somebody else's"
    publisher, number = key
    if publisher < 0:
        return f"publication {number} of publisher {-1 - publisher} in another channel"
    return f"publication {number} of publisher {publisher}"
