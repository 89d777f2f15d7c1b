"""What clients of the official SDKs see of their subscriptions, from the beginning to the end."""

import asyncio
from collections.abc import Mapping

import pytest

from hubbub import Client, Grant, Hub, PermissionDenied
from hubbub.clock import SystemClock
from tests.hub.suspending import SuspendingStore
from tests.interop.hubs import Hubs, name_users
from tests.interop.sdks import Sdk, connect


async def test_subscription_begins_at_the_top_of_the_stream(hubs: Hubs, sdk: Sdk) -> None:
    hub = Hub()
    news = hub.channel("news", history=10)
    news.on_subscribe(lambda client: Grant(data=b'{"hello":1}'))
    served = await hubs.start(hub)
    await hub.publish("news", "before")
    top = await hub.publish("news", "before")
    client = await connect(sdk, served.url)
    subscribed = await client.subscribe("news")
    await hub.publish("news", "after")

    assert await client.take(1, "news") == ["after"]
    assert subscribed == {
        "event": "subscribed",
        "channel": "news",
        "recoverable": True,
        "positioned": True,
        "was_recovering": False,
        "recovered": False,
        "position": [top.epoch, 2],
        "data": {"hello": 1},
    }


async def test_subscription_begun_before_connecting(hubs: Hubs, sdk: Sdk) -> None:
    hub = Hub()

    @hub.on_connect
    async def enter(client: Client) -> None:
        await asyncio.sleep(0)  # what comes in the same frame has to wait

    hub.channel("news")
    served = await hubs.start(hub)
    client = await sdk.open(served.url)
    for channel in ("news", "nowhere"):
        await client.lead("subscription", channel=channel)
        await client.lead("subscribe", channel=channel)
    await client.connect()
    await client.next("subscribed", "news")
    refused = await client.next("unsubscribed", "nowhere")
    await hub.publish("news", 1)

    assert await client.take(1, "news") == [1]
    assert refused["code"] == 102


async def test_subscription_without_history_has_no_position(hubs: Hubs, sdk: Sdk) -> None:
    hub = Hub()
    hub.channel("news")
    served = await hubs.start(hub)
    client = await connect(sdk, served.url)
    subscribed = await client.subscribe("news")

    assert not subscribed["recoverable"]
    assert subscribed["position"] is None


async def test_hook_refuses_a_subscription(hubs: Hubs, sdk: Sdk) -> None:
    hub = Hub()
    room = hub.channel("room:{name}")
    guests = {"room:ann": ["ann"], "room:bob": ["bob"]}

    @room.on_subscribe
    async def enter(client: Client, channel: str) -> None:
        if client.user not in guests[channel]:
            raise PermissionDenied

    name_users(hub)
    served = await hubs.start(hub)
    client = await connect(sdk, served.url, token="ann")
    await client.begin("room:bob")
    unsubscribed = await client.next("unsubscribed", "room:bob")
    await client.subscribe("room:ann")
    before = hub.channels()
    guests["room:bob"].append("ann")
    await client.again("room:bob")
    await client.next("subscribed", "room:bob")

    assert (unsubscribed["code"], unsubscribed["reason"]) == (103, "permission denied")
    assert before == {"room:ann": 1}
    assert hub.channels() == {"room:ann": 1, "room:bob": 1}


async def test_unknown_channel_refuses_a_subscription(hubs: Hubs, sdk: Sdk) -> None:
    served = await hubs.start(Hub())
    client = await connect(sdk, served.url)
    await client.begin("nowhere")
    unsubscribed = await client.next("unsubscribed", "nowhere")

    assert (unsubscribed["code"], unsubscribed["reason"]) == (102, "unknown channel")


async def test_unsubscribe_ends_delivery(hubs: Hubs, sdk: Sdk) -> None:
    hub = Hub()
    for channel in ("news", "other"):
        hub.channel(channel)
    served = await hubs.start(hub)
    client = await connect(sdk, served.url)
    await client.subscribe("news")
    await client.subscribe("other")
    await client.unsubscribe("news")
    # The answer to a later command: the one to unsubscribe has been given before.
    await client.unsubscribe("other")
    await client.again("other")
    await client.next("subscribed", "other")
    await hub.publish("news", 1)
    await hub.publish("other", 1)

    assert await client.take(1, "other") == [1]
    assert client.heard("publication", "news") == []
    assert hub.channels() == {"other": 1}


