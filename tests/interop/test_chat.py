"""The chat of the examples: its rules in this process, its page in a browser."""

import asyncio
import importlib.util
import shutil
import signal
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import ConsoleMessage, Locator, Page, WebSocketRoute, expect

from hubbub import CommandError, serve
from hubbub.testing import HubClient, connect
from tests.cli.commands import hubbub
from tests.examples import EXAMPLES, changed
from tests.interop.axe import serious_faults
from tests.interop.hubs import Served
from tests.programs import reserved_port
from tests.timing import MS

CHAT = EXAMPLES / "chat"
SCREENSHOTS = Path(__file__).parents[2] / "artefacts" / "screenshots"
TIMEOUT = 10_000_000 * MS  # milliseconds, as Playwright counts
PATIENT = 30_000_000 * MS  # for pages that come back after growing delays
LOBBY = "chat:lobby"
TIMES = "\N{MULTIPLICATION SIGN}"
BACK = "Back: {} caught up, none lost."
GONE = (
    "What was said meanwhile cannot be had: "
    "the server was restarted, or you were away for too long."
)


def load_chat(program: Path = CHAT / "chat.py") -> Any:
    """Import the program anew, with a hub of its own."""
    spec = importlib.util.spec_from_file_location("chat", program)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def copied(folder: Path, changes: Mapping[str, str]) -> Path:
    """Copy the program and its page, with changes in the program."""
    shutil.copytree(CHAT / "page", folder / "page")
    return changed(CHAT / "chat.py", folder, changes)


# The rules, without a browser.


@pytest_asyncio.fixture
async def rules() -> AsyncGenerator[Any]:
    module = load_chat()
    async with module.hub:
        yield module


def enter(rules: Any, name: object = "Ada") -> Any:
    return connect(rules.hub, data={"name": name})


async def say(client: HubClient, text: str, key: str, room: str = "lobby") -> None:
    await client.rpc("say", {"room": room, "id": key, "text": text})


async def texts(rules: Any) -> list[str]:
    page = await rules.hub.history(LOBBY)
    return [rules.chat.decode(publication).text for publication in page.publications]


@pytest.mark.parametrize(
    "name", ["A", "Ada Lovelace", "Zoë", "山田", "🦊", "x" * 24, "<b>", " Ada "]
)
async def test_names_are_taken_and_trimmed(rules: Any, name: str) -> None:
    async with enter(rules, name) as client:
        await client.subscribe(LOBBY)

        assert await client.presence(LOBBY) == {client.id: name.strip()}


@pytest.mark.parametrize(
    "name", ["", "  ", "x" * 25, "a\nb", "a\x00b", "a\u202eb", "a\u2066b", "\u200b", 7, None]
)
async def test_bad_names_are_refused(rules: Any, name: object) -> None:
    with pytest.raises(CommandError, match="a name has 1 to 24 visible characters") as raised:
        async with enter(rules, name):
            pass

    assert (raised.value.code, raised.value.temporary) == (400, False)


async def test_client_without_a_name_is_refused(rules: Any) -> None:
    with pytest.raises(CommandError, match="a name has"):
        async with connect(rules.hub):
            pass


@pytest.mark.parametrize("room", ["Lobby", "a_b", "ä", "x" * 25, "a b", "a\n"])
async def test_bad_rooms_are_refused(rules: Any, room: str) -> None:
    async with enter(rules) as client:
        for channel in (f"chat:{room}", f"typing:{room}"):
            with pytest.raises(CommandError):
                await client.subscribe(channel)


async def test_message_has_the_name_that_the_server_knows(rules: Any) -> None:
    async with enter(rules) as client:
        await client.subscribe(LOBBY)
        await client.rpc("say", {"room": "lobby", "id": "1", "text": " hi ", "name": "Eve"})
        message = await client.next()

    assert (message["id"], message["name"], message["text"]) == ("1", "Ada", "hi")


async def test_message_that_is_sent_again_appears_once(rules: Any) -> None:
    async with enter(rules) as client:
        await client.subscribe(LOBBY)
        await say(client, "hi", "1")
    async with enter(rules) as client:
        await client.subscribe(LOBBY)
        await say(client, "hi", "1")
        await say(client, "hi", "2")

    assert await texts(rules) == ["hi", "hi"]


