"""Hello World, from the tutorial and from our examples, to every kind of client."""

import json
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from playwright.async_api import Page, expect
from websockets.asyncio.client import connect
from websockets.sync.client import connect as connect_sync

from tests.interop.raw import ACCEPT
from tests.interop.serving import LIBRARIES, PORT, PROGRAMS, Served, replace, serving
from tests.programs import ROOT
from tests.timing import MS

HELLO = b"\x81\x0cHello World!"
CLOSE_1000 = b"\x88\x02\x03\xe8"

CLIENT_TIMEOUT = 20_000 * MS

OPEN_IN_BROWSER = """url => new Promise((resolve) => {
    const messages = [];
    const websocket = new WebSocket(url);
    websocket.onmessage = (event) => messages.push(event.data);
    websocket.onclose = ({ code, reason, wasClean }) => {
        resolve({ messages, code, reason, wasClean, state: websocket.readyState });
    };
})"""


@pytest.fixture(
    scope="module",
    params=[(program, library) for program in PROGRAMS for library in LIBRARIES],
    ids="-".join,
)
def hello(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Served]:
    """Run each program on each library."""
    program, library = request.param
    with serving(PROGRAMS[program], library, tmp_path_factory.mktemp("hello")) as served:
        yield served


@pytest.fixture
def example(tmp_path: Path) -> Generator[Served]:
    """Run the example on hubbub."""
    with serving(PROGRAMS["example"], "hubbub", tmp_path) as served:
        yield served


# On the wire


def test_handshake_has_the_headers_of_rfc_6455(hello: Served) -> None:
    with hello.connect() as client:
        head = client.shake_hands()

        assert head.status_line == "HTTP/1.1 101 Switching Protocols"
        assert head.headers["Upgrade"] == "websocket"
        assert head.headers["Connection"] == "Upgrade"
        assert head.headers["Sec-WebSocket-Accept"] == ACCEPT
        assert sorted(head.headers) == [
            "Connection",
            "Date",
            "Sec-WebSocket-Accept",
            "Server",
            "Upgrade",
        ]


def test_frames_are_hello_and_close(hello: Served) -> None:
    with hello.connect() as client:
        client.shake_hands()
        rcvd = client.read(len(HELLO + CLOSE_1000))
        client.send_close(1000)

        assert rcvd == HELLO + CLOSE_1000
        assert client.read_to_end() == b""


# Clients of Python


async def test_asyncio_client_hears_hello(hello: Served) -> None:
    async with connect(hello.url, open_timeout=CLIENT_TIMEOUT) as websocket:
        messages = [message async for message in websocket]

        assert messages == ["Hello World!"]
        assert (websocket.close_code, websocket.close_reason) == (1000, "")


def test_sync_client_hears_hello(hello: Served) -> None:
    with connect_sync(hello.url, open_timeout=CLIENT_TIMEOUT) as websocket:
        messages = list(websocket)

        assert messages == ["Hello World!"]
        assert (websocket.close_code, websocket.close_reason) == (1000, "")


def test_example_client_prints_hello(example: Served, tmp_path: Path) -> None:
    source = (ROOT / "examples" / "hello" / "client.py").read_text(encoding="utf-8")
    client = tmp_path / "client.py"
    client.write_text(replace(source, PORT, str(example.port)), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, client], capture_output=True, text=True, timeout=CLIENT_TIMEOUT
    )

    assert (done.stdout, done.stderr, done.returncode) == ("Hello World!\n", "", 0)


# Clients of JavaScript


def test_node_client_hears_hello(hello: Served, node: Path) -> None:
    script = ROOT / "tests" / "interop" / "hello.mjs"
    done = subprocess.run(
        [node, script, hello.url], capture_output=True, text=True, timeout=CLIENT_TIMEOUT
    )

    assert done.stderr == ""
    assert json.loads(done.stdout) == {
        "status": 101,
        "messages": ["Hello World!"],
        "code": 1000,
        "reason": "",
    }


async def test_browser_hears_hello(hello: Served, page: Page) -> None:
    statuses: list[int] = []
    devtools = await page.context.new_cdp_session(page)
    devtools.on(
        "Network.webSocketHandshakeResponseReceived",
        lambda event: statuses.append(event["response"]["status"]),
    )
    await devtools.send("Network.enable")
    seen = await page.evaluate(OPEN_IN_BROWSER, hello.url)

    assert statuses == [101]
    assert seen == {
        "messages": ["Hello World!"],
        "code": 1000,
        "reason": "",
        "wasClean": True,
        "state": 3,
    }


async def test_example_page_shows_hello(example: Served, page: Page, tmp_path: Path) -> None:
    source = (ROOT / "examples" / "hello" / "index.html").read_text(encoding="utf-8")
    copy = tmp_path / "index.html"
    copy.write_text(replace(source, PORT, str(example.port)), encoding="utf-8")
    errors: list[Exception] = []
    page.on("pageerror", lambda error: errors.append(error))
    await page.goto(copy.as_uri())

    await expect(page.locator("#message")).to_have_text("Hello World!")
    await expect(page.locator("#state")).to_have_text(
        "The server closed the connection with code 1000."
    )
    assert errors == []
    await page.screenshot(path=ROOT / "artefacts" / "interop" / "hello.png")
