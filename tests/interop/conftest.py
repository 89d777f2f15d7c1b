"""The clients of other people: Node's `ws`, and a browser."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Page, async_playwright

from tests.timing import MS
from tests.tools import find_node, find_tool

FOLDER = Path(__file__).parent

# No sandbox: containers and CI run as root. The rest keeps Chromium from the network and quick.
CHROMIUM_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def node() -> Path:
    """Return the path of Node, and have `ws` installed beside the test's scripts."""
    return find_node(FOLDER)


@pytest_asyncio.fixture
async def page() -> AsyncGenerator[Page]:
    """Open an empty page in a headless Chromium of its own."""
    chromium = find_tool(
        "chromium", "chromium-browser", "google-chrome", install="apt install chromium"
    )
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium, args=CHROMIUM_ARGUMENTS, timeout=30_000_000 * MS
        )
        try:
            yield await browser.new_page()
        finally:
            await browser.close()
