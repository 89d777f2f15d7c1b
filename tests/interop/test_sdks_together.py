"""Clients of all official SDKs, in both wire formats, in one channel."""

import asyncio

from hubbub import Hub, Limits
from hubbub.clock import SystemClock
from tests.hub.suspending import SuspendingStore
from tests.interop.hubs import Hubs, name_users
from tests.interop.sdks import Sdk, SdkClient, connect
from tests.timing import MS


async def test_all_understand_each_other(hubs: Hubs, sdks: list[Sdk]) -> None:
    hub = Hub()
    hub.channel(
        "room", history=100, delta=True, presence=True, join_leave=True, publish="subscribers"
    )
    name_users(hub)
    served = await hubs.start(hub)
    users = [f"user{n}" for n in range(2 * len(sdks))]
    clients = [
        await connect(sdk, served.url, token=user)
        for sdk, user in zip([*sdks, *sdks], users, strict=True)
    ]
    for n, client in enumerate(clients):
        # The second half gets patches.
        await client.subscribe("room", **({} if n < len(sdks) else {"delta": "fossil"}))
    # ASCII, so that all SDKs write the same text but for the spaces.
    payloads = [{"n": n, "text": "one for all, " * 40} for n in range(3 * len(clients))]
    for n, payload in enumerate(payloads):
        await clients[n % len(clients)].publish("room", payload)
        for client in clients:
            publication = await client.next("publication", "room")
            assert publication["data"] == payload
            assert publication["offset"] == n + 1
            assert publication["info"]["user"] == users[n % len(clients)]
    first, *_ = clients

    assert (await first.lead("presence_stats", channel="room"))["users"] == len(users)
    assert {one["info"]["user"] for one in first.heard("join", "room")} == set(users)
    for client in clients[len(sdks) :]:
        full, patches = await client.lead("deltas", channel="room")
        assert (full, patches) == (1, len(payloads) - 1)


async def test_all_recover_together(hubs: Hubs, sdks: list[Sdk]) -> None:
    hub = Hub()
    hub.channel("news", history=100)
    served = await hubs.start(hub)
    clients = [await connect(sdk, served.url) for sdk in [*sdks, *sdks]]
    for client in clients:
        await client.subscribe("news")
    last = 0
    for _ in range(3):
        served.abort()
        for _ in range(10):
            last += 1
            await hub.publish("news", last)
        for client in clients:
            assert (await client.next("subscribed", "news"))["recovered"]
            last += 1
            await hub.publish("news", last)
    for client in clients:
        await client.take(last, "news")

        rcvd = [one["data"] for one in client.heard("publication", "news")]
        assert rcvd == list(range(1, last + 1))


async def test_nodes_of_a_slow_broker_lose_nothing(hubs: Hubs, sdks: list[Sdk]) -> None:
    store = SuspendingStore(SystemClock())

    def make_node() -> Hub:
        hub = Hub(store.node(), limits=Limits(recovery=10_000))
        hub.channel("news", history=10_000)
        return hub

    first = await hubs.start(make_node())
    second = await hubs.start(make_node())
    clients = [await connect(sdk, each.url) for sdk in sdks for each in (first, second)]
    for client in clients:
        await client.subscribe("news")
    last = 0

    async def publish_until_back(hub: Hub, away: list[SdkClient]) -> None:
        nonlocal last
        while not all(client.unread("subscribed", "news") for client in away):
            last += 1
            await hub.publish("news", last)
            await asyncio.sleep(0.2 * MS)  # publications are many, but no flood
        for client in away:
            assert (await client.next("subscribed", "news"))["recovered"]

    for _ in range(3):
        first.abort()
        second.abort()
        await publish_until_back(first.hub, clients)
    await second.stop()
    await hubs.start(make_node(), second.port)
    await publish_until_back(first.hub, clients[1::2])
    await first.hub.publish("news", last + 1)
    for client in clients:
        await client.take(last + 1, "news")

        rcvd = [one["data"] for one in client.heard("publication", "news")]
        assert rcvd == list(range(1, last + 2))
        # What comes while they subscribe is kept for them: none has to recover once more.
        assert 2500 not in [one["code"] for one in client.heard("subscribing", "news")]
