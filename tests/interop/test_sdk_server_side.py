"""Subscriptions that the server makes, as the official SDKs see them."""

from typing import Any

from hubbub import Client, Grant, Hub, Tokens, User
from hubbub.auth.tokens import sign
from tests.interop.hubs import Door, Hubs, name_users
from tests.interop.sdks import Sdk, SdkClient, connect

SECRET = "the secret of the tests, long enough for HS256"


def make_hub(**options: Any) -> Hub:
    hub = Hub(**options)
    hub.channel("news", history=10, subscribe="nobody")
    hub.channel("user:{name}", subscribe="nobody", presence=True)
    return hub


def server_data(client: SdkClient, channel: str) -> list[Any]:
    return [one["data"] for one in client.heard("server_publication", channel)]


async def test_token_names_channels(hubs: Hubs, sdk: Sdk) -> None:
    hub = make_hub(tokens=Tokens(secret=SECRET))
    served = await hubs.start(hub)
    token = sign({"sub": "ann", "channels": ["news", "user:ann"]}, SECRET)
    client = await connect(sdk, served.url, token=token)
    news = await client.next("server_subscribed", "news")
    await client.next("server_subscribed", "user:ann")
    await hub.publish("news", 1)
    await hub.publish("user:ann", 2)

    assert await client.take(1, "news", "server_publication") == [1]
    assert await client.take(1, "user:ann", "server_publication") == [2]
    assert news["recoverable"]
    assert not news["was_recovering"]
    assert (await hub.presence_stats("user:ann")).clients == 1


async def test_hook_names_channels(hubs: Hubs, sdk: Sdk) -> None:
    hub = make_hub()

    @hub.on_connect
    async def enter(client: Client) -> User:
        return User("ann", channels={"news": Grant(data=b'{"hello":1}')})

    served = await hubs.start(hub)
    client = await connect(sdk, served.url)
    subscribed = await client.next("server_subscribed", "news")
    await hub.publish("news", 1)

    assert await client.take(1, "news", "server_publication") == [1]
    assert subscribed["data"] == {"hello": 1}
    assert list(hub.clients()[0].channels) == ["news"]


async def test_personal_channel(hubs: Hubs, sdk: Sdk) -> None:
    hub = make_hub(personal="user:{user}")
    name_users(hub)
    served = await hubs.start(hub)
    ann = await connect(sdk, served.url, token="ann")
    bob = await connect(sdk, served.url, token="bob")
    for name, client in (("ann", ann), ("bob", bob)):
        await client.next("server_subscribed", f"user:{name}")
        await hub.publish(f"user:{name}", name)

    assert await ann.take(1, "user:ann", "server_publication") == ["ann"]
    assert await bob.take(1, "user:bob", "server_publication") == ["bob"]


async def test_lost_connection_loses_nothing(hubs: Hubs, sdk: Sdk) -> None:
    hub = make_hub(tokens=Tokens(secret=SECRET))
    door = Door(hub)
    served = await hubs.start(hub)
    token = sign({"sub": "ann", "channels": ["news"]}, SECRET)
    client = await connect(sdk, served.url, token=token)
    await client.next("server_subscribed", "news")
    await hub.publish("news", 1)
    assert await client.take(1, "news", "server_publication") == [1]
    door.close()
    served.abort()
    await hub.publish("news", 2)
    await client.next("connecting")
    await hub.publish("news", 3)
    door.open()
    subscribed = await client.next("server_subscribed", "news")
    await hub.publish("news", 4)
    await client.take(3, "news", "server_publication")

    assert server_data(client, "news") == [1, 2, 3, 4]
    assert subscribed["was_recovering"]
    assert subscribed["recovered"]


async def test_too_much_missed_is_told(hubs: Hubs, sdk: Sdk) -> None:
    hub = make_hub(tokens=Tokens(secret=SECRET))
    door = Door(hub)
    served = await hubs.start(hub)
    token = sign({"sub": "ann", "channels": ["news"]}, SECRET)
    client = await connect(sdk, served.url, token=token)
    await client.next("server_subscribed", "news")
    door.close()
    served.abort()
    for n in range(1, 12):
        top = await hub.publish("news", n)
    door.open()
    subscribed = await client.next("server_subscribed", "news")
    await hub.publish("news", 12)

    assert await client.take(1, "news", "server_publication") == [12]
    assert subscribed["was_recovering"]
    assert not subscribed["recovered"]
    assert subscribed["position"] == [top.epoch, 11]


async def test_channel_that_is_granted_no_more_is_gone(hubs: Hubs, sdk: Sdk) -> None:
    hub = make_hub()
    channels = ["news", "user:ann"]
    hub.on_connect(lambda client: User("ann", channels=list(channels)))
    served = await hubs.start(hub)
    client = await connect(sdk, served.url)
    await client.next("server_subscribed", "user:ann")
    channels.remove("news")
    served.abort()
    await client.next("connected")
    await client.next("server_subscribed", "user:ann")
    await client.next("server_unsubscribed", "news")

    assert hub.channels() == {"user:ann": 1}


async def test_added_at_run_time(hubs: Hubs, sdk: Sdk) -> None:
    hub = make_hub()
    name_users(hub)
    served = await hubs.start(hub)
    ann = await connect(sdk, served.url, token="ann")
    bob = await connect(sdk, served.url, token="bob")
    await hub.publish("news", "before")
    await hub.add_subscription("news", user="ann")
    subscribed = await ann.next("server_subscribed", "news")
    await hub.publish("news", 1)

    assert await ann.take(1, "news", "server_publication") == [1]
    assert subscribed["recoverable"]
    assert subscribed["position"][1] == 1
    assert hub.channels() == {"news": 1}

    await hub.unsubscribe("news", user="ann")
    await ann.next("server_unsubscribed", "news")
    await hub.publish("news", 2)
    await hub.add_subscription("user:x", user="ann")
    await hub.add_subscription("user:x", user="bob")
    await hub.publish("user:x", 3)

    for client in (ann, bob):
        assert await client.take(1, "user:x", "server_publication") == [3]
    assert server_data(ann, "news") == [1]
    assert bob.heard("server_subscribed", "news") == []


async def test_added_at_run_time_with_what_came_before(hubs: Hubs, sdk: Sdk) -> None:
    hub = make_hub()
    name_users(hub)
    served = await hubs.start(hub)
    client = await connect(sdk, served.url, token="ann")
    first = await hub.publish("news", 1)
    await hub.publish("news", 2)
    await hub.publish("news", 3)
    await hub.add_subscription("news", user="ann", since=first)
    await hub.publish("news", 4)

    assert await client.take(3, "news", "server_publication") == [2, 3, 4]


async def test_both_kinds_side_by_side(hubs: Hubs, sdk: Sdk) -> None:
    hub = make_hub()
    hub.channel("chat", history=10)
    hub.on_connect(lambda client: User("ann", channels=["news"]))
    served = await hubs.start(hub)
    client = await connect(sdk, served.url)
    await client.subscribe("chat")
    await client.begin("news")
    refused = await client.next("unsubscribed", "news")
    for n in range(3):
        await hub.publish("news", n)
        await hub.publish("chat", n)

    assert await client.take(3, "chat") == [0, 1, 2]
    assert await client.take(3, "news", "server_publication") == [0, 1, 2]
    assert refused["code"] == 105
