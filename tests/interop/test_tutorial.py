"""The tutorial as a reader goes through it: each step does in a browser what its page says.

Each test leaves the picture that the page ends with; `make screenshots` takes them to the pages.
"""

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGINT

import httpx
import pytest
from playwright.async_api import Browser, Page, Route, expect

from tests.cli.commands import hubbub
from tests.examples import EXAMPLES, PORT, Example, running
from tests.programs import reserved_port
from tests.timing import MS

SCREENSHOTS = Path(__file__).parents[2] / "artefacts" / "screenshots"
SDK = Path(__file__).parent / "node_modules" / "centrifuge" / "dist" / "centrifuge.js"
TIMEOUT = 30_000_000 * MS  # milliseconds, as Playwright counts; clients wait 20 s between attempts
TUTORIAL = EXAMPLES / "tutorial"
WIDTH, HEIGHT, MARGIN = 900, 600, 12  # pixels

SHOW_PORT = """([actual, shown]) => {
  for (const line of document.querySelectorAll("#log li"))
    line.textContent = line.textContent.replace(actual, shown);
}"""

OPEN = "open (101 Switching Protocols)"


@pytest.fixture
def browser(page: Page) -> Browser:
    """Return the browser of the reader."""
    assert page.context.browser is not None
    return page.context.browser


async def open_tab(browser: Browser, url: str) -> Page:
    context = await browser.new_context(
        viewport={"width": WIDTH, "height": HEIGHT}, locale="en-GB", timezone_id="UTC"
    )
    await context.route("https://unpkg.com/**", serve_sdk)
    tab = await context.new_page()
    await tab.goto(url)
    return tab


async def serve_sdk(route: Route) -> None:
    """Answer for the host that a page has the SDK from."""
    await route.fulfill(path=SDK)


async def take_picture(tab: Page, step: str, part: str = "html", *, height: int = 1) -> None:
    """Take the picture of a step: the page from some part on, to its end.

    Args:
        part: A selector.
        height: Of the window, if the page fills it.
    """
    await tab.set_viewport_size({"width": WIDTH, "height": height})
    box = await tab.locator(part).bounding_box()
    assert box is not None
    top = max(0, box["y"] - MARGIN)
    bottom = await tab.evaluate("document.documentElement.offsetHeight")
    await tab.screenshot(
        path=SCREENSHOTS / f"tutorial-{step}.png",
        full_page=True,
        animations="disabled",
        clip={"x": 0, "y": top, "width": WIDTH, "height": bottom - top},
    )


async def take_log(tab: Page, step: str, example: Example, part: str) -> None:
    """Take the picture of a step whose page is hubbub's own, with the port of a reader's server."""
    await tab.evaluate(SHOW_PORT, [f":{example.port}/", f":{PORT}/"])
    await take_picture(tab, step, part)


async def log_shows(tab: Page, *lines: str) -> None:
    await expect(tab.locator("#log li")).to_have_text(list(lines), timeout=TIMEOUT)


async def connect(tab: Page, path: str) -> None:
    await tab.get_by_label("Path").fill(path)
    await tab.get_by_role("button", name="Connect").click()


async def send(tab: Page, *messages: str) -> None:
    """Send messages, the next when the log shows something behind the last."""
    for message in messages:
        await tab.get_by_label("Message").fill(message)
        await tab.get_by_label("Message").press("Enter")
        await expect(tab.locator(".out").last).to_have_text(f"> {message}", timeout=TIMEOUT)
        await expect(tab.locator("#log li").last).not_to_have_class("out", timeout=TIMEOUT)


async def interrupt(example: Example) -> str:
    """Press Ctrl+C where the server runs, and return what it said about it."""
    example.program.interrupt()
    return (await asyncio.to_thread(example.program.wait)).stderr


async def test_hello_arrives_in_the_browser(browser: Browser, tmp_path: Path) -> None:
    with running(EXAMPLES / "hello" / "server.py", tmp_path) as example:
        tab = await open_tab(browser, example.url("/"))
        await log_shows(
            tab,
            f"opening handshake with ws://localhost:{example.port}/",
            OPEN,
            "< Hello World!",
            "closing handshake done: 1000",
        )
        await take_log(tab, "hello", example, "h1")

        assert await interrupt(example) == ""


