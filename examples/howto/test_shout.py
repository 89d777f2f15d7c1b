"""Tests of a handler over a real socket, on any free port."""

from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError

from hubbub import Server, ServerConnection, serve


async def shout(websocket: ServerConnection) -> None:  # yours: import it
    async for message in websocket:
        if isinstance(message, bytes):
            raise TypeError("text only")
        await websocket.send(message.upper())


@pytest_asyncio.fixture
async def server() -> AsyncGenerator[Server]:
    async with serve(shout, "127.0.0.1", 0) as server:
        yield server


def url(server: Server) -> str:
    host, port = server.sockets[0].getsockname()[:2]
    return f"ws://{host}:{port}"


@pytest.mark.asyncio
async def test_text_comes_back_louder(server: Server) -> None:
    async with connect(url(server)) as websocket:
        await websocket.send("hello")

        assert await websocket.recv() == "HELLO"


@pytest.mark.asyncio
async def test_bytes_end_the_connection(server: Server) -> None:
    async with connect(url(server)) as websocket:
        await websocket.send(b"hello")

        with pytest.raises(ConnectionClosedError) as raised:
            await websocket.recv()
        assert raised.value.rcvd is not None
        assert raised.value.rcvd.code == 1011
