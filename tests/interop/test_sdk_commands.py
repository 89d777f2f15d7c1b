"""What clients of the official SDKs ask, and what they are answered."""

import msgspec

from hubbub import Client, CommandError, Hub, User
from tests.interop.hubs import Hubs, name_users
from tests.interop.sdks import Sdk, connect, refused


class Chat(msgspec.Struct):
    text: str


async def test_connect_is_answered_with_id_and_data(hubs: Hubs, sdk: Sdk) -> None:
    hub = Hub()
    hub.on_connect(lambda client: User("ann", data={"hello": "ä"}))
    served = await hubs.start(hub)
    client = await sdk.open(served.url)
    connected = await client.connect()

    assert connected["data"] == {"hello": "ä"}
    assert [(one.id, one.user) for one in hub.clients()] == [(connected["id"], "ann")]
    assert hub.clients()[0].name in ("js", "python")


# Publishing


async def test_publication_of_server_arrives(hubs: Hubs, sdk: Sdk) -> None:
    hub = Hub()
    hub.channel("news", history=10)
    served = await hubs.start(hub)
    client = await connect(sdk, served.url)
    await client.subscribe("news")
    await hub.publish("news", {"text": "ä€😀", "n": 1.5}, tags={"by": "server"})
    publication = await client.next("publication", "news")

    assert publication["data"] == {"text": "ä€😀", "n": 1.5}
    assert publication["offset"] == 1
    assert publication["tags"] == {"by": "server"}
    assert publication["info"] is None


async def test_publication_carries_any_json(hubs: Hubs, sdk: Sdk) -> None:
    hub = Hub()
    hub.channel("news", publish="anyone")
    served = await hubs.start(hub)
    client = await connect(sdk, served.url)
    await client.subscribe("news")
    for data in (1, "text", [1, [2]], True, {"deep": {"camelCase": None}}):
        await hub.publish("news", data)
        await client.publish("news", data)

        assert await client.take(2, "news") == [data, data]


async def test_publication_of_client_arrives_with_its_publisher(hubs: Hubs, sdk: Sdk) -> None:
    hub = Hub()
    hub.channel("news", publish="subscribers")
    name_users(hub)
    served = await hubs.start(hub)
    ann = await connect(sdk, served.url, token="ann")
    bob = await connect(sdk, served.url, token="bob")
    for client in (ann, bob):
        await client.subscribe("news")
    await ann.publish("news", {"n": 1})
    (ann_id,) = (one.id for one in hub.clients(user="ann"))

    for client in (ann, bob):
        publication = await client.next("publication", "news")
        assert publication["data"] == {"n": 1}
        assert publication["offset"] == 0
        assert publication["info"] == {
            "client": ann_id,
            "user": "ann",
            "conn_info": None,
            "chan_info": None,
        }


async def test_publish_without_permission_is_refused(hubs: Hubs, sdk: Sdk) -> None:
    hub = Hub()
    hub.channel("news")
    served = await hubs.start(hub)
    client = await connect(sdk, served.url)
    await client.subscribe("news")
    with refused(103, "permission denied"):
        await client.publish("news", {"n": 1})
    await hub.publish("news", "last")

    assert await client.take(1, "news") == ["last"]


async def test_publish_to_unknown_channel_is_refused(hubs: Hubs, sdk: Sdk) -> None:
    served = await hubs.start(Hub())
    client = await connect(sdk, served.url)

    with refused(102, "unknown channel"):
        await client.publish("nowhere", {"n": 1})


async def test_publish_of_wrong_type_names_the_field(hubs: Hubs, sdk: Sdk) -> None:
    hub = Hub()
    hub.channel("chat", Chat, publish="anyone")
    served = await hubs.start(hub)
    client = await connect(sdk, served.url)
    await client.subscribe("chat")
    with refused(107, "$.text"):
        await client.publish("chat", {"text": 5})
    with refused(107, "text"):
        await client.publish("chat", {})
    await client.publish("chat", {"text": "fine"})

    assert await client.take(1, "chat") == [{"text": "fine"}]
    assert len(client.heard("connected")) == 1


async def test_hook_changes_what_is_published(hubs: Hubs, sdk: Sdk) -> None:
    hub = Hub()
    chat = hub.channel("chat", Chat, publish="anyone")

    @chat.on_publish
    def check(client: Client, message: Chat) -> Chat:
        if "spam" in message.text:
            raise CommandError(400, "no spam")
        return Chat(message.text.upper())

    served = await hubs.start(hub)
    client = await connect(sdk, served.url)
    await client.subscribe("chat")
    with refused(400, "no spam"):
        await client.publish("chat", {"text": "spam"})
    await client.publish("chat", {"text": "hi"})

    assert await client.take(1, "chat") == [{"text": "HI"}]


async def test_publish_in_one_go_keeps_the_order(hubs: Hubs, sdk: Sdk) -> None:
    hub = Hub()
    hub.channel("news", history=100, publish="subscribers")
    served = await hubs.start(hub)
    client = await connect(sdk, served.url)
    await client.subscribe("news")
    await client.lead("burst", channel="news", data=list(range(50)))
    await client.take(50, "news")

    publications = client.heard("publication", "news")
    assert [one["data"] for one in publications] == list(range(50))
    assert [one["offset"] for one in publications] == list(range(1, 51))


