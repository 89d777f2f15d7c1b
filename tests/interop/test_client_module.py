"""The client module `hubbub.js`, in a browser."""

import asyncio
import json
import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Page, WebSocket, expect

from hubbub import (
    Client,
    CommandError,
    Disconnect,
    Hub,
    PermissionDenied,
    ServerConnection,
    Tokens,
    serve,
)
from hubbub.auth.tokens import sign
from hubbub.http import pages
from hubbub.testing import FakeClock
from tests.examples import EXAMPLES, Example, changed, running
from tests.interop.hubs import HOST, Door, Served
from tests.timing import MS

FOLDER = Path(__file__).parent / "pages" / "client"
SDK = Path(__file__).parent / "node_modules" / "centrifuge" / "dist" / "centrifuge.js"
TIMEOUT = 10_000 * MS
SECRET = "the secret of the tests, long enough for HS256"
NOW = 1_700_000_000.0

# Comes back at once; tests that are about delays say theirs.
QUICK = "{ minDelay: 5, maxDelay: 10 }"

Handler = Callable[[ServerConnection], Awaitable[None]]


class Tab:
    """A page whose scripts a test writes, and the servers that it came from.

    Attributes:
        sent: What its WebSockets have sent, a frame each.
        rcvd: What they have received.
        faults: What the browser complains about.
    """

    def __init__(self, page: Page, stack: AsyncExitStack) -> None:
        self.page = page
        self.sent: list[str] = []
        self.rcvd: list[str] = []
        self.faults: list[str] = []
        self._stack = stack
        self._sent = asyncio.Event()
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("websocket", self._listen)

    def _listen(self, websocket: WebSocket) -> None:
        def send(frame: str | bytes) -> None:
            self.sent.append(str(frame))
            self._sent.set()

        websocket.on("framesent", send)
        websocket.on("framereceived", lambda frame: self.rcvd.append(str(frame)))

    async def serve(self, hub: Hub, port: int = 0, **handlers: Handler) -> Served:
        """Serve a hub and the page, and handlers at paths of their names."""
        paths: Mapping[str, Any] = {
            "/connection/websocket": hub,
            **{f"/{name}": handler for name, handler in handlers.items()},
        }
        server = await self._stack.enter_async_context(serve(paths, HOST, port, http=pages(FOLDER)))
        return Served(hub, server, server.sockets[0].getsockname()[1])

    async def open(self, hub: Hub, **handlers: Handler) -> Served:
        """Serve a hub, and open the page."""
        served = await self.serve(hub, 0, **handlers)
        await self.page.goto(f"http://{HOST}:{served.port}/")
        return served

    async def run(self, script: str, given: Any = None) -> Any:
        """Run the body of an asynchronous function, and return what it returns."""
        async with asyncio.timeout(TIMEOUT):
            return await self.page.evaluate(f"async (given) => {{ {script} }}", given)

    async def connect(self, options: str = QUICK) -> None:
        """Have a client connected, named `client`."""
        await self.run(
            f"newClient('client', {options}); client.connect();"
            "await next('client', 'state', {state: 'connected'});"
        )

    async def subscribe(self, channel: str, options: str = "{}") -> Any:
        """Have a subscription of `client`, named `room`; return what it was told."""
        return await self.run(
            f"newRoom('room', client, given, {options}); return next('room', 'subscribed');",
            channel,
        )

    async def next(self, source: str, event: str, **detail: Any) -> Any:
        """Wait for an event with such a detail, and return its detail."""
        return await self.run(f"return next('{source}', '{event}', given);", detail)

    async def heard(self, source: str, event: str) -> list[Any]:
        """Return the details of all such events so far."""
        return list(await self.run(f"return heard('{source}', '{event}');"))

    async def publications(self, count: int) -> list[Any]:
        """Wait until `room` has been told so many, and return the payloads of all."""
        got = await self.run(
            "while (heard('room', 'publication').length < given) await next('room', 'publication');"
            "return heard('room', 'publication');",
            count,
        )
        return [one["data"] for one in got]

    async def sends(self, condition: Callable[[], object]) -> None:
        """Wait until what was sent is as it should be."""
        async with asyncio.timeout(TIMEOUT):
            while not condition():
                self._sent.clear()
                await self._sent.wait()

    def commands(self, name: str) -> list[Any]:
        """Return the commands of a name that were sent so far."""
        lines = [json.loads(line) for frame in self.sent for line in frame.split("\n")]
        return [line[name] for line in lines if name in line]


@pytest_asyncio.fixture
async def tab(page: Page) -> AsyncGenerator[Tab]:
    async with AsyncExitStack() as stack:
        tab = Tab(page, stack)
        yield tab
        await page.close()
    assert tab.faults == []