async def test_nobody_speaks_in_a_room_from_outside(rules: Any) -> None:
    async with enter(rules) as client:
        with pytest.raises(CommandError, match="you are not in this room"):
            await say(client, "hi", "1")
        await client.subscribe(LOBBY)
        with pytest.raises(CommandError, match="permission denied"):
            await client.publish(LOBBY, {"id": "1", "name": "Eve", "text": "hi", "time": 0.0})

    assert await texts(rules) == []


@pytest.mark.parametrize(("text", "key"), [("x" * 501, "1"), (" \n", "1"), ("hi", ""), (7, "1")])
async def test_bad_messages_are_refused(rules: Any, text: str, key: str) -> None:
    async with enter(rules) as client:
        await client.subscribe(LOBBY)
        with pytest.raises(CommandError, match="bad request") as raised:
            await say(client, text, key)

    assert not raised.value.temporary
    assert await texts(rules) == []


async def test_who_says_too_much_is_to_slow_down_and_may_go_on(rules: Any) -> None:
    rules.PACE = 60.0
    async with enter(rules) as client:
        await client.subscribe(LOBBY)
        for n in range(rules.BURST):
            await say(client, "hi", str(n))
        with pytest.raises(CommandError, match="slow down: at most 10 messages") as raised:
            await say(client, "hi", "more")
        client_side = rules.hub.clients()[0]
        client_side.meta -= rules.PACE  # as much time has passed
        await say(client, "hi", "more")

    assert (raised.value.code, raised.value.temporary) == (429, True)
    assert len(await texts(rules)) == rules.BURST + 1


async def test_typing_says_who_and_nothing_else(rules: Any) -> None:
    async with enter(rules) as ada, enter(rules, "Grace") as grace:
        await ada.subscribe("typing:lobby")
        with pytest.raises(CommandError, match="permission denied"):
            await grace.publish("typing:lobby", {})
        await grace.subscribe("typing:lobby")
        with pytest.raises(CommandError, match="bad request"):
            await grace.publish("typing:lobby", {"text": "free speech"})
        await grace.publish("typing:lobby", {})
        push = await ada.next_push()

    assert push.pub is not None
    assert push.pub.info is not None
    assert (bytes(push.pub.data), push.pub.info.user) == (b"{}", "Grace")


# The page.


@dataclass(frozen=True, slots=True)
class Running:
    """A chat that is served in the test's own event loop."""

    module: Any
    served: Served

    @property
    def url(self) -> str:
        return f"http://localhost:{self.served.port}/"

    async def publish(self, *texts: str, room: str = "lobby", name: str = "Eve") -> None:
        for text in texts:
            message = self.module.Message(f"{name}: {text}", name, text, 1_790_000_000.0)
            await self.module.hub.publish(f"chat:{room}", message)


@asynccontextmanager
async def serving(module: Any) -> AsyncGenerator[Running]:
    async with serve(module.routes, "localhost", 0, http=module.http) as server:
        yield Running(module, Served(module.hub, server, server.sockets[0].getsockname()[1]))


@pytest_asyncio.fixture
async def chat() -> AsyncGenerator[Running]:
    async with serving(load_chat()) as running:
        yield running


