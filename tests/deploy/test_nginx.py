"""The configuration for nginx that we ship, under Debian's nginx on loopback."""

import asyncio
import inspect
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError
from websockets.typing import Origin

from hubbub import Hub, Server, ServerConnection, serve, unix_serve
from hubbub.server.http import HTTPService
from tests.interop.python_sdk import Python
from tests.interop.sdks import connect as connect_sdk
from tests.programs import ROOT, reserved_port
from tests.timing import MS
from tests.tools import find_tool

CONFIGURATION = ROOT / "deploy" / "nginx" / "hubbub.conf"

TIMEOUT = 10_000 * MS
STOP_TIMEOUT = 10_000 * MS

# What Debian's nginx.conf does around the file, with all that is written in one folder.
AROUND = """
daemon off;
worker_processes 1;
worker_shutdown_timeout 1s;
error_log stderr notice;
pid {folder}/nginx.pid;
{user}
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/hubbub.conf;
}}
"""


@contextmanager
def nginx(folder: Path, changes: Mapping[str, str]) -> Generator[subprocess.Popen[bytes]]:
    """Run nginx with our configuration, changed; its log must have no complaint.

    Args:
        folder: Its prefix: everything it reads or writes.
        changes: Texts that occur exactly once, and what stands there instead.
    """
    program = find_tool("nginx", "/usr/sbin/nginx", install="apt install nginx-light")
    text = CONFIGURATION.read_text(encoding="utf-8")
    for old, new in changes.items():
        assert text.count(old) == 1, f"{old!r} occurs {text.count(old)} times"
        text = text.replace(old, new)
    (folder / "hubbub.conf").write_text(text, encoding="utf-8")
    # Root's nginx would give its workers to a user who may not enter this folder.
    user = "user root;" if sys.platform == "linux" and os.getuid() == 0 else ""
    (folder / "nginx.conf").write_text(AROUND.format(folder=folder, user=user), encoding="utf-8")
    log = folder / "error.log"
    with (
        log.open("wb") as stderr,
        subprocess.Popen([program, "-p", folder, "-c", "nginx.conf"], stderr=stderr) as process,
    ):
        try:
            yield process
            assert process.poll() is None, log.read_text()
        finally:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
    complaints = re.findall(r"\[(?:warn|error|crit|alert|emerg)\].*", log.read_text())
    assert complaints == []


@asynccontextmanager
async def behind_nginx(
    server: Server, folder: Path, changes: Mapping[str, str] | None = None
) -> AsyncGenerator[str]:
    """Put nginx before a server; yields host and port of nginx."""
    name = server.sockets[0].getsockname()
    upstream = f"unix:{name}" if isinstance(name, str) else f"127.0.0.1:{name[1]}"
    with reserved_port() as port:
        every_change = {
            "listen 80;": f"listen 127.0.0.1:{port};",
            "server 127.0.0.1:8005;": f"server {upstream};",
            **(changes or {}),
        }
        with nginx(folder, every_change) as process:
            async with asyncio.timeout(TIMEOUT):
                while True:
                    try:
                        _, writer = await asyncio.open_connection("127.0.0.1", port)
                    except ConnectionRefusedError:
                        assert process.poll() is None, (folder / "error.log").read_text()
                        # Between two looks: nothing tells another process that it listens.
                        await asyncio.sleep(5 * MS)
                    else:
                        writer.close()
                        await writer.wait_closed()
                        break
            yield f"127.0.0.1:{port}"


async def echo(websocket: ServerConnection) -> None:
    async for message in websocket:
        await websocket.send(message)


def listen(**options: object) -> Server:
    return serve(echo, "127.0.0.1", 0, **options)  # type: ignore[arg-type]  # as the caller says


async def test_websocket_carries_messages_both_ways(tmp_path: Path) -> None:
    async with (
        listen() as server,
        behind_nginx(server, tmp_path) as address,
        connect(f"ws://{address}/chat?x=1") as websocket,
    ):
        for message in ("hello", b"\x00\xff", "x" * 500_000):
            await websocket.send(message)
            assert await websocket.recv() == message
        (connection,) = server.connections
        await websocket.close(1000, "done")
        await connection.wait_closed()

    assert (connection.close_code, connection.close_reason) == (1000, "done")


