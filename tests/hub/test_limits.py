import asyncio
import socket

import pytest
from websockets.exceptions import InvalidStatus

from hubbub import Client, Hub, Limits, serve
from hubbub.protocol.commands import ConnectRequest, HistoryRequest, RPCRequest, SubscribeRequest
from hubbub.testing import FakeClock
from tests.hub.gate import Gate
from tests.hub.raw import Dialect, RawClient, command, connected, raw, value
from tests.server.wire import until
from tests.timing import MS

HOST = "127.0.0.1"


async def test_connection_over_the_limit_of_the_node(codec: Dialect) -> None:
    async with serve(Hub(limits=Limits(connections=2)), HOST, 0) as server:
        async with connected(server, codec), RawClient(server, codec):
            with pytest.raises(InvalidStatus) as caught:
                await RawClient(server, codec).__aenter__()

            assert caught.value.response.status_code == 503
            assert b"connections=2" in (caught.value.response.body or b"")
        async with connected(server, codec) as client:
            await client.sync()


async def test_connection_over_the_limit_of_a_user(codec: Dialect) -> None:
    hub = Hub(limits=Limits(user_connections=1))
    hub.on_connect(lambda client, request: request.name)
    async with serve(hub, HOST, 0) as server, connected(server, codec, name="a") as first:
        async with (
            connected(server, codec, name="b"),
            connected(server, codec, name=""),
            connected(server, codec, name=""),
        ):
            pass
        async with RawClient(server, codec) as client:
            await client.send(command(1, ConnectRequest(name="a")))

            assert await client.closed() == (3504, "connection limit")
        await first.socket.close()
        await until(lambda: not hub.clients(user="a"))
        async with connected(server, codec, name="a") as again:
            await again.sync()


async def test_commands_over_the_rate(codec: Dialect, clock: FakeClock) -> None:
    hub = Hub(clock=clock, limits=Limits(commands_per_second=10, commands_burst=5))
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        # Connecting was the first of the burst.
        replies = await client.ask(*[RPCRequest(method="m")] * 6)
        codes = [reply.error.code for reply in replies if reply.error]

        assert codes == [108] * 4 + [111] * 2
        assert replies[-1].error is not None
        assert replies[-1].error.temporary

        clock.advance(0.35)
        replies = await client.ask(*[RPCRequest(method="m")] * 4)
        codes = [reply.error.code for reply in replies if reply.error]

        assert codes == [108] * 3 + [111]

        await client.send(*[command(50 + n, RPCRequest(method="m")) for n in range(20)])

        assert await client.closed() == (3013, "too many requests")
        refused = [each for each in client.received if each.id >= 50]
        assert 1 <= len(refused) <= 5


async def test_pongs_are_no_commands(codec: Dialect, clock: FakeClock) -> None:
    hub = Hub(clock=clock, limits=Limits(commands_per_second=1, commands_burst=1))
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        for _ in range(80):
            clock.advance(1)
            await client.sync()  # takes all there is

        assert client.pings >= 3


async def test_channels_over_the_limit_name_it(codec: Dialect) -> None:
    hub = Hub(limits=Limits(channels=1, channel_length=4))
    hub.channel("{name}")
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        await client.subscribe("aaaa")
        many = await client.command(SubscribeRequest(channel="bbbb"))
        long = await client.command(SubscribeRequest(channel="ccccc"))

        assert many.error is not None
        assert (many.error.code, many.error.message) == (106, "limit exceeded: channels=1")
        assert long.error is not None
        assert long.error.code == 107
        assert "channel_length=4" in long.error.message


async def test_message_over_the_limit(codec: Dialect) -> None:
    async with (
        serve(Hub(limits=Limits(message_size=1000)), HOST, 0) as server,
        connected(server, codec) as client,
    ):
        await client.send(command(9, RPCRequest(method="m" * 1001)))
        assert (await client.closed())[0] == 1009


async def test_history_over_the_limit_is_cut(codec: Dialect) -> None:
    hub = Hub(limits=Limits(history=2, recovery=2))
    hub.channel("room", history=10)
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        await client.subscribe("room")
        for number in range(1, 4):
            await hub.publish("room", number)
        for limit in (-1, 5):
            reply = await client.command(HistoryRequest(channel="room", limit=limit))
            assert reply.history is not None
            assert [value(each.data) for each in reply.history.publications] == [1, 2]
        reply = await client.command(HistoryRequest(channel="room"))
        assert reply.history is not None
        assert (reply.history.publications, reply.history.offset) == ((), 3)

        # More than may be recovered is not recovered at all.
        await client.unsubscribe("room")
        assert not (await client.subscribe("room", recover=True, offset=0)).recovered
        await client.unsubscribe("room")
        assert (await client.subscribe("room", recover=True, offset=1)).recovered


async def test_commands_behind_a_slow_one_pause_reading_and_none_is_lost(codec: Dialect) -> None:
    hub, gate = Hub(limits=Limits(queued=10_000)), Gate()
    taken: list[int] = []

    @hub.rpc("m")
    async def method(client: Client, number: int) -> int:
        if not taken:
            await gate()
        taken.append(number)
        return number

    count, padding = 150, "x" * 60_000
    async with serve(hub, HOST, 0) as server, connected(server, codec) as client:
        buffer = client.socket.transport.get_extra_info("socket")
        buffer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

        async def send() -> None:
            for number in range(count):
                await client.send(
                    command(1000 + number, RPCRequest(method="m", data=raw(number))),
                    command(2000 + number, RPCRequest(method=padding)),
                )

        async with asyncio.TaskGroup() as group:
            sending = group.create_task(send())
            await gate.reached()
            await asyncio.sleep(200 * MS)
            # The server does not read; what the client sends fills the buffers in between.
            assert not sending.done()
            gate.open()
            for number in range(count):
                assert (await client.reply(1000 + number)).rpc is not None
                error = (await client.reply(2000 + number)).error
                assert error is not None
                assert error.code == 104

        assert taken == list(range(count))