# Presence


async def test_presence_tells_who_is_subscribed(hubs: Hubs, sdk: Sdk) -> None:
    hub = Hub()
    hub.channel("room", presence=True)

    @hub.on_connect
    def enter(client: Client, request: object) -> User:
        return User("ann", info={"name": "Ann"})

    served = await hubs.start(hub)
    first = await connect(sdk, served.url)
    second = await connect(sdk, served.url)
    for client in (first, second):
        await client.subscribe("room")
    ids = {one.id for one in hub.clients()}
    presence = await second.lead("presence", channel="room")
    stats = await second.lead("presence_stats", channel="room")

    assert set(presence) == ids
    for id_ in ids:
        assert presence[id_] == {
            "client": id_,
            "user": "ann",
            "conn_info": {"name": "Ann"},
            "chan_info": None,
        }
    assert stats == {"clients": 2, "users": 1}


async def test_presence_of_channel_without_it_is_not_available(hubs: Hubs, sdk: Sdk) -> None:
    hub = Hub()
    hub.channel("room")
    served = await hubs.start(hub)
    client = await connect(sdk, served.url)
    await client.subscribe("room")

    for command in ("presence", "presence_stats"):
        with refused(108, "not available"):
            await client.lead(command, channel="room")


async def test_presence_is_for_subscribers(hubs: Hubs, sdk: Sdk) -> None:
    hub = Hub()
    hub.channel("room", presence=True)
    served = await hubs.start(hub)
    client = await connect(sdk, served.url)

    for command in ("presence", "presence_stats"):
        with refused(103, "permission denied"):
            await client.lead(command, channel="room")


# History


async def test_history_in_pages(hubs: Hubs, sdk: Sdk) -> None:
    hub = Hub()
    hub.channel("news", history=10, read_history="anyone")
    served = await hubs.start(hub)
    client = await connect(sdk, served.url)
    for n in range(1, 6):
        top = await hub.publish("news", n)

    async def page(**options: object) -> list[object]:
        result = await client.lead("history", channel="news", **options)
        assert result["position"] == [top.epoch, 5]
        for publication in result["publications"]:
            assert publication["offset"] == publication["data"]
        return [publication["data"] for publication in result["publications"]]

    def since(offset: int) -> dict[str, object]:
        return {"epoch": top.epoch, "offset": offset}

    assert await page(limit=2) == [1, 2]
    assert await page(limit=2, since=since(2)) == [3, 4]
    assert await page(limit=2, since=since(4)) == [5]
    assert await page(limit=2, since=since(5)) == []
    assert await page(limit=2, reverse=True) == [5, 4]
    assert await page(limit=9, reverse=True, since=since(4)) == [3, 2, 1]
    assert await page(limit=-1) == [1, 2, 3, 4, 5]
    assert await page(limit=0) == []


async def test_history_is_for_subscribers(hubs: Hubs, sdk: Sdk) -> None:
    hub = Hub()
    hub.channel("news", history=10)
    served = await hubs.start(hub)
    await hub.publish("news", 1)
    client = await connect(sdk, served.url)
    with refused(103, "permission denied"):
        await client.lead("history", channel="news", limit=1)
    await client.subscribe("news")
    page = await client.lead("history", channel="news", limit=1)

    assert [one["data"] for one in page["publications"]] == [1]


async def test_history_of_another_epoch_is_unrecoverable(hubs: Hubs, sdk: Sdk) -> None:
    hub = Hub()
    hub.channel("news", history=10, read_history="anyone")
    served = await hubs.start(hub)
    client = await connect(sdk, served.url)
    since = {"epoch": "another", "offset": 1}

    with refused(112, "unrecoverable position"):
        await client.lead("history", channel="news", limit=1, since=since)


async def test_history_of_channel_without_it_is_not_available(hubs: Hubs, sdk: Sdk) -> None:
    hub = Hub()
    hub.channel("news", read_history="anyone")
    served = await hubs.start(hub)
    client = await connect(sdk, served.url)

    with refused(108, "not available"):
        await client.lead("history", channel="news", limit=1)


# Methods


async def test_rpc_returns_what_the_method_returns(hubs: Hubs, sdk: Sdk) -> None:
    hub = Hub()

    @hub.rpc("add")
    async def add(client: Client, numbers: list[int]) -> dict[str, int]:
        return {"sum": sum(numbers)}

    served = await hubs.start(hub)
    client = await connect(sdk, served.url)

    assert await client.rpc("add", [1, 2, 3]) == {"sum": 6}


async def test_rpc_fails_with_the_code_of_the_method(hubs: Hubs, sdk: Sdk) -> None:
    hub = Hub()

    @hub.rpc("fail")
    def fail(client: Client, numbers: list[int]) -> None:
        raise CommandError(417, "no luck")

    served = await hubs.start(hub)
    client = await connect(sdk, served.url)

    with refused(417, "no luck"):
        await client.rpc("fail", [])
    with refused(107):
        await client.rpc("fail", "no list")
    with refused(104, "method not found"):
        await client.rpc("another", None)


async def test_rpc_without_any_method_is_not_available(hubs: Hubs, sdk: Sdk) -> None:
    served = await hubs.start(Hub())
    client = await connect(sdk, served.url)

    with refused(108, "not available"):
        await client.rpc("add", [])
