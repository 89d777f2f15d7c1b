"""Checks of brokers: what was published before is dropped, by key or by version."""

import asyncio

from hubbub.model import Position
from hubbub.testing.trial import BrokerNode, BrokerTrial, payloads

__all__ = [
    "idempotency",
    "idempotency_concurrent",
    "idempotency_ttl",
    "idempotency_without_history",
    "version_epochs",
    "versions",
]

# Seconds around the end of the 5 minutes during which idempotency keys are remembered.
BEFORE_KEY_ENDS, TO_KEY_END = 290.0, 20.0


async def idempotency(trial: BrokerTrial) -> None:
    """A key that was used in the channel returns the first position, and delivers nothing."""
    channel, another = trial.channel(), trial.channel()
    async with trial.nodes() as (node, other):
        await other.broker.subscribe([channel, another])
        first = await node.publish(channel, b"1", key="a")
        second = await node.publish(channel, b"2", key="b")
        for publisher in (node, other):
            trial.expect(await publisher.publish(channel, b"no", key="a"), first, "position")
            trial.expect(await publisher.publish(channel, b"no", key="b"), second, "position")
        third = await node.publish(channel, b"3")
        trial.expect(third, Position(first.epoch, 3), "position of the next publication")
        position = await node.publish(another, b"1", key="a")
        trial.expect(position.offset, 1, "offset in another channel")
        await other.delivered(another, 1)
        events = await other.delivered(channel, 3)
        trial.expect(payloads(events), [b"1", b"2", b"3"], "deliveries")
        trial.expect(await node.publications(channel), events, "history")
        trial.expect(
            payloads(await other.delivered(another, 1)), [b"1"], "deliveries in another channel"
        )


async def idempotency_without_history(trial: BrokerTrial) -> None:
    """Keys work the same for what is published without history."""
    channel, another = trial.channel(), trial.channel()
    async with trial.nodes() as (node, other):
        await other.broker.subscribe([channel, another])
        for publisher in (node, other, node):
            position = await publisher.publish(channel, b"1", size=0, key="a")
            trial.expect(position, Position(), "position")
        await node.publish(channel, b"2", size=0)
        await node.publish(another, b"1", size=0, key="a")
        trial.expect(payloads(await other.delivered(channel, 2)), [b"1", b"2"], "deliveries")
        trial.expect(
            payloads(await other.delivered(another, 1)), [b"1"], "deliveries in another channel"
        )


async def idempotency_concurrent(trial: BrokerTrial) -> None:
    """Of concurrent publications with one key, one is accepted, and all return its position."""
    channel = trial.channel()
    positions: list[Position] = []

    async def publish(node: BrokerNode) -> None:
        positions.append(await node.publish(channel, b"1", key="a"))

    async with trial.nodes() as nodes:
        await nodes[0].broker.subscribe([channel])
        async with asyncio.TaskGroup() as group:
            for n in range(20):
                group.create_task(publish(nodes[n % 2]))
        epoch = positions[0].epoch
        trial.expect(positions, [Position(epoch, 1)] * 20, "positions")
        last = await nodes[1].publish(channel, b"2")
        trial.expect(last, Position(epoch, 2), "position of the next publication")
        trial.expect(payloads(await nodes[0].delivered(channel, 2)), [b"1", b"2"], "deliveries")


async def idempotency_ttl(trial: BrokerTrial) -> None:
    """Keys are remembered for 5 minutes; checked if the clock can be advanced."""
    if trial.clock is None:
        return
    channel = trial.channel()
    async with trial.nodes() as (node, _):
        first = await node.publish(channel, b"1", key="a")
        await trial.wait(BEFORE_KEY_ENDS)
        trial.expect(await node.publish(channel, b"2", key="a"), first, "position, before")
        await trial.wait(TO_KEY_END)
        position = await node.publish(channel, b"3", key="a")
        trial.expect(position, Position(first.epoch, 2), "position, afterwards")


async def versions(trial: BrokerTrial) -> None:
    """With history, what is not above the last version is dropped, and the top returned."""
    channel = trial.channel()
    async with trial.nodes() as (node, other):
        await other.broker.subscribe([channel])
        offsets = [
            (await publisher.publish(channel, b"%d" % version, version=version)).offset
            for version, publisher in [
                (5, node),
                (5, other),
                (4, node),
                (0, node),  # has none
                (5, node),
                (7, other),
                (6, node),
            ]
        ]
        trial.expect(offsets, [1, 1, 1, 2, 2, 3, 3], "offsets of versions 5, 5, 4, none, 5, 7, 6")
        await node.publish(channel, b"without", size=0, version=1)
        events = await other.delivered(channel, 4)
        trial.expect(payloads(events), [b"5", b"0", b"7", b"without"], "deliveries")
        trial.expect(payloads(await node.publications(channel)), [b"5", b"0", b"7"], "history")


async def version_epochs(trial: BrokerTrial) -> None:
    """Versions compare within one version epoch; with an empty one, with the last, whatever."""
    channel = trial.channel()
    steps = [
        ("a", 5, 1),
        ("a", 5, 1),
        ("b", 1, 2),
        ("b", 1, 2),
        ("a", 3, 3),
        ("", 3, 3),
        ("", 4, 4),
        ("a", 1, 5),  # the last has none, which is another
    ]
    async with trial.nodes() as (node, _):
        for number, (epoch, version, expected) in enumerate(steps):
            position = await node.publish(channel, b"1", version=version, version_epoch=epoch)
            what = f"offset after step {number}, version {version} of epoch {epoch!r}"
            trial.expect(position.offset, expected, what)