class Person:
    """Somebody with a page of the chat."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.faults: list[str] = []
        self.hosts: set[str] = set()
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("request", lambda request: self.hosts.add(request.url.split("/")[2]))

    def _hear(self, message: ConsoleMessage) -> None:
        # What Chromium itself says about a server that is down.
        if not (
            message.text.startswith("WebSocket connection to 'ws://localhost:")
            and message.text.endswith(
                "failed: Error in connection establishment: net::ERR_CONNECTION_REFUSED"
            )
        ):
            self.faults.append(message.text)

    @property
    def input(self) -> Locator:
        return self.page.get_by_role("textbox", name="Message to")

    @property
    def messages(self) -> Locator:
        return self.page.locator(".message .text")

    @property
    def waiting(self) -> Locator:
        return self.page.locator(".waiting .text")

    @property
    def notes(self) -> Locator:
        return self.page.locator(".scroller .note")

    @property
    def people(self) -> Locator:
        return self.page.locator(".people li")

    @property
    def typing(self) -> Locator:
        return self.page.locator(".typing")

    @property
    def status(self) -> Locator:
        return self.page.locator(".bar .state")

    @property
    def problem(self) -> Locator:
        return self.page.locator(".composer .problem")

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    async def enter(self, url: str, name: str) -> None:
        await self.page.goto(url)
        await self.page.get_by_label("Your name").fill(name)
        await self.button("Enter").click()
        await expect(self.people.filter(has_text="(you)")).to_have_count(1, timeout=TIMEOUT)

    async def say(self, *texts: str) -> None:
        for text in texts:
            await self.input.fill(text)
            await self.input.press("Enter")

    async def stop_clock(self) -> None:
        """Have the time of the page pass in `page.clock.run_for` alone."""
        await self.page.clock.install()
        await self.page.clock.pause_at(datetime.now(UTC) + timedelta(seconds=1))

    async def read(self) -> list[str]:
        return await self.messages.all_inner_texts()


class People:
    """Opens pages, each in a browser profile of its own."""

    def __init__(self, page: Page, stack: AsyncExitStack) -> None:
        self._page = page
        self._stack = stack
        self.all: list[Person] = []

    async def __call__(self, url: str = "", name: str = "", **options: Any) -> Person:
        assert self._page.context.browser is not None
        context = await self._page.context.browser.new_context(**options)
        self._stack.push_async_callback(context.close)
        person = Person(await context.new_page())
        self.all.append(person)
        if url:
            await person.enter(url, name)
        return person


@pytest_asyncio.fixture
async def people(page: Page) -> AsyncGenerator[People]:
    async with AsyncExitStack() as stack:
        people = People(page, stack)
        yield people
        for person in people.all:
            assert person.faults == []
            assert len(person.hosts) <= 1


async def test_two_pages_chat_and_text_is_text(chat: Running, people: People) -> None:
    ada = await people(chat.url, "Ada")
    grace = await people(chat.url, "Grace")
    said = [
        "hello",
        "<img src=x onerror=alert(1)>",
        "<script>alert(1)</script>",
        "&amp; [x](javascript:alert(1))",
    ]
    await ada.say(*said)
    for person in (ada, grace):
        await expect(person.messages).to_have_text(said, timeout=TIMEOUT)
    await expect(ada.waiting).to_have_count(0, timeout=TIMEOUT)
    await grace.say("hello Ada")
    await expect(ada.messages).to_have_text([*said, "hello Ada"], timeout=TIMEOUT)
    await expect(ada.page.locator(".message.mine")).to_have_count(len(said))
    await expect(ada.page.locator(".message .name").last).to_have_text("Grace")
    said_at = await ada.page.locator(".message time").last.get_attribute("datetime")

    assert said_at is not None
    assert abs(datetime.now(UTC) - datetime.fromisoformat(said_at)) < timedelta(minutes=1)


async def test_reload_shows_what_was_said_under_the_same_name(
    chat: Running, people: People
) -> None:
    ada = await people(chat.url, "Ada")
    await ada.say("one", "two")
    await expect(ada.messages).to_have_text(["one", "two"], timeout=TIMEOUT)
    await expect(ada.waiting).to_have_count(0, timeout=TIMEOUT)
    await ada.page.reload()
    await expect(ada.messages).to_have_text(["one", "two"], timeout=TIMEOUT)
    await expect(ada.people).to_have_text(["AAda (you)"], timeout=TIMEOUT)
    await expect(ada.page.locator(".message.mine")).to_have_count(2)
    await expect(ada.page.locator(".day")).to_have_count(1)


async def test_presence_rises_and_falls(chat: Running, people: People) -> None:
    ada = await people(chat.url, "Ada")
    count = ada.page.locator(".people h3")
    await expect(count).to_have_text("Here: 1", timeout=TIMEOUT)
    grace = await people(chat.url, "Grace")
    again = await people(chat.url, "Grace")
    await expect(count).to_have_text("Here: 3", timeout=TIMEOUT)
    await expect(ada.people).to_have_text(["AAda (you)", f"GGrace {TIMES}2"])
    await grace.page.close()
    await expect(ada.people).to_have_text(["AAda (you)", "GGrace"], timeout=TIMEOUT)
    await again.button("python").click()
    await expect(count).to_have_text("Here: 1", timeout=TIMEOUT)
    await expect(again.people).to_have_text(["GGrace (you)"], timeout=TIMEOUT)


async def test_typing_is_seen_until_the_message_comes_or_nothing_does(
    chat: Running, people: People
) -> None:
    ada = await people(chat.url, "Ada")
    grace = await people(chat.url, "Grace")
    await ada.stop_clock()
    await grace.input.press_sequentially("hm")
    await expect(ada.typing).to_have_text("Grace is typing…", timeout=TIMEOUT)
    await expect(grace.typing).to_have_text("")
    await grace.input.press("Enter")
    await expect(ada.messages).to_have_text(["hm"], timeout=TIMEOUT)
    await expect(ada.typing).to_have_text("")
    await grace.input.press_sequentially("or not")
    await expect(ada.typing).to_have_text("Grace is typing…", timeout=TIMEOUT)
    await ada.page.clock.run_for(5_000)
    await expect(ada.typing).to_have_text("", timeout=TIMEOUT)


async def test_too_long_a_text_is_kept_and_counted(chat: Running, people: People) -> None:
    ada = await people(chat.url, "Ada")
    text = "🦊" * 501
    await ada.say(text)
    await expect(ada.problem).to_have_text("a message has at most 500 characters")
    await expect(ada.page.locator(".length")).to_have_text("501 / 500: too long")
    await expect(ada.input).to_have_value(text)
    await ada.say(text[:500])
    await expect(ada.messages).to_have_text([text[:500]], timeout=TIMEOUT)
    await expect(ada.waiting).to_have_count(0, timeout=TIMEOUT)
    await expect(ada.problem).to_have_text("")


async def test_what_the_server_refuses_is_given_back_with_its_reason(
    people: People, tmp_path: Path
) -> None:
    module = load_chat(copied(tmp_path, {"max_length=500": "max_length=5"}))
    async with serving(module) as chat:
        ada = await people(chat.url, "Ada")
        await ada.say("hello")
        await expect(ada.waiting).to_have_count(0, timeout=TIMEOUT)
        await ada.say("hello again")
        reason = "bad request: Expected `str` of length <= 5 - at `$.text`"
        await expect(ada.problem).to_have_text(reason, timeout=TIMEOUT)
        await expect(ada.input).to_have_value("hello again")
        await expect(ada.messages).to_have_text(["hello"])


async def test_who_writes_too_fast_is_told_and_loses_nothing(chat: Running, people: People) -> None:
    chat.module.BURST, chat.module.PACE = 3, 60.0
    ada = await people(chat.url, "Ada")
    said = [f"{n}" for n in range(6)]
    await ada.say(*said)
    await expect(ada.problem).to_contain_text("slow down: at most 3 messages", timeout=TIMEOUT)
    await expect(ada.messages).to_have_text(said)
    await expect(ada.waiting).to_have_text(said[3:])
    chat.module.PACE = 0.0
    chat.module.hub.clients()[0].meta = 0.0  # the time has passed
    await expect(ada.waiting).to_have_count(0, timeout=TIMEOUT)
    await expect(ada.problem).to_have_text("", timeout=TIMEOUT)

    assert await texts(chat.module) == said


async def test_bad_name_is_refused_and_a_good_one_taken(chat: Running, people: People) -> None:
    ada = await people()
    await ada.page.goto(chat.url)
    name, problem = ada.page.get_by_label("Your name"), ada.page.locator(".join .problem")
    for bad in (" ", "x" * 25):
        await name.fill(bad)
        await name.press("Enter")
        await expect(problem).to_have_text("a name has 1 to 24 visible characters", timeout=TIMEOUT)
    await name.fill("Ada")
    await name.press("Enter")
    await expect(ada.people).to_have_text(["AAda (you)"], timeout=TIMEOUT)


async def test_name_is_changed_and_a_bad_one_leaves_the_old(chat: Running, people: People) -> None:
    ada = await people(chat.url, "Ada")
    await ada.say("I am Ada")
    await expect(ada.waiting).to_have_count(0, timeout=TIMEOUT)
    await ada.button("Change my name").click()
    name = ada.page.get_by_label("Your name")
    await expect(name).to_have_value("Ada")
    await expect(name).to_be_focused()
    await name.fill("x" * 25)
    await name.press("Enter")
    await expect(ada.page.locator(".join .problem")).to_contain_text("a name has", timeout=TIMEOUT)
    await ada.button("Cancel").click()
    await expect(ada.people).to_have_text(["AAda (you)"], timeout=TIMEOUT)
    await ada.button("Change my name").click()
    await name.fill("Countess")
    await name.press("Enter")
    await expect(ada.people).to_have_text(["CCountess (you)"], timeout=TIMEOUT)
    await ada.say("and now")
    await expect(ada.messages).to_have_text(["I am Ada", "and now"], timeout=TIMEOUT)
    await expect(ada.page.locator(".message .name")).to_have_text(["Ada", "Countess"])
    await expect(ada.notes).to_have_count(0)


async def test_rooms_are_apart_and_in_the_address(chat: Running, people: People) -> None:
    ada = await people(chat.url, "Ada")
    await ada.say("to all")
    await expect(ada.waiting).to_have_count(0, timeout=TIMEOUT)
    await ada.button("python").click()
    await expect(ada.page).to_have_url(f"{chat.url}#room=python")
    await ada.say("import this")
    await expect(ada.messages).to_have_text(["import this"], timeout=TIMEOUT)
    other = ada.page.get_by_label("Another room")
    await other.fill("Our-Own")
    await other.press("Enter")
    await expect(ada.page.get_by_role("heading", name="our-own")).to_be_visible()
    await expect(ada.messages).to_have_count(0)
    await ada.page.go_back()
    await expect(ada.messages).to_have_text(["import this"], timeout=TIMEOUT)
    await ada.page.goto(f"{chat.url}#room=lobby")
    await expect(ada.messages).to_have_text(["to all"], timeout=TIMEOUT)
    await other.fill("no room!")
    await other.press("Enter")
    await expect(ada.page.locator(".rooms .problem")).to_contain_text(
        "a room's name has 1 to 24", timeout=TIMEOUT
    )
    await expect(ada.messages).to_have_text(["to all"], timeout=TIMEOUT)
    await ada.page.goto(f"{chat.url}?again#room=python")
    await expect(ada.messages).to_have_text(["import this"], timeout=TIMEOUT)
    await ada.page.goto(chat.url)  # remembered
    await expect(ada.messages).to_have_text(["import this"], timeout=TIMEOUT)


async def test_what_was_said_in_a_room_arrives_after_it_was_left(
    chat: Running, people: People
) -> None:
    ada = await people(chat.url, "Ada")
    await ada.stop_clock()
    await ada.button("Cut my connection").click()
    await ada.say("on my way out")
    await ada.button("python").click()
    await expect(ada.messages).to_have_count(0)
    await ada.page.clock.run_for(6_000)
    await expect(ada.status).to_contain_text("Connected", timeout=TIMEOUT)
    grace = await people(chat.url, "Grace")
    await expect(grace.messages).to_have_text(["on my way out"], timeout=TIMEOUT)
    await expect(grace.people).to_have_text(["GGrace (you)"], timeout=TIMEOUT)


async def test_cut_connection_comes_back_with_what_was_missed(
    chat: Running, people: People
) -> None:
    ada = await people(chat.url, "Ada")
    grace = await people(chat.url, "Grace")
    await ada.stop_clock()
    await ada.say("before")
    await expect(grace.messages).to_have_text(["before"], timeout=TIMEOUT)
    await ada.button("Cut my connection").click()
    await expect(ada.button("Back in 5 s")).to_have_attribute("aria-disabled", "true")
    await expect(ada.status).to_have_text("Reconnecting in 5 s")
    await expect(grace.people).to_have_text(["GGrace (you)"], timeout=TIMEOUT)
    await grace.say("one", "two")
    await expect(grace.waiting).to_have_count(0, timeout=TIMEOUT)
    await ada.say("three")
    await expect(ada.waiting).to_have_text(["three"])
    await expect(ada.page.locator(".waiting .state")).to_have_text("sending…")
    await ada.page.clock.run_for(2_000)
    await expect(ada.button("Back in 3 s")).to_be_visible()
    await ada.page.clock.run_for(4_000)
    everything = ["before", "one", "two", "three"]
    for person in (ada, grace):
        await expect(person.messages).to_have_text(everything, timeout=TIMEOUT)
    await expect(ada.notes).to_have_text([BACK.format("2 messages")])
    await expect(ada.waiting).to_have_count(0, timeout=TIMEOUT)
    await expect(ada.status).to_contain_text("Connected, ")
    await expect(ada.button("Cut my connection")).to_be_enabled()
    await expect(grace.notes).to_have_count(0)

    assert await texts(chat.module) == everything


async def test_nothing_is_lost_or_doubled_when_the_connection_is_cut_while_both_write(
    chat: Running, people: People
) -> None:
    chat.module.PACE = 0.01
    both = {name: await people(chat.url, name) for name in ("Ada", "Grace")}
    said = {name: [f"{name} {n}" for n in range(30)] for name in both}

    async def write(name: str) -> None:
        for n, text in enumerate(said[name]):
            await both[name].say(text)
            if name == "Ada" and n % 10 == 5:
                for person in both.values():
                    await expect(person.status).to_contain_text("Connected", timeout=PATIENT)
                chat.served.abort()

    await asyncio.gather(*map(write, both))
    for person in both.values():
        await expect(person.messages).to_have_count(60, timeout=PATIENT)
        await expect(person.waiting).to_have_count(0, timeout=PATIENT)
    shown = [await person.read() for person in both.values()]

    assert shown[0] == shown[1] == await texts(chat.module)
    for name, own in said.items():
        assert [text for text in shown[0] if text.startswith(name)] == own
    for person in both.values():
        notes = await person.notes.all_inner_texts()
        assert notes
        assert all(note.startswith("Back: ") and note.endswith("none lost.") for note in notes)


@pytest.mark.parametrize("lost", ["command", "answer"])
async def test_message_whose_fate_is_unknown_is_sent_again_and_appears_once(
    chat: Running, people: People, lost: str
) -> None:
    ada = await people()
    dropping: list[bool] = []

    async def break_once(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()

        async def to_server(message: str | bytes) -> None:
            saying = '"say"' in str(message) and not dropping
            if saying:
                dropping.append(True)
            if not saying or lost == "answer":
                server.send(message)
            else:
                await end()

        async def to_page(message: str | bytes) -> None:
            if dropping != [True]:
                socket.send(message)
            elif '"rpc"' in str(message):
                await end()

        async def end() -> None:
            dropping.append(False)
            await server.close()
            await socket.close(code=1012)

        socket.on_message(to_server)
        server.on_message(to_page)

    await ada.page.route_web_socket("**/connection/websocket", break_once)
    await ada.enter(chat.url, "Ada")
    await ada.say("one", "two")
    await expect(ada.messages).to_have_text(["one", "two"])
    await expect(ada.notes).to_have_count(1, timeout=PATIENT)
    await expect(ada.waiting).to_have_count(0, timeout=TIMEOUT)
    await expect(ada.messages).to_have_text(["one", "two"])

    assert dropping == [True, False]
    assert await texts(chat.module) == ["one", "two"]


async def test_page_that_was_away_too_long_says_so_and_goes_on(
    chat: Running, people: People
) -> None:
    ada = await people(chat.url, "Ada")
    await chat.publish("before")
    await expect(ada.messages).to_have_text(["before"], timeout=TIMEOUT)
    await ada.stop_clock()
    await ada.button("Cut my connection").click()
    await ada.say("meanwhile")
    await chat.publish(*map(str, range(201)))
    await ada.page.clock.run_for(6_000)
    expected = ["before", *map(str, range(1, 201)), "meanwhile"]
    await expect(ada.messages).to_have_text(expected, timeout=TIMEOUT)
    await expect(ada.notes).to_have_text([GONE])
    await expect(ada.waiting).to_have_count(0, timeout=TIMEOUT)


async def test_killed_server_is_come_back_to_and_nothing_is_doubled(
    people: People, tmp_path: Path
) -> None:
    copied(tmp_path, {"BURST, PACE = 10, 0.5": "BURST, PACE = 10, 0.01"})
    with reserved_port() as port:
        command = ["run", "chat:routes", "--http", "chat:http", "--port", str(port)]
        url = f"http://localhost:{port}/"
        with hubbub(*command, cwd=tmp_path) as first:
            first.stdout.wait_for("Ctrl")
            both = {name: await people(url, name) for name in ("Ada", "Grace")}
            said = {name: [f"{name} {n}" for n in range(30)] for name in both}
            killed = asyncio.Event()

            async def write(name: str) -> None:
                for n, each in enumerate(said[name]):
                    await both[name].say(each)
                    if n == 10 and not killed.is_set():
                        first.signal(signal.SIGKILL)
                        await asyncio.to_thread(first.wait)
                        killed.set()
                    elif n == 15:
                        await killed.wait()

            await asyncio.gather(*map(write, both))
            for person in both.values():
                await expect(person.status).to_contain_text("onnecting", timeout=TIMEOUT)
                await expect(person.waiting.first).to_be_visible()
        with hubbub(*command, cwd=tmp_path) as second:
            second.stdout.wait_for("Ctrl")
            for person in both.values():
                await expect(person.status).to_contain_text("Connected", timeout=PATIENT)
                await expect(person.notes.filter(has_text=GONE)).to_have_count(1, timeout=PATIENT)
            for person in both.values():
                await expect(person.waiting).to_have_count(0, timeout=PATIENT)
            for name, person in both.items():
                for other, theirs in said.items():
                    await expect(person.page.get_by_text(theirs[-1], exact=True)).to_be_visible(
                        timeout=PATIENT
                    )
                    shown = [each for each in await person.read() if each.startswith(other)]
                    assert len(shown) == len(set(shown))
                    # Others may have missed what was said just before: that is what the note says.
                    assert shown[-14:] == theirs[-14:]
                    if name == other:
                        assert shown == theirs
            second.signal(signal.SIGTERM)
            assert await asyncio.to_thread(second.wait) == 0
            assert "Traceback" not in second.stderr.text


async def test_page_keeps_500_rows_and_does_not_pull_a_reader_down(
    chat: Running, people: People
) -> None:
    ada = await people(chat.url, "Ada")
    await chat.publish(*map(str, range(510)))
    await expect(ada.messages.last).to_have_text("509", timeout=TIMEOUT)
    await expect(ada.page.locator(".scroller li")).to_have_count(500)
    await expect(ada.page.locator(".day")).to_have_count(1)
    await expect(ada.messages.last).to_be_in_viewport()
    log = ada.page.get_by_role("log")
    await log.press("Home")
    await expect(ada.messages.first).to_be_in_viewport(timeout=TIMEOUT)
    await chat.publish("new", "newer")
    news = ada.button("2 new messages ↓")
    await expect(news).to_be_visible(timeout=TIMEOUT)
    await expect(ada.messages.last).not_to_be_in_viewport()
    await news.click()
    await expect(ada.messages.last).to_have_text("newer")
    await expect(ada.messages.last).to_be_in_viewport(timeout=TIMEOUT)
    await expect(ada.page.locator(".news")).to_be_hidden()


async def test_everything_can_be_done_with_the_keyboard(chat: Running, people: People) -> None:
    ada = await people()
    page = ada.page
    await page.goto(chat.url)
    await page.keyboard.type("Ada")
    await page.keyboard.press("Enter")
    await expect(ada.input).to_be_focused(timeout=TIMEOUT)
    await page.keyboard.type("one")
    await page.keyboard.press("Shift+Enter")
    await page.keyboard.type("two")
    await page.keyboard.press("Enter")
    await expect(ada.messages).to_have_text(["one\ntwo"], use_inner_text=True, timeout=TIMEOUT)
    await expect(ada.input).to_be_focused()
    reached = []
    for _ in range(12):
        await page.keyboard.press("Shift+Tab")
        reached.append(
            await page.evaluate(
                "document.activeElement.ariaLabel ?? document.activeElement.textContent"
            )
        )
        if reached[-1] == "python":
            break
    assert "Messages in lobby" in reached
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="python")).to_be_visible()
    await expect(ada.input).to_be_focused()


async def test_chat_is_mounted_into_another_page_and_taken_out_again(
    people: People, tmp_path: Path
) -> None:
    module = load_chat(copied(tmp_path, {}))
    (tmp_path / "page" / "other.html").write_text('<!doctype html><link rel="icon" href="data:,">')
    async with serving(module) as chat:
        ada = await people()
        await ada.page.goto(f"{chat.url}other.html")
        await ada.page.evaluate(MOUNT)
        await expect(ada.people).to_have_text([f"AAda {TIMES}2 (you)"] * 2, timeout=TIMEOUT)
        await ada.input.first.fill("twice")
        await ada.input.first.press("Enter")
        await expect(ada.messages).to_have_text(["twice", "twice"], timeout=TIMEOUT)
        left = await ada.page.evaluate(UNMOUNT)

        assert left == [["disconnected"] * 2, ['<div class=""></div>'] * 2]
        assert ada.page.url == f"{chat.url}other.html"
        async with asyncio.timeout(TIMEOUT / 1000):
            while chat.served.server.connections:
                await asyncio.sleep(MS)


MOUNT = """async () => {
    localStorage.setItem("hubbub-chat", '{"name": "Ada", "room": "random"}');
    const { mount } = await import("/chat.js");
    const place = () => document.body.appendChild(document.createElement("div"));
    window.mounted = [mount(place()), mount(place())];
}"""

UNMOUNT = """() => {
    for (const { close } of window.mounted) close();
    const states = window.mounted.map(({ client }) => client.state);
    return [states, [...document.querySelectorAll("div")].map((place) => place.outerHTML)];
}"""

OVERFLOWS = "document.documentElement.scrollWidth > document.documentElement.clientWidth"

LOOKS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1280, "height": 800}},
    "dark": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2},
}


async def test_page_is_shown_well_everywhere_and_to_everybody(
    chat: Running, people: People
) -> None:
    ada, grace, linus = [
        await people(chat.url, name, **look)
        for name, look in zip(("Ada", "Grace", "Linus"), LOOKS.values(), strict=True)
    ]
    await linus.stop_clock()
    for person, *said in [
        (ada, "Good morning! Is the new release out?"),
        (grace, "Since eight. The history keeps 200 messages of each room now."),
        (linus, "I am on a train, so I may vanish in a tunnel."),
        (ada, "That is no problem: what you miss is caught up, and what you write waits."),
    ]:
        await person.say(*said)
        await expect(ada.messages.last).to_have_text(said[-1], timeout=TIMEOUT)
        await expect(person.waiting).to_have_count(0, timeout=TIMEOUT)
    await linus.button("Cut my connection").click()
    await expect(ada.people).to_have_count(2, timeout=TIMEOUT)
    await grace.say("Linus?", "A tunnel, I suppose.")
    await linus.say("Here is the tunnel…")
    await ada.page.screenshot(path=SCREENSHOTS / "chat-light.png")
    await linus.page.screenshot(path=SCREENSHOTS / "chat-phone-away.png")
    await linus.page.clock.run_for(6_000)
    await expect(linus.waiting).to_have_count(0, timeout=TIMEOUT)
    await linus.page.clock.resume()  # axe-core has timers too
    await ada.input.press_sequentially("Welc")
    await expect(grace.typing).to_have_text("Ada is typing…", timeout=TIMEOUT)
    await grace.page.screenshot(path=SCREENSHOTS / "chat-dark.png")
    await linus.page.screenshot(path=SCREENSHOTS / "chat-phone.png")
    await ada.say("x" * 501)
    for person in (ada, grace, linus):
        assert not await person.page.evaluate(OVERFLOWS)
        assert await serious_faults(person.page) == []
        await person.button("Change my name").click()
        assert await serious_faults(person.page) == []
    await grace.page.screenshot(path=SCREENSHOTS / "chat-name.png")