@pytest.fixture
def hub() -> Hub:
    """Make a hub with a channel that keeps what was said, and some that differ."""
    hub = Hub()
    hub.channel("chat:{room}", history=20, presence=True, join_leave="asked", publish="subscribers")
    hub.channel("brief", history=2)
    hub.channel("fleeting", publish="anyone")
    hub.channel("doc", history=200, delta=True)

    @hub.rpc("add")
    def add(client: Client, numbers: list[int]) -> int:
        return sum(numbers)

    @hub.rpc("nothing")
    def nothing(client: Client) -> None:
        pass

    @hub.rpc("refuse")
    def refuse(client: Client) -> None:
        raise CommandError(400, "not today", temporary=True)

    return hub


# Connecting.


async def test_connects_with_what_it_was_given(tab: Tab, hub: Hub) -> None:
    @hub.on_connect
    def name(client: Client, request: Any) -> str:
        return str(json.loads(bytes(request.data))["name"])

    await tab.open(hub)
    await tab.run("newClient('client', { data: { name: 'ann' } })")
    assert await tab.run("return [client.state, client.id]") == ["disconnected", ""]
    await tab.run("client.connect(); client.connect();")
    state = await tab.next("client", "state", state="connected")
    (there,) = hub.clients()

    assert state == {"state": "connected", "code": 0, "reason": "", "delay": 0}
    assert there.user == "ann"
    assert await tab.run("return client.id") == there.id
    assert 0 < await tab.run("return client.latency") < TIMEOUT * 1000
    assert [one["state"] for one in await tab.heard("client", "state")] == [
        "connecting",
        "connected",
    ]


async def test_data_may_be_a_function_that_is_called_at_each_connect(tab: Tab, hub: Hub) -> None:
    served = await tab.open(hub)
    await tab.connect("{ minDelay: 5, data: ((n) => async () => ++n)(0) }")
    served.abort()
    await tab.next("client", "state", state="connected")

    assert [one["data"] for one in tab.commands("connect")] == [1, 2]


@pytest.mark.parametrize(
    ("refusal", "code", "reason"),
    [
        (PermissionDenied("members only"), 103, "members only"),
        (Disconnect(3503), 3503, "force disconnect"),
        (Disconnect(4500, "closed for good"), 4500, "closed for good"),
    ],
)
async def test_final_refusal_ends_it(
    tab: Tab, hub: Hub, refusal: Exception, code: int, reason: str
) -> None:
    @hub.on_connect
    def refuse(client: Client) -> None:
        raise refusal

    await tab.open(hub)
    await tab.run("newClient('client'); client.connect();")
    state = await tab.next("client", "state", state="disconnected")
    errors = await tab.heard("client", "error")

    assert (state["code"], state["reason"]) == (code, reason)
    assert [one["code"] for one in errors] == ([103] if code == 103 else [])
    assert len(tab.commands("connect")) == 1


async def test_temporary_refusal_is_tried_again(tab: Tab, hub: Hub) -> None:
    refusals = [CommandError(100), Disconnect(3013), Disconnect(4000, "in a moment")]

    @hub.on_connect
    def refuse(client: Client) -> None:
        if refusals:
            raise refusals.pop(0)

    await tab.open(hub)
    await tab.connect()
    states = await tab.heard("client", "state")

    assert [(one["state"], one["code"]) for one in states] == [
        ("connecting", 0),
        ("connecting", 100),
        ("connecting", 3013),
        ("connecting", 4000),
        ("connected", 0),
    ]
    assert [one["temporary"] for one in await tab.heard("client", "error")] == [True]


async def test_delays_double_up_to_a_bound_and_are_random(tab: Tab, hub: Hub) -> None:
    async def away(connection: ServerConnection) -> None:
        connection.transport.abort()

    await tab.open(hub, away=away)
    delays = await tab.run(
        """
        const chances = [0.5, 1, 0.25, 1, 0.5];
        Math.random = () => chances.shift() ?? 0;
        newClient('client', { minDelay: 4, maxDelay: 20 }, '/away');
        client.connect();
        const delays = [];
        while (delays.length < 5) {
          const { delay, code } = await next('client', 'state');
          if (code === 1006) delays.push(delay);
        }
        client.disconnect();
        return delays;
        """
    )

    assert delays == [2, 8, 4, 20, 10]


async def test_end_before_the_beginning_is_quiet(tab: Tab, hub: Hub) -> None:
    complaints: list[str] = []
    tab.page.on("console", lambda message: complaints.append(message.text))
    await tab.open(hub)
    await tab.run(
        "newClient('client'); client.connect(); for (const _ of [1, 2, 3]) await null;"
        "client.disconnect(); client.connect(); await client.rpc('nothing');"
    )

    assert complaints == []