async def test_headers_name_the_client_and_no_forgery(tmp_path: Path) -> None:
    async with listen() as server, behind_nginx(server, tmp_path) as address:
        forged = {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "gopher"}
        async with connect(f"ws://{address}/chat?x=1", additional_headers=forged):
            (connection,) = server.connections
            request = connection.request
            assert request is not None

            assert request.path == "/chat?x=1"
            assert request.headers["Host"] == address
            assert request.headers.get_all("X-Forwarded-For") == ["127.0.0.1"]
            assert request.headers.get_all("X-Forwarded-Proto") == ["http"]


async def test_pings_keep_an_idle_websocket_beyond_the_read_timeout(tmp_path: Path) -> None:
    pings = asyncio.Semaphore(0)
    # nginx resets a timer only if that moves it by 300 ms or more (NGX_TIMER_LAZY_DELAY).
    read_timeout = 2000

    class Pinged(ServerConnection):
        def acknowledge_pings(self, data: bytes) -> None:
            super().acknowledge_pings(data)
            pings.release()

    changes = {"proxy_read_timeout 60s;": f"proxy_read_timeout {read_timeout}ms;"}
    interval = read_timeout / 4 / 1000
    async with (
        listen(ping_interval=interval, ping_timeout=TIMEOUT, create_connection=Pinged) as server,
        behind_nginx(server, tmp_path, changes) as address,
        connect(f"ws://{address}", ping_interval=None) as websocket,
    ):
        async with asyncio.timeout(TIMEOUT):
            for _ in range(5):  # beyond the read timeout
                await pings.acquire()
        await websocket.send("still here")

        assert await websocket.recv() == "still here"


async def test_websocket_without_pings_is_cut_after_the_read_timeout(tmp_path: Path) -> None:
    changes = {"proxy_read_timeout 60s;": "proxy_read_timeout 100ms;"}
    async with (
        listen(ping_interval=None) as server,
        behind_nginx(server, tmp_path, changes) as address,
        connect(f"ws://{address}", ping_interval=None) as websocket,
        asyncio.timeout(TIMEOUT),
    ):
        with pytest.raises(ConnectionClosedError):
            await websocket.recv()


async def describe(request: Request) -> Response:
    return JSONResponse({"port": request.scope["client"][1], "headers": dict(request.headers)})


async def test_http_reuses_connections_and_passes_no_other_upgrade(tmp_path: Path) -> None:
    app = Starlette(routes=[Route("/describe", describe, methods=["GET", "POST"])])
    async with (
        listen(http=app) as server,
        behind_nginx(server, tmp_path) as address,
        httpx.AsyncClient(base_url=f"http://{address}") as client,
    ):
        h2c = {"Upgrade": "h2c", "Connection": "Upgrade, HTTP2-Settings", "HTTP2-Settings": "AAMA"}
        first = (await client.get("/describe", headers=h2c)).json()
        second = (await client.post("/describe", content=b"x" * 1000)).json()

        assert "upgrade" not in first["headers"]
        assert "connection" not in first["headers"]
        assert first["port"] == second["port"]


async def test_streamed_events_come_as_they_are_sent(tmp_path: Path) -> None:
    seen = asyncio.Semaphore(1)

    async def stream(request: Request) -> Response:
        async def events() -> AsyncGenerator[bytes]:
            for number in range(5):
                await seen.acquire()  # not before the client has seen the last one
                yield b"data: %d\n\n" % number

        return StreamingResponse(events(), media_type="text/event-stream")

    async with (
        listen(http=Starlette(routes=[Route("/events", stream)])) as server,
        behind_nginx(server, tmp_path) as address,
        httpx.AsyncClient(base_url=f"http://{address}", timeout=TIMEOUT) as client,
        client.stream("GET", "/events") as response,
    ):
        received = []
        async for line in response.aiter_lines():
            if line:
                received.append(line)
                seen.release()

        assert received == [f"data: {number}" for number in range(5)]


# A hub.


def make_hub(**options: Any) -> Hub:
    hub = Hub(**options)
    hub.channel("news", history=100)
    return hub


async def test_client_of_a_hub_recovers_when_nginx_is_reloaded(tmp_path: Path) -> None:
    hub = make_hub()
    async with (
        serve({"/connection/websocket": hub}, "127.0.0.1", 0) as server,
        behind_nginx(server, tmp_path) as address,
    ):
        sdk = Python(protobuf=False)
        try:
            client = await connect_sdk(sdk, f"ws://{address}/connection/websocket")
            await client.subscribe("news")
            await hub.publish("news", 1)
            assert await client.take(1, "news") == [1]
            # The new configuration is for new connections; a second later old ones are cut.
            os.kill(int((tmp_path / "nginx.pid").read_text()), signal.SIGHUP)
            await client.next("connecting")
            await hub.publish("news", 2)
            subscribed = await client.next("subscribed", "news")
            await hub.publish("news", 3)

            assert await client.take(2, "news") == [2, 3]
            assert subscribed["recovered"]
        finally:
            await sdk.close()