async def test_echo_answers_and_says_goodbye(browser: Browser, tmp_path: Path) -> None:
    with running(TUTORIAL / "echo.py", tmp_path) as example:
        tab = await open_tab(browser, example.url("/"))
        await expect(tab.locator("#log li").last).to_have_text(OPEN, timeout=TIMEOUT)
        await tab.reload()
        await expect(tab.locator("#log li").last).to_have_text(OPEN, timeout=TIMEOUT)
        await send(tab, "hello", "bye")
        await log_shows(
            tab,
            f"opening handshake with ws://localhost:{example.port}/",
            OPEN,
            "> hello",
            "< hello",
            "> bye",
            "closing handshake done: 4000 you said bye",
        )
        await take_log(tab, "echo", example, "#connect")

        assert await interrupt(example) == ""
        assert example.program.process.stdout is not None
        said = [line.split(" ", 2) for line in example.program.process.stdout.read().splitlines()]
        hellos = [connection for word, connection, *_ in said if word == "hello"]
        assert len(hellos) == 2
        closed = {connection: rest for word, connection, *rest in said if word == "closed"}
        assert closed == {hellos[0]: ["1001 "], hellos[1]: ["4000 you said bye"]}


async def test_rooms_let_two_tabs_hear_each_other(browser: Browser, tmp_path: Path) -> None:
    with running(TUTORIAL / "rooms.py", tmp_path) as example:
        ada, grace = [await open_tab(browser, example.url("/")) for _ in range(2)]
        for tab, name in ((ada, "ada"), (grace, "grace")):
            await expect(tab.locator("#log li").last).to_have_text(
                "connection lost: 1006", timeout=TIMEOUT
            )
            await connect(tab, f"/rooms/lobby/{name}")
            await expect(tab.locator(".in")).to_have_text(f"< {name} came in", timeout=TIMEOUT)
        await send(grace, "hello ada")
        await expect(ada.locator(".in").last).to_have_text("< grace: hello ada", timeout=TIMEOUT)
        await send(ada, "hello grace")
        await expect(grace.locator(".in").last).to_have_text("< ada: hello grace", timeout=TIMEOUT)
        await grace.close()
        await log_shows(
            ada,
            f"opening handshake with ws://localhost:{example.port}/",
            "connection lost: 1006",
            f"opening handshake with ws://localhost:{example.port}/rooms/lobby/ada",
            OPEN,
            "< ada came in",
            "< grace came in",
            "< grace: hello ada",
            "> hello grace",
            "< ada: hello grace",
            "< grace left",
        )
        await take_log(ada, "rooms", example, "#connect")

        assert await interrupt(example) == ""


async def test_one_port_tells_tabs_what_http_announces(browser: Browser, tmp_path: Path) -> None:
    with running(TUTORIAL / "one_port.py", tmp_path) as example:
        tabs = [await open_tab(browser, example.url("/")) for _ in range(2)]
        for number, tab in enumerate(tabs, 1):
            # Until it arrives: the page has no sign of being connected.
            await tab.wait_for_function("websocket.readyState === WebSocket.OPEN", timeout=TIMEOUT)
            await tab.locator("input").fill(f"Hello from tab {number}")
            await tab.locator("input").press("Enter")
            await expect(tab.locator("pre")).to_contain_text(f"tab {number}\n", timeout=TIMEOUT)
        async with httpx.AsyncClient() as client:
            told = await client.post(example.url("/rooms/lobby?text=Dinner+is+ready"))
        assert told.text == '{"told":2}'
        said = "Hello from tab 1\nHello from tab 2\nDinner is ready\n"
        await expect(tabs[0].locator("pre")).to_have_text(said, timeout=TIMEOUT)
        await expect(tabs[1].locator("pre")).to_contain_text("Dinner is ready", timeout=TIMEOUT)
        await take_picture(tabs[0], "one-port")

        assert await interrupt(example) == ""


