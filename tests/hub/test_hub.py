import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from hubbub import (
    BrokerError,
    Client,
    CommandError,
    ConfigError,
    Grant,
    Hub,
    Limits,
    Position,
    PresenceStats,
    UnknownChannel,
    User,
    serve,
)
from hubbub.brokers.base import Receiver
from hubbub.brokers.memory import MemoryBroker
from hubbub.errors import PayloadError
from hubbub.protocol.commands import RPCRequest
from hubbub.testing import FakeClock
from tests.hub.brokers import RemoteBroker
from tests.hub.raw import TIMEOUT, Dialect, RawClient, command, connected, raw, value
from tests.server.wire import until

HOST = "127.0.0.1"


@pytest.fixture
def hub(clock: FakeClock) -> Hub:
    hub = Hub(clock=clock)
    hub.channel("room", history=5, presence=True, ttl=60)
    hub.channel("plain")
    hub.channel("blobs", bytes)
    hub.on_connect(lambda client, request: request.name)
    return hub


def data(page: Any) -> list[Any]:
    return [value(each.data) for each in page.publications]


# Its life.


async def test_hub_that_is_not_running_does_nothing(hub: Hub) -> None:
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: hub.publish("room", 1),
        lambda: hub.broadcast(["room"], 1),
        lambda: hub.history("room"),
        lambda: hub.remove_history("room"),
        lambda: hub.presence("room"),
        lambda: hub.presence_stats("room"),
        lambda: hub.add_subscription("room", user="42"),
        lambda: hub.unsubscribe("room", user="42"),
        lambda: hub.disconnect(user="42"),
        lambda: hub.refresh(user="42"),
    ]
    assert not hub.running
    for call in calls:
        with pytest.raises(RuntimeError, match="not running"):
            await call()
    async with hub:
        for call in calls:
            await call()
    for call in calls:
        with pytest.raises(RuntimeError, match="not running"):
            await call()


async def test_hub_knows_whether_it_runs(hub: Hub) -> None:
    async with hub as entered:
        assert entered is hub
        assert hub.running
        with pytest.raises(RuntimeError, match="running already"):
            await hub.__aenter__()
        assert hub.running
        hub.stop()
        hub.stop()
        assert not hub.running
    assert not hub.running


async def test_hub_can_be_served_again(hub: Hub, codec: Dialect) -> None:
    for number in range(1, 3):
        async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
            await client.subscribe("room")
            await hub.publish("room", number)

            assert await client.next_values(1) == [number]
            assert data(await hub.history("room")) == list(range(1, number + 1))
            assert (await hub.presence_stats("room")).clients == 1


def test_hub_runs_in_one_loop_after_another() -> None:
    hub = Hub()
    hub.channel("room", history=10)

    async def publish() -> int:
        async with hub:
            return (await hub.publish("room", "hello")).offset

    # As of the tests of an application whose hub is a variable of its module.
    assert [asyncio.run(publish()) for _ in range(2)] == [1, 2]


async def test_broker_that_cannot_be_used_is_told(hub: Hub) -> None:
    broker = MemoryBroker()
    async with Hub(broker):
        with pytest.raises(BrokerError):
            await Hub(broker).__aenter__()


async def test_hub_runs_among_handlers(hub: Hub, codec: Dialect) -> None:
    async def other(websocket: Any) -> None:
        await websocket.send("other")

    handlers: dict[str, Any] = {"/": other, "/connection/{name}": hub}
    async with (
        serve(handlers, HOST, 0) as server,
        connected(server, codec, path="/connection/websocket?x=1") as client,
    ):
        assert hub.clients()[0].request.path == "/connection/websocket?x=1"
        assert hub.clients()[0].remote_address == client.socket.local_address


