"""The clients of other people: Node's `ws`, a browser, and the SDKs of the Centrifuge protocol."""

from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Page, async_playwright

from tests.interop.chromium import START_TIMEOUT, chromium_server
from tests.interop.hubs import Hubs
from tests.interop.javascript_sdk import Javascript, Node, node_process
from tests.interop.sdks import Sdk
from tests.tools import absent, find_node, find_tool

FOLDER = Path(__file__).parent

SDKS = ("javascript-json", "javascript-protobuf", "python-json", "python-protobuf")


@pytest.fixture(scope="session")
def node() -> Path:
    """Return the path of Node, and have its packages installed beside the test's scripts."""
    return find_node(FOLDER)


@pytest.fixture(scope="session")
def javascript(node: Path) -> Generator[Node]:
    """Run the JavaScript SDK, one process for all tests."""
    with node_process(node) as running:
        yield running


@pytest_asyncio.fixture
async def hubs() -> AsyncGenerator[Hubs]:
    """Start servers, and stop them after the clients of `sdk`."""
    async with AsyncExitStack() as stack:
        yield Hubs(stack)


@pytest_asyncio.fixture(params=SDKS)
async def sdk(request: pytest.FixtureRequest, hubs: Hubs) -> AsyncGenerator[Sdk]:
    """Make clients of each SDK in each wire format."""
    async with open_sdk(request, request.param) as sdk:
        yield sdk


@pytest_asyncio.fixture
async def sdks(request: pytest.FixtureRequest, hubs: Hubs) -> AsyncGenerator[list[Sdk]]:
    """Make clients of all SDKs in all wire formats side by side."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_sdk(request, name)) for name in SDKS]


@asynccontextmanager
async def open_sdk(request: pytest.FixtureRequest, name: str) -> AsyncGenerator[Sdk]:
    """Make clients of one SDK in one wire format until the block ends."""
    language, wire = name.split("-")
    protobuf = wire == "protobuf"
    if language == "javascript":
        sdk: Sdk = Javascript(request.getfixturevalue("javascript"), protobuf=protobuf)
    else:
        try:
            from tests.interop.python_sdk import Python
        except ImportError:
            absent("centrifuge-python is not installed: pip install centrifuge-python")
        sdk = Python(protobuf=protobuf)
    yield sdk
    await sdk.close()


@pytest.fixture(scope="session")
def chromium() -> Generator[str]:
    """Run a headless Chromium, one for all tests; yield its address."""
    program = find_tool(
        "chromium", "chromium-browser", "google-chrome", install="apt install chromium"
    )
    with chromium_server(program) as address:
        yield address


@pytest_asyncio.fixture
async def page(chromium: str) -> AsyncGenerator[Page]:
    """Open an empty page in a profile of its own.

    What the test opened by `page.context.browser`, other profiles too, ends with the test.
    """
    async with async_playwright() as playwright:
        browser = await playwright.chromium.connect(chromium, timeout=START_TIMEOUT * 1000)
        try:
            yield await browser.new_page()
        finally:
            await browser.close()
