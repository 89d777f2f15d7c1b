"""`hubbub demo`, what `make run` starts: the first thing a newcomer sees."""

import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Browser, Page, Request, expect
from websockets.exceptions import ConnectionClosedOK
from websockets.sync.client import connect

from tests.cli.commands import Command, hubbub
from tests.interop.axe import serious_faults
from tests.programs import ROOT
from tests.timing import MS
from tests.tools import absent

SCREENSHOTS = ROOT / "artefacts" / "screenshots"
TIMEOUT = 20_000_000 * MS  # milliseconds, as Playwright counts
SCHEMES = ("light", "dark")
SIZES = {"phone": (360, 740), "desktop": (1280, 900)}


@pytest.fixture
def demo() -> Iterator[Command]:
    with hubbub("demo", "--port", "0") as command:
        yield command


def page_url(demo: Command) -> str:
    return demo.url.replace("ws:", "http:")


@pytest.fixture
def browser(page: Page) -> Browser:
    assert page.context.browser is not None
    return page.context.browser


async def test_hello_world_shows_its_three_phases(demo: Command, page: Page) -> None:
    await page.goto(page_url(demo))
    for _ in range(2):  # by itself, and again
        await expect(page.locator("#opening .result")).to_contain_text(
            "101 Switching Protocols", timeout=TIMEOUT
        )
        await expect(page.locator("#messages .result")).to_have_text("Hello World!")
        await expect(page.locator("#closing .result")).to_contain_text("1000 (normal closure)")
        await page.get_by_role("button", name="Connect again").click()
    # What everybody else gets at this address.
    with connect(demo.url) as websocket:
        assert websocket.recv() == "Hello World!"
        with pytest.raises(ConnectionClosedOK):
            websocket.recv()


async def test_two_windows_chat_and_see_live_data(demo: Command, browser: Browser) -> None:
    faults: list[str] = []
    hosts: set[str] = set()

    def note(request: Request) -> None:
        hosts.add(request.url.split("/")[2])

    pages = []
    for name in ("Ada", "Grace"):
        context = await browser.new_context(viewport={"width": 1000, "height": 800})
        context.on("request", note)
        page = await context.new_page()
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        await page.goto(page_url(demo))
        await enter(page, name)
        pages.append(page)
    ada, grace = pages
    await say(ada, "is anybody here?")
    await expect(grace.locator("#chat-here")).to_contain_text("is anybody here?", timeout=TIMEOUT)
    await grace.get_by_role("button", name="Cut my connection").click()
    await say(ada, "can you read this?")
    await expect(grace.locator("#chat-here")).to_contain_text("none lost", timeout=TIMEOUT)
    await expect(grace.locator("#chat-here")).to_contain_text("can you read this?")
    await expect(grace.locator("#live-here svg").first).to_be_visible()
    await take_picture(grace)

    assert faults == []
    assert {host.split(":")[0] for host in hosts} == {"127.0.0.1"}
    for page in pages:
        await page.context.close()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("size", SIZES)
async def test_page_is_accessible_everywhere(
    demo: Command, browser: Browser, scheme: str, size: str
) -> None:
    width, height = SIZES[size]
    page = await browser.new_page(
        color_scheme="dark" if scheme == "dark" else "light",
        viewport={"width": width, "height": height},
        reduced_motion="reduce",
    )
    await page.goto(page_url(demo))
    await enter(page, "Ada")
    for text in ("hello", "this is a room with a history"):
        await say(page, text)
    await expect(page.locator("#chat-here")).to_contain_text("with a history", timeout=TIMEOUT)
    await expect(page.locator("#closing .result")).to_contain_text("1000")

    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert await serious_faults(page) == []
    await page.screenshot(path=SCREENSHOTS / f"demo-{size}-{scheme}.png", full_page=True)


async def test_page_works_by_keyboard(demo: Command, page: Page) -> None:
    await page.goto(page_url(demo))
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to the chat")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("textbox", name="Your name")).to_be_visible()
    for _ in range(20):  # to the first field of the chat
        await page.keyboard.press("Tab")
        if await page.get_by_role("textbox", name="Your name").evaluate(
            "each => each === document.activeElement"
        ):
            break
    await page.keyboard.type("Ada")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("textbox", name="Message")).to_be_focused(timeout=TIMEOUT)
    await page.keyboard.type("by keyboard alone")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("log")).to_contain_text("by keyboard alone", timeout=TIMEOUT)


def test_ctrl_c_ends_quietly(demo: Command) -> None:
    with connect(f"{demo.url}/chat/connection/websocket"):
        demo.signal(signal.SIGINT)
        assert demo.wait() == 0

    assert demo.stderr.text == ""


def test_wheel_has_all_of_it(tmp_path: Path) -> None:
    """From a wheel, without the repository."""
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", tmp_path, ROOT],
        capture_output=True,
        text=True,
        timeout=300_000 * MS,
    )
    if built.returncode != 0:
        absent(f"pip cannot build a wheel: {built.stderr.strip()[-300:]}")
    (wheel,) = tmp_path.glob("hubbub-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    env = {"PYTHONPATH": str(tmp_path / "site")}
    with hubbub("demo", "--port", "0", cwd=tmp_path, env=env) as demo:
        url = page_url(demo)
        for path in ("", "/hubbub.js", "/chat/chat.js", "/live/live.js", "/live/hubbub.js"):
            assert httpx.get(f"{url}{path}").status_code == 200, path


async def take_picture(page: Page) -> None:
    """Take the picture of the documentation: from the top to the first charts."""
    await page.locator("#hello-url").evaluate("each => each.textContent = 'ws://localhost:8005/'")
    await page.set_viewport_size({"width": 1000, "height": 2400})
    charts = await page.locator("#live-here figure").first.bounding_box()
    assert charts is not None
    await page.screenshot(
        path=SCREENSHOTS / "demo.png",
        clip={"x": 0, "y": 0, "width": 1000, "height": charts["y"] + charts["height"] + 16},
    )


async def enter(page: Page, name: str) -> None:
    """Give the chat a name."""
    field = page.get_by_role("textbox", name="Your name")
    await field.fill(name, timeout=TIMEOUT)
    await field.press("Enter")
    await expect(page.get_by_role("textbox", name="Message")).to_be_enabled(timeout=TIMEOUT)


async def say(page: Page, text: str) -> None:
    field = page.get_by_role("textbox", name="Message")
    await field.fill(text)
    await field.press("Enter")
    await expect(page.get_by_role("log")).to_contain_text(text, timeout=TIMEOUT)
