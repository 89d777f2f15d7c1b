"""Clients of the official SDKs stay, go and come back as the server wants."""

import asyncio

import pytest

from hubbub import Client, Disconnect, Hub
from hubbub.testing import FakeClock
from tests.interop.hubs import Hubs, name_users
from tests.interop.sdks import WAIT_TIMEOUT, Sdk, connect

TEMPORARY = [(3011, None, "force reconnect"), (4001, "come back", "come back")]
TERMINAL = [(3503, None, "force disconnect"), (4501, "stay away", "stay away")]


@pytest.mark.parametrize(("code", "given", "reason"), TEMPORARY, ids=["3011", "4001"])
async def test_temporary_disconnect_brings_it_back(
    hubs: Hubs, sdk: Sdk, code: int, given: str | None, reason: str
) -> None:
    hub = Hub()
    hub.channel("news", history=10)
    name_users(hub)
    served = await hubs.start(hub)
    client = await connect(sdk, served.url, token="ann")
    await client.subscribe("news")
    await hub.publish("news", 1)
    await hub.disconnect(user="ann", code=code, reason=given)
    await hub.publish("news", 2)
    connecting = await client.next("connecting")
    await client.next("connected")

    assert (connecting["code"], connecting["reason"]) == (code, reason)
    assert await client.take(2, "news") == [1, 2]
    assert client.heard("disconnected") == []


@pytest.mark.parametrize(("code", "given", "reason"), TERMINAL, ids=["3503", "4501"])
async def test_terminal_disconnect_keeps_it_away(
    hubs: Hubs, sdk: Sdk, code: int, given: str | None, reason: str
) -> None:
    hub = Hub()
    hub.channel("news")
    name_users(hub)
    served = await hubs.start(hub)
    ann = await connect(sdk, served.url, token="ann")
    bob = await connect(sdk, served.url, token="bob")
    await ann.subscribe("news")
    await hub.publish("news", 1)
    await hub.disconnect(user="ann", code=code, reason=given)
    disconnected = await ann.next("disconnected")
    await bob.subscribe("news")

    assert (disconnected["code"], disconnected["reason"]) == (code, reason)
    assert await ann.lead("state") == "disconnected"
    assert ann.unread("connecting") == []
    assert [one.user for one in hub.clients()] == ["bob"]
    # What was published before arrives before.
    assert await ann.take(1, "news") == [1]


async def test_client_is_disconnected_by_its_id(hubs: Hubs, sdk: Sdk) -> None:
    hub = Hub()
    served = await hubs.start(hub)
    first = await sdk.open(served.url)
    id_ = (await first.connect())["id"]
    second = await connect(sdk, served.url)
    await hub.disconnect(client=id_)
    disconnected = await first.next("disconnected")

    assert disconnected["code"] == 3503
    assert await second.lead("state") == "connected"
    assert len(hub.clients()) == 1


async def test_hook_refuses_a_connection(hubs: Hubs, sdk: Sdk) -> None:
    hub = Hub()

    @hub.on_connect
    def refuse(client: Client) -> None:
        raise Disconnect(4503, "not today")

    served = await hubs.start(hub)
    client = await sdk.open(served.url)
    await client.lead("connect")
    disconnected = await client.next("disconnected")

    assert (disconnected["code"], disconnected["reason"]) == (4503, "not today")


async def test_hub_is_told_why_a_client_has_gone(hubs: Hubs, sdk: Sdk) -> None:
    hub = Hub()
    name_users(hub)
    gone = asyncio.Queue[tuple[str, int, str]]()

    @hub.on_disconnect
    def note(client: Client, code: int, reason: str) -> None:
        gone.put_nowait((client.user, code, reason))

    served = await hubs.start(hub)
    await connect(sdk, served.url, token="ann")
    bob = await connect(sdk, served.url, token="bob")
    await connect(sdk, served.url, token="eve")
    async with asyncio.timeout(WAIT_TIMEOUT):
        await hub.disconnect(user="ann")
        assert await gone.get() == ("ann", 3503, "force disconnect")
        await bob.lead("disconnect")
        assert await gone.get() == ("bob", 3000, "connection closed")
        await served.stop()
        assert await gone.get() == ("eve", 3001, "shutdown")


async def test_pings_are_answered(hubs: Hubs, sdk: Sdk) -> None:
    clock = FakeClock()
    hub = Hub(ping_interval=25, pong_timeout=10, clock=clock)
    hub.rpc("echo")(lambda client, data: data)
    served = await hubs.start(hub)
    client = await connect(sdk, served.url)
    for n in range(40):  # 200 seconds
        clock.advance(5)
        # The SDK has the ping before the first answer, the server the pong before the second.
        assert await client.rpc("echo", n) == n
        assert await client.rpc("echo", n) == n

    assert len(client.heard("connecting")) == 1
    assert len(client.heard("connected")) == 1
    assert client.heard("disconnected") == []


async def test_missing_pong_brings_it_back(hubs: Hubs, sdk: Sdk) -> None:
    clock = FakeClock()
    served = await hubs.start(Hub(ping_interval=25, pong_timeout=10, clock=clock))
    client = await connect(sdk, served.url)
    clock.advance(36)  # in one go: there is no time to answer
    connecting = await client.next("connecting")
    await client.next("connected")

    assert (connecting["code"], connecting["reason"]) == (3012, "no pong")
