"""Checks of brokers: the node itself."""

from collections.abc import Coroutine
from typing import Any

from hubbub.brokers.base import Event
from hubbub.model import Join, Publication
from hubbub.testing.trial import ADA, LONG, BrokerTrial, payloads

__all__ = [
    "control",
    "leaving",
    "local",
]


async def control(trial: BrokerTrial) -> None:
    """A control message comes to every node once, the sender included."""
    messages = [bytes(range(256)), b"", b"third"]
    async with trial.nodes() as (node, other):
        for sender, message in zip((node, other, node), messages, strict=True):
            await sender.broker.send_control(message)
        for receiver in (node, other):
            got = await receiver.controlled(3)
            trial.expect(sorted(got), sorted(messages), "control messages")
        await trial.settle(node, other)
        for receiver in (node, other):
            trial.expect(len(receiver.messages), 3, "number of control messages after a while")


async def leaving(trial: BrokerTrial) -> None:
    """After `running` was left nothing is called, and subscriptions are gone."""
    channel = trial.channel()
    async with trial.node() as node:
        await node.broker.subscribe([channel])
        await node.publish(channel, b"1")
        await node.broker.add_presence(channel, "client-1", ADA, LONG)
        await node.broker.send_control(b"1")
    # A broker that is alone runs again. Others lose a node.
    again = node.broker if node.broker.alone else None
    async with trial.node(again) as other:
        for n in range(3):
            await other.publish(channel, b"%d" % n)
            await other.broker.announce(channel, Join(ADA))
        await other.broker.send_control(b"2")
        await other.controlled(1)
        await trial.settle(node, other)
        trial.expect(list(other.events), [], "channels with deliveries, without subscriptions")
    trial.verify()


async def local(trial: BrokerTrial) -> None:
    """What calls itself local never suspends, and defers what is published while delivering."""
    channel = trial.channel()
    async with trial.nodes() as (node, _):
        if not node.broker.local:
            return

        def run(coroutine: Coroutine[Any, Any, object]) -> None:
            try:
                coroutine.send(None)
            except StopIteration:
                return
            coroutine.close()
            trial.report(f"{coroutine!r} suspends")

        def publish_more(_: str, event: Event) -> None:
            if isinstance(event, Publication) and len(event.data) < 4:
                for letter in (b"a", b"b"):
                    run(node.publish(channel, event.data + letter))

        broker = node.broker
        run(broker.subscribe([channel]))
        node.on_deliver = publish_more
        run(node.publish(channel, b"00"))
        node.on_deliver = None
        events = await node.delivered(channel, 7)
        expected = [b"00", b"00a", b"00b", b"00aa", b"00ab", b"00ba", b"00bb"]
        trial.expect(payloads(events), expected, "deliveries, two published within each")
        trial.expect(await node.publications(channel), events, "history")
        run(broker.history(channel))
        run(broker.announce(channel, Join(ADA)))
        run(broker.remove_history(channel))
        run(broker.add_presence(channel, "client-1", ADA, None))
        run(broker.presence(channel))
        run(broker.presence_stats(channel))
        run(broker.remove_presence(channel, "client-1"))
        run(broker.send_control(b"1"))
        run(broker.unsubscribe([channel]))