async def test_silence_at_the_start_is_a_loss(tab: Tab, hub: Hub) -> None:
    async def silent(connection: ServerConnection) -> None:
        await connection.wait_closed()

    await tab.open(hub, silent=silent)
    await tab.run("newClient('client', { timeout: 50 }, '/silent'); client.connect();")
    state = await tab.next("client", "state", code=1)

    assert (state["state"], state["reason"]) == ("connecting", "connect timeout")
    await tab.run("client.disconnect()")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("connection/websocket", "ws://{}/connection/websocket"),
        ("http://{}/x", "ws://{}/x"),
        ("https://{}/x", "wss://{}/x"),
        ("wss://{}/x", "wss://{}/x"),
    ],
)
async def test_address_becomes_one_of_a_websocket(
    tab: Tab, hub: Hub, url: str, expected: str
) -> None:
    served = await tab.open(hub)
    host = f"{HOST}:{served.port}"
    async with asyncio.timeout(TIMEOUT):
        async with tab.page.expect_websocket() as opened:
            await tab.run(
                "newClient('client', {}, given); client.connect()", url.replace("{}", host)
            )
        websocket = await opened.value

    assert websocket.url == expected.replace("{}", host)
    await tab.run("client.disconnect()")


async def test_disconnect_ends_it_until_connect(tab: Tab, hub: Hub) -> None:
    await tab.open(hub)
    await tab.connect()
    await tab.subscribe("chat:a")
    call = await tab.run(
        "const call = outcome(client.rpc('add', [1])); client.disconnect(); return call;"
    )
    state = await tab.next("client", "state", state="disconnected")
    waiting = await tab.run(
        "const calls = [client.rpc('add', [1]), room.publish('x')].map(outcome);"
        "client.disconnect(); return Promise.all(calls);"
    )

    assert call["name"] == "ConnectionLost"
    assert [one["name"] for one in waiting] == ["ConnectionLost", "ConnectionLost"]
    assert (state["code"], state["reason"]) == (0, "disconnect called")
    assert await tab.run("return [client.id, room.state]") == ["", "subscribing"]
    await tab.run("client.connect(); await next('room', 'subscribed');")
    assert [one["state"] for one in await tab.heard("client", "state")] == [
        "connecting",
        "connected",
        "disconnected",
        "connecting",
        "connected",
    ]


# Calls.


async def test_rpc_is_answered_or_refused(tab: Tab, hub: Hub) -> None:
    await tab.open(hub)
    await tab.connect()
    outcomes = await tab.run(
        "return Promise.all(given.map((call) => outcome(client.rpc(...call))));",
        [["add", [1, 2, 3]], ["nothing"], ["refuse"], ["add", "x"], ["unknown"]],
    )

    assert outcomes[:3] == [
        {"value": 6},
        {"value": None},
        {"name": "CommandError", "code": 400, "message": "not today", "temporary": True},
    ]
    assert [(one["code"], one["temporary"]) for one in outcomes[3:]] == [(107, False), (104, False)]


async def test_rpc_without_an_answer_times_out(tab: Tab, hub: Hub) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    @hub.rpc("slow")
    async def slow(client: Client) -> None:
        asked.set()
        await answer.wait()

    await tab.open(hub)
    await tab.connect("{ timeout: 300 }")
    outcome = await tab.run("return outcome(client.rpc('slow'))")
    answer.set()

    assert asked.is_set()
    assert outcome == {
        "name": "CommandError",
        "code": 1,
        "message": "timeout",
        "temporary": True,
    }
    assert await tab.run("return outcome(client.rpc('add', [1, 2]))") == {"value": 3}
    assert await tab.run("return client.state") == "connected"


async def test_calls_of_one_turn_share_a_frame(tab: Tab, hub: Hub) -> None:
    await tab.open(hub)
    await tab.run(
        "newClient('client'); client.connect();"
        "newRoom('one', client, 'chat:one'); newRoom('two', client, 'chat:two');"
        "await next('two', 'subscribed');"
        "await Promise.all([client.rpc('add', [1]), client.rpc('add', [2]), one.publish('x')]);"
    )

    assert [len(frame.split("\n")) for frame in tab.sent] == [3, 3]


async def test_frames_are_no_longer_than_the_server_takes(tab: Tab, hub: Hub) -> None:
    await tab.open(hub)
    await tab.connect()
    sums = await tab.run(
        "const ones = Array(1000).fill(1);"
        "return Promise.all(Array(100).fill().map(() => client.rpc('add', ones)));"
    )

    assert sums == [1000] * 100
    assert max(map(len, tab.sent)) <= 16_384 < sum(map(len, tab.sent))


async def test_calls_while_offline_are_made_afterwards_in_order(tab: Tab, hub: Hub) -> None:
    numbers: list[int] = []

    @hub.rpc("note")
    def note(client: Client, number: int) -> int:
        numbers.append(number)
        return number

    served = await tab.open(hub)
    await tab.run(
        f"newClient('client', {QUICK}); newRoom('room', client, 'chat:a');"
        "globalThis.calls = [1, 2].map((number) => client.rpc('note', number));"
        "calls.push(room.publish('first'), room.publish('second')); client.connect();"
        "await Promise.all(calls);"
    )
    served.abort()
    await tab.next("client", "state", state="connecting", code=1006)
    await tab.run("await Promise.all([3, 4].map((number) => client.rpc('note', number)))")

    assert numbers == [1, 2, 3, 4]
    assert await tab.publications(2) == ["first", "second"]


