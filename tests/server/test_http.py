"""HTTP beside WebSocket on one port, with real apps of FastAPI and Starlette."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import fastapi
import httpx
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from websockets.asyncio.client import connect

from hubbub import Server, ServerConnection, serve
from hubbub.errors import StartupError
from tests.server.wire import HEAD, Peer, frame, until
from tests.timing import MS


async def echo(websocket: ServerConnection) -> None:
    async for message in websocket:
        await websocket.send(message)


def listen(app: Any, **options: Any) -> Server:
    return serve(echo, "127.0.0.1", 0, http=app, **options)


def base_url(server: Server) -> str:
    return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


class State:
    """What the app under test saw, and the events that move it on."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.go = asyncio.Event()
        self.streaming = asyncio.Event()


@pytest.fixture
async def state() -> State:
    return State()


@pytest.fixture
async def app(state: State) -> fastapi.FastAPI:
    @asynccontextmanager
    async def lifespan(app: fastapi.FastAPI) -> AsyncIterator[dict[str, str]]:
        state.seen.append("startup")
        yield {"from": "lifespan"}
        state.seen.append("shutdown")

    app = fastapi.FastAPI(lifespan=lifespan)

    @app.get("/state")
    async def get_state(request: fastapi.Request) -> str:
        return str(request.state._state["from"])

    @app.post("/sum")
    async def post_sum(numbers: list[int]) -> int:
        return sum(numbers)

    @app.post("/size")
    async def post_size(request: fastapi.Request) -> int:
        return sum([len(chunk) async for chunk in request.stream()])

    @app.get("/slow")
    async def get_slow() -> str:
        state.seen.append("slow")
        await state.go.wait()
        return "done"

    @app.get("/background")
    async def get_background() -> Response:
        async def work() -> None:
            await state.go.wait()
            state.seen.append("worked")

        return PlainTextResponse("later", background=BackgroundTask(work))

    @app.get("/events")
    async def get_events() -> StreamingResponse:
        async def events() -> AsyncIterator[str]:
            for n in range(10**9):
                yield f"data: {n}\n\n"
                state.streaming.set()
                await asyncio.sleep(MS)

        return StreamingResponse(events(), media_type="text/event-stream")

    @app.get("/broken")
    async def get_broken() -> None:
        raise ValueError("broken")

    return app


async def test_methods_bodies_and_lifespan(app: fastapi.FastAPI, state: State) -> None:
    async with listen(app) as server, httpx.AsyncClient(base_url=base_url(server)) as client:
        assert state.seen == ["startup"]
        assert (await client.get("/state")).json() == "lifespan"
        assert (await client.post("/sum", json=[1, 2, 3])).json() == 6

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(50):
                yield bytes(10_000)

        assert (await client.post("/size", content=chunks())).json() == 500_000
        assert (await client.post("/size", content=bytes(300_000))).json() == 300_000
        head = await client.head("/docs")
        assert (head.status_code, head.content) == (200, b"")
        assert (await client.get("/nowhere")).status_code == 404
        assert "date" in head.headers
        assert head.headers["server"].endswith("websockets/17.4")
    assert state.seen == ["startup", "shutdown"]


async def test_server_header_can_be_left_out(app: fastapi.FastAPI) -> None:
    async with (
        listen(app, server_header=None) as server,
        httpx.AsyncClient(base_url=base_url(server)) as client,
    ):
        assert "server" not in (await client.get("/state")).headers


async def test_events_stream_beside_websockets(app: fastapi.FastAPI) -> None:
    async with (
        listen(app, close_timeout=50 * MS) as server,
        httpx.AsyncClient(base_url=base_url(server)) as client,
        connect(base_url(server).replace("http", "ws")) as websocket,
        client.stream("GET", "/events") as response,
    ):
        lines = response.aiter_lines()
        for n in range(5):
            assert await anext(lines) == f"data: {n}"
            assert await anext(lines) == ""
            await websocket.send(str(n))
            assert await websocket.recv() == str(n)


