"""Handlers that have a say before the upgrade and when the server closes."""

import asyncio
import http
from types import TracebackType
from typing import Any, Self

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Request, Response

from hubbub import ServerConnection, serve
from hubbub.server.routing import Service


class Host:
    """A service that lets in who knows the word, and says good-bye by itself."""

    def __init__(self) -> None:
        self.running = False
        self.asked: list[str] = []
        self.connections: list[ServerConnection] = []
        self.events: list[str] = []

    async def __aenter__(self) -> Self:
        self.running = True
        self.events.append("entered")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.running = False
        self.events.append("left")

    def process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        self.asked.append(request.path)
        if "word" not in request.path:
            return connection.respond(http.HTTPStatus.FORBIDDEN, "Say the word.\n")
        return None

    async def drain(self, seconds: float) -> None:
        self.events.append("drained")

    def stop(self) -> None:
        self.events.append("stopped")
        for connection in self.connections:
            connection.fail(4001, "good-bye")  # type: ignore[arg-type]

    async def __call__(self, connection: ServerConnection, **parameters: Any) -> None:
        self.connections.append(connection)
        await connection.send("hello")
        await connection.wait_closed()


async def hello(connection: ServerConnection) -> None:
    await connection.send("plain")


def test_functions_are_no_services() -> None:
    assert isinstance(Host(), Service)
    assert not isinstance(hello, Service)


@pytest.mark.parametrize("by_path", [False, True])
async def test_service_is_asked_before_the_upgrade(by_path: bool) -> None:
    host = Host()
    handler: Any = {"/door": host, "/": hello} if by_path else host
    async with serve(handler, "localhost", 0) as server:
        url = f"ws://localhost:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"{url}/door")
        async with connect(f"{url}/door?word") as websocket:
            assert await websocket.recv() == "hello"
        if by_path:
            async with connect(f"{url}/") as websocket:
                assert await websocket.recv() == "plain"

    assert refused.value.response.status_code == 403
    assert refused.value.response.body == b"Say the word.\n"
    assert host.asked == ["/door", "/door?word"]


async def test_the_users_answer_comes_first() -> None:
    host = Host()

    def busy(connection: ServerConnection, request: Request) -> Response:
        return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "Busy.\n")

    async with serve(host, "localhost", 0, process_request=busy) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"ws://localhost:{port}/?word")

    assert refused.value.response.status_code == 503
    assert host.asked == []


async def test_service_says_good_bye_before_the_server_does() -> None:
    host = Host()
    async with serve({"/a": host, "/b": host}, "localhost", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with connect(f"ws://localhost:{port}/a?word") as websocket:
            await websocket.recv()
            server.close()
            with pytest.raises(ConnectionClosed) as closed:
                await websocket.recv()

    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4001, "good-bye")
    assert host.events == ["entered", "stopped", "left"]


async def test_connections_that_may_stay_are_not_stopped() -> None:
    host = Host()
    async with serve(host, "localhost", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with connect(f"ws://localhost:{port}/?word") as websocket:
            await websocket.recv()
            server.close(close_connections=False)
            await asyncio.sleep(0)
            assert host.events == ["entered"]
        await server.wait_closed()
