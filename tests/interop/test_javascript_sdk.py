"""What only the official SDK for JavaScript can do."""

import asyncio

import msgspec
import pytest

from hubbub import Client, Hub
from tests.interop.hubs import Hubs
from tests.interop.sdks import WAIT_TIMEOUT, Sdk, connect

pytestmark = pytest.mark.parametrize(
    "sdk", ["javascript-json", "javascript-protobuf"], indirect=True
)


class Greeting(msgspec.Struct):
    name: str


async def test_message_is_taken_and_answered(hubs: Hubs, sdk: Sdk) -> None:
    hub = Hub()

    @hub.on_message
    def greet(client: Client, message: Greeting) -> None:
        client.send({"hello": message.name})

    served = await hubs.start(hub)
    client = await connect(sdk, served.url)
    await client.lead("send", data={"name": 5})  # there is no way to answer that
    await client.lead("send", data={"name": "Ann"})
    message = await client.next("message")

    assert message["data"] == {"hello": "Ann"}
    assert len(client.heard("message")) == 1
    assert client.heard("disconnected") == []


async def test_messages_are_taken_in_order(hubs: Hubs, sdk: Sdk) -> None:
    hub = Hub()
    rcvd: list[int] = []
    done = asyncio.Event()

    @hub.on_message
    async def take(client: Client, message: int) -> None:
        await asyncio.sleep(0)
        rcvd.append(message)
        if message == 9:
            done.set()

    served = await hubs.start(hub)
    client = await connect(sdk, served.url)
    for n in range(10):
        await client.lead("send", data=n)
    async with asyncio.timeout(WAIT_TIMEOUT):
        await done.wait()

    assert rcvd == list(range(10))


async def test_message_to_a_hub_that_takes_none_ends_the_connection(hubs: Hubs, sdk: Sdk) -> None:
    served = await hubs.start(Hub())
    client = await connect(sdk, served.url)
    await client.lead("send", data={"name": "Ann"})
    disconnected = await client.next("disconnected")

    assert (disconnected["code"], disconnected["reason"]) == (3508, "not available")


async def test_first_subscription_may_begin_somewhere(hubs: Hubs, sdk: Sdk) -> None:
    hub = Hub()
    hub.channel("news", history=10)
    served = await hubs.start(hub)
    for n in range(1, 4):
        top = await hub.publish("news", n)
    beginning = await connect(sdk, served.url)
    subscribed = await beginning.subscribe("news", since={"epoch": "", "offset": 0})
    middle = await connect(sdk, served.url)
    await middle.subscribe("news", since={"epoch": top.epoch, "offset": 2})
    nowhere = await connect(sdk, served.url)
    lost = await nowhere.subscribe("news", since={"epoch": top.epoch, "offset": 9})

    assert await beginning.take(3, "news") == [1, 2, 3]
    assert await middle.take(1, "news") == [3]
    assert subscribed["recovered"]
    assert (lost["was_recovering"], lost["recovered"]) == (True, False)
