"""A hub that is asked to let its clients go elsewhere, little by little."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from websockets.exceptions import InvalidStatus

from hubbub import Hub, serve
from hubbub.testing import connect
from tests.hub.raw import RawClient, connected
from tests.timing import MS

HOST = "127.0.0.1"
CLIENTS = 20


async def test_drain_ends_sessions_in_batches_over_the_time() -> None:
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(Hub())
        clients = [await stack.enter_async_context(connect(hub)) for _ in range(CLIENTS)]
        counts: list[int] = []

        async def count() -> None:
            while True:
                counts.append(len(hub.clients()))
                await asyncio.sleep(0.01)

        counting = asyncio.create_task(count())
        began = loop.time()
        await hub.drain(0.5)
        took = loop.time() - began
        counting.cancel()
        ends = [await client.ended() for client in clients]

    assert {(end.code, end.reason) for end in ends} == {(3001, "shutdown")}
    assert took >= 0.35  # four pauses between five batches
    # Some have gone and others have not, at several times.
    assert len({count for count in counts if 0 < count < CLIENTS}) >= 2


async def test_drain_of_few_clients_is_short_and_of_none_at_once() -> None:
    loop = asyncio.get_running_loop()
    async with Hub() as hub, connect(hub) as client:
        began = loop.time()
        await hub.drain(3_600)
        await hub.drain(3_600)
        assert (await client.ended()).code == 3001
        assert loop.time() - began < 5_000 * MS


async def test_drain_without_time_ends_all_at_once() -> None:
    async with Hub() as hub, connect(hub) as one, connect(hub) as other:
        draining = asyncio.create_task(hub.drain(0))
        await asyncio.sleep(0)
        assert hub.clients() == []
        await draining
        await one.ended()
        await other.ended()


async def test_draining_hub_says_so_and_takes_no_sessions() -> None:
    hub = Hub()
    async with serve(hub, HOST, 0) as server:
        await hub.drain(0)

        assert hub.running
        assert hub.outage == "draining"
        with pytest.raises(InvalidStatus) as refused:
            async with RawClient(server):
                pass
        assert refused.value.response.status_code == 503
    async with hub:
        assert hub.outage is None


async def test_what_goes_on_while_draining_reaches_who_is_left() -> None:
    hub = Hub()
    hub.channel("news", history=10, ttl=60, subscribe="anyone")
    async with hub, hub.subscribe("news") as publications:
        await hub.drain(0)
        await hub.publish("news", 1)
        async for publication in publications:
            assert publication.data == b"1"
            break


async def test_server_drains_its_hubs_and_keeps_other_handlers() -> None:
    hub = Hub()

    async def echo(websocket: object) -> None:
        async for message in websocket:  # type: ignore[attr-defined]
            await websocket.send(message)  # type: ignore[attr-defined]

    async with (
        serve({"/hub": hub, "/": echo}, HOST, 0) as server,
        connected(server, path="/hub") as client,
        RawClient(server) as plain,
    ):
        await server.drain(0.1)
        assert await client.closed() == (3001, "shutdown")
        await plain.socket.send("still here")
        assert await plain.socket.recv() == "still here"
        assert not server.sockets


async def test_connection_that_was_accepted_before_the_drain_still_opens() -> None:
    hub = Hub()
    async with serve(hub, HOST, 0) as server:
        host, port = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(host, port)
        # Accepted: the loop had its turn.
        while not server.front.waiting:
            await asyncio.sleep(0)
        draining = asyncio.create_task(server.drain(0.1))
        await asyncio.sleep(0)
        writer.write(
            b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        assert (await reader.readline()).startswith(b"HTTP/1.1 101")
        await draining
        writer.close()
        await writer.wait_closed()


async def test_connection_that_says_nothing_does_not_hold_up_the_drain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hubbub.server.server.OPENING_TIME", 0.01)
    async with serve(Hub(), HOST, 0) as server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        while not server.front.waiting:
            await asyncio.sleep(0)
        await server.drain(0.1)
        writer.close()
        await writer.wait_closed()
