"""Checks of brokers: publications reach the subscribers, in order and whole."""

import asyncio

from hubbub.brokers.base import Event
from hubbub.model import Join, Position, Publication
from hubbub.testing.trial import ADA, ANONYMOUS, LONG, BrokerNode, BrokerTrial

__all__ = [
    "channel_names",
    "concurrent",
    "delivery",
    "fields",
    "large_payload",
    "offsets",
    "one_stream",
    "other_channels",
    "subscribe",
    "unsubscribe",
    "without_history",
]

# Bytes of a payload; servers that carry messages often take a million and no more.
LARGE = 500_000

# At both ends of a channel's name.
ODD_NAMES = (
    "",
    " ",
    "a b",
    "$private",
    "user#42,43",
    "news:sport/football.results",
    "{slot}",
    "*",
    "?[a-z]*",
    ">",
    "%s%00",
    "'\"`\\",
    "line\r\nbreak",
    "tab\tnul\x00del\x7f",
    "ünï☃ 漢字 👩‍🚀",
    "n" * 100,
)


async def offsets(trial: BrokerTrial) -> None:
    """Publishing with history returns offsets 1, 2, 3 in one epoch, which is not empty."""
    channel = trial.channel()
    async with trial.nodes() as (node, _):
        positions = [await node.publish(channel, b"%d" % n) for n in range(3)]
        epoch = positions[0].epoch
        trial.expect(bool(epoch), True, "whether the epoch has a name")
        trial.expect(positions, [Position(epoch, n) for n in (1, 2, 3)], "positions")


async def delivery(trial: BrokerTrial) -> None:
    """What is published is appended, and delivered once, in order, with its position."""
    channel = trial.channel()
    async with trial.nodes() as (node, other):
        await other.broker.subscribe([channel])
        positions = [await node.publish(channel, b"%d" % n) for n in range(20)]
        expected = [
            Publication(b"%d" % n, offset=position.offset, epoch=position.epoch)
            for n, position in enumerate(positions)
        ]
        trial.expect(await other.delivered(channel, 20), expected, "deliveries")
        trial.expect(await node.publications(channel), expected, "history")
        await trial.settle(node, other)
        trial.expect(await other.delivered(channel, 20), expected, "deliveries, after a while")


async def without_history(trial: BrokerTrial) -> None:
    """Publishing without history delivers with offset 0 and does not touch the stream."""
    channel = trial.channel()
    async with trial.nodes() as (node, other):
        await other.broker.subscribe([channel])
        top = await node.publish(channel, b"1")
        trial.expect(await node.publish(channel, b"2", size=0), Position(), "position, size 0")
        trial.expect(await node.publish(channel, b"3", ttl=0.0), Position(), "position, TTL 0")
        kept = Publication(b"1", offset=1, epoch=top.epoch)
        expected = [kept, Publication(b"2"), Publication(b"3")]
        trial.expect(await other.delivered(channel, 3), expected, "deliveries")
        trial.expect(await node.publications(channel), [kept], "history")
        trial.expect(await node.position(channel), top, "position of the stream")


async def concurrent(trial: BrokerTrial) -> None:
    """Concurrent publishing gives out each offset once, and delivery keeps their order."""
    channel = trial.channel()
    positions: dict[bytes, Position] = {}

    async def publish(node: BrokerNode, data: bytes) -> None:
        positions[data] = await node.publish(channel, data)

    async with trial.nodes() as nodes:
        for node in set(nodes):
            await node.broker.subscribe([channel])
        async with asyncio.TaskGroup() as group:
            for n in range(60):
                group.create_task(publish(nodes[n % 2], b"%d" % n))
        offsets = sorted(position.offset for position in positions.values())
        trial.expect(offsets, list(range(1, 61)), "offsets")
        in_order = sorted(positions.items(), key=lambda item: item[1].offset)
        expected = [
            Publication(data, offset=position.offset, epoch=position.epoch)
            for data, position in in_order
        ]
        for node in nodes:
            trial.expect(await node.delivered(channel, 60), expected, "deliveries")
        trial.expect(await nodes[0].publications(channel), expected, "history")


async def one_stream(trial: BrokerTrial) -> None:
    """All nodes see one stream per channel."""
    channel = trial.channel()
    async with trial.nodes() as (node, other):
        for publisher in (node, other):
            await publisher.broker.subscribe([channel])
        positions = [
            await publisher.publish(channel, b"%d" % n)
            for n, publisher in enumerate([node, other, node, other])
        ]
        trial.expect([position.offset for position in positions], [1, 2, 3, 4], "offsets")
        trial.expect(len({position.epoch for position in positions}), 1, "number of epochs")
        expected = await node.publications(channel)
        trial.expect(
            [publication.data for publication in expected], [b"0", b"1", b"2", b"3"], "history"
        )
        trial.expect(await other.publications(channel), expected, "history on the other node")
        trial.expect(await node.position(channel), positions[-1], "position on one node")
        trial.expect(await other.position(channel), positions[-1], "position on the other node")
        for reader in (node, other):
            trial.expect(await reader.delivered(channel, 4), expected, "deliveries")


