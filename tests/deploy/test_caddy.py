"""The configuration for Caddy that we ship, under Debian's Caddy on loopback."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from hubbub import Hub, Server, ServerConnection, serve
from tests.programs import ROOT, reserved_port
from tests.timing import MS
from tests.tools import find_tool

CONFIGURATION = ROOT / "deploy" / "caddy" / "Caddyfile"

TIMEOUT = 10_000 * MS

# What a test must have else: nothing but loopback, nothing but its folder.
AROUND = """{
    admin off
    auto_https off
    default_bind 127.0.0.1
}
"""


@contextmanager
def caddy(folder: Path, environment: Mapping[str, str]) -> Generator[subprocess.Popen[bytes]]:
    """Run Caddy with our configuration; it must have come to no harm."""
    program = find_tool("caddy", install="apt install caddy")
    text = CONFIGURATION.read_text(encoding="utf-8")
    assert text.count("health_interval 2s") == 1
    text = text.replace("health_interval 2s", "health_interval 100ms")
    (folder / "Caddyfile").write_text(AROUND + text, encoding="utf-8")
    log = folder / "log"
    home = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with (
        log.open("wb") as stderr,
        subprocess.Popen(
            [program, "run", "--config", folder / "Caddyfile", "--adapter", "caddyfile"],
            stderr=stderr,
            env={**os.environ, **home, **environment},
        ) as process,
    ):
        try:
            yield process
            assert process.poll() is None, log.read_text()
        finally:
            process.terminate()
            try:
                process.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
    assert '"level":"error"' not in log.read_text().replace(" ", "")


@asynccontextmanager
async def behind_caddy(folder: Path, *servers: Server) -> AsyncGenerator[str]:
    """Put Caddy before servers; yields its host and port."""
    upstreams = [f"127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in servers]
    with reserved_port() as port:
        environment = {"HUBBUB_SITE": f":{port}", "HUBBUB_UPSTREAMS": " ".join(upstreams)}
        with caddy(folder, environment) as process:
            async with asyncio.timeout(TIMEOUT), httpx.AsyncClient() as client:
                while True:
                    # Also until it has found the servers to be ready.
                    try:
                        answer = await client.get(f"http://127.0.0.1:{port}/healthz")
                    except httpx.TransportError:
                        assert process.poll() is None, (folder / "log").read_text()
                    else:
                        if answer.status_code == 200:
                            break
                    # Between two looks: nothing tells another process that it listens.
                    await asyncio.sleep(5 * MS)
            yield f"127.0.0.1:{port}"


def listen(handler: Any, **options: Any) -> Server:
    return serve(handler, "127.0.0.1", 0, **options)


async def echo(websocket: ServerConnection) -> None:
    async for message in websocket:
        await websocket.send(message)


async def test_websocket_carries_messages_and_health_passes(tmp_path: Path) -> None:
    async with listen(echo) as server, behind_caddy(tmp_path, server) as address:
        async with connect(f"ws://{address}/chat?x=1", max_size=None) as websocket:
            for message in ("hello", b"\x00\xff", "x" * 500_000):
                await websocket.send(message)
                assert await websocket.recv() == message
        async with httpx.AsyncClient(base_url=f"http://{address}") as client:
            assert (await client.get("/healthz")).text == "ok\n"
            assert (await client.get("/readyz")).status_code == 404


# Another address of loopback than Caddy's own, so that they can be told apart.
CLIENT = "127.0.0.2"
FORGED = {
    "X-Forwarded-For": "192.0.2.9",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Proto": "https",
    "Forwarded": "for=192.0.2.9;proto=https",
}


@pytest.mark.skipif(sys.platform != "linux", reason="127.0.0.2 is ours on Linux only")
@pytest.mark.parametrize(("trusted", "expected"), [(["127.0.0.1"], CLIENT), ([], "127.0.0.1")])
async def test_hub_knows_the_client_that_a_trusted_caddy_saw(
    tmp_path: Path, trusted: list[str], expected: str
) -> None:
    hub = Hub()
    async with (
        listen(hub, trusted_proxies=trusted) as server,
        behind_caddy(tmp_path, server) as address,
    ):
        own, forged = Origin(f"http://{address}"), Origin("https://evil.example")
        options: dict[str, Any] = {"additional_headers": FORGED, "local_addr": (CLIENT, 0)}
        async with connect(f"ws://{address}", origin=own, **options) as websocket:
            await websocket.send('{"id":1,"connect":{}}')
            await websocket.recv()

            assert [client.address for client in hub.clients()] == [expected]
        with pytest.raises(InvalidStatus):
            await connect(f"ws://{address}", origin=forged, **options)


async def test_withdrawn_server_gets_no_new_clients(tmp_path: Path) -> None:
    async def first(websocket: ServerConnection) -> None:
        await websocket.send("first")
        await websocket.wait_closed()

    async def second(websocket: ServerConnection) -> None:
        await websocket.send("second")
        await websocket.wait_closed()

    async with (
        listen(first) as withdrawn,
        listen(second) as server,
        behind_caddy(tmp_path, withdrawn, server) as address,
    ):
        seen = set[str]()
        async with asyncio.timeout(TIMEOUT):
            while len(seen) < 2:
                async with connect(f"ws://{address}") as websocket:
                    seen.add(str(await websocket.recv()))
        withdrawn.withdraw()
        in_a_row = 0
        async with asyncio.timeout(TIMEOUT):
            while in_a_row < 10:
                async with connect(f"ws://{address}") as websocket:
                    in_a_row = in_a_row + 1 if await websocket.recv() == "second" else 0

        assert withdrawn.is_serving()
