"""What nodes know of each other: announcements, departures, questions, with virtual time."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from hubbub import Hub, Limits, User
from hubbub.brokers.memory import MemoryBroker
from hubbub.errors import BrokerError
from hubbub.hub.cluster import ANNOUNCE_INTERVAL, GONE_AFTER, PART
from hubbub.testing import FakeClock
from tests.hub.sdk_model import MemoryClient, Port
from tests.hub.suspending import Hold, SuspendingBroker, SuspendingStore
from tests.hub.virtual import VirtualLoop

LIMITS = Limits(channels=3 * PART)


class Stage:
    """Hubs over one store, and what happens when nothing holds it back."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.clock = FakeClock()
        self.store = SuspendingStore(self.clock)
        self.brokers: list[SuspendingBroker] = []
        self.hubs: list[Hub] = []
        self.clients: list[MemoryClient] = []

    def enter(self) -> Hub:
        self.brokers.append(self.store.node())
        hub = Hub(self.brokers[-1], clock=self.clock, ping_interval=0, limits=LIMITS)
        hub.channel("{name:path}")
        self.hubs.append(hub)
        self.do(hub.__aenter__)
        return hub

    def leave(self, hub: Hub) -> None:
        self.hubs.remove(hub)
        self.loop.run_until_complete(hub.__aexit__(None, None, None))
        self.do(lambda: None)

    def do(self, act: Any, *args: Any, **kwargs: Any) -> Any:
        """Do something, and let everything happen that is not held back."""

        async def perform() -> Any:
            result = act(*args, **kwargs)
            if asyncio.iscoroutine(result):
                result = asyncio.get_running_loop().create_task(result)
            await asyncio.sleep(1)
            return result

        return self.loop.run_until_complete(perform())

    def get(self, act: Any, *args: Any, **kwargs: Any) -> Any:
        return self.do(act, *args, **kwargs).result()

    def pass_time(self, seconds: float) -> None:
        """Let it pass, a second at a time."""
        for _ in range(round(seconds)):
            self.do(self.clock.advance, 1)

    def connect(self, hub: Hub, *channels: str) -> MemoryClient:
        client = MemoryClient()
        self.clients.append(client)
        self.do(client.open, Port(hub))
        for channel in channels:
            self.do(client.sdk.subscribe, channel)
        return client

    def close(self) -> None:
        for hold in list(self.store.holds):
            self.do(hold.release)
        for hub in list(self.hubs):
            self.leave(hub)
        assert not [task for task in asyncio.all_tasks(self.loop) if not task.done()]
        self.loop.close()


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


def seen(hub: Hub) -> set[str]:
    return {node.uid for node in hub.nodes()}


def own(hub: Hub) -> str:
    return hub.nodes()[0].uid


def test_nodes_know_each_other_as_soon_as_one_comes(stage: Stage) -> None:
    first, second, third = stage.enter(), stage.enter(), stage.enter()
    uids = {own(first), own(second), own(third)}

    assert len(uids) == 3
    assert seen(first) == seen(second) == seen(third) == uids


def test_report_has_what_the_node_has(stage: Stage) -> None:
    first, second = stage.enter(), stage.enter()
    stage.connect(second, "a", "b")
    gone = stage.connect(second, "a")
    stage.connect(second)
    stage.pass_time(ANNOUNCE_INTERVAL)

    node = first.nodes()[1]
    assert (node.clients, node.users, node.subscriptions, node.channels) == (3, 1, 3, 2)
    assert ANNOUNCE_INTERVAL <= node.uptime < 2 * ANNOUNCE_INTERVAL
    assert node.version.startswith("hubbub ")
    assert node.name.rpartition(":")[0]

    stage.do(gone.drop)
    stage.pass_time(ANNOUNCE_INTERVAL)

    assert first.nodes()[1].subscriptions == second.nodes()[0].subscriptions == 2


def test_node_that_leaves_is_gone_at_once_and_comes_back_as_another(stage: Stage) -> None:
    first, second = stage.enter(), stage.enter()
    before = own(second)
    stage.leave(second)

    assert seen(first) == {own(first)}

    stage.hubs.append(second)
    stage.do(second.__aenter__)

    assert seen(first) == {own(first), own(second)}
    assert own(second) != before