async def test_keep_alive_serves_many_requests_on_one_connection(app: fastapi.FastAPI) -> None:
    async with listen(app) as server, await Peer.connect(server) as peer:
        for _ in range(5):
            peer.send(b"GET /state HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await peer.read_head()).startswith(b"HTTP/1.1 200 ")
            assert await peer.reader.readexactly(10) == b'"lifespan"'


async def test_keep_alive_then_upgrade_on_the_same_connection(app: fastapi.FastAPI) -> None:
    async with listen(app) as server, await Peer.connect(server) as peer:
        for _ in range(2):
            peer.send(b"GET /state HTTP/1.1\r\nHost: x\r\n\r\n")
            await peer.read_head()
            await peer.reader.readexactly(10)
        peer.send(HEAD + frame(1, b"early"))
        assert (await peer.read_head()).startswith(b"HTTP/1.1 101 ")
        assert await peer.read_frame() == (0x81, b"early")
        peer.send(frame(1, b"late"))
        assert await peer.read_frame() == (0x81, b"late")


async def test_pipelined_requests_are_answered_in_order(app: fastapi.FastAPI, state: State) -> None:
    async with listen(app) as server, await Peer.connect(server) as peer:
        get = b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n"
        peer.send(get % b"slow" + get % b"state" + get % b"nowhere")
        await until(lambda: "slow" in state.seen)
        state.go.set()
        bodies = []
        for length in (6, 10, 22):
            await peer.read_head()
            bodies.append(json.loads(await peer.reader.readexactly(length)))

        assert bodies == ["done", "lifespan", {"detail": "Not Found"}]
        peer.send(get % b"state")
        assert (await peer.read_head()).startswith(b"HTTP/1.1 200 ")


async def test_upgrade_behind_a_running_request_does_not_harm_it(
    app: fastapi.FastAPI, state: State
) -> None:
    async with listen(app) as server, await Peer.connect(server) as peer:
        peer.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n" + HEAD)
        await until(lambda: "slow" in state.seen)
        state.go.set()

        assert (await peer.read_head()).startswith(b"HTTP/1.1 200 ")
        assert await peer.reader.readexactly(6) == b'"done"'


async def test_offer_of_http_2_is_ignored(
    app: fastapi.FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    async with listen(app) as server, await Peer.connect(server) as peer:
        peer.send(
            b"GET /state HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\n"
            b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n"
        )

        assert (await peer.read_head()).startswith(b"HTTP/1.1 200 ")
        assert await peer.reader.readexactly(10) == b'"lifespan"'
    assert "Unsupported upgrade request." not in caplog.messages


async def test_second_head_is_bounded_in_time_and_size(app: fastapi.FastAPI) -> None:
    get = b"GET /state HTTP/1.1\r\nHost: x\r\n\r\n"
    for options, more, status in [
        ({"open_timeout": 50 * MS}, b"GET /st", b"408"),
        ({}, b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 20_000, b"431"),
    ]:
        async with listen(app, **options) as server, await Peer.connect(server) as peer:
            peer.send(get)
            await peer.read_head()
            await peer.reader.readexactly(10)
            peer.send(more)

            assert (await peer.read_head()).startswith(b"HTTP/1.1 " + status)


async def test_idle_connection_is_closed_after_keep_alive(app: fastapi.FastAPI) -> None:
    async with listen(app) as server, await Peer.connect(server) as peer:
        server.http.keep_alive = 20 * MS
        peer.send(b"GET /state HTTP/1.1\r\nHost: x\r\n\r\n")
        await peer.read_head()

        assert await peer.read_to_end() == b'"lifespan"'


async def test_error_in_the_app_is_500_and_harms_nobody(
    app: fastapi.FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        listen(app) as server,
        httpx.AsyncClient(base_url=base_url(server)) as client,
        connect(base_url(server).replace("http", "ws")) as websocket,
    ):
        assert (await client.get("/broken")).status_code == 500
        await websocket.send("fine")
        assert await websocket.recv() == "fine"
    assert "ValueError: broken" in caplog.text


# The end.


async def test_closing_lets_responses_finish(app: fastapi.FastAPI, state: State) -> None:
    server = await listen(app)
    async with httpx.AsyncClient(base_url=base_url(server)) as client:
        request = asyncio.create_task(client.get("/slow"))
        await until(lambda: "slow" in state.seen)
        server.close()
        await asyncio.sleep(5 * MS)  # time to end it, if it did not wait
        assert "shutdown" not in state.seen
        state.go.set()
        assert (await request).json() == "done"
    await server.wait_closed()
    assert state.seen == ["startup", "slow", "shutdown"]


async def test_closing_waits_for_background_tasks(app: fastapi.FastAPI, state: State) -> None:
    server = await listen(app)
    async with httpx.AsyncClient(base_url=base_url(server)) as client:
        assert (await client.get("/background")).text == "later"
    server.close()
    state.go.set()
    await server.wait_closed()
    assert state.seen == ["startup", "worked", "shutdown"]


async def test_closing_ends_endless_streams_after_close_timeout(
    app: fastapi.FastAPI, state: State, caplog: pytest.LogCaptureFixture
) -> None:
    server = await listen(app, close_timeout=50 * MS)
    async with await Peer.connect(server) as peer:
        peer.send(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
        await state.streaming.wait()
        server.close()
        async with asyncio.timeout(3000 * MS):
            await server.wait_closed()
    assert state.seen[-1] == "shutdown"
    assert [record for record in caplog.records if record.exc_info] == []


async def test_closing_cancels_requests_that_do_not_end(app: fastapi.FastAPI, state: State) -> None:
    server = await listen(app, close_timeout=20 * MS)
    async with await Peer.connect(server) as peer:
        peer.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: "slow" in state.seen)
        server.close()
        async with asyncio.timeout(5000 * MS):
            await server.wait_closed()
    assert state.seen[-1] == "shutdown"


async def test_closing_ends_idle_connections_at_once(app: fastapi.FastAPI) -> None:
    server = await listen(app)
    async with await Peer.connect(server) as peer:
        peer.send(b"GET /state HTTP/1.1\r\nHost: x\r\n\r\n")
        await peer.read_head()
        await peer.reader.readexactly(10)
        server.close()
        async with asyncio.timeout(2000 * MS):
            await server.wait_closed()
        assert await peer.read_to_end() == b""


async def test_failing_startup_refuses_to_listen() -> None:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        raise ValueError("no database")
        yield

    server = listen(Starlette(lifespan=lifespan))
    with pytest.raises(StartupError, match="http"):
        await server


async def test_app_without_lifespan_is_served() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async with listen(app) as server, httpx.AsyncClient(base_url=base_url(server)) as client:
        assert (await client.get("/")).status_code == 204


# Without an app.


async def test_welcome_page_and_health() -> None:
    async with (
        serve({"/rooms/{room}": echo, "/hello": echo}, "127.0.0.1", 0) as server,
        httpx.AsyncClient(base_url=base_url(server)) as client,
    ):
        page = await client.get("/")
        assert page.status_code == 200
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert 'value="/hello"' in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert (await client.head("/")).content == b""
        health = await client.get("/healthz")
        assert (health.status_code, health.text) == (200, "ok\n")
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
            assert (await client.request(method, "/")).status_code == 405
        assert (await client.get("/other")).status_code == 404


async def test_requests_do_not_pile_up() -> None:
    async def get(request: Request) -> Response:
        return PlainTextResponse("x")

    app = Starlette(routes=[Route("/", get)])
    async with listen(app) as server:
        async with httpx.AsyncClient(base_url=base_url(server)) as client:
            for _ in range(20):
                await client.get("/")
        await until(lambda: not server.front.waiting)
        assert not server.http.state.connections
        assert not server.http.state.tasks
        assert not server.handler_tasks
