import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConcurrencyError

from hubbub import ServerConnection, broadcast, serve
from tests.server.wire import Peer, until


async def stay(websocket: ServerConnection) -> None:
    await websocket.wait_closed()


@pytest.mark.parametrize(
    ("message", "text", "first", "payload"),
    [
        ("é", None, 0x81, "é".encode()),
        ("é", False, 0x82, "é".encode()),
        (b"b", None, 0x82, b"b"),
        (b"b", True, 0x81, b"b"),
        (bytearray(b"b"), None, 0x82, b"b"),
        (memoryview(b"b"), True, 0x81, b"b"),
    ],
)
async def test_reaches_every_open_connection(
    message: Any, text: bool | None, first: int, payload: bytes
) -> None:
    async with (
        serve(stay, "127.0.0.1", 0) as server,
        await Peer.open(server) as one,
        await Peer.open(server) as two,
        await Peer.open(server) as gone,
    ):
        connections = list(server.all_connections)
        gone.writer.close()
        await until(lambda: len(server.connections) == 2)
        broadcast(connections, message, text=text)

        for peer in (one, two):
            assert await peer.read_frame() == (first, payload)


async def test_reaches_connections_with_compression_and_clients() -> None:
    async with (
        serve(stay, "127.0.0.1", 0, compression="deflate") as server,
        connect(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/") as client,
        await Peer.open(server) as plain,
    ):
        broadcast([*server.connections, client], "both ways")

        assert await client.recv() == "both ways"
        assert await plain.read_frame() == (0x81, b"both ways")


async def test_skips_a_fragmented_send_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    go = asyncio.Event()

    async def fragments() -> AsyncIterator[str]:
        yield "a"
        await go.wait()
        yield "b"

    async with (
        serve(stay, "127.0.0.1", 0) as server,
        await Peer.open(server) as busy,
    ):
        (connection,) = server.connections
        async with await Peer.open(server) as idle:
            sending = asyncio.create_task(connection.send(fragments()))
            await busy.read_frame()
            broadcast(server.connections, "x")
            assert "skipped broadcast: sending a fragmented message" in caplog.messages
            with pytest.raises(ExceptionGroup) as caught:
                broadcast(server.connections, "y", raise_exceptions=True)
            assert caught.group_contains(ConcurrencyError)
            go.set()
            await sending
            assert [await idle.read_frame() for _ in range(2)] == [(0x81, b"x"), (0x81, b"y")]
            assert [await busy.read_frame() for _ in range(2)] == [(0x00, b"b"), (0x80, b"")]


@pytest.mark.parametrize("message", [42, ["list"], None])
async def test_refuses_what_is_no_message(message: Any) -> None:
    with pytest.raises(TypeError):
        broadcast([], message)
