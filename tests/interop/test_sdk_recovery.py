"""Clients of the official SDKs that were away miss nothing, or are told that they did."""

import asyncio
from typing import Any

from hubbub import Hub, Limits
from hubbub.brokers.memory import MemoryBroker
from tests.interop.hubs import Door, Hubs
from tests.interop.sdks import Sdk, connect
from tests.timing import MS


def make_hub(history: int = 100, broker: MemoryBroker | None = None) -> Hub:
    hub = Hub(broker or "memory:")
    hub.channel("news", history=history)
    return hub


async def publish(hub: Hub, *numbers: int) -> None:
    for n in numbers:
        await hub.publish("news", n)


async def test_lost_connection_loses_nothing(hubs: Hubs, sdk: Sdk) -> None:
    hub = make_hub()
    door = Door(hub)
    served = await hubs.start(hub)
    client = await connect(sdk, served.url)
    await client.subscribe("news")
    await publish(hub, 1, 2)
    assert await client.take(2, "news") == [1, 2]
    door.close()
    served.abort()
    await publish(hub, 3, 4)  # to a connection that is lost, and not known to be
    await client.next("connecting")
    await publish(hub, 5, 6)  # to nobody
    door.open()
    subscribed = await client.next("subscribed", "news")
    await publish(hub, 7)
    await client.take(5, "news")

    assert subscribed["was_recovering"]
    assert subscribed["recovered"]
    assert subscribed["position"][1] == 2  # where it was; what it missed follows
    publications = client.heard("publication", "news")
    assert [one["data"] for one in publications] == [1, 2, 3, 4, 5, 6, 7]
    assert [one["offset"] for one in publications] == [1, 2, 3, 4, 5, 6, 7]


async def test_lost_connection_with_nothing_missed(hubs: Hubs, sdk: Sdk) -> None:
    hub = make_hub()
    served = await hubs.start(hub)
    client = await connect(sdk, served.url)
    await client.subscribe("news")
    await publish(hub, 1)
    await client.take(1, "news")
    served.abort()
    subscribed = await client.next("subscribed", "news")
    await publish(hub, 2)

    assert await client.take(1, "news") == [2]
    assert subscribed["recovered"]
    assert subscribed["position"][1] == 1


async def test_publications_while_subscribing_arrive_once(hubs: Hubs, sdk: Sdk) -> None:
    hub = Hub(limits=Limits(recovery=10_000))
    hub.channel("news", history=10_000)
    served = await hubs.start(hub)
    client = await connect(sdk, served.url)
    await client.subscribe("news")
    last = 0
    for _ in range(3):
        served.abort()
        # Until it is back, whatever it does at the moment, something is published.
        while not client.unread("subscribed", "news"):
            last += 1
            await publish(hub, last)
            await asyncio.sleep(0.2 * MS)
        assert (await client.next("subscribed", "news"))["recovered"]
    await client.take(last, "news")
    await publish(hub, last + 1)
    await client.take(1, "news")

    rcvd = [one["data"] for one in client.heard("publication", "news")]
    assert rcvd == list(range(1, last + 2))
    assert 2500 not in [one["code"] for one in client.heard("subscribing", "news")]


async def test_too_much_missed_is_told(hubs: Hubs, sdk: Sdk) -> None:
    hub = make_hub(history=2)
    door = Door(hub)
    served = await hubs.start(hub)
    client = await connect(sdk, served.url)
    first = await client.subscribe("news")
    await publish(hub, 1)
    await client.take(1, "news")
    door.close()
    served.abort()
    await publish(hub, 2, 3, 4)
    door.open()
    subscribed = await client.next("subscribed", "news")
    await publish(hub, 5)

    assert await client.take(1, "news") == [5]
    assert subscribed["was_recovering"]
    assert not subscribed["recovered"]
    assert subscribed["position"] == [first["position"][0], 4]