async def test_endings_show_their_codes_one_below_the_other(
    browser: Browser, tmp_path: Path
) -> None:
    with running(TUTORIAL / "endings.py", tmp_path) as example:
        address = f"ws://localhost:{example.port}"
        tab = await open_tab(browser, example.url("/"))
        lines = [
            f"opening handshake with {address}/",
            OPEN,
            "< that was all",
            "closing handshake done: 1000",
        ]
        await log_shows(tab, *lines)
        await connect(tab, "/broken")
        lines += [f"opening handshake with {address}/broken", OPEN, "closing handshake done: 1011"]
        await log_shows(tab, *lines)
        await connect(tab, "/echo")
        lines += [f"opening handshake with {address}/echo", OPEN]
        await log_shows(tab, *lines)
        long = " ".join(["long"] * 21)
        await send(tab, "short", long)
        lines += ["> short", "< short", f"> {long}"]
        ending = "closing handshake done: 1009 frame with 104 bytes exceeds limit of 100 bytes"
        await log_shows(tab, *lines, ending)
        await connect(tab, "/stay")
        lines += [ending, f"opening handshake with {address}/stay", OPEN]
        await log_shows(tab, *lines, "< press Ctrl+C where the server runs")
        said = await interrupt(example)
        await expect(tab.locator("#log li").last).to_have_text(
            "closing handshake done: 1001", timeout=TIMEOUT
        )
        await take_log(tab, "endings", example, "#log")

        assert example.program.read_line() == "/stay was closed with 1001"
        assert said.count("Traceback") == 1
        assert said.endswith("RuntimeError: a bug in the handler\n")


@pytest.mark.usefixtures("node")
async def test_channels_remember_for_who_was_away_or_is_new(
    browser: Browser, tmp_path: Path
) -> None:
    shutil.copy(TUTORIAL / "chat.html", tmp_path)
    with running(TUTORIAL / "chat.py", tmp_path) as example:
        ada = await open_tab(browser, example.url("/?name=ada"))
        await expect(ada.locator("output")).to_have_text("ada", timeout=TIMEOUT)
        grace = await open_tab(browser, example.url("/?name=grace"))
        for tab in (ada, grace):
            await expect(tab.locator("output")).to_have_text("ada, grace", timeout=TIMEOUT)
        said = ""
        for tab, name, text in ((ada, "ada", "hello grace"), (grace, "grace", "hello ada")):
            said += await say_in_lobby(tab, name, text)
            for each in (ada, grace):
                await expect(each.locator("pre")).to_have_text(said, timeout=TIMEOUT)
        await grace.context.set_offline(True)
        await expect(ada.locator("output")).to_have_text("ada", timeout=TIMEOUT)
        missed = await say_in_lobby(ada, "ada", "are you in the tunnel?")
        await expect(ada.locator("pre")).to_have_text(said + missed, timeout=TIMEOUT)
        await expect(grace.locator("pre")).to_have_text(said)
        await grace.context.set_offline(False)
        await expect(grace.locator("pre")).to_have_text(said + missed, timeout=TIMEOUT)

        linus = await open_tab(browser, example.url("/?name=linus"))
        await expect(linus.locator("pre")).to_have_text(said + missed, timeout=TIMEOUT)
        await expect(linus.locator("output")).to_have_text("ada, grace, linus", timeout=TIMEOUT)
        await take_picture(linus, "channels")


async def say_in_lobby(tab: Page, name: str, text: str) -> str:
    """Say something, and return how it is shown."""
    await tab.locator("input").fill(text)
    await tab.locator("input").press("Enter")
    return f"{name}: {text}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Copy the folder of the chat, as its reader does."""
    return Path(shutil.copytree(EXAMPLES / "chat", tmp_path / "chat"))


@contextmanager
def chatting(folder: Path, port: int = 0) -> Iterator[str]:
    """Run the chat by the command of its page, until Ctrl+C at the end; yield its address."""
    arguments = ["run", "chat:routes", "--http", "chat:http", "--port", str(port)]
    with hubbub(*arguments, cwd=folder) as command:
        yield f"http://localhost:{command.port}/"
        command.signal(SIGINT)
        assert command.wait() == 0


async def enter(browser: Browser, url: str, name: str) -> Page:
    tab = await open_tab(browser, url)
    await tab.get_by_label("Your name").fill(name)
    await tab.get_by_label("Your name").press("Enter")
    await expect(tab.get_by_text("Connected", exact=True)).to_be_visible(timeout=TIMEOUT)
    return tab


