"""The redis broker over a cluster: slots that move, and servers that fail."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hubbub.brokers.redis.broker import RedisBroker
from hubbub.brokers.redis.names import Names, slot_of
from hubbub.errors import BrokerError
from hubbub.model import Position, Publication
from tests.servers.cluster import ValkeyCluster
from tests.servers.valkey import ValkeyServer, free_port
from tests.timing import MS

WAIT = 10_000 * MS
NAMES = Names("hubbub", 0)


class Recorder:
    """A receiver that keeps what it gets."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []
        self.suspected = set[str]()

    def deliver(self, channel: str, event: Any) -> None:
        self.events.append((channel, event.data))

    def control(self, message: bytes) -> None:
        self.events.append(("", message))

    def suspect(self, channels: Any) -> None:
        self.suspected.update(channels)


@pytest.fixture(scope="module")
def cluster() -> Iterator[ValkeyCluster]:
    with ValkeyCluster() as cluster:
        yield cluster


async def until(met: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT):
        while not met():
            await asyncio.sleep(5 * MS)


def slot(channel: str) -> int:
    return slot_of(NAMES.topic(NAMES.tag(channel)))


async def publish(broker: RedisBroker, channel: str, data: bytes) -> Position:
    return await broker.publish(channel, Publication(data), history_size=1_000, history_ttl=60)


@pytest.mark.parametrize("sharded", ["yes", "no"])
async def test_slot_that_moves_is_followed(cluster: ValkeyCluster, sharded: str) -> None:
    channel = f"moving-{sharded}"
    number = slot(channel)
    source = cluster.nodes[min(2, number // (16_384 // 3))]
    target = next(node for node in cluster.nodes if node is not source)
    broker, recorder = RedisBroker(f"{cluster.url}?sharded={sharded}"), Recorder()
    async with broker.running(recorder):
        await broker.subscribe([channel])
        await publish(broker, channel, b"1")
        await until(lambda: len(recorder.events) == 1)
        await asyncio.to_thread(cluster.move, number, source, target)
        await publish(broker, channel, b"2")
        await until(lambda: channel in recorder.suspected or len(recorder.events) == 2)
        await until(lambda: broker.outage is None)
        seen = len(recorder.events)
        async with asyncio.timeout(WAIT):
            while len(recorder.events) == seen:
                await publish(broker, channel, b"3")
                await asyncio.sleep(5 * MS)

        page = await broker.history(channel)
        assert len(page.publications) == page.position.offset
        top = page.position.offset
        # Unless all are delivered, the hub is told to compare.
        await until(lambda: len(recorder.events) == top or channel in recorder.suspected)


async def test_server_of_a_cluster_that_fails_is_an_outage_of_its_slots(
    cluster: ValkeyCluster,
) -> None:
    broker, recorder = RedisBroker(f"{cluster.url}?timeout={400 * MS}"), Recorder()
    node = cluster.nodes[0]
    channels = {
        at: next(name for n in range(1_000) if owner(cluster, name := f"{n}") is at)
        for at in cluster.nodes
    }
    async with broker.running(recorder):
        await broker.subscribe(channels.values())
        node.pause()
        await until(lambda: broker.outage is not None)
        assert str(node.port) in (broker.outage or "")
        with pytest.raises(BrokerError):
            await publish(broker, channels[node], b"1")
        await publish(broker, channels[cluster.nodes[1]], b"2")
        node.resume()
        await until(lambda: broker.outage is None)
        await until(lambda: channels[node] in recorder.suspected)
        await publish(broker, channels[node], b"3")
        await until(lambda: (channels[node], b"3") in recorder.events)

    assert (channels[cluster.nodes[1]], b"2") in recorder.events


def owner(cluster: ValkeyCluster, channel: str) -> ValkeyServer:
    return cluster.nodes[min(2, slot(channel) // (16_384 // 3))]


async def test_cluster_of_which_nobody_answers_is_an_error() -> None:
    broker = RedisBroker(f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{free_port()}")
    with pytest.raises(BrokerError, match="refused"):
        async with broker.running(Recorder()):
            pass


async def test_cluster_without_all_slots_is_an_error() -> None:
    options = {"cluster-enabled": "yes", "cluster-port": str(free_port())}
    with ValkeyServer(tcp=True, options=options) as server:
        broker = RedisBroker(f"redis+cluster://127.0.0.1:{server.port}")
        with pytest.raises(BrokerError, match="slots"):
            async with broker.running(Recorder()):
                pass


async def test_replica_that_sentinel_promotes_is_found() -> None:
    with (
        ValkeyServer(tcp=True) as master,
        ValkeyServer(tcp=True, options={"replicaof": f"127.0.0.1 {master.port}"}) as two,
    ):
        monitor = {
            "sentinel monitor main": f"127.0.0.1 {master.port} 1",
            "sentinel down-after-milliseconds main": "60000",
            "sentinel failover-timeout main": "10000",
        }
        with ValkeyServer(tcp=True, sentinel=True, options=monitor) as sentinel:
            dead = free_port()
            broker = RedisBroker(
                f"redis+sentinel://127.0.0.1:{dead},127.0.0.1:{sentinel.port}/main/0"
                f"?timeout={1_000 * MS}"
            )
            recorder = Recorder()
            recorder.suspect = lambda channels: recorder.suspected.add("all")  # type: ignore[method-assign]
            async with broker.running(recorder):
                await broker.subscribe(["room"])
                first = await publish(broker, "room", b"1")
                await until(lambda: len(recorder.events) == 1)
                await until(lambda: two.command("EXISTS", "hubbub:{room}:meta") == 1)
                await until(lambda: knows_replica(sentinel))
                sentinel.command("SENTINEL", "FAILOVER", "main")
                await until(lambda: "all" in recorder.suspected)
                second = await publish(broker, "room", b"2")
                await until(lambda: ("room", b"2") in recorder.events)
                assert two.command("ROLE")[0] in ("master", b"master")

    # What the replica lacked nobody can tell: the stream begins anew.
    assert second.epoch != first.epoch


def knows_replica(sentinel: ValkeyServer) -> bool:
    replicas = sentinel.command("SENTINEL", "REPLICAS", "main")
    return any(each[b"master-link-status"] == b"ok" for each in replicas)