async def test_new_server_without_the_stream_is_told(hubs: Hubs, sdk: Sdk) -> None:
    hub = make_hub()
    served = await hubs.start(hub)
    client = await connect(sdk, served.url)
    first = await client.subscribe("news")
    await publish(hub, 1)
    await client.take(1, "news")
    await served.stop()
    hub = make_hub()
    door = Door(hub)
    door.close()
    await hubs.start(hub, served.port)
    await publish(hub, 2)  # now both streams have offset 1 on top
    door.open()
    subscribed = await client.next("subscribed", "news")
    await publish(hub, 3)
    publication = await client.next("publication", "news")

    assert subscribed["was_recovering"]
    assert not subscribed["recovered"]
    assert subscribed["position"][0] != first["position"][0]
    assert (publication["data"], publication["offset"]) == (3, 2)


async def test_new_server_with_the_stream_loses_nothing(hubs: Hubs, sdk: Sdk) -> None:
    broker = MemoryBroker()
    old = make_hub(broker=broker)
    served = await hubs.start(old)
    client = await connect(sdk, served.url)
    await client.subscribe("news")
    await publish(old, 1, 2)
    await served.stop()
    connecting = await client.next("connecting")
    new = make_hub(broker=broker)
    door = Door(new)
    door.close()
    await hubs.start(new, served.port)
    await publish(new, 3, 4)
    door.open()
    subscribed = await client.next("subscribed", "news")
    await publish(new, 5)

    assert await client.take(5, "news") == [1, 2, 3, 4, 5]
    assert (connecting["code"], connecting["reason"]) == (3001, "shutdown")
    assert subscribed["recovered"]


async def test_unsubscribed_client_recovers_when_it_subscribes_again(hubs: Hubs, sdk: Sdk) -> None:
    hub = make_hub()
    served = await hubs.start(hub)
    client = await connect(sdk, served.url)
    await client.subscribe("news")
    await publish(hub, 1)
    await client.take(1, "news")
    await client.unsubscribe("news")
    await publish(hub, 2, 3)
    await client.again("news")
    subscribed = await client.next("subscribed", "news")

    assert await client.take(2, "news") == [2, 3]
    assert subscribed["recovered"]


async def test_newest_publication_is_enough_for_a_cache(hubs: Hubs, sdk: Sdk) -> None:
    hub = Hub()
    hub.channel("score", history=1, recovery="cache", auto_recover=True)
    served = await hubs.start(hub)
    for n in (1, 2):
        await hub.publish("score", n)
    client = await connect(sdk, served.url)
    await client.subscribe("score")
    assert await client.take(1, "score") == [2]
    served.abort()
    for n in (3, 4, 5):
        await hub.publish("score", n)
    subscribed = await client.next("subscribed", "score")
    assert await client.take(1, "score") == [5]
    served.abort()
    unchanged = await client.next("subscribed", "score")
    await hub.publish("score", 6)

    assert await client.take(1, "score") == [6]
    assert subscribed["recovered"]
    assert unchanged["recovered"]


# getState: the application loads its state, and the SDK recovers from there.


async def test_state_is_loaded_again_if_its_position_is_gone(hubs: Hubs, sdk: Sdk) -> None:
    hub = make_hub(history=2)
    door = Door(hub)
    served = await hubs.start(hub)
    await publish(hub, 1, 2, 3, 4)
    top = (await hub.history("news", limit=0)).position

    def state(offset: int) -> dict[str, Any]:
        return {"epoch": top.epoch, "offset": offset}

    client = await connect(sdk, served.url)
    subscribed = await client.subscribe("news", states=[state(1), state(2), state(7)])
    loaded = len(client.heard("get_state", "news"))
    rcvd = await client.take(2, "news")

    assert (loaded, rcvd) == (2, [3, 4])
    assert subscribed["recovered"]

    door.close()
    served.abort()
    await publish(hub, 5, 6, 7, 8)  # too many
    door.open()
    subscribed = await client.next("subscribed", "news")

    assert await client.take(1, "news") == [8]
    assert len(client.heard("get_state", "news")) == 3
    assert subscribed["recovered"]


async def test_state_is_not_loaded_where_recovery_does(hubs: Hubs, sdk: Sdk) -> None:
    hub = make_hub()
    served = await hubs.start(hub)
    client = await connect(sdk, served.url)
    await client.subscribe("news", states=[{"epoch": "", "offset": 0}])
    served.abort()
    await publish(hub, 1)
    await client.next("subscribed", "news")

    assert await client.take(1, "news") == [1]
    assert len(client.heard("get_state", "news")) == 1
