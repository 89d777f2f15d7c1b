"""A hub mounted into an app of FastAPI, under uvicorn: the same sessions through another door."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, cast

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from hubbub import Client, DisconnectCode, Hub, Limits, Server
from hubbub.protocol import json
from hubbub.protocol.commands import Command, PresenceStatsRequest, RPCRequest, SubscribeRequest
from tests.hub.raw import Dialect, RawClient, raw
from tests.hub.raw import connected as connected_to
from tests.server.wire import until
from tests.timing import MS

PATH = "/connection/websocket"
CHANNEL = "room:a"


@dataclass
class Mounted:
    """Stands for a server where only its address matters."""

    sockets: list[socket.socket]


@contextlib.asynccontextmanager
async def mounted(hub: Hub) -> AsyncGenerator[Server]:
    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with hub:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/hello")
    async def hello() -> str:
        return "hello"

    app.mount("/connection", hub.asgi)
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(
            app, log_level="warning", ws="websockets-sansio", timeout_graceful_shutdown=5
        )
    )
    # Not serve(), which would take the signals of the test run.
    serving = asyncio.create_task(server._serve([listening]))
    await until(lambda: server.started or serving.done())
    try:
        yield cast("Server", Mounted([listening]))
    finally:
        server.should_exit = True
        await serving
        listening.close()


def make_hub(**options: Any) -> Hub:
    hub = Hub(**options)
    hub.channel("room:{name}", publish="anyone", presence=True, join_leave=True, history=10)
    return hub


def connected(server: Server, codec: Dialect, **fields: Any) -> Any:
    return connected_to(server, codec, path=PATH, **fields)


async def test_everything_passes_both_ways(codec: Dialect) -> None:
    hub = make_hub()
    async with mounted(hub) as server, connected(server, codec) as alice:
        await alice.subscribe(CHANNEL)
        assert (await alice.next_push()).join is not None
        async with connected(server, codec) as bob:
            await bob.subscribe(CHANNEL)
            await bob.publish(CHANNEL, {"n": 1})
            assert (await alice.next_push()).join is not None
            assert await alice.next_values(1) == [{"n": 1}]
            await hub.publish(CHANNEL, {"n": 2})
            assert await alice.next_values(1) == [{"n": 2}]
        assert (await alice.next_push()).leave is not None
        stats = (await alice.command(PresenceStatsRequest(CHANNEL))).presence_stats

    assert stats is not None
    assert stats.num_clients == 1


async def test_subprotocol_is_echoed(codec: Dialect) -> None:
    async with (
        mounted(make_hub()) as server,
        RawClient(server, codec, path=PATH, subprotocol=f"centrifuge-{name_of(codec)}") as client,
    ):
        await client.connect()

        assert client.socket.subprotocol == f"centrifuge-{name_of(codec)}"


def name_of(codec: Dialect) -> str:
    return "protobuf" if codec.BINARY else "json"


async def test_foreign_origin_is_refused(codec: Dialect) -> None:
    async with mounted(make_hub()) as server:
        client = RawClient(server, codec, path=PATH, origin=Origin("https://elsewhere.example"))
        with pytest.raises(InvalidStatus) as refused:
            await client.__aenter__()

    assert refused.value.response.status_code == 403


async def test_hooks_see_the_request(codec: Dialect) -> None:
    hub = make_hub()
    seen: list[tuple[str, str]] = []

    @hub.on_connect
    def connect(client: Client) -> str:
        seen.append((client.request.path, client.request.headers["Host"]))
        assert client.remote_address[0] == "127.0.0.1"
        return "42"

    async with mounted(hub) as server, connected(server, codec):
        assert [client.user for client in hub.clients()] == ["42"]

    assert seen[0][0] == PATH
    assert seen[0][1].startswith("127.0.0.1:")


async def test_disconnect_arrives_with_code_and_reason_behind_what_was_published(
    codec: Dialect,
) -> None:
    hub = make_hub()
    async with mounted(hub) as server, connected(server, codec) as client:
        await client.subscribe(CHANNEL)
        await hub.publish(CHANNEL, "last")
        await hub.disconnect(client=client.connection_id, code=4001, reason="so long")
        assert await client.closed() == (4001, "so long")

        published = [reply.push.pub for reply in client.received if reply.push is not None]
        assert [pub.data for pub in published if pub is not None] == [raw("last")]


async def test_violation_and_size_end_the_connection(codec: Dialect) -> None:
    hub = make_hub(limits=Limits(message_size=1000))
    async with mounted(hub) as server:
        async with connected(server, codec) as client:
            await client.send_frame(b"")
            assert (await client.closed())[0] == DisconnectCode.BAD_REQUEST
        async with connected(server, codec) as client:
            await client.send_frame(b" " * 1001)
            assert (await client.closed())[0] == 1009
        await until(lambda: not hub.clients())


async def test_commands_that_wait_pause_reading_and_nothing_is_lost(codec: Dialect) -> None:
    hub = make_hub(limits=Limits(queued=100))
    go = asyncio.Event()

    @hub.rpc("slow")
    async def slow(client: Client) -> str:
        await go.wait()
        return "done"

    async with mounted(hub) as server, connected(server, codec) as client:
        numbers = [client.number() for _ in range(50)]
        for number in numbers:
            await client.send(Command(id=number, rpc=RPCRequest(method="slow")))
        await until(lambda: any(s._reading_paused for s in hub._node.registry.connections))
        go.set()
        replies = [await client.reply(number) for number in numbers]

    assert all(reply.rpc is not None for reply in replies)


async def test_who_does_not_read_is_given_up_and_others_are_not_delayed() -> None:
    hub = make_hub(limits=Limits(backlog=200_000, write_timeout=5000 * MS))
    codes: list[int] = []

    @hub.on_disconnect
    def bye(client: Client, code: int) -> None:
        codes.append(code)

    async with (
        mounted(hub) as server,
        connected(server, json) as slow,
        connected(server, json) as quick,
    ):
        for client in (slow, quick):
            await client.subscribe(CHANNEL)
        slow.socket.transport.pause_reading()
        while not codes:
            await hub.publish(CHANNEL, "x" * 50_000)
            while (await quick.next_push()).pub is None:
                pass  # joins

        assert codes == [DisconnectCode.SLOW]
        assert len(hub.clients()) == 1
        slow.socket.transport.abort()


async def test_stop_ends_with_3001(codec: Dialect) -> None:
    hub = make_hub()
    async with mounted(hub) as server, connected(server, codec) as client:
        await client.subscribe(CHANNEL)
        hub.stop()
        assert await client.closed() == (3001, "shutdown")


async def test_vanished_client_leaves_nothing(codec: Dialect) -> None:
    hub = make_hub()
    async with mounted(hub) as server:
        async with connected(server, codec) as client:
            await client.ask(SubscribeRequest(channel=CHANNEL))
            client.socket.transport.abort()
            await until(lambda: not hub.channels())
        stats = await hub.presence_stats(CHANNEL)

    assert stats.clients == 0
    assert not hub._node.registry.connections


async def test_plain_http_is_told_what_this_is() -> None:
    async with mounted(make_hub()) as server:
        host, port = server.sockets[0].getsockname()
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}") as web:
            other = await web.get("/hello")
            here = await web.get(PATH)

    assert other.json() == "hello"
    assert here.status_code == 426
    assert here.headers["upgrade"] == "websocket"


async def test_who_takes_nothing_is_dropped() -> None:
    hub = make_hub(limits=Limits(backlog=100_000_000, write_timeout=50 * MS))
    codes: list[int] = []

    @hub.on_disconnect
    def bye(client: Client, code: int) -> None:
        codes.append(code)

    async with mounted(hub) as server, connected(server, json) as slow:
        await slow.subscribe(CHANNEL)
        slow.socket.transport.pause_reading()
        for _ in range(200):  # more than the kernel's buffers and uvicorn's hold
            await hub.publish(CHANNEL, "x" * 50_000)
        await until(lambda: bool(codes))

        assert codes == [DisconnectCode.WRITE_ERROR]
        slow.socket.transport.abort()