async def test_calls_in_flight_are_lost_with_the_connection(tab: Tab, hub: Hub) -> None:
    asked = asyncio.Event()

    @hub.rpc("forever")
    async def forever(client: Client) -> None:
        asked.set()
        await asyncio.Event().wait()

    served = await tab.open(hub)
    await tab.connect()
    await tab.run("globalThis.call = outcome(client.rpc('forever'));")
    async with asyncio.timeout(TIMEOUT):
        await asked.wait()
    served.abort()
    outcome = await tab.run("return call")
    await tab.next("client", "state", state="connected")

    assert (outcome["name"], outcome["code"]) == ("ConnectionLost", 1006)
    assert len(tab.commands("rpc")) == 1


# Subscriptions.


async def test_publications_arrive_as_they_were_published(tab: Tab, hub: Hub) -> None:
    await tab.open(hub)
    await tab.connect()
    subscribed = await tab.subscribe("chat:a")
    await tab.run("await room.publish({ text: 'grüße 👋' })")
    own = await tab.next("room", "publication")
    await hub.publish("chat:a", [1, None], tags={"kind": "list"})
    other = await tab.next("room", "publication")
    (there,) = hub.clients()
    epoch = subscribed["position"]["epoch"]

    assert subscribed == {
        "wasRecovering": False,
        "recovered": False,
        "missed": 0,
        "position": {"epoch": epoch, "offset": 0},
        "data": None,
    }
    assert own == {
        "data": {"text": "grüße 👋"},
        "offset": 1,
        "info": {"user": "", "client": there.id, "connInfo": None, "chanInfo": None},
        "tags": {},
        "recovered": False,
    }
    assert other == {
        "data": [1, None],
        "offset": 2,
        "info": None,
        "tags": {"kind": "list"},
        "recovered": False,
    }
    assert await tab.run("return [room.channel, room.state, room.position]") == [
        "chat:a",
        "subscribed",
        {"epoch": epoch, "offset": 2},
    ]


async def test_channel_without_history_has_no_position(tab: Tab, hub: Hub) -> None:
    await tab.open(hub)
    await tab.connect()
    subscribed = await tab.subscribe("fleeting")
    await tab.run("await room.publish('x')")
    publication = await tab.next("room", "publication")

    assert (subscribed["position"], publication["offset"]) == (None, 0)
    assert await tab.run("return room.position") is None


async def test_refused_subscription_is_over(tab: Tab, hub: Hub) -> None:
    await tab.open(hub)
    await tab.connect()
    await tab.run(
        "newRoom('room', client, 'unknown');globalThis.call = outcome(room.publish('waiting'));"
    )
    unsubscribed = await tab.next("room", "unsubscribed")

    assert unsubscribed == {"code": 102, "reason": "unknown channel"}
    for call in ("call", "outcome(room.history())"):
        outcome = await tab.run(f"return {call}")
        assert (outcome["name"], outcome["code"]) == ("CommandError", 102)
    assert await tab.run("return [client.state, room.state]") == ["connected", "unsubscribed"]


async def test_temporarily_refused_subscription_is_tried_again(tab: Tab) -> None:
    hub, refusals = Hub(), [CommandError(111), CommandError(100)]

    @hub.channel("busy").on_subscribe
    def refuse(client: Client) -> None:
        if refusals:
            raise refusals.pop()

    await tab.open(hub)
    await tab.connect()
    await tab.subscribe("busy")

    assert refusals == []


async def test_publish_is_refused(tab: Tab, hub: Hub) -> None:
    await tab.open(hub)
    await tab.connect()
    await tab.subscribe("doc")
    outcome = await tab.run("return outcome(room.publish('x'))")

    assert (outcome["name"], outcome["code"]) == ("CommandError", 103)


async def test_second_subscription_to_a_channel_is_an_error(tab: Tab, hub: Hub) -> None:
    await tab.open(hub)
    message = await tab.run(
        "newClient('client'); client.subscribe('chat:a');"
        "try { client.subscribe('chat:a') } catch (error) { return error.message }"
    )

    assert message == "already subscribed to chat:a"


async def test_unsubscribed_room_is_silent_and_can_be_had_again(tab: Tab, hub: Hub) -> None:
    await tab.open(hub)
    await tab.connect()
    await tab.subscribe("chat:a")
    await tab.run(
        "room.unsubscribe(); room.unsubscribe(); newRoom('again', client, 'chat:a');"
        "await next('again', 'subscribed');"
    )
    await hub.publish("chat:a", "hello")
    await tab.next("again", "publication")

    assert await tab.heard("room", "unsubscribed") == [{"code": 0, "reason": "unsubscribed"}]
    assert await tab.heard("room", "publication") == []
    assert (await tab.run("return outcome(room.publish(1))"))["code"] == 0


async def test_answer_to_a_subscription_given_up_is_not_told(tab: Tab, hub: Hub) -> None:
    await tab.open(hub)
    await tab.connect()
    await tab.run(
        "newRoom('room', client, 'chat:a'); for (const _ of [1, 2, 3]) await null;"
        "room.unsubscribe();"
        "newRoom('again', client, 'chat:a'); await next('again', 'subscribed');"
    )

    assert len(tab.commands("subscribe")) == 2
    assert await tab.heard("room", "subscribed") == []
    assert await tab.run("return room.state") == "unsubscribed"