async def test_pings_of_a_hub_keep_an_idle_client_beyond_the_read_timeout(tmp_path: Path) -> None:
    read_timeout = 1500
    interval = read_timeout / 5 / 1000
    hub = make_hub(ping_interval=interval, pong_timeout=interval / 2)
    async with (
        serve(hub, "127.0.0.1", 0, ping_interval=None) as server,
        behind_nginx(
            server, tmp_path, {"proxy_read_timeout 60s;": f"proxy_read_timeout {read_timeout}ms;"}
        ) as address,
        connect(f"ws://{address}", ping_interval=None) as websocket,
        asyncio.timeout(TIMEOUT),
    ):
        await websocket.send('{"id":1,"connect":{}}')
        assert '"ping":' in str(await websocket.recv())
        for _ in range(7):  # beyond the read timeout
            assert await websocket.recv() == "{}"
            await websocket.send("{}")
        await websocket.send('{"id":2,"subscribe":{"channel":"news"}}')

        while (answer := await websocket.recv()) == "{}":
            await websocket.send("{}")
        assert '"id":2' in str(answer)


# Another address of loopback than nginx's own, so that they can be told apart.
CLIENT = "127.0.0.2"
FORGED = {
    "X-Forwarded-For": "192.0.2.9",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Proto": "https",
    "Forwarded": "for=192.0.2.9;proto=https",
}


@pytest.mark.skipif(sys.platform != "linux", reason="127.0.0.2 is ours on Linux only")
@pytest.mark.parametrize(("trusted", "expected"), [(["127.0.0.1"], CLIENT), ([], "127.0.0.1")])
async def test_hub_knows_the_client_that_a_trusted_nginx_saw(
    tmp_path: Path, trusted: list[str], expected: str
) -> None:
    hub = make_hub()
    async with (
        serve(hub, "127.0.0.1", 0, trusted_proxies=trusted) as server,
        behind_nginx(server, tmp_path) as address,
        connect(
            f"ws://{address}",
            additional_headers=FORGED,
            origin=Origin(f"http://{address}"),
            local_addr=(CLIENT, 0),
        ) as websocket,
    ):
        await websocket.send('{"id":1,"connect":{}}')
        await websocket.recv()

        assert [client.address for client in hub.clients()] == [expected]


@pytest.mark.skipif(sys.platform != "linux", reason="127.0.0.2 is ours on Linux only")
async def test_unix_socket_carries_clients_with_their_addresses(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("n")  # short enough for a Unix socket
    app = Starlette(routes=[Route("/describe", whoami)])

    async def tell(websocket: ServerConnection) -> None:
        await websocket.send(f"{websocket.client_address}")

    async with (
        unix_serve(tell, folder / "s", http=app, trusted_proxies=["unix"]) as server,
        behind_nginx(server, folder) as address,
    ):
        async with connect(f"ws://{address}", local_addr=(CLIENT, 0)) as websocket:
            assert await websocket.recv() == CLIENT
        transport = httpx.AsyncHTTPTransport(local_address=CLIENT)
        async with httpx.AsyncClient(transport=transport, headers=FORGED) as client:
            seen = (await client.get(f"http://{address}/describe")).json()

    assert seen == [CLIENT, "http"]


async def whoami(request: Request) -> Response:
    return JSONResponse([request.scope["client"][0], request.scope["scheme"]])


async def test_health_passes_and_readiness_stays_inside(tmp_path: Path) -> None:
    async with (
        listen() as server,
        behind_nginx(server, tmp_path) as address,
        httpx.AsyncClient(base_url=f"http://{address}") as client,
    ):
        assert (await client.get("/healthz")).text == "ok\n"
        assert (await client.get("/readyz")).status_code == 404


def test_times_fit_those_of_hubbub() -> None:
    text = CONFIGURATION.read_text(encoding="utf-8")
    seconds = {
        name: int(value) for name, value in re.findall(r"^\s*(\w+_timeout) (\d+)s;", text, re.M)
    }
    ping_interval = inspect.signature(serve).parameters["ping_interval"].default
    keep_alive = inspect.signature(HTTPService).parameters["keep_alive"].default

    assert seconds["keepalive_timeout"] < keep_alive
    assert seconds["proxy_read_timeout"] >= 3 * ping_interval
    assert seconds["proxy_send_timeout"] >= 3 * ping_interval