async def fields(trial: BrokerTrial) -> None:
    """Payload, publisher, tags, delta flag and time arrive as they were published."""
    channel = trial.channel()
    published = [
        Publication(
            bytes(range(256)),
            info=ADA,
            tags={"lang": "de", "": "empty", "☃": "line\nbreak\x00"},
            delta=True,
            time=1_700_000_000_123,
            # Ignored: the broker says where it is.
            offset=77,
            epoch="elsewhere",
        ),
        Publication(b"", info=ANONYMOUS, delta=False, time=2**53 - 1),
        Publication(b"plain", info=None),
    ]
    async with trial.nodes() as (node, other):
        await other.broker.subscribe([channel])
        for size in (100, 0):
            expected = []
            for publication in published:
                position = await node.publish(channel, publication, size=size)
                expected.append(_fields_of(_at(publication, position)))
            events = await other.delivered(channel, 3)
            trial.expect([_fields_of(event) for event in events], expected, "deliveries")
            if size:
                history = await node.publications(channel)
                trial.expect([_fields_of(item) for item in history], expected, "history")
            other.events[channel].clear()


async def large_payload(trial: BrokerTrial) -> None:
    """A large payload arrives."""
    channel = trial.channel()
    data = bytes(range(250)) * (LARGE // 250)
    async with trial.nodes() as (node, other):
        await other.broker.subscribe([channel])
        position = await node.publish(channel, data)
        expected = [Publication(data, offset=1, epoch=position.epoch)]
        trial.expect(await other.delivered(channel, 1), expected, "deliveries")
        trial.expect(await node.publications(channel), expected, "history")


async def channel_names(trial: BrokerTrial) -> None:
    """Any text may be the name of a channel, and means that channel alone."""
    channels = [trial.channel(around) for around in ODD_NAMES]
    async with trial.nodes() as (node, other):
        await other.broker.subscribe(channels)
        for n, channel in enumerate(channels):
            await node.publish(channel, b"%d" % n)
            await node.broker.add_presence(channel, f"client-{n}", ADA, LONG)
        for n, channel in enumerate(channels):
            (publication,) = await node.publications(channel)
            expected = [Publication(b"%d" % n, offset=1, epoch=publication.epoch)]
            trial.expect([publication], expected, f"history of {channel!r}")
            trial.expect(await other.delivered(channel, 1), expected, f"deliveries in {channel!r}")
            present = dict(await node.broker.presence(channel))
            trial.expect(present, {f"client-{n}": ADA}, f"presence in {channel!r}")
        await trial.settle(node, other)
        counts = {channel: len(events) for channel, events in other.events.items()}
        trial.expect(counts, dict.fromkeys(channels, 1), "numbers of deliveries")


async def subscribe(trial: BrokerTrial) -> None:
    """Nothing is missed after `subscribe` returned, and subscribing again changes nothing."""
    async with trial.nodes() as (node, other):
        for _ in range(20):
            channels = [trial.channel(), trial.channel()]
            await other.broker.subscribe(channels)
            for channel in channels:
                await node.publish(channel, b"1", size=0)
            await other.broker.subscribe(channels)
            for channel in channels:
                await node.publish(channel, b"2", size=0)
            for channel in channels:
                expected = [Publication(b"1"), Publication(b"2")]
                trial.expect(await other.delivered(channel, 2), expected, "deliveries")


async def unsubscribe(trial: BrokerTrial) -> None:
    """After `unsubscribe`, delivery ends, in the given channels; a new `subscribe` resumes it."""
    ended, kept = trial.channel(), trial.channel()
    async with trial.nodes() as (node, other):
        await other.broker.unsubscribe([ended])
        await other.broker.subscribe([ended, kept])
        await node.publish(ended, b"1")
        await other.delivered(ended, 1)
        for _ in range(2):  # idempotent
            await other.broker.unsubscribe([ended])
        for _ in range(5):  # what is on its way may still arrive
            await trial.settle(node, other)
            before = len(other.events[ended])
            await node.publish(ended, b"2")
            await node.publish(kept, b"2")
            await trial.settle(node, other)
            if len(other.events[ended]) == before:
                break
        else:
            trial.fail("delivery goes on after `unsubscribe`")
        trial.expect(len(await other.delivered(kept, 1)) > 0, True, "delivery in another channel")
        await other.broker.subscribe([ended])
        await node.publish(ended, b"3")
        events = await other.delivered(ended, before + 1)
        data = [event.data for event in events[before:] if isinstance(event, Publication)]
        trial.expect(data, [b"3"], "deliveries after a new `subscribe`")


async def other_channels(trial: BrokerTrial) -> None:
    """Nothing is delivered of channels that the node is not subscribed to."""
    channel, foreign = trial.channel(), trial.channel()
    async with trial.nodes() as (node, other):
        await other.broker.subscribe([channel])
        for name in (foreign, foreign + "x", channel + "x", channel[:-1], channel):
            await node.publish(name, b"1")
            await node.broker.announce(name, Join(ADA))
        await other.delivered(channel, 2)
        await trial.settle(node, other)
        trial.expect(list(other.events), [channel], "channels with deliveries")


def _at(publication: Publication, position: Position) -> Publication:
    return Publication(
        publication.data,
        publication.info,
        publication.tags,
        publication.delta,
        position.offset,
        position.epoch,
        publication.time,
    )


def _fields_of(event: Event) -> object:
    """Make what can be compared and shown; a broker may return any mapping as tags."""
    if not isinstance(event, Publication):
        return event
    return (
        event.data,
        event.info,
        dict(event.tags),
        event.delta,
        event.offset,
        event.epoch,
        event.time,
    )
