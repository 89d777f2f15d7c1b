"""Positions are compared until it has been done, whatever the broker does meanwhile."""

import pytest

from hubbub import BrokerError, Hub, serve
from hubbub.errors import UnsubscribeCode
from hubbub.hub import positions
from hubbub.model import ClientInfo, History, Position
from tests.hub.brokers import RemoteBroker
from tests.hub.raw import connected
from tests.server.wire import until

HOST = "127.0.0.1"


class FailingBroker(RemoteBroker):
    """Fails as often as a test says.

    Attributes:
        failures: How often calls are to fail yet.
        top: What `history` says instead of the truth.
    """

    def __init__(self) -> None:
        super().__init__()
        self.failures = 0
        self.top: Position | None = None

    def fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise BrokerError("test", "away")

    async def history(
        self,
        channel: str,
        *,
        since: Position | None = None,
        limit: int | None = None,
        reverse: bool = False,
        meta_ttl: float = 2_592_000.0,
    ) -> History:
        page = await super().history(
            channel, since=since, limit=limit, reverse=reverse, meta_ttl=meta_ttl
        )
        self.fail()
        return page if self.top is None else History((), self.top)

    async def add_presence(
        self, channel: str, client: str, info: ClientInfo, ttl: float | None
    ) -> None:
        await super().add_presence(channel, client, info, ttl)
        self.fail()

    def suspect(self) -> None:
        receiver = self.memory.receiver
        assert receiver is not None
        receiver.suspect(None)


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(positions, "RETRY_DELAY", 0.01)


async def test_comparison_that_fails_is_done_again() -> None:
    broker = FailingBroker()
    hub = Hub(broker)
    channels = [f"room:{n}" for n in range(5)]
    hub.channel("room:{n}", history=10)
    async with serve(hub, HOST, 0) as server, connected(server) as client:
        for channel in channels:
            await client.subscribe(channel)
        broker.memory.passes = lambda event: False
        for channel in channels[:3]:
            await hub.publish(channel, 1)
        broker.failures = 12
        broker.suspect()
        told = [await client.next_push() for _ in range(3)]

        assert {push.channel for push in told} == set(channels[:3])
        assert all(push.unsubscribe is not None for push in told)
        assert await client.pushes() == []


async def test_subscriber_of_a_stream_that_fell_back_is_told() -> None:
    """The broker has lost what was delivered, and would give out its offset again."""
    broker = FailingBroker()
    hub = Hub(broker)
    hub.channel("room", history=10)
    async with serve(hub, HOST, 0) as server, connected(server) as client:
        await client.subscribe("room")
        first = await hub.publish("room", 1)
        await hub.publish("room", 2)
        await client.next_values(2)
        broker.top = first
        broker.suspect()
        push = await client.next_push()

        assert push.unsubscribe is not None
        assert push.unsubscribe.code == UnsubscribeCode.INSUFFICIENT_STATE


async def test_top_that_was_read_before_a_delivery_is_no_loss() -> None:
    broker = FailingBroker()
    hub = Hub(broker)
    hub.channel("room", history=10)
    async with serve(hub, HOST, 0) as server, connected(server) as client:
        await client.subscribe("room")
        await hub.publish("room", 1)
        await client.next_values(1)
        broker.hold("history")
        broker.suspect()
        await broker.entered("history")
        await hub.publish("room", 2)
        await client.next_values(1)
        broker.release("history")
        broker.suspect()  # a round of its own, after the first
        await until(lambda: broker.calls.count("history") == 3)
        await hub.publish("room", 3)

        assert await client.next_values(1) == [3]
        assert await client.pushes() == []


async def test_presence_that_was_not_prolonged_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hubbub.hub.prolonging.RETRY_DELAY", 0.01)
    broker = FailingBroker()
    hub = Hub(broker)
    hub.channel("room", presence=True)
    async with serve(hub, HOST, 0) as server, connected(server) as client:
        await client.subscribe("room")
        entered = len(broker.presence_ttls)
        broker.failures = 3
        broker.suspect()
        await until(lambda: len(broker.presence_ttls) >= entered + 4)
        await until(lambda: broker.failures == 0)