@pytest.mark.parametrize("asked", [False, True], ids=["pushed", "asked"])
async def test_joins_and_leaves_are_told(hubs: Hubs, sdk: Sdk, asked: bool) -> None:
    hub = Hub()
    hub.channel("room", presence=True, join_leave="asked" if asked else True)
    name_users(hub)
    served = await hubs.start(hub)
    ann = await connect(sdk, served.url, token="ann")
    await ann.subscribe("room", **({"join_leave": True} if asked else {}))
    own = await ann.next("join", "room")
    bob = await connect(sdk, served.url, token="bob")
    await bob.subscribe("room")
    joined = await ann.next("join", "room")
    if not asked:
        await bob.next("join", "room")
    await bob.unsubscribe("room")
    left = await ann.next("leave", "room")
    await bob.again("room")
    back = await ann.next("join", "room")
    await bob.lead("disconnect")
    gone = await ann.next("leave", "room")

    assert own["info"]["user"] == "ann"
    for event in (joined, left, back, gone):
        assert event["info"] == {**joined["info"], "user": "bob"}
    stats = await ann.lead("presence_stats", channel="room")
    assert stats == {"clients": 1, "users": 1}
    if asked:
        assert bob.heard("join", "room") == []
    assert ann.unread("join", "room") == ann.unread("leave", "room") == []


async def test_lost_client_leaves(hubs: Hubs, sdk: Sdk) -> None:
    hub = Hub()
    hub.channel("room", presence=True, join_leave=True)
    name_users(hub)
    served = await hubs.start(hub)
    bob = await connect(sdk, served.url, token="bob")
    await bob.subscribe("room")
    (connection,) = served.server.connections
    ann = await connect(sdk, served.url, token="ann")
    await ann.subscribe("room")
    await ann.next("join", "room")
    connection.transport.abort()
    left = await ann.next("leave", "room")
    back = await ann.next("join", "room")

    assert left["info"]["user"] == back["info"]["user"] == "bob"
    assert left["info"]["client"] != back["info"]["client"]


@pytest.mark.parametrize("slow", [False, True], ids=["memory", "slow"])
async def test_flickering_subscription_leaves_presence_exact(
    hubs: Hubs, sdk: Sdk, slow: bool
) -> None:
    # With a slow broker each unsubscribe comes while its subscribe is still under way.
    hub = Hub(SuspendingStore(SystemClock()).node() if slow else "memory:")
    hub.channel("room", presence=True, join_leave=True)
    served = await hubs.start(hub)
    watcher = await connect(sdk, served.url)
    await watcher.subscribe("room")
    client = await connect(sdk, served.url)
    await client.lead("subscription", channel="room")
    await client.lead("flicker", channel="room", times=10)
    await client.lead("ready", channel="room")
    there = await watcher.lead("presence_stats", channel="room")
    await client.unsubscribe("room")
    # Answered in order: what it asked before has been done.
    await client.lead("subscription", channel="nowhere")
    await client.again("nowhere")
    await client.next("unsubscribed", "nowhere")
    gone = await watcher.lead("presence_stats", channel="room")
    await hub.publish("room", "all joins and leaves come before this")
    await watcher.take(1, "room")

    assert there["clients"] == 2
    assert gone["clients"] == 1
    assert hub.channels() == {"room": 1}
    joins = watcher.heard("join", "room")
    leaves = watcher.heard("leave", "room")
    assert len(joins) == len(leaves) + 1
    assert len(client.heard("connected")) == 1


# By the server


async def test_terminal_unsubscribe_stays(hubs: Hubs, sdk: Sdk) -> None:
    hub = Hub()
    hub.channel("news", history=10)
    name_users(hub)
    served = await hubs.start(hub)
    client = await connect(sdk, served.url, token="ann")
    await client.subscribe("news")
    await hub.publish("news", 1)
    await hub.unsubscribe("news", user="ann")
    await hub.publish("news", 2)
    unsubscribed = await client.next("unsubscribed", "news")

    assert (unsubscribed["code"], unsubscribed["reason"]) == (2000, "server unsubscribe")
    assert [one["data"] for one in client.heard("publication", "news")] == [1]
    assert hub.channels() == {}
    assert len(client.heard("subscribed", "news")) == 1


async def test_temporary_unsubscribe_recovers(hubs: Hubs, sdk: Sdk) -> None:
    hub = Hub()
    hub.channel("news", history=10)
    name_users(hub)
    served = await hubs.start(hub)
    client = await connect(sdk, served.url, token="ann")
    await client.subscribe("news")
    await hub.publish("news", 1)
    await hub.unsubscribe("news", user="ann", code=2500)
    await hub.publish("news", 2)
    subscribing = await client.next("subscribing", "news")
    subscribed = await client.next("subscribed", "news")
    await hub.publish("news", 3)

    assert await client.take(3, "news") == [1, 2, 3]
    assert (subscribing["code"], subscribing["reason"]) == (2500, "insufficient state")
    assert subscribed["was_recovering"]
    assert subscribed["recovered"]
    assert len(client.heard("connected")) == 1