async def say(tab: Page, text: str) -> None:
    await tab.get_by_label("Message to lobby").fill(text)
    await tab.get_by_label("Message to lobby").press("Enter")


async def messages_are(tab: Page, *texts: str) -> None:
    await expect(tab.locator(".message .text")).to_have_text(list(texts), timeout=TIMEOUT)


async def members_are(tab: Page, *names: str) -> None:
    await expect(tab.locator(".people bdi")).to_have_text(list(names), timeout=TIMEOUT)


async def told(tab: Page, problem: str) -> None:
    alert = tab.get_by_role("alert").filter(has_text=problem)
    await expect(alert).to_be_visible(timeout=TIMEOUT)


async def test_chat_refuses_what_breaks_its_rules(browser: Browser, folder: Path) -> None:
    with chatting(folder) as url:
        tab = await open_tab(browser, url)
        await tab.get_by_label("Your name").fill("   ")
        await tab.get_by_label("Your name").press("Enter")
        await told(tab, "a name has 1 to 24 visible characters")
        await tab.get_by_label("Your name").fill("Ada")
        await tab.get_by_label("Your name").press("Enter")
        await tab.get_by_label("Another room").fill("Lobby!")
        await tab.get_by_label("Another room").press("Enter")
        await told(tab, "a room's name has 1 to 24 lower-case letters, digits and hyphens")
        await say(tab, "<b>hello</b>")
        await messages_are(tab, "<b>hello</b>")
        await say(tab, "a page of text " * 100)

        await told(tab, "a message has at most 500 characters")
        await messages_are(tab, "<b>hello</b>")


async def test_chat_catches_up_after_a_cut(browser: Browser, folder: Path) -> None:
    with chatting(folder) as url:
        ada, grace = await enter(browser, url, "Ada"), await enter(browser, url, "Grace")
        for tab in (ada, grace):
            await members_are(tab, "Ada", "Grace")
        said = ["Is anybody here?", "I am! How is the train?"]
        await say(ada, said[0])
        await messages_are(grace, *said[:1])
        await say(grace, said[1])
        await messages_are(ada, *said)
        await ada.get_by_role("button", name="Cut my connection").click()
        await members_are(grace, "Grace")
        missed = ["Ada?", "It must be the tunnel."]
        for text in missed:
            await say(grace, text)
        await say(ada, "We are in a tunnel, I think.")
        await expect(ada.get_by_text("sending…")).to_be_visible(timeout=TIMEOUT)
        for tab in (ada, grace):
            await messages_are(tab, *said, *missed, "We are in a tunnel, I think.")
            await members_are(tab, "Ada", "Grace")
        back = ada.get_by_text("Back: 2 messages caught up, none lost.")
        await expect(back).to_be_visible(timeout=TIMEOUT)
        await say(ada, "Back! I have all of it.")
        await messages_are(
            grace, *said, *missed, "We are in a tunnel, I think.", "Back! I have all of it."
        )
        await grace.get_by_label("Message to lobby").press_sequentially("So")
        await expect(ada.get_by_text("Grace is typing…")).to_be_visible(timeout=TIMEOUT)

        await take_picture(ada, "chat", "main", height=HEIGHT)


async def test_chat_says_that_it_cannot_know_after_a_restart(
    browser: Browser, folder: Path
) -> None:
    with reserved_port() as port:
        with chatting(folder, port) as url:
            ada, grace = await enter(browser, url, "Ada"), await enter(browser, url, "Grace")
            await say(ada, "before")
            await messages_are(grace, "before")
        for tab in (ada, grace):
            await expect(tab.get_by_text("Reconnecting")).to_be_visible(timeout=TIMEOUT)
        await say(ada, "of Ada")
        await say(grace, "of Grace")
        with chatting(folder, port):
            for tab in (ada, grace):
                gap = tab.get_by_text("What was said meanwhile cannot be had")
                await expect(gap).to_be_visible(timeout=TIMEOUT)
                texts = tab.locator(".message .text")
                await expect(texts).to_have_count(3, timeout=TIMEOUT)
                assert sorted(await texts.all_inner_texts()) == ["before", "of Ada", "of Grace"]