async def test_server_ends_a_subscription(tab: Tab, hub: Hub) -> None:
    await tab.open(hub)
    await tab.connect()
    await tab.subscribe("chat:a")
    (there,) = hub.clients()
    await hub.unsubscribe("chat:a", client=there.id)

    assert await tab.next("room", "unsubscribed") == {
        "code": 2000,
        "reason": "server unsubscribe",
    }


@pytest.mark.parametrize(("code", "recovered"), [(2500, True), (2502, False)])
async def test_server_has_it_subscribe_again(
    tab: Tab, hub: Hub, code: int, recovered: bool
) -> None:
    await tab.open(hub)
    await tab.connect()
    await tab.subscribe("chat:a")
    await hub.publish("chat:a", 1)
    await tab.publications(1)
    (there,) = hub.clients()
    await hub.unsubscribe("chat:a", client=there.id, code=code)
    again = await tab.next("room", "subscribed")
    await hub.publish("chat:a", 2)

    assert (again["wasRecovering"], again["recovered"]) == (True, recovered)
    assert await tab.publications(2) == [1, 2]
    assert await tab.heard("room", "unsubscribed") == []


async def test_history_is_read_in_pages(tab: Tab, hub: Hub) -> None:
    await tab.open(hub)
    await tab.connect()
    await tab.subscribe("chat:a")
    for number in range(1, 8):
        await hub.publish("chat:a", number)
    everything = await tab.run("return room.history()")
    pages_read = await tab.run(
        """
        const pages = [];
        for (let since = { epoch: "", offset: 0 }; ; ) {
          const { publications, epoch } = await room.history({ limit: 3, since });
          if (!publications.length) return pages;
          pages.push(publications.map(({ data }) => data));
          since = { epoch, offset: publications.at(-1).offset };
        }
        """
    )
    newest = await tab.run("return room.history({ limit: 2, reverse: true })")
    foreign = await tab.run("return outcome(room.history({ since: { epoch: 'x', offset: 1 } }))")

    assert [one["data"] for one in everything["publications"]] == [1, 2, 3, 4, 5, 6, 7]
    assert everything["offset"] == 7
    assert everything["publications"][0] == {"data": 1, "offset": 1, "info": None, "tags": {}}
    assert pages_read == [[1, 2, 3], [4, 5, 6], [7]]
    assert [one["data"] for one in newest["publications"]] == [7, 6]
    assert foreign["code"] == 112


async def test_presence_joins_and_leaves(tab: Tab, hub: Hub) -> None:
    @hub.on_connect
    def name(client: Client, request: Any) -> str:
        return str(request.token)

    await tab.open(hub)
    await tab.connect("{ token: 'ann' }")
    await tab.subscribe("chat:a", "{ joinLeave: true }")
    own = await tab.next("room", "join")
    await tab.run(
        "newClient('other', { token: () => 'bob' }); other.connect();"
        "newRoom('theirs', other, 'chat:a'); await next('theirs', 'subscribed');"
    )
    joined = await tab.next("room", "join")
    present = await tab.run("return room.presence()")
    stats = await tab.run("return room.presenceStats()")
    await tab.run("other.disconnect()")
    left = await tab.next("room", "leave")

    assert (own["user"], joined["user"]) == ("ann", "bob")
    assert left == joined
    assert sorted(one["user"] for one in present) == ["ann", "bob"]
    assert set(present[0]) == {"user", "client", "connInfo", "chanInfo"}
    assert stats == {"clients": 2, "users": 2}
    assert await tab.heard("theirs", "join") == []


# Coming back.


async def test_what_was_missed_comes_once_and_in_order(tab: Tab, hub: Hub) -> None:
    door = Door(hub)
    served = await tab.open(hub)
    await tab.connect()
    await tab.subscribe("chat:a")
    await hub.publish("chat:a", 1)
    await tab.publications(1)
    for first in (2, 5):
        door.close()
        served.abort()
        for number in range(first, first + 3):
            await hub.publish("chat:a", number)
        door.open()
        back = await tab.next("room", "subscribed")
        assert (back["wasRecovering"], back["recovered"], back["missed"]) == (True, True, 3)
        assert back["position"]["offset"] == first - 1
    await hub.publish("chat:a", 8)

    assert await tab.publications(8) == [1, 2, 3, 4, 5, 6, 7, 8]
    publications = await tab.heard("room", "publication")
    assert [one["offset"] for one in publications] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [one["recovered"] for one in publications] == [False] + [True] * 6 + [False]
    assert await tab.run("return room.position.offset") == 8
    order = [one for one in await tab.run("return order()") if one.startswith("room")]
    assert order == [
        "room subscribed",
        "room publication",
        *["room subscribed", *["room publication"] * 3] * 2,
        "room publication",
    ]


