"""The page that a server without an app shows: what a newcomer sees who opens its address."""

from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from hubbub import ServerConnection, serve
from tests.timing import MS

SCREENSHOTS = Path(__file__).parents[2] / "artefacts" / "screenshots"
TIMEOUT = 10_000_000 * MS  # milliseconds, as Playwright counts


async def say_hello(websocket: ServerConnection) -> None:
    await websocket.send("Hello World!")


async def echo(websocket: ServerConnection) -> None:
    async for message in websocket:
        await websocket.send(message)


@pytest.fixture
def faults(page: Page) -> list[str]:
    """Collect what the browser complains about."""
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    return faults


async def test_page_shows_hello_arrive(page: Page, faults: list[str]) -> None:
    async with serve(say_hello, "localhost", 0) as server:
        port = server.sockets[0].getsockname()[1]
        await page.goto(f"http://localhost:{port}/")
        lines = page.locator("#log li")
        await expect(lines).to_have_text(
            [
                f"opening handshake with ws://localhost:{port}/",
                "open (101 Switching Protocols)",
                "< Hello World!",
                "closing handshake done: 1000",
            ],
            timeout=TIMEOUT,
        )
        await page.screenshot(path=SCREENSHOTS / "welcome.png")

    assert faults == []


async def test_page_talks_to_a_path_and_shows_text_as_text(page: Page, faults: list[str]) -> None:
    async with serve({"/rooms/{room}": echo, "/echo": echo}, "localhost", 0) as server:
        await page.goto(f"http://localhost:{server.sockets[0].getsockname()[1]}/")
        await expect(page.get_by_label("Path")).to_have_value("/echo")
        text = "<img src=x onerror=alert(1)>"
        await page.get_by_label("Message").fill(text)
        await page.get_by_role("button", name="Send").click()
        await expect(page.locator("#log .in")).to_have_text(f"< {text}", timeout=TIMEOUT)
        await page.get_by_role("button", name="Close").click()
        await expect(page.locator("#log li").last).to_have_text(
            "closing handshake done: 1000", timeout=TIMEOUT
        )

    assert faults == []
