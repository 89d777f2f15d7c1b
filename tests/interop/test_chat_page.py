"""The chat of the tutorial, in two pages of a browser."""

import asyncio
import shutil
from collections.abc import Generator
from pathlib import Path

import pytest
from playwright.async_api import Page, Route, expect

from tests.examples import CLIENT_TIMEOUT, EXAMPLES, Example, running

SDK = Path(__file__).parent / "node_modules" / "centrifuge" / "dist" / "centrifuge.js"


@pytest.fixture
def chat(tmp_path: Path, node: Path) -> Generator[Example]:
    shutil.copy(EXAMPLES / "tutorial" / "chat.html", tmp_path)
    with running(EXAMPLES / "tutorial" / "chat.py", tmp_path) as example:
        yield example


async def serve_sdk(route: Route) -> None:
    """Answer for the host that the page has the SDK from."""
    await route.fulfill(path=SDK)


async def test_two_pages_chat_and_a_third_reads_what_was_said(chat: Example, page: Page) -> None:
    assert page.context.browser is not None
    context = await page.context.browser.new_context()
    await context.route("https://unpkg.com/**", serve_sdk)
    first, other = await context.new_page(), await context.new_page()
    await first.goto(chat.url("/?name=ada"))
    await expect(first.locator("output")).to_have_text("ada")
    await other.goto(chat.url("/?name=grace"))
    await expect(first.locator("output")).to_have_text("ada, grace")
    await first.locator("input").fill("hello")
    await first.locator("input").press("Enter")
    await expect(other.locator("pre")).to_have_text("ada: hello\n")

    await other.close()
    await expect(first.locator("output")).to_have_text("ada")
    late = await context.new_page()
    await late.goto(chat.url("/?name=linus"))
    await expect(late.locator("pre")).to_have_text("ada: hello\n")
    await context.close()
    chat.program.interrupt()
    assert (await asyncio.to_thread(chat.program.wait)).stderr == ""


async def test_a_page_that_was_offline_gets_what_it_missed(chat: Example, page: Page) -> None:
    assert page.context.browser is not None
    contexts = [await page.context.browser.new_context() for _ in range(2)]
    pages = []
    for context, name in zip(contexts, ("ada", "grace"), strict=True):
        await context.route("https://unpkg.com/**", serve_sdk)
        pages.append(await context.new_page())
        await pages[-1].goto(chat.url(f"/?name={name}"))
    ada, grace = pages
    await expect(ada.locator("output")).to_have_text("ada, grace")
    await contexts[1].set_offline(True)
    await expect(ada.locator("output")).to_have_text("ada")
    await ada.locator("input").fill("hello")
    await ada.locator("input").press("Enter")
    await expect(ada.locator("pre")).to_have_text("ada: hello\n")
    await expect(grace.locator("pre")).to_have_text("")
    await contexts[1].set_offline(False)

    await expect(grace.locator("pre")).to_have_text("ada: hello\n", timeout=CLIENT_TIMEOUT * 1000)
    for context in contexts:
        await context.close()