async def test_position_too_old_is_not_recovered(tab: Tab, hub: Hub) -> None:
    door = Door(hub)
    served = await tab.open(hub)
    await tab.connect()
    await tab.subscribe("brief")
    door.close()
    served.abort()
    for number in range(5):
        await hub.publish("brief", number)
    door.open()
    back = await tab.next("room", "subscribed")

    assert (back["wasRecovering"], back["recovered"], back["missed"]) == (True, False, 0)
    assert back["position"]["offset"] == 5


async def test_server_that_was_started_anew_has_another_epoch(tab: Tab, hub: Hub) -> None:
    served = await tab.open(hub)
    await tab.connect()
    before = await tab.subscribe("chat:a")
    await served.stop()
    lost = await tab.next("client", "state", state="connecting", code=3001)
    restarted = Hub()
    restarted.channel("chat:{room}", history=20)
    await tab.serve(restarted, served.port)
    back = await tab.next("room", "subscribed")
    await restarted.publish("chat:a", "anew")

    assert lost["reason"] == "shutdown"
    assert (back["wasRecovering"], back["recovered"]) == (True, False)
    assert back["position"]["epoch"] != before["position"]["epoch"]
    assert await tab.publications(1) == ["anew"]


async def test_begins_where_the_application_says(tab: Tab, hub: Hub) -> None:
    await tab.open(hub)
    await tab.connect()
    positions = [await hub.publish("chat:a", number) for number in range(3)]
    subscribed = await tab.run(
        "newRoom('room', client, 'chat:a', { since: given }); return next('room', 'subscribed');",
        {"epoch": positions[0].epoch, "offset": 1},
    )

    assert (subscribed["recovered"], subscribed["missed"]) == (True, 2)
    assert await tab.publications(2) == [1, 2]


async def test_listener_that_ends_the_connection_loses_nothing(tab: Tab, hub: Hub) -> None:
    door = Door(hub)
    served = await tab.open(hub)
    await tab.connect()
    await tab.subscribe("chat:a")
    await tab.run(
        "room.addEventListener('publication', ({ detail: { data } }) => {"
        "  if (data === 2) client.cut(0); });"
    )
    door.close()
    served.abort()
    for number in (1, 2, 3, 4):
        await hub.publish("chat:a", number)
    door.open()

    assert await tab.publications(4) == [1, 2, 3, 4]
    assert [one["missed"] for one in await tab.heard("room", "subscribed")] == [0, 4, 2]


async def test_cut_stays_away_as_long_as_it_was_told(tab: Tab, hub: Hub) -> None:
    await tab.open(hub)
    await tab.connect()
    await tab.subscribe("chat:a")
    away = await tab.run(
        "const begin = performance.now(); client.cut(200);"
        "globalThis.away = outcome(room.publish('x'));"
        "dispatchEvent(new Event('online'));"
        "await next('room', 'subscribed'); return performance.now() - begin;"
    )
    states = await tab.heard("client", "state")

    assert away >= 199
    assert [one["state"] for one in states[1:]] == ["connected", "connecting", "connected"]
    assert states[2]["delay"] == 200
    assert await tab.run("return away") == {"value": None}
    assert await tab.publications(1) == ["x"]


async def test_network_that_is_back_ends_the_wait(tab: Tab, hub: Hub) -> None:
    served = await tab.open(hub)
    await tab.connect("{ minDelay: 1e9, maxDelay: 1e9 }")
    served.abort()
    await tab.next("client", "state", state="connecting", code=1006)
    await tab.run("dispatchEvent(new Event('online'))")

    assert (await tab.next("client", "state", state="connected"))["code"] == 0


@pytest.mark.parametrize(("code", "state"), [(3503, "disconnected"), (3011, "connecting")])
async def test_server_disconnects(tab: Tab, hub: Hub, code: int, state: str) -> None:
    await tab.open(hub)
    await tab.connect()
    (there,) = hub.clients()
    there.disconnect(code)
    ended = await tab.next("client", "state", code=code)

    assert ended["state"] == state


async def test_pings_are_answered(tab: Tab) -> None:
    hub = Hub(ping_interval=0.2, pong_timeout=0.1)
    hub.channel("chat")
    await tab.open(hub)
    await tab.connect()
    await tab.sends(lambda: tab.sent.count("{}") == 4)

    assert await tab.heard("client", "error") == []
    assert len(await tab.heard("client", "state")) == 2


async def test_missing_pings_are_a_loss(tab: Tab, hub: Hub) -> None:
    async def mute(connection: ServerConnection) -> None:
        command = json.loads(await connection.recv())
        result = {"client": "c", "version": "1", "ping": 1}
        await connection.send(json.dumps({"id": command["id"], "connect": result}))
        await connection.wait_closed()

    await tab.open(hub, mute=mute)
    await tab.run("newClient('client', { timeout: 500 }, '/mute'); client.connect();")
    await tab.next("client", "state", state="connected")
    lost = await tab.next("client", "state", state="connecting", reason="no ping")

    assert lost["code"] == 0
    await tab.run("client.disconnect()")