async def test_hook_that_hangs_does_not_keep_a_hub_from_ending(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hubbub.hub.node.LEAVE_TIMEOUT", 0.01)
    reached = asyncio.Event()

    @hub.rpc("hang")
    async def hang(client: Client) -> None:
        reached.set()
        await asyncio.Event().wait()

    async with asyncio.timeout(TIMEOUT), serve(hub, HOST, 0) as server, RawClient(server) as client:
        await client.connect()
        await client.send(command(9, RPCRequest(method="hang")))
        await reached.wait()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"broker": "sqlit:///x.db"}, ConfigError),
        ({"broker": "memory"}, ConfigError),
        ({"ping_interval": 5, "pong_timeout": 5}, ValueError),
        ({"pong_timeout": 0}, ValueError),
        ({"origins": ["example.com"]}, ConfigError),
    ],
)
def test_option_that_cannot_be_used(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        Hub(**options)


# Declarations.


@pytest.mark.parametrize(
    ("arguments", "options", "error"),
    [
        (("{",), {}, ValueError),
        (("room",), {"history": -1}, ValueError),
        (("room",), {"delta": True}, ValueError),
        (("room",), {"nonsense": True}, TypeError),
        (("room", RemoteBroker | MemoryBroker), {}, TypeError),
    ],
)
def test_declaration_that_cannot_be_used(
    arguments: tuple[Any, ...], options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        Hub().channel(*arguments, **options)


async def test_first_pattern_that_matches_counts(hub: Hub) -> None:
    async with hub:
        with pytest.raises(UnknownChannel):
            await hub.publish("later", 1)
        hub.channel("later", history=1)
        hub.channel("{anything}")

        assert (await hub.publish("later", 1)).offset == 1
        assert (await hub.publish("other", 1)).offset == 0


def test_rpc_method_is_registered_once(hub: Hub) -> None:
    hub.rpc("m")(lambda client: None)
    with pytest.raises(ValueError, match="'m' is empty or registered already"):
        hub.rpc("m")
    with pytest.raises(ValueError, match="'' is empty"):
        hub.rpc("")


# Channels.


async def test_unknown_channel_is_unknown_everywhere(hub: Hub) -> None:
    async with hub:
        for call in (
            hub.publish("nowhere", 1),
            hub.broadcast(["room", "nowhere"], 1),
            hub.history("nowhere"),
            hub.remove_history("nowhere"),
            hub.presence("nowhere"),
            hub.presence_stats("nowhere"),
            hub.add_subscription("nowhere", user="42"),
        ):
            with pytest.raises(UnknownChannel, match="nowhere"):
                await call

        # Nothing of a broadcast that cannot go everywhere.
        assert (await hub.history("room", limit=0)).position.offset == 0


async def test_publish_gives_positions(hub: Hub, codec: Dialect) -> None:
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        await client.subscribe("room")
        first = await hub.publish("room", {"n": 1}, tags={"a": "b"})
        without = await hub.publish("room", msgspec.Raw(b'{"n":\n 2}'), history=False)
        second = await hub.publish("room", 3)

        assert (first.offset, second.offset) == (1, 2)
        assert first.epoch == second.epoch != ""
        assert without == Position()
        publications = [await client.next_publication() for _ in range(3)]
        assert [each.offset for each in publications] == [1, 0, 2]
        assert [value(each.data) for each in publications] == [{"n": 1}, {"n": 2}, 3]
        assert publications[0].tags == {"a": "b"}
        assert [each.epoch for each in publications] == [first.epoch, "", ""]
        assert publications[0].info is None


async def test_publish_refuses_what_is_no_json(hub: Hub) -> None:
    async with hub:
        with pytest.raises(TypeError):
            await hub.publish("room", object())
        with pytest.raises(PayloadError):
            await hub.publish("room", msgspec.Raw(b"{"))
        with pytest.raises(TypeError):
            await hub.publish("blobs", "text")
        with pytest.raises(TypeError):
            await hub.broadcast(["room", "blobs"], "text")

        assert data(await hub.history("room")) == []


async def test_publish_twice_with_a_key_publishes_once(hub: Hub, clock: FakeClock) -> None:
    async with hub:
        first = await hub.publish("room", 1, idempotency_key="k")
        again = await hub.publish("room", 2, idempotency_key="k")
        clock.advance(301)
        later = await hub.publish("room", 3, idempotency_key="k")

        assert first == again != later


async def test_publish_of_an_old_version_is_dropped(hub: Hub) -> None:
    async with hub:
        for version, epoch in ((2, "a"), (1, "a"), (3, "a"), (1, "b")):
            await hub.publish("room", [version, epoch], version=version, version_epoch=epoch)

        assert data(await hub.history("room")) == [[2, "a"], [3, "a"], [1, "b"]]


async def test_broadcast_publishes_to_all(hub: Hub, codec: Dialect) -> None:
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        await client.subscribe("room")
        await client.subscribe("plain")
        positions = await hub.broadcast(["room", "plain"], {"n": 1}, tags={"a": "b"})
        pushes = [await client.next_push() for _ in range(2)]

        assert [position.offset for position in positions] == [1, 0]
        assert {push.channel for push in pushes} == {"room", "plain"}
        assert [push.pub.tags for push in pushes if push.pub] == [{"a": "b"}] * 2


async def test_history_is_read_in_pages_both_ways(hub: Hub) -> None:
    async with hub:
        positions = [await hub.publish("room", number) for number in range(1, 7)]
        page = await hub.history("room")

        assert data(page) == [2, 3, 4, 5, 6]
        assert page.position == positions[-1]
        assert data(await hub.history("room", limit=2)) == [2, 3]
        assert data(await hub.history("room", limit=0)) == []
        assert data(await hub.history("room", limit=2, reverse=True)) == [6, 5]
        assert data(await hub.history("room", since=positions[2], limit=2)) == [4, 5]
        assert data(await hub.history("room", since=positions[2], reverse=True)) == [2]
        with pytest.raises(CommandError) as caught:
            await hub.history("room", since=Position("foreign", 1))
        assert caught.value.code == 112
        with pytest.raises(CommandError) as caught:
            await hub.history("plain")
        assert caught.value.code == 108


async def test_history_expires(hub: Hub, clock: FakeClock) -> None:
    async with hub:
        first = await hub.publish("room", 1)
        clock.advance(61)

        assert data(await hub.history("room")) == []
        assert (await hub.publish("room", 2)) == Position(first.epoch, 2)


async def test_removed_history_keeps_its_position(hub: Hub) -> None:
    async with hub:
        first = await hub.publish("room", 1)
        await hub.remove_history("room")
        page = await hub.history("room")

        assert data(page) == []
        assert page.position == first


async def test_presence_knows_who_is_there(hub: Hub, codec: Dialect) -> None:
    async with (
        serve(hub, HOST, 0) as server,
        connected(server, codec, name="a") as first,
        connected(server, codec, name="a") as second,
        connected(server, codec, name="") as third,
    ):
        for client in (first, second, third):
            await client.subscribe("room")
        members = await hub.presence("room")

        assert {name: info.user for name, info in members.items()} == {
            first.connection_id: "a",
            second.connection_id: "a",
            third.connection_id: "",
        }
        assert await hub.presence_stats("room") == PresenceStats(clients=3, users=2)
        for call in (hub.presence("plain"), hub.presence_stats("plain")):
            with pytest.raises(CommandError) as caught:
                await call
            assert caught.value.code == 108


async def test_channels_counts_subscribers(hub: Hub, codec: Dialect) -> None:
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        assert hub.channels() == {}

        await client.subscribe("room")
        async with connected(server, codec) as other:
            await other.subscribe("room")
            await other.subscribe("plain")

            assert hub.channels() == {"room": 2, "plain": 1}
        await until(lambda: hub.channels() == {"room": 1})
        async with hub.subscribe("plain"):
            assert hub.channels() == {"room": 1}  # of clients


# Clients.


async def test_clients_are_those_that_are_connected(hub: Hub, codec: Dialect) -> None:
    async with (
        serve(hub, HOST, 0) as server,
        connected(server, codec, name="a", version="1.2") as first,
        connected(server, codec, name="b") as second,
        RawClient(server, codec),
    ):
        assert {each.id for each in hub.clients()} == {first.connection_id, second.connection_id}
        (client,) = hub.clients(user="a")
        assert (client.id, client.user, client.name) == (first.connection_id, "a", "a")
        assert client.version == "1.2"
        assert client.connected
        assert hub.clients(user="c") == []
        assert client.info is None
        assert client.id in repr(client)


async def test_target_is_needed(hub: Hub) -> None:
    async with hub:
        for call in (
            hub.disconnect(),
            hub.unsubscribe("room"),
            hub.refresh(),
            hub.add_subscription("room"),
        ):
            with pytest.raises(ValueError, match="whose"):
                await call


async def test_disconnect_spares_some(hub: Hub, codec: Dialect) -> None:
    async with (
        serve(hub, HOST, 0) as server,
        connected(server, codec, name="a") as first,
        connected(server, codec, name="a") as spared,
        connected(server, codec, name="b") as other,
    ):
        await hub.disconnect(user="a", spare=[spared.connection_id])

        assert await first.closed() == (3503, "force disconnect")
        await spared.sync()

        await hub.disconnect(user="b", client=spared.connection_id)
        await spared.sync()

        await hub.disconnect(client=spared.connection_id, code=4001, reason="moved")
        assert await spared.closed() == (4001, "moved")
        await other.sync()
        with pytest.raises(ValueError, match="4000 to 4999"):
            await hub.disconnect(user="b", code=1000)
        await hub.disconnect(user="nobody")
        await other.sync()


async def test_unsubscribe_tells_the_client(hub: Hub, codec: Dialect) -> None:
    async with serve(hub, HOST, 0) as server, connected(server, codec, name="a") as client:
        for channel in ("room", "plain", "blobs"):
            await client.subscribe(channel)
        await hub.publish("room", "before")
        await hub.unsubscribe("room", user="a")
        await hub.publish("room", "after")

        assert await client.next_values(1) == ["before"]
        push = await client.next_push()
        assert push.channel == "room"
        assert push.unsubscribe is not None
        assert (push.unsubscribe.code, push.unsubscribe.reason) == (2000, "server unsubscribe")
        assert await hub.presence("room") == {}

        await hub.unsubscribe(client=client.connection_id, code=2600, reason="why")
        pushes = await client.pushes()
        assert {push.channel for push in pushes} == {"plain", "blobs"}
        assert {
            (push.unsubscribe.code, push.unsubscribe.reason) for push in pushes if push.unsubscribe
        } == {(2600, "why")}
        await hub.unsubscribe("room", user="a")
        assert await client.pushes() == []
        with pytest.raises(ValueError, match="2000 to 2999"):
            await hub.unsubscribe("room", user="a", code=3000)
        with pytest.raises(ValueError, match="needs a reason"):
            await hub.unsubscribe("room", user="a", code=2600)


async def test_add_subscription_tells_the_client(hub: Hub, codec: Dialect) -> None:
    async with serve(hub, HOST, 0) as server, connected(server, codec, name="a") as client:
        first = await hub.publish("room", 1)
        await hub.publish("room", 2)
        grant = Grant(info=b'"seat 1"', data=b'{"welcome":true}')
        await hub.add_subscription("room", user="a", grant=grant, since=first)
        push = await client.next_push()

        assert push.channel == "room"
        assert push.subscribe is not None
        assert push.subscribe.recoverable
        assert push.subscribe.positioned
        assert push.subscribe.epoch == first.epoch
        assert value(push.subscribe.data) == {"welcome": True}
        assert await client.next_values(1) == [2]
        (member,) = (await hub.presence("room")).values()
        assert member.chan_info == b'"seat 1"'
        await hub.publish("room", 3)
        assert await client.next_values(1) == [3]

        await hub.add_subscription("room", user="a")
        assert await client.pushes() == []
        await client.unsubscribe("room")
        assert hub.channels() == {}


async def test_add_subscription_over_the_limit_is_logged(
    codec: Dialect, caplog: pytest.LogCaptureFixture
) -> None:
    hub = Hub(limits=Limits(channels=1))
    hub.channel("{name}")
    hub.on_connect(lambda client: "a")
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        await client.subscribe("one")
        await hub.add_subscription("two", user="a")

        assert await client.pushes() == []
        assert hub.channels() == {"one": 1}
        assert "was not subscribed to 'two'" in caplog.text


async def test_refresh_changes_expiry(hub: Hub, codec: Dialect, clock: FakeClock) -> None:
    async with (
        serve(hub, HOST, 0) as server,
        connected(server, codec, name="a") as client,
        connected(server, codec, name="b") as other,
    ):
        await hub.refresh(user="a", expires_at=clock.time() + 10, info={"seat": 1})
        push = await client.next_push()

        assert push.refresh is not None
        assert hub.clients(user="a")[0].info == {"seat": 1}
        clock.advance(9)
        await client.sync()
        await hub.refresh(user="a", expires_at=None)
        clock.advance(9)
        await client.sync()
        assert hub.clients(user="a")[0].info == {"seat": 1}

        await hub.refresh(user="a", expires_at=clock.time() + 2)
        clock.advance(2.2)
        assert await client.closed() == (3005, "connection expired")

        await hub.refresh(user="b", expires_at=clock.time())
        assert await other.closed() == (3005, "connection expired")


async def test_client_can_be_spoken_to_from_hooks(codec: Dialect) -> None:
    hub = Hub()
    hub.channel("{name}")

    @hub.rpc("act")
    async def act(client: Client, what: str) -> Any:
        match what:
            case "send":
                client.send({"n": 1})
                client.send(msgspec.Raw(b'{"n":\n2}'))
            case "subscribe":
                await client.subscribe("room")
                await client.subscribe("room")
            case "unsubscribe":
                await client.unsubscribe("room")
                await client.unsubscribe("room")
            case "disconnect":
                client.disconnect(4001, "enough")
                client.send("too late")
        return list(client.channels)

    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:

        async def call(what: str) -> Any:
            reply = await client.command(RPCRequest(method="act", data=raw(what)))
            assert reply.rpc is not None
            return value(reply.rpc.data)

        assert await call("send") == []
        messages = [push.message for push in await client.pushes()]
        assert [value(each.data) for each in messages if each] == [{"n": 1}, {"n": 2}]
        assert await call("subscribe") == ["room"]
        assert (await client.next_push()).subscribe is not None
        assert await call("unsubscribe") == []
        assert (await client.next_push()).unsubscribe is not None
        assert await client.pushes() == []
        await client.send(command(9, RPCRequest(method="act", data=raw("disconnect"))))
        assert await client.closed() == (4001, "enough")
        assert client.received[-1].push is None


async def test_control_message_of_another_version_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broker(MemoryBroker):
        def running(self, receiver: Receiver) -> Any:
            self.receiver = receiver
            return super().running(receiver)

    broker = Broker()
    async with Hub(broker):
        for message in (b"", b"{", b'{"type":"Dance"}', b'{"type":"DisconnectClients","code":"x"}'):
            with caplog.at_level(logging.WARNING):
                broker.receiver.control(message)

    assert len(caplog.records) == 4


# With a broker that others use too.


async def test_presence_is_prolonged_at_a_broker_that_forgets_it(clock: FakeClock) -> None:
    broker = RemoteBroker(clock)
    hub = Hub(broker, clock=clock, ping_interval=0)
    hub.channel("room", presence=True)
    async with serve(hub, HOST, 0) as server, connected(server) as client:
        await client.subscribe("room")
        for _ in range(6):
            seen = len(broker.presence_ttls)
            clock.advance(12.6)
            clock.advance(12.6)
            await until(lambda: len(broker.presence_ttls) > seen)  # noqa: B023
            await client.sync()

        assert set(broker.presence_ttls) == {60.0}
        assert set(await hub.presence("room")) == {client.connection_id}


async def test_presence_ends_as_soon_after_a_crash_as_the_hub_says(clock: FakeClock) -> None:
    broker = RemoteBroker(clock)
    hub = Hub(broker, clock=clock, ping_interval=0, presence_ttl=6)
    hub.channel("room", presence=True)
    async with serve(hub, HOST, 0) as server, connected(server) as client:
        await client.subscribe("room")
        seen = len(broker.presence_ttls)
        clock.advance(2.6)
        await until(lambda: len(broker.presence_ttls) > seen)

        assert set(broker.presence_ttls) == {6}


def test_presence_that_would_end_at_once_is_refused() -> None:
    with pytest.raises(ValueError, match="presence_ttl=0: seconds, above 0"):
        Hub(presence_ttl=0)


async def test_positions_are_compared_where_it_is_quiet(clock: FakeClock) -> None:
    broker = RemoteBroker(clock)
    hub = Hub(broker, clock=clock, ping_interval=0)
    hub.channel("room", history=10)
    hub.channel("server", history=10)
    hub.on_connect(
        lambda client, request: User("a", channels=["server"] if request.name == "s" else [])
    )
    async with (
        serve(hub, HOST, 0) as server,
        connected(server) as client,
        connected(server, name="s") as other,
    ):
        await client.subscribe("room")
        await hub.publish("room", 1)
        await client.next_values(1)
        broker.memory.passes = lambda event: False
        await hub.publish("room", 2)
        await hub.publish("server", 2)
        clock.advance(41)  # not yet quiet for that long, in one of them

        assert await other.closed() == (3010, "insufficient state")

        await client.sync()
        clock.advance(41)
        push = await client.next_push()
        assert push.unsubscribe is not None
        assert push.unsubscribe.code == 2500


@pytest.mark.parametrize("channels", [None, ["room", "elsewhere"]])
async def test_broker_that_suspects_a_loss_has_positions_compared(
    channels: list[str] | None,
) -> None:
    broker = RemoteBroker()
    hub = Hub(broker)
    hub.channel("room", history=10)
    hub.channel("sound", history=10)
    async with serve(hub, HOST, 0) as server, connected(server) as client:
        await client.subscribe("room")
        await client.subscribe("sound")
        broker.memory.passes = lambda event: False
        await hub.publish("room", 1)
        receiver = broker.memory.receiver
        assert receiver is not None
        receiver.suspect(channels)
        push = await client.next_push()

        assert push.channel == "room"
        assert push.unsubscribe is not None
        assert await client.pushes() == []
