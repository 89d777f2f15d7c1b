"""Checks of brokers: what streams keep, for how long, and how it is read."""

from hubbub.model import Position, Publication
from hubbub.testing.trial import LONG, BrokerTrial

__all__ = [
    "first_read",
    "foreign_epoch",
    "history_size",
    "history_ttl",
    "meta_ttl",
    "pages",
    "remove_history",
]


async def first_read(trial: BrokerTrial) -> None:
    """Reading a channel that has no stream makes one, whose epoch stays."""
    channel = trial.channel()
    async with trial.nodes() as (node, other):
        history = await node.broker.history(channel, meta_ttl=LONG)
        epoch = history.position.epoch
        trial.expect(history.publications, (), "publications")
        trial.expect(history.position.offset, 0, "offset")
        trial.expect(bool(epoch), True, "whether the epoch has a name")
        trial.expect(await other.position(channel), Position(epoch, 0), "position, read again")
        position = await node.publish(channel, b"1")
        trial.expect(position, Position(epoch, 1), "position of the first publication")


async def pages(trial: BrokerTrial) -> None:
    """History is read from a position on, up to a limit, in both directions."""
    channel = trial.channel()
    async with trial.nodes() as (node, _):
        for n in range(1, 11):
            top = await node.publish(channel, b"%d" % n, size=6)
        for since in (None, 0, 3, 4, 5, 8, 10, 11):
            for limit in (None, 0, 1, 3, 6, 100):
                for reverse in (False, True):
                    for epoch in ("", top.epoch):
                        offsets = [
                            offset
                            for offset in (range(10, 4, -1) if reverse else range(5, 11))
                            if since is None or (offset < since if reverse else offset > since)
                        ]
                        history = await node.broker.history(
                            channel,
                            since=None if since is None else Position(epoch, since),
                            limit=limit,
                            reverse=reverse,
                            meta_ttl=LONG,
                        )
                        expected = [
                            Publication(b"%d" % offset, offset=offset, epoch=top.epoch)
                            for offset in offsets[:limit]
                        ]
                        what = f"offsets 5 to 10, since {since}, limit {limit}, reverse {reverse}"
                        trial.expect(list(history.publications), expected, what)
                        trial.expect(history.position, top, f"position of {what}")


async def foreign_epoch(trial: BrokerTrial) -> None:
    """A position of another epoch gets no publications, but the position of the stream."""
    channel = trial.channel()
    async with trial.nodes() as (node, _):
        top = await node.publish(channel, b"1")
        for reverse in (False, True):
            history = await node.broker.history(
                channel, since=Position(top.epoch + "x", 0), reverse=reverse, meta_ttl=LONG
            )
            trial.expect(history.publications, (), "publications")
            trial.expect(history.position, top, "position")


async def history_size(trial: BrokerTrial) -> None:
    """A stream keeps the newest publications, as many as the last one said."""
    channel = trial.channel()
    async with trial.nodes() as (node, _):
        kept = 0
        for n, size in enumerate([3, 3, 3, 3, 5, 5, 5, 2, 10, 1, 4], start=1):
            await node.publish(channel, b"%d" % n, size=size)
            kept = min(kept + 1, size)
            offsets = [publication.offset for publication in await node.publications(channel)]
            expected = list(range(n - kept + 1, n + 1))
            trial.expect(offsets, expected, f"offsets after number {n}, with size {size}")


async def history_ttl(trial: BrokerTrial) -> None:
    """Publications are kept until the TTL has passed since the newest, and then gone."""
    channel = trial.channel()
    async with trial.nodes() as (node, other):
        await node.publish(channel, b"1", ttl=trial.ttl)
        await trial.wait(trial.early)
        await node.publish(channel, b"2", ttl=trial.ttl)
        await trial.wait(trial.early)
        offsets = [publication.offset for publication in await other.publications(channel)]
        trial.expect(offsets, [1, 2], "offsets before the TTL has passed since the newest")
        top = await node.position(channel)
        await trial.wait(trial.late - trial.early)
        trial.expect(await other.publications(channel), [], "publications after the TTL")
        trial.expect(await other.position(channel), top, "position after the TTL")
        position = await node.publish(channel, b"3")
        trial.expect(position, Position(top.epoch, 3), "position of the next publication")
        offsets = [publication.offset for publication in await node.publications(channel)]
        trial.expect(offsets, [3], "offsets after the TTL and another publication")


async def meta_ttl(trial: BrokerTrial) -> None:
    """Epoch and offset are kept until their TTL has passed since the last use."""
    channel = trial.channel()

    async def read() -> tuple[Position, int]:
        history = await node.broker.history(channel, meta_ttl=trial.ttl)
        return history.position, len(history.publications)

    async with trial.nodes() as (node, _):
        first = await node.publish(channel, b"1", ttl=trial.ttl, meta_ttl=trial.ttl)
        for _ in range(2):
            await trial.wait(trial.early)
            position, _ = await read()
            trial.expect(position, first, "position before the TTL has passed since the last use")
        await trial.wait(trial.early)
        second = await node.publish(channel, b"2", ttl=trial.ttl, meta_ttl=trial.ttl)
        trial.expect(second, Position(first.epoch, 2), "position of a publication before the TTL")
        await trial.wait(trial.early)
        position, _ = await read()
        trial.expect(position, second, "position before the TTL has passed since publishing")
        await trial.wait(trial.late)
        position, publications = await read()
        trial.expect(position.epoch not in {"", first.epoch}, True, "whether the epoch is new")
        trial.expect((position.offset, publications), (0, 0), "offset and number of publications")
        third = await node.publish(channel, b"3")
        trial.expect(third, Position(position.epoch, 1), "position of the next publication")


async def remove_history(trial: BrokerTrial) -> None:
    """Removing history drops publications, and keeps epoch and offset."""
    channel, unused = trial.channel(), trial.channel()
    async with trial.nodes() as (node, other):
        await node.publish(channel, b"1")
        top = await node.publish(channel, b"2")
        await node.broker.remove_history(channel)
        trial.expect(await other.publications(channel), [], "publications")
        trial.expect(await other.position(channel), top, "position")
        position = await node.publish(channel, b"3")
        trial.expect(position, Position(top.epoch, 3), "position of the next publication")
        offsets = [publication.offset for publication in await node.publications(channel)]
        trial.expect(offsets, [3], "offsets after the next publication")
        await node.broker.remove_history(unused)
