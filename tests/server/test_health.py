"""`/healthz` and `/readyz`: beside an app, before it, behind it; ready, draining, closing."""

from http import HTTPStatus
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from hubbub import Hub, Server, ServerConnection, serve
from hubbub.brokers.memory import MemoryBroker
from tests.timing import MS

TIMEOUT = 10_000 * MS


class Host:
    """A handler that knows when it cannot serve."""

    outage: str | None = None

    async def __call__(self, connection: ServerConnection, **parameters: Any) -> None:
        await connection.wait_closed()


async def own(request: Request) -> Response:
    return PlainTextResponse("my own", 418)


async def anything(request: Request) -> Response:
    return PlainTextResponse("a page")


OWN = Starlette(routes=[Route("/readyz", own)])
GREEDY = Starlette(routes=[Route("/{rest:path}", anything)])


def client(server: Server) -> httpx.AsyncClient:
    port = server.sockets[0].getsockname()[1]
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=TIMEOUT)


def listen(handler: Any = None, **options: Any) -> Server:
    return serve(handler or Host(), "127.0.0.1", 0, **options)


async def ask(server: Server, path: str) -> tuple[int, str]:
    async with client(server) as http:
        response = await http.get(path)
    return response.status_code, response.text


@pytest.mark.parametrize("http", [None, Starlette()])
async def test_both_paths_answer_where_the_app_has_nothing(http: Any) -> None:
    async with listen(http=http) as server:
        assert await ask(server, "/healthz") == (200, "ok\n")
        assert await ask(server, "/readyz") == (200, "ready\n")
        assert (await ask(server, "/healthz/"))[0] == 404


async def test_answers_are_not_to_be_kept_and_are_for_get_and_head() -> None:
    async with listen() as server, client(server) as http:
        head = await http.head("/readyz")
        post = await http.post("/readyz")

        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["Cache-Control"] == "no-store"
        assert post.status_code == 404


async def test_what_the_app_has_itself_stands() -> None:
    async with listen(http=OWN) as server:
        assert await ask(server, "/readyz") == (418, "my own")
        assert await ask(server, "/healthz") == (200, "ok\n")


async def test_health_goes_before_an_app_that_answers_everything() -> None:
    async with listen(http=GREEDY) as server:
        assert await ask(server, "/readyz") == (200, "a page")
    async with listen(http=GREEDY, health=True) as server:
        assert await ask(server, "/readyz") == (200, "ready\n")
        assert await ask(server, "/other") == (200, "a page")


async def test_health_can_be_left_out() -> None:
    async with listen(health=False) as server:
        assert (await ask(server, "/healthz"))[0] == 404
        assert (await ask(server, "/readyz"))[0] == 404


@pytest.mark.parametrize("by_path", [False, True])
async def test_outage_of_a_handler_makes_it_unready_and_no_less_alive(by_path: bool) -> None:
    host = Host()
    async with listen({"/a": Host(), "/b": host} if by_path else host) as server:
        host.outage = "the broker is gone"

        assert server.outage == "the broker is gone"
        assert await ask(server, "/readyz") == (503, "the broker is gone\n")
        assert await ask(server, "/healthz") == (200, "ok\n")

        host.outage = None

        assert await ask(server, "/readyz") == (200, "ready\n")


async def test_hub_is_as_ready_as_its_broker() -> None:
    class Broker(MemoryBroker):
        outage: str | None = None  # type: ignore[assignment]  # this one fails

    broker = Broker()
    hub = Hub(broker)
    async with listen({"/connection/websocket": hub}) as server:
        assert await ask(server, "/readyz") == (200, "ready\n")

        broker.outage = "no answer from redis"

        assert await ask(server, "/readyz") == (503, "no answer from redis\n")

        broker.outage = None
        hub.stop()

        assert await ask(server, "/readyz") == (503, "stopping\n")


async def test_withdrawn_server_is_unready_on_old_connections_and_new_ones() -> None:
    async with listen() as server, client(server) as http:
        before = await http.get("/readyz")
        server.withdraw()
        after = await http.get("/readyz")

        assert (before.status_code, after.status_code) == (200, 503)
        assert after.text == "draining\n"
        assert await ask(server, "/readyz") == (503, "draining\n")
        assert await ask(server, "/healthz") == (200, "ok\n")


async def test_request_that_is_answered_while_the_server_closes_says_so() -> None:
    server: Server

    async def close(request: Request) -> Response:
        server.close()
        return PlainTextResponse(str(server.outage), HTTPStatus.SERVICE_UNAVAILABLE)

    async with listen(http=Starlette(routes=[Route("/close", close)])) as server:
        assert await ask(server, "/close") == (503, "closing")


async def test_app_of_asgi_2_is_answered_for() -> None:
    class Old:
        def __init__(self, scope: Any) -> None:
            self.scope = scope

        async def __call__(self, receive: Any, send: Any) -> None:
            if self.scope["type"] != "http":
                raise RuntimeError("no lifespan here")
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b"none"})

    async with listen(http=Old) as server:
        assert await ask(server, "/readyz") == (200, "ready\n")
        assert await ask(server, "/else") == (404, "none")