def test_silent_node_is_gone_after_a_while_and_back_when_it_speaks(stage: Stage) -> None:
    first, second = stage.enter(), stage.enter()
    hold = stage.store.hold("send_control", "request")
    stage.pass_time(GONE_AFTER - 1)

    assert len(seen(first)) == 2

    stage.pass_time(1)

    assert seen(first) == {own(first)}
    # One announcement waits, however long the broker hangs.
    assert len([step for step in hold.steps if step.node is stage.brokers[1]]) == 1

    stage.do(hold.release)
    stage.pass_time(ANNOUNCE_INTERVAL)

    assert seen(first) == {own(first), own(second)}


def test_announcement_that_fails_is_made_up_for_by_the_next(stage: Stage) -> None:
    first, second = stage.enter(), stage.enter()
    hold = stage.store.hold("send_control", "request", calls=2)
    stage.pass_time(ANNOUNCE_INTERVAL)
    for step in hold.steps:
        stage.do(step.fail, BrokerError("redis", "gone"))
    stage.pass_time(ANNOUNCE_INTERVAL)

    assert len(seen(first)) == len(seen(second)) == 2


def test_channels_of_all_nodes_are_added_up(stage: Stage) -> None:
    first, second, third = stage.enter(), stage.enter(), stage.enter()
    stage.connect(first, "chat:a")
    stage.connect(second, "chat:a", "chat:b", "news")
    stage.connect(third, "chat:a")
    found = stage.get(second.cluster_channels)

    assert found.clients == {"chat:a": 3, "chat:b": 1, "news": 1}
    assert found.silent == ()
    assert stage.get(third.cluster_channels, "chat:*").clients == {"chat:a": 3, "chat:b": 1}
    assert stage.get(third.cluster_channels, "chat:[!a]").clients == {"chat:b": 1}
    assert stage.get(first.cluster_channels, "none").clients == {}


def test_node_that_does_not_answer_in_time_is_named(stage: Stage) -> None:
    first, second, third = stage.enter(), stage.enter(), stage.enter()
    for hub in (first, second, third):
        stage.connect(hub, "a")
    deaf = stage.brokers[2]
    Hold(stage.store, lambda step: step.node is deaf and step.name == "send_control")
    asked = stage.do(first.cluster_channels, timeout=3.0)
    stage.pass_time(2)
    assert not asked.done()
    stage.pass_time(2)
    found = asked.result()

    assert found.clients == {"a": 2}
    assert [node.uid for node in found.silent] == [own(third)]


def test_node_that_leaves_is_waited_for_no_longer(stage: Stage) -> None:
    first, second = stage.enter(), stage.enter()
    stage.connect(first, "a")
    hold = stage.store.hold("send_control", "request", calls=1)
    asked = stage.do(first.cluster_channels)
    stage.leave(second)
    stage.do(hold.release)

    assert asked.result().clients == {"a": 1}
    assert asked.result().silent == ()


def test_long_answers_come_in_parts_and_count_as_a_whole(stage: Stage) -> None:
    first, second = stage.enter(), stage.enter()
    names = [f"many:{n}" for n in range(2 * PART + 1)]
    second.on_connect(lambda client: User(channels=names))
    stage.connect(second)
    hold = Hold(stage.store, lambda step: step.name == "send_control" and step.when == "request")
    asked = stage.do(first.cluster_channels)
    for step in range(4):  # the question, and three parts
        assert not asked.done()
        stage.do(hold.steps[step].go)

    assert asked.result().clients == dict.fromkeys(names, 1)


def test_question_that_cannot_be_sent_fails(stage: Stage) -> None:
    first, _ = stage.enter(), stage.enter()
    hold = stage.store.hold("send_control", "request", calls=1)
    asked = stage.do(first.cluster_channels)
    stage.do(hold.steps[0].fail, BrokerError("redis", "gone"))

    with pytest.raises(BrokerError):
        asked.result()


def test_hub_that_stops_leaves_no_question_waiting(stage: Stage) -> None:
    first, _ = stage.enter(), stage.enter()
    stage.store.hold("control", "delivery")
    asked = stage.do(first.cluster_channels)
    stage.leave(first)

    assert asked.done()


async def test_node_that_is_alone_is_all_there_is_and_sends_nothing() -> None:
    class Broker(MemoryBroker):
        async def send_control(self, message: bytes) -> None:
            raise AssertionError("there is nobody to tell")

    clock = FakeClock()
    hub = Hub(Broker(clock=clock), clock=clock)
    async with hub:
        clock.advance(10 * ANNOUNCE_INTERVAL)

        assert [node.clients for node in hub.nodes()] == [0]
        assert hub.nodes()[0].uptime == 10 * ANNOUNCE_INTERVAL
        assert (await hub.cluster_channels()).clients == {}
    with pytest.raises(RuntimeError, match="not running"):
        hub.nodes()
