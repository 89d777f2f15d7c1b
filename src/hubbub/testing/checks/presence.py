"""Checks of brokers: who is present, who joins, who leaves."""

from hubbub.brokers.base import Event
from hubbub.model import ClientInfo, Join, Leave, PresenceStats, Publication
from hubbub.testing.trial import ADA, ANONYMOUS, BOB, LONG, BrokerTrial, payloads

__all__ = [
    "announce",
    "presence",
    "presence_stats",
    "presence_ttl",
]


async def presence(trial: BrokerTrial) -> None:
    """Entries are added, replaced and removed by client id, and all nodes see them."""
    channel, another = trial.channel(), trial.channel()
    new = ClientInfo("ada", "client-1", b"2", b"")
    async with trial.nodes() as (node, other):
        trial.expect(dict(await node.broker.presence(channel)), {}, "presence at first")
        await node.broker.add_presence(channel, "client-1", ADA, LONG)
        await other.broker.add_presence(channel, "client-2", BOB, None)
        before = await other.broker.presence(channel)
        both = {"client-1": ADA, "client-2": BOB}
        trial.expect(dict(before), both, "presence of two")
        trial.expect(dict(await node.broker.presence(another)), {}, "presence elsewhere")
        await node.broker.add_presence(channel, "client-1", new, LONG)
        present = dict(await other.broker.presence(channel))
        trial.expect(present, {"client-1": new, "client-2": BOB}, "presence after replacing")
        for _ in range(2):  # idempotent
            await node.broker.remove_presence(channel, "client-1")
        present = dict(await other.broker.presence(channel))
        trial.expect(present, {"client-2": BOB}, "presence after removing")
        await node.broker.remove_presence(channel, "client-2")
        trial.expect(dict(await other.broker.presence(channel)), {}, "presence at last")
        trial.expect(dict(before), both, "what was returned before")


async def presence_ttl(trial: BrokerTrial) -> None:
    """An entry ends after its TTL unless it is prolonged; without a TTL it stays."""
    channel = trial.channel()
    async with trial.nodes() as (node, other):
        await node.broker.add_presence(channel, "client-1", ADA, trial.ttl)
        await node.broker.add_presence(channel, "client-2", BOB, None)
        await node.broker.add_presence(channel, "client-3", ANONYMOUS, trial.ttl)
        await trial.wait(trial.early)
        await node.broker.add_presence(channel, "client-1", ADA, trial.ttl)
        await trial.wait(trial.late - trial.early)
        present = dict(await other.broker.presence(channel))
        expected = {"client-1": ADA, "client-2": BOB}
        trial.expect(present, expected, "presence after the TTL of one of three")
        stats = await other.broker.presence_stats(channel)
        trial.expect(stats, PresenceStats(2, 2), "statistics after the TTL of one of three")
        await trial.wait(trial.late)
        stats = await other.broker.presence_stats(channel)
        trial.expect(stats, PresenceStats(1, 1), "statistics after all TTLs")
        present = dict(await other.broker.presence(channel))
        trial.expect(present, {"client-2": BOB}, "presence after all TTLs")


async def presence_stats(trial: BrokerTrial) -> None:
    """Connections and users are counted, all anonymous connections as one user."""
    channel = trial.channel()
    async with trial.nodes() as (node, other):
        trial.expect(await node.broker.presence_stats(channel), PresenceStats(0, 0), "at first")
        counts = []
        users = ["ada", "", "bob", "ada", "", "ada"]
        for n, user in enumerate(users):
            info = ClientInfo(user, f"client-{n}")
            await node.broker.add_presence(channel, info.client, info, LONG)
            stats = await other.broker.presence_stats(channel)
            counts.append((stats.clients, stats.users))
        for n in (0, 1, 3, 4):
            await node.broker.remove_presence(channel, f"client-{n}")
            stats = await other.broker.presence_stats(channel)
            counts.append((stats.clients, stats.users))
        expected = [(1, 1), (2, 2), (3, 3), (4, 3), (5, 3), (6, 3), (5, 3), (4, 3), (3, 3), (2, 2)]
        trial.expect(counts, expected, f"numbers of clients and users, of {users}")


async def announce(trial: BrokerTrial) -> None:
    """Joins and leaves are delivered to all nodes, and leave no trace in the stream."""
    channel = trial.channel()
    async with trial.nodes() as (node, other):
        for subscriber in (node, other):
            await subscriber.broker.subscribe([channel])
        top = await node.publish(channel, b"1")
        expected: list[Event] = [Join(ADA), Join(ANONYMOUS), Leave(ADA)]
        for event in expected:
            assert not isinstance(event, Publication)
            await node.broker.announce(channel, event)
        for subscriber in (node, other):
            events = await subscriber.delivered(channel, 4)
            announced = [event for event in events if not isinstance(event, Publication)]
            trial.expect(announced, expected, "joins and leaves")
        trial.expect(await node.position(channel), top, "position")
        trial.expect(payloads(await node.publications(channel)), [b"1"], "history")
