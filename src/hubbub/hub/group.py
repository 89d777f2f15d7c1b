"""The subscribers of one channel on this node, and how what happens in it reaches them.

Subscribers that get the same bytes are a lane: one wire, with or without patches, filter, joins
and leaves. What happens is kept until the next flush, then encoded once per wire format, framed
once per lane and written once per subscriber.

The group knows how far the channel's stream was delivered. All positioned subscribers in lanes
stand there, so that one comparison per publication finds a gap for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from hubbub.errors import PayloadError
from hubbub.hub.encoding import encode_event, encode_patch
from hubbub.hub.lane import Event, Lane, Variant
from hubbub.hub.wires import MAX_FRAME, frames
from hubbub.model import Position, Publication
from hubbub.protocol import fossil
from hubbub.protocol.base import Codec

if TYPE_CHECKING:
    from hubbub.hub.channel import Channel
    from hubbub.hub.outbox import Changes, Outbox
    from hubbub.hub.subscription import Subscription

__all__ = ["Group", "Tally"]


class Tally:
    """Counts what a node has, and has done, over all its channels.

    Attributes:
        subscriptions: Of clients, at the moment.
        deliveries: Publications, joins and leaves, once for each subscriber they were sent to.
    """

    __slots__ = ("deliveries", "subscriptions")

    def __init__(self) -> None:
        self.deliveries = 0
        self.subscriptions = 0


class Group:
    """The subscribers of a channel.

    Args:
        changes: Of all outboxes of the node.
        tally: To count deliveries in.
        mark: Has `flush` called soon.
        unreadable: Takes subscribers whose wire format cannot carry a publication.

    Attributes:
        subscribers: All that are registered, live or not.
        epoch: Of the stream; empty: not known.
        offset: Up to which the stream was delivered; `None`: not known.
        rests_until: The loop's time of its next flush at the earliest; `Fanout` keeps it.
        listeners: Subscribers in this process. Instead of a publication, the top of the stream
            has them look whether they stand there, `None` ends them.
    """

    __slots__ = (
        "_active",
        "_ahead",
        "_base",
        "_changes",
        "_lanes",
        "_mark",
        "_pending",
        "_pending_size",
        "_tally",
        "_unreadable",
        "_waiting",
        "channel",
        "declaration",
        "epoch",
        "listeners",
        "offset",
        "rests_until",
        "subscribers",
    )

    def __init__(
        self,
        channel: str,
        declaration: Channel[Any],
        *,
        changes: Changes,
        tally: Tally,
        mark: Callable[[Group], object],
        unreadable: Callable[[Iterable[Subscription]], object],
    ) -> None:
        self.channel = channel
        self.declaration = declaration
        self.subscribers: dict[Outbox, Subscription] = {}
        self.listeners: dict[Callable[[Publication | Position | None], object], None] = {}
        self.epoch = ""
        self.offset: int | None = None
        self._changes = changes
        self._tally = tally
        self._mark = mark
        self._unreadable = unreadable
        self._lanes: dict[Variant, Lane] = {}
        # Registered and not live yet: publications go to their buffers.
        self._waiting: dict[Subscription, None] = {}
        # Live, but not where the group stands. Mostly with more than was delivered so far: what
        # comes is theirs already.
        self._ahead: dict[Subscription, None] = {}
        self._pending: list[Event] = []
        self._pending_size = 0
        # The payload that subscribers with delta on got last.
        self._base: bytes | None = None
        self._active = False
        self.rests_until = 0.0

    @property
    def empty(self) -> bool:
        """Whether nobody is left."""
        return not self.subscribers and not self.listeners

    @property
    def positioned(self) -> bool:
        """Whether anybody has to miss nothing, as far as is known."""
        history = self.declaration.options.history > 0
        return self.offset is not None or (history and bool(self.listeners))

    @property
    def position(self) -> Position | None:
        """Where the group stands; `None`: nowhere that is known."""
        return None if self.offset is None else Position(self.epoch, self.offset)

    def register(self, subscription: Subscription) -> None:
        """Keep for a subscription what is delivered from now on."""
        outbox = subscription.session.outbox
        self._tally.subscriptions += outbox not in self.subscribers
        self.subscribers[outbox] = subscription
        self._waiting[subscription] = None

    def go_live(self, subscription: Subscription) -> None:
        """Deliver to a subscription from now on; what it was to get before has been written.

        Nothing may be pending: flush first, then write the reply, then call this. A positioned
        subscription that is not where the group stands waits until both meet.
        """
        self._waiting.pop(subscription, None)
        subscription.buffer = None
        if subscription.positioned:
            if self.offset is None:
                self.epoch, self.offset = subscription.epoch, subscription.position
            elif (subscription.epoch, subscription.position) != (self.epoch, self.offset):
                self._ahead[subscription] = None
                return
        self._enter_lane(subscription)

    def leave(self, subscription: Subscription) -> None:
        """Deliver nothing more to a subscription. Idempotent."""
        outbox = subscription.session.outbox
        if self.subscribers.get(outbox) is not subscription:
            return
        del self.subscribers[outbox]
        self._tally.subscriptions -= 1
        self._waiting.pop(subscription, None)
        self._ahead.pop(subscription, None)
        variant = _variant(subscription)
        lane = self._lanes.get(variant)
        if lane is not None:
            lane.members.pop(outbox, None)
            lane.changed()
            lane.fresh.pop(outbox, None)
            if not lane.members and not lane.fresh:
                del self._lanes[variant]

    def deliver(self, event: Event) -> list[Subscription]:
        """Take what happened in the channel.

        Returns:
            Positioned subscriptions that have missed something before it; they are not in their
            lanes any more, and do not get it.
        """
        lost: list[Subscription] = []
        if isinstance(event, Publication):
            self._active = True
            # Repetitions too: these may have read the stream before it was in it.
            for subscription in self._waiting:
                subscription.keep(event)
            for listener in tuple(self.listeners):
                listener(event)
            if event.offset:
                if self.offset is not None:
                    if event.epoch != self.epoch or event.offset > self.offset + 1:
                        lost = self._lose()
                    elif event.offset <= self.offset:
                        self._repeat(event)
                        return lost
                if self._ahead:
                    lost += self._overtake(event)
                self.epoch, self.offset = event.epoch, event.offset
        if self._ahead and not (isinstance(event, Publication) and event.offset):
            self._tell_ahead(event)
        if self._lanes:
            self._append(event)
        elif isinstance(event, Publication):
            self._base = event.data
        if self._ahead:
            self._catch_up()
        return lost

    def compare(self, top: Position, before: Position | None = None) -> list[Subscription]:
        """Compare with the top of the stream, as the broker has it.

        Args:
            before: Where the group stood when the top was asked for. A top below that is of a
                broker that has lost what it had, and gives out its offsets again.

        Returns:
            Positioned subscriptions, if something was published that was not delivered, or
            delivered and lost.
        """
        fell_back = before is not None and before.epoch == top.epoch and top.offset < before.offset
        for listener in tuple(self.listeners):
            listener(top)
        lost = [
            each for each in self._ahead if each.epoch != top.epoch or each.position < top.offset
        ]
        for subscription in lost:
            self.leave(subscription)
        if self.offset is None:
            return lost
        if top.epoch == self.epoch and top.offset <= self.offset and not fell_back:
            return lost
        lost += self._lose()
        self.epoch, self.offset = top.epoch, top.offset
        self._catch_up()
        return lost

    def check_quiet(self) -> bool:
        """Whether nothing was delivered since the last time that this was asked."""
        quiet, self._active = not self._active, False
        return quiet and self.positioned

    def end(self) -> None:
        """End the subscribers in this process: the hub stops."""
        for listener in tuple(self.listeners):
            listener(None)

    def flush(self) -> None:
        """Write to all subscribers what is pending."""
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        self._pending_size = 0
        sending = _Sending(self.channel, self.declaration.payloads.binary, pending, self._base)
        self._base = sending.last
        for lane in tuple(self._lanes.values()):
            try:
                self._send(lane, sending)
            except PayloadError:
                self._unreadable([*lane.members.values(), *lane.fresh.values()])

    def replay(self, subscription: Subscription, events: Iterable[Event]) -> None:
        """Write what happened to one subscription that is in no lane yet.

        Raises:
            PayloadError: Its wire format cannot carry a publication.
        """
        passing = [event for event in events if _wants(subscription, event)]
        if passing:
            wire, binary = subscription.wire, self.declaration.payloads.binary
            messages = [
                encode_event(
                    wire.codec, self.channel, each, binary=binary, quoted=subscription.delta
                )
                for each in passing
            ]
            self._tally.deliveries += len(messages)
            for frame in frames(wire, messages):
                subscription.session.outbox.write(frame)

    def _append(self, event: Event) -> None:
        if not self._pending:
            self._mark(self)
        self._pending.append(event)
        if isinstance(event, Publication):
            self._pending_size += len(event.data)
            if self._pending_size > MAX_FRAME:
                self.flush()  # bounded, whatever is published in one go

    def _overtake(self, event: Publication) -> list[Subscription]:
        """Let those enter their lanes to whom a publication is new; return whom it comes too late.

        They read the stream before this publication was in it, and those before have not all been
        delivered: the stream began anew, or the gap is theirs as well.
        """
        lost: list[Subscription] = []
        for subscription in tuple(self._ahead):
            if event.epoch == subscription.epoch and event.offset <= subscription.position:
                continue
            self.flush()
            if event.epoch == subscription.epoch and event.offset == subscription.position + 1:
                del self._ahead[subscription]
                self._enter_lane(subscription)
            else:
                self.leave(subscription)
                lost.append(subscription)
        return lost

    def _repeat(self, event: Publication) -> None:
        """Deliver to those who lack it what all in lanes have got, or who was lost, been told of.

        They read the stream before it was in it, and the group stands where another reader, or a
        comparison, found the top.
        """
        for subscription in tuple(self._ahead):
            behind = event.offset == subscription.position + 1
            if behind and event.epoch == subscription.epoch:
                subscription.position = event.offset
                self._tell(subscription, event)
        self._catch_up()

    def _tell_ahead(self, event: Event) -> None:
        """Deliver what has no place in the stream, so that nobody has it already."""
        for subscription in tuple(self._ahead):
            self._tell(subscription, event)

    def _tell(self, subscription: Subscription, event: Event) -> None:
        try:
            self.replay(subscription, (event,))
        except PayloadError:
            self._unreadable((subscription,))

    def _catch_up(self) -> None:
        """Let those enter their lanes that stand where the group does."""
        here = (self.epoch, self.offset)
        reached = [each for each in self._ahead if (each.epoch, each.position) == here]
        if reached:
            self.flush()  # what is pending is theirs already
            for subscription in reached:
                del self._ahead[subscription]
                self._enter_lane(subscription)

    def _enter_lane(self, subscription: Subscription) -> None:
        variant = _variant(subscription)
        lane = self._lanes.get(variant)
        if lane is None:
            lane = self._lanes[variant] = Lane(variant, subscription.passes, self._changes)
        entrance = lane.fresh if variant.delta else lane.members
        entrance[subscription.session.outbox] = subscription
        lane.changed()

    def _lose(self) -> list[Subscription]:
        """Take all positioned subscriptions out that were live: they have missed something."""
        self.flush()
        lost = [
            each
            for lane in self._lanes.values()
            for each in (*lane.members.values(), *lane.fresh.values())
            if each.positioned
        ]
        for subscription in lost:
            self.leave(subscription)
        return lost

    def _send(self, lane: Lane, sending: _Sending) -> None:
        variant = lane.variant
        codec = variant.wire.codec
        chosen: list[int] | None = None
        if variant.tags is not None or (sending.mixed and not variant.events):
            chosen = [n for n, event in enumerate(sending.events) if lane.wants(event)]
            if not chosen:
                return
        if lane.members:
            messages = _choose(sending.messages(codec, variant.delta, False), chosen)
            self._tally.deliveries += len(messages) * len(lane.members)
            for frame in frames(variant.wire, messages, shared=len(lane.members) > 1):
                lane.write(frame)
        if lane.fresh:
            messages = _choose(sending.messages(codec, True, True), chosen)
            self._tally.deliveries += len(messages) * len(lane.fresh)
            for frame in frames(variant.wire, messages, shared=len(lane.fresh) > 1):
                lane.write_fresh(frame)
            if sending.published:
                lane.members.update(lane.fresh)
                lane.fresh.clear()
                lane.changed()


def _choose(messages: list[bytes], chosen: list[int] | None) -> list[bytes]:
    return messages if chosen is None else [messages[n] for n in chosen]


class _Sending:
    """What one flush sends, encoded when the first lane asks for it.

    Attributes:
        base: Payload before the first event.
        last: Payload after the last.
        published: There is a publication among the events.
        mixed: There are joins or leaves among the events.
    """

    __slots__ = (
        "_binary",
        "_channel",
        "_encoded",
        "_patches",
        "base",
        "events",
        "last",
        "mixed",
        "published",
    )

    def __init__(self, channel: str, binary: bool, events: list[Event], base: bytes | None) -> None:
        self.events = events
        self.base = base
        payloads = [event.data for event in events if isinstance(event, Publication)]
        self.last = payloads[-1] if payloads else base
        self.published = bool(payloads)
        self.mixed = len(payloads) < len(events)
        self._channel = channel
        self._binary = binary
        self._encoded: dict[tuple[int, bool, bool], list[bytes]] = {}
        self._patches: list[bytes | None] | None = None

    def messages(self, codec: Codec, delta: bool, fresh: bool) -> list[bytes]:
        """Encode the events, once.

        Args:
            delta: For clients with delta on.
            fresh: These have got nothing before: the first publication is whole.

        Raises:
            PayloadError: The format cannot carry a payload.
        """
        key = (id(codec), delta, fresh)
        messages = self._encoded.get(key)
        if messages is None:
            messages = self._encoded[key] = self._encode(codec, delta, fresh)
        return messages

    def _encode(self, codec: Codec, delta: bool, fresh: bool) -> list[bytes]:
        channel, binary = self._channel, self._binary
        if not delta:
            return [encode_event(codec, channel, event, binary=binary) for event in self.events]
        messages: list[bytes] = []
        for event, patch in zip(self.events, self._diffs(), strict=True):
            if patch is None or fresh or not isinstance(event, Publication):
                messages.append(encode_event(codec, channel, event, binary=binary, quoted=True))
                fresh = fresh and not isinstance(event, Publication)
            else:
                messages.append(encode_patch(codec, channel, event, patch))
        return messages

    def _diffs(self) -> list[bytes | None]:
        """Return the patch of each event; `None` where it goes whole."""
        if self._patches is None:
            self._patches = []
            base = self.base
            for event in self.events:
                patch = None
                if isinstance(event, Publication):
                    if base is not None and event.delta and event.offset:
                        patch = fossil.diff(base, event.data)
                    base = event.data
                self._patches.append(patch)
        return self._patches


def _wants(subscription: Subscription, event: Event) -> bool:
    if not isinstance(event, Publication):
        return subscription.events
    return subscription.passes is None or subscription.passes(event.tags)


def _variant(subscription: Subscription) -> Variant:
    return Variant(subscription.wire, subscription.delta, subscription.events, subscription.tags)