@pytest.mark.parametrize(
    "garbage",
    ["not JSON", "", "null", '{"id":1}', '{"push":3}\n', '{"id":1,"connect":null}', b"{}"],
)
async def test_garbage_is_a_loss_and_no_exception(tab: Tab, hub: Hub, garbage: str | bytes) -> None:
    async def babbling(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send(garbage)
        await connection.wait_closed()

    await tab.open(hub, babbling=babbling)
    await tab.run(f"newClient('client', {QUICK}, '/babbling'); client.connect();")
    first = await tab.next("client", "state", state="connecting", code=0)
    lost = await tab.run(
        "for (;;) { const one = await next('client', 'state'); if (one.reason) return one; }"
    )

    assert first["reason"] == ""
    assert lost["state"] == "connecting"
    assert lost["reason"].startswith("not understood: TypeError") or "SyntaxError" in lost["reason"]
    assert await tab.heard("client", "error") == []
    await tab.run("client.disconnect()")


async def test_pushes_for_others_and_late_answers_are_dropped(tab: Tab, hub: Hub) -> None:
    async def talkative(connection: ServerConnection) -> None:
        command = json.loads(str(await connection.recv()).split("\n")[0])
        for reply in (
            {"id": command["id"], "connect": {"client": "c", "version": "1"}},
            {"push": {"channel": "unknown", "pub": {"data": 1}}},
            {"push": {"message": {"data": 1}}},
            {"id": 99, "rpc": {}},
            {"id": 98, "error": {"code": 100, "message": "x"}},
        ):
            await connection.send(json.dumps(reply))
        call = json.loads(await connection.recv())
        await connection.send(json.dumps({"id": call["id"], "rpc": {"data": "fine"}}))
        await connection.wait_closed()

    await tab.open(hub, talkative=talkative)
    await tab.run("newClient('client', {}, '/talkative'); client.connect();")

    assert await tab.run("return client.rpc('x')") == "fine"
    assert await tab.run("return client.state") == "connected"


# Tokens.

MONTHS = 90 * 86_400  # in ms beyond what timers of browsers can count

# Pages whose time is in a hurry: a second is 10 ms.
HASTE = "const timer = setTimeout; globalThis.setTimeout = (call, ms) => timer(call, ms / 100);"


def token(expires_in: float, **claims: Any) -> str:
    return sign({"sub": "ann", "exp": NOW + expires_in, **claims}, SECRET)


@pytest.fixture
def guarded() -> Hub:
    """Make a hub that checks tokens, and whose time stands still."""
    clock = FakeClock(time=NOW)
    hub = Hub(tokens=Tokens(secret=SECRET, clock=clock), ping_interval=0, clock=clock)
    hub.channel("private", subscribe="nobody")
    hub.rpc("nothing")(lambda client: None)
    return hub


async def test_tokens_are_renewed(tab: Tab, guarded: Hub) -> None:
    tokens = [token(-5), token(1), token(1000)]
    rooms = [token(each, channel="private") for each in (-5, 1, 1000)]
    await tab.open(guarded)
    await tab.run(
        HASTE + "newClient('client', { timeout: 1e7, token: async () => given.tokens.shift() });"
        "newRoom('room', client, 'private', { token: () => given.rooms.shift() });"
        "client.connect(); await next('room', 'subscribed');",
        {"tokens": tokens, "rooms": rooms},
    )
    await tab.sends(lambda: tab.commands("refresh") and tab.commands("sub_refresh"))

    assert [one["token"] for one in tab.commands("connect")] == tokens[:2]
    assert tab.commands("refresh") == [{"token": tokens[2]}]
    assert tab.commands("sub_refresh") == [{"channel": "private", "token": rooms[2]}]
    assert [one["code"] for one in await tab.heard("client", "error")] == [109]
    assert await tab.run("return [client.state, room.state]") == ["connected", "subscribed"]


async def test_renewal_that_fails_is_tried_again(tab: Tab, guarded: Hub) -> None:
    first, last = token(1), token(1000)
    await tab.open(guarded)
    await tab.run(
        HASTE + "const next = () => { const one = given.shift();"
        "  if (one === null) throw new Error('offline'); return one; };"
        "newClient('client', { timeout: 1e7, token: next }); client.connect();",
        [first, None, "", last],
    )
    await tab.sends(lambda: tab.commands("refresh"))

    assert tab.commands("refresh") == [{"token": last}]
    assert len(tab.commands("connect")) == 1


async def test_expired_token_that_is_a_text_ends_it(tab: Tab, guarded: Hub) -> None:
    await tab.open(guarded)
    await tab.run("newClient('client', { token: given }); client.connect();", token(-5))
    state = await tab.next("client", "state", state="disconnected")

    assert (state["code"], state["reason"]) == (109, "token expired")


async def test_token_that_cannot_be_had_is_asked_for_again(tab: Tab, guarded: Hub) -> None:
    await tab.open(guarded)
    await tab.run(
        "const fetching = (token, failures) => () => {"
        "  if (failures-- > 0) throw new Error('offline'); return token; };"
        "newClient('client', { minDelay: 5, token: fetching(given[0], 2) });"
        "newRoom('room', client, 'private', { token: fetching(given[1], 2) });"
        "client.connect(); await next('room', 'subscribed');",
        [token(MONTHS), token(MONTHS, channel="private")],
    )
    await tab.run("return client.rpc('nothing')")
    states = await tab.heard("client", "state")

    assert [one["reason"] for one in states if one["reason"]] == [
        "cannot connect: Error: offline",
        "cannot connect: Error: offline",
    ]
    assert tab.commands("refresh") == tab.commands("sub_refresh") == []


# Patches.


async def test_patches_make_what_was_published(tab: Tab, hub: Hub) -> None:
    door = Door(hub)
    served = await tab.open(hub)
    await tab.connect()
    await tab.subscribe("doc", "{ delta: true }")
    texts = ["Grüße aus Köln 🎉", "你好世界", "plain", "👩‍👩‍👧‍👦 ein Käse 起司"]
    messages = [
        {"number": number, "text": texts[number % 4] * 3, "pad": texts[number // 4 % 4] * 10}
        for number in range(100)
    ]
    for message in messages[:60]:
        await hub.publish("doc", message)
    await tab.publications(60)
    door.close()
    served.abort()
    for message in messages[60:90]:
        await hub.publish("doc", message)
    door.open()
    await tab.publications(90)
    for message in messages[90:]:
        await hub.publish("doc", message)

    assert await tab.publications(100) == messages
    assert "".join(tab.rcvd).count('"delta":true') >= 80
    assert len(await tab.heard("room", "subscribed")) == 2


async def test_patch_that_does_not_fit_is_asked_for_as_a_whole(tab: Tab, hub: Hub) -> None:
    asked: list[Any] = []

    async def broken(connection: ServerConnection) -> None:
        commands: list[Any] = []

        async def answer(**result: Any) -> None:
            if not commands:
                lines = str(await connection.recv()).split("\n")
                commands.extend(json.loads(line) for line in lines)
            asked.append(commands.pop(0))
            await connection.send(json.dumps({"id": asked[-1]["id"], **result}))

        async def push(**publication: Any) -> None:
            await connection.send(json.dumps({"push": {"channel": "doc", "pub": publication}}))

        position = {"recoverable": True, "positioned": True, "epoch": "e"}
        await answer(connect={"client": "c", "version": "1"})
        await answer(subscribe={**position, "delta": True})
        await push(data='"one"', offset=1)
        await push(data="5\n5@0,0;", offset=2, delta=True)  # a checksum that is wrong
        await push(data='"never"', offset=3)
        again = {**position, "offset": 1, "recovered": True, "was_recovering": True}
        missed = [{"data": "two", "offset": 2}, {"data": "three", "offset": 3}]
        await answer(unsubscribe={})
        await answer(subscribe={**again, "publications": missed})
        await connection.wait_closed()

    await tab.open(hub, broken=broken)
    await tab.run(
        "newClient('client', {}, '/broken'); newRoom('room', client, 'doc', { delta: true });"
        "client.connect();"
    )

    assert await tab.publications(3) == ["one", "two", "three"]
    first, second = (one["subscribe"] for one in asked if "subscribe" in one)
    assert (first["delta"], "recover" in first) == ("fossil", False)
    assert ("delta" in second, second["recover"], second["offset"]) == (False, True, 1)


# The pages of docs/howto/javascript-client.md.


@pytest.fixture(params=["app.js", "app_centrifuge.js"])
def lobby(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Example]:
    """Run the example with one of its scripts."""
    folder = tmp_path / "page"
    shutil.copytree(EXAMPLES / "clients" / "page", folder)
    if request.param == "app_centrifuge.js":
        request.getfixturevalue("node")
        shutil.copy(SDK, folder)
        changed(folder / "index.html", folder, {'src="app.js"': f'src="{request.param}"'})
    with running(EXAMPLES / "clients" / "page.py", tmp_path) as example:
        yield example


async def test_page_of_the_documentation_chats(lobby: Example, page: Page) -> None:
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    assert page.context.browser is not None
    other = await page.context.browser.new_page()
    async with asyncio.timeout(TIMEOUT):
        for one in (page, other):
            await one.goto(lobby.url("/"))
        await expect(page.locator("#state")).to_have_text("connected", timeout=TIMEOUT * 1000)
        await expect(page.locator("#here")).to_have_text("2", timeout=TIMEOUT * 1000)
        await page.get_by_label("Message", exact=True).fill("hello")
        await page.get_by_role("button", name="Send").click()
        await expect(other.locator("#messages li")).to_have_text(["hello"], timeout=TIMEOUT * 1000)
        await other.reload()
        await expect(other.locator("#messages li")).to_have_text(["hello"], timeout=TIMEOUT * 1000)
        await other.close()
        await expect(page.locator("#here")).to_have_text("1", timeout=TIMEOUT * 1000)
    await page.close()
    lobby.program.interrupt()

    assert (await asyncio.to_thread(lobby.program.wait)).stderr == ""
    assert faults == []