async def test_invalidated_subscription_starts_over(hubs: Hubs, sdk: Sdk) -> None:
    hub = Hub()
    hub.channel("news", history=10)
    name_users(hub)
    served = await hubs.start(hub)
    client = await connect(sdk, served.url, token="ann")
    await client.subscribe("news")
    top = await hub.publish("news", 1)
    await hub.unsubscribe("news", user="ann", code=2502)
    await client.next("subscribing", "news")
    subscribed = await client.next("subscribed", "news")

    assert subscribed["was_recovering"]
    assert not subscribed["recovered"]
    assert subscribed["position"] == [top.epoch, 1]


# Filters


async def test_filter_by_tags(hubs: Hubs, sdk: Sdk) -> None:
    hub = Hub()
    hub.channel("prices", history=10, tags_filter=True)
    served = await hubs.start(hub)
    client = await connect(sdk, served.url)
    bitcoin = {"key": "ticker", "cmp": "eq", "val": "BTC"}
    dear = {"key": "price", "cmp": "gt", "val": "9.5"}
    await client.subscribe("prices", tags_filter={"op": "and", "nodes": [bitcoin, dear]})

    async def publish(n: int, tags: Mapping[str, str]) -> None:
        await hub.publish("prices", n, tags=tags)

    await publish(1, {"ticker": "BTC", "price": "10"})
    await publish(2, {"ticker": "BTC", "price": "9"})
    await publish(3, {"ticker": "ETH", "price": "10"})
    await publish(4, {})
    await publish(5, {"ticker": "BTC", "price": "11"})
    before = await client.take(2, "prices")
    served.abort()
    await publish(6, {"ticker": "BTC", "price": "1"})
    await publish(7, {"ticker": "BTC", "price": "12"})
    subscribed = await client.next("subscribed", "prices")

    assert before == [1, 5]
    assert subscribed["recovered"]
    assert await client.take(1, "prices") == [7]


async def test_filter_where_there_is_none_is_refused(hubs: Hubs, sdk: Sdk) -> None:
    hub = Hub()
    hub.channel("prices")
    served = await hubs.start(hub)
    client = await connect(sdk, served.url)
    await client.begin("prices", tags_filter={"key": "ticker", "cmp": "eq", "val": "BTC"})
    unsubscribed = await client.next("unsubscribed", "prices")

    assert unsubscribed["code"] == 107
    assert hub.channels() == {}


# Patches


def document(n: int) -> dict[str, object]:
    """Return a payload of about 500 bytes that differs little from the one before."""
    names = [f"Müller-Łukasiewicz {k}" for k in range(16)]
    return {"version": n, "names": names, "changed": names[n % 16], "total": n * n}


async def test_patches_after_one_whole_publication(hubs: Hubs, sdk: Sdk) -> None:
    hub = Hub()
    hub.channel("document", history=10, delta=True)
    served = await hubs.start(hub)
    plain = await connect(sdk, served.url)
    await plain.subscribe("document")
    await hub.publish("document", document(0))
    await plain.take(1, "document")
    client = await connect(sdk, served.url)
    await client.subscribe("document", delta="fossil")
    for n in range(1, 6):  # in one go
        await hub.publish("document", document(n))
    rcvd = await client.take(5, "document")
    for n in range(6, 11):  # one by one
        await hub.publish("document", document(n))
        rcvd += await client.take(1, "document")

    assert rcvd == [document(n) for n in range(1, 11)]
    assert await client.lead("deltas", channel="document") == [1, 9]
    assert await plain.take(10, "document") == rcvd


async def test_patches_after_recovery(hubs: Hubs, sdk: Sdk) -> None:
    hub = Hub()
    hub.channel("document", history=10, delta=True)
    served = await hubs.start(hub)
    client = await connect(sdk, served.url)
    await client.subscribe("document", delta="fossil")

    async def publish(*numbers: int) -> None:
        for n in numbers:
            await hub.publish("document", document(n))

    await publish(1, 2)
    rcvd = await client.take(2, "document")
    served.abort()
    await publish(3, 4)
    await client.next("subscribed", "document")
    await publish(5, 6)
    rcvd += await client.take(4, "document")
    served.abort()
    await client.next("subscribed", "document")
    await publish(7, 8)
    rcvd += await client.take(2, "document")

    assert rcvd == [document(n) for n in range(1, 9)]
    full, patches = await client.lead("deltas", channel="document")
    assert full + patches == 8
    assert patches >= 3  # the second after each time that it subscribed


async def test_no_patches_where_the_channel_has_none(hubs: Hubs, sdk: Sdk) -> None:
    hub = Hub()
    hub.channel("document", history=10)
    served = await hubs.start(hub)
    client = await connect(sdk, served.url)
    await client.subscribe("document", delta="fossil")
    for n in range(3):
        await hub.publish("document", document(n))

    assert await client.take(3, "document") == [document(n) for n in range(3)]
    assert await client.lead("deltas", channel="document") in ([3, 0], [0, 0])
