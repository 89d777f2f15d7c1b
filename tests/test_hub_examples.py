"""Every program in `examples` that serves a hub does what the documentation says, for real SDKs.

With every broker, which the environment names: no program is changed for it.
"""

import asyncio
import json
import secrets
import shutil
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from centrifuge import (  # type: ignore[import-untyped]  # it ships no py.typed
    CentrifugeError,
    Client,
    ClientEventHandler,
    DeltaType,
    Filter,
    ReplyError,
    Subscription,
    SubscriptionEventHandler,
)

from hubbub.brokers.opening import BROKER_VARIABLE
from tests.examples import CLIENT_TIMEOUT, EXAMPLES, Example, changed, running
from tests.servers.valkey import ValkeyServer
from tests.tools import find_node

PATH = "/connection/websocket"
INTEROP = Path(__file__).parent / "interop"


@pytest.fixture(scope="module")
def valkey() -> Generator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@pytest.fixture(autouse=True, params=["memory", "sqlite", "valkey"])
def broker(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the program's hub use a broker in which nothing has happened."""
    match request.param:
        case "memory":
            url = "memory:"
        case "sqlite":
            url = f"sqlite:///{tmp_path / 'hub.db'}"
        case _:
            server: ValkeyServer = request.getfixturevalue("valkey")
            url = f"{server.url}?prefix={secrets.token_hex(4)}"
    monkeypatch.setenv(BROKER_VARIABLE, url)


def interrupt(example: Example) -> str:
    """Press Ctrl+C, and return what the program said about it."""
    example.program.interrupt()
    return example.program.wait().stderr


async def interrupted(example: Example) -> str:
    """Do the same while clients of this loop close their connections."""
    return await asyncio.to_thread(interrupt, example)


class Watch:
    """What happens to a client or a subscription, in order: names of events with their context."""

    def __init__(self, events: Any) -> None:
        self.events = events
        self.seen: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        for name in dir(events):
            if name.startswith("on_"):
                setattr(events, name, self._recorder(name.removeprefix("on_")))

    def _recorder(self, name: str) -> Callable[[Any], Awaitable[None]]:
        async def record(context: Any) -> None:
            await self.seen.put((name, context))

        return record

    async def next(self, *names: str) -> Any:
        """Wait for the next event of some names, and return its context."""
        async with asyncio.timeout(CLIENT_TIMEOUT):
            while True:
                name, context = await self.seen.get()
                if name in names:
                    return context

    async def data(self) -> Any:
        """Wait for the next publication, and return its payload."""
        return (await self.next("publication")).pub.data


@asynccontextmanager
async def connected(
    example: Example, path: str = PATH, watch: Watch | None = None, **options: Any
) -> AsyncGenerator[Client]:
    """Connect a client until the block ends."""
    watch = watch or Watch(ClientEventHandler())
    url = f"ws://localhost:{example.port}{path}"
    client = Client(url, watch.events, timeout=CLIENT_TIMEOUT, **options)
    await client.connect()
    try:
        yield client
    finally:
        await client.disconnect()


async def subscribed(client: Client, channel: str, **options: Any) -> tuple[Subscription, Watch]:
    """Subscribe, and wait until it has happened."""
    watch = Watch(SubscriptionEventHandler())
    subscription = client.new_subscription(channel, watch.events, **options)
    await subscription.subscribe()
    await subscription.ready(CLIENT_TIMEOUT)
    return subscription, watch


async def refused(command: Awaitable[object]) -> int:
    """Return the code of the error that a command is answered with."""
    with pytest.raises(ReplyError) as raised:
        await command
    return int(raised.value.code)


async def answer(command: Awaitable[object]) -> int:
    """Return the code of the error that a command is answered with; 0: none."""
    try:
        await command
    except ReplyError as exc:
        return int(exc.code)
    return 0


@asynccontextmanager
async def howto(name: str, directory: Path, **changes: str) -> AsyncGenerator[Example]:
    """Run an example, and see that Ctrl+C ends it quietly."""
    with running(EXAMPLES / "howto" / f"{name}.py", directory, changes) as example:
        yield example
        assert await interrupted(example) == ""


# Tutorial: channels


@pytest.fixture
def chat(tmp_path: Path) -> Generator[Example]:
    shutil.copy(EXAMPLES / "tutorial" / "chat.html", tmp_path)
    with running(EXAMPLES / "tutorial" / "chat.py", tmp_path) as example:
        yield example


async def test_chat_has_history_presence_and_recovery(chat: Example) -> None:
    async with connected(chat, "/chat/ada") as ada, connected(chat, "/chat/grace%20h") as grace:
        room, heard = await subscribed(ada, "chat:lobby")
        assert (await heard.next("join")).info.user == "ada"
        other, _ = await subscribed(grace, "chat:lobby")
        assert (await heard.next("join")).info.user == "grace h"
        await room.publish("hello")
        publication = (await heard.next("publication")).pub
        assert (publication.data, publication.info.user) == ("hello", "ada")
        members = (await room.presence()).clients.values()
        assert sorted(member.user for member in members) == ["ada", "grace h"]
        assert [each.data for each in (await other.history(limit=100)).publications] == ["hello"]

        await ada.disconnect()
        await other.publish("are you there?")
        await ada.connect()
        assert (await heard.next("subscribed")).was_recovering
        assert await heard.data() == "are you there?"
        assert await refused(ada.publish("chat:attic", "x")) == 103
        assert await refused(room.publish({"no": "text"})) == 107
    assert await interrupted(chat) == ""


def test_chat_client_says_and_shows_lines(chat: Example, tmp_path: Path) -> None:
    client = changed(EXAMPLES / "tutorial" / "chat_client.py", tmp_path, {"8005": str(chat.port)})
    with subprocess.Popen(
        [sys.executable, client, "ada lovelace"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ada lovelace came in\n"
        out, err = process.communicate("hello\n", timeout=CLIENT_TIMEOUT)

    assert (process.returncode, err) == (0, "")
    assert out in ("ada lovelace: hello\n", "")  # its own message may come after its last line
    assert httpx.get(chat.url("/")).text == (EXAMPLES / "tutorial" / "chat.html").read_text()
    assert interrupt(chat) == ""


# How-to: authentication


async def test_hub_tokens_open_the_hub_and_the_channel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUBBUB_TOKEN_SECRET", "a secret of at least thirty-two bytes")
    async with howto("hub_tokens", tmp_path) as example:
        web = httpx.Client(base_url=example.url(""), cookies={"session": "q7Kx0"})
        with web:
            token, for_team = web.get("/token").json(), web.get("/token/team/red").json()
            assert web.get("/token/team/blue").status_code == 403
        assert httpx.get(example.url("/token")).status_code == 401
        asked: list[str] = []

        async def get_token(channel: str) -> str:
            asked.append(channel)
            return str(for_team)

        async with connected(example, token=token) as client:
            _, heard = await subscribed(client, "team:red", get_token=get_token)
            assert asked == ["team:red"]
            await client.publish("team:red", "hello")
            info = (await heard.next("publication")).pub.info
            assert (info.user, info.conn_info) == ("ada", {"name": "Ada"})
            watch = Watch(SubscriptionEventHandler())
            await client.new_subscription("team:blue", watch.events).subscribe()
            assert (await watch.next("unsubscribed")).code == 103
        for wrong, code in (("", 3501), ("x.y.z", 3500), (for_team, 3500)):
            watch = Watch(ClientEventHandler())
            async with connected(example, watch=watch, token=wrong):
                assert (await watch.next("disconnected")).code == code


async def test_hub_cookie_is_the_login_and_is_asked_for_again(tmp_path: Path) -> None:
    cookie = {"Cookie": "theme=dark; session=q7Kx0"}
    changes = {"+ 600": "+ 1", "client.meta not in SESSIONS": "len(spent := client.meta) == 5"}
    async with howto("hub_cookie", tmp_path, **changes) as example:
        watch = Watch(ClientEventHandler())
        async with connected(example, watch=watch, headers=cookie):
            assert (await watch.next("connected")).client
            assert (await watch.next("connecting")).code == 3005
        watch = Watch(ClientEventHandler())
        async with connected(example, watch=watch):
            ended = await watch.next("disconnected")
            assert (ended.code, ended.reason) == (4501, "log in first")


async def test_hub_ticket_is_renewed_by_the_client(tmp_path: Path) -> None:
    async with howto("hub_ticket", tmp_path, **{"+ 600": "+ 1"}) as example:
        renewed = asyncio.Event()

        async def get_token() -> str:
            renewed.set()
            return "t-a07"

        watch = Watch(ClientEventHandler())
        options: dict[str, Any] = {
            "token": "t-9f2",
            "get_token": get_token,
            "data": {"device": "phone"},
        }
        async with connected(example, watch=watch, **options) as client:
            await asyncio.wait_for(renewed.wait(), CLIENT_TIMEOUT)
            await subscribed(client, "news")
        watch = Watch(ClientEventHandler())
        async with connected(example, watch=watch, token="t-000"):
            assert (await watch.next("disconnected")).code == 3500


async def test_hub_answers_pages_of_other_origins_with_403(tmp_path: Path) -> None:
    async with howto("hub_cookie", tmp_path) as example:
        for origin, status in [
            ("https://chat.example.com", 101),
            (example.url(""), 101),
            ("https://elsewhere.example", 403),
        ]:
            head = {
                "Connection": "Upgrade",
                "Upgrade": "websocket",
                "Origin": origin,
                "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            }
            with httpx.stream("GET", example.url(PATH), headers=head) as response:
                assert response.status_code == status


async def test_permissions_are_those_of_the_hooks(tmp_path: Path) -> None:
    async with (
        howto("permissions", tmp_path) as example,
        connected(example, "/users/ada") as ada,
        connected(example, "/users/bob") as bob,
    ):
        room, heard = await subscribed(ada, "team:red")
        await room.publish("  hello ")
        assert await heard.data() == "hello"
        assert await refused(room.publish("x" * 201)) == 400
        assert await refused(bob.publish("team:red", "hello")) == 103
        watch = Watch(SubscriptionEventHandler())
        await bob.new_subscription("team:red", watch.events).subscribe()
        assert (await watch.next("unsubscribed")).code == 103


async def test_hub_is_mounted_under_uvicorn(tmp_path: Path) -> None:
    with running(EXAMPLES / "howto" / "mounted.py", tmp_path) as example:
        async with connected(example) as client:
            _, heard = await subscribed(client, "news")
            async with httpx.AsyncClient() as web:
                posted = await web.post(example.url("/news?text=hello"), timeout=CLIENT_TIMEOUT)
            assert posted.json() == {"offset": 1}
            assert await heard.data() == {"text": "hello"}
        example.program.interrupt()
        assert "Traceback" not in example.program.wait().stderr


# How-to: channels


def test_resume_goes_on_where_it_was() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / "howto" / "resume.py"],
        capture_output=True,
        text=True,
        timeout=CLIENT_TIMEOUT,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "page: [1, 2]",
        "page: [3, 4]",
        "page: [5]",
        "order: 6",
        "order: 7",
        "offset: 7",
    ]


def test_durable_goes_on_where_the_last_process_was(tmp_path: Path) -> None:
    lines = [
        subprocess.run(
            [sys.executable, "-W", "error", EXAMPLES / "howto" / "durable.py"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=CLIENT_TIMEOUT,
            check=True,
        ).stdout
        for _ in range(2)
    ]

    assert lines == ["start 1, 1 in the history\n", "start 2, 2 in the history\n"]


async def test_presence_names_members_and_typing_is_for_them(tmp_path: Path) -> None:
    async with (
        howto("presence", tmp_path) as example,
        connected(example, "/users/ada") as ada,
        connected(example, "/users/bob") as bob,
    ):
        room, heard = await subscribed(ada, "chat:lobby")
        stats = await room.presence_stats()
        assert (stats.num_clients, stats.num_users) == (1, 1)
        assert httpx.get(example.url("/rooms/lobby")).json() == ["ada"]
        size = httpx.get(example.url("/rooms/lobby/size")).json()
        assert size == {"connections": 1, "users": 1}
        _, typing = await subscribed(ada, "typing:lobby")
        assert await refused(bob.publish("typing:lobby", True)) == 103
        guest, _ = await subscribed(bob, "chat:lobby")
        await bob.publish("typing:lobby", True)
        assert (await typing.next("publication")).pub.info.user == "bob"
        await guest.unsubscribe()
        left = (await heard.next("leave")).info
        assert (left.user, left.conn_info) == ("bob", {"name": "Bob"})


async def test_typed_messages_are_checked(tmp_path: Path) -> None:
    async with howto("typed_messages", tmp_path) as example, connected(example) as client:
        _, heard = await subscribed(client, "auction:7")
        await client.publish("auction:7", {"amount": 5})
        assert await heard.data() == {"amount": 5, "bidder": "somebody"}
        assert example.program.read_line() == "somebody bids 5"
        for wrong in ({"amount": -1}, {"amount": "5"}, {"amount": 9, "x": 1}, "5"):
            assert await refused(client.publish("auction:7", wrong)) == 107
        assert await refused(client.publish("auction:7", {"amount": 5})) == 409
        assert await refused(client.publish("auction:tea", {"amount": 9})) == 102


async def test_notifications_come_unasked(tmp_path: Path) -> None:
    async with howto("notifications", tmp_path) as example:
        watch = Watch(ClientEventHandler())
        async with connected(example, "/users/ada", watch):
            channels = {(await watch.next("subscribed")).channel for _ in range(2)}
            assert channels == {"news", "notices:ada"}
            assert httpx.post(example.url("/users/ada/notices?text=hello")).json() == 1
            assert (await watch.next("publication")).pub.data == "hello"
            httpx.put(example.url("/projects/x/members/ada"))
            assert (await watch.next("subscribed")).channel == "project:x"
            assert (await watch.next("publication")).pub.data == "ada joined"
            httpx.delete(example.url("/projects/x/members/ada"))
            assert (await watch.next("unsubscribed")).channel == "project:x"


async def test_rpc_answers_and_messages_are_heard(tmp_path: Path) -> None:
    async with howto("rpc", tmp_path) as example, connected(example) as client:
        assert (await client.rpc("stock.list", None)).data == {"tea": 3}
        assert (await client.rpc("stock.order", {"item": "tea"})).data == {"left": 2}
        assert await refused(client.rpc("stock.order", {"item": "tea", "count": 9})) == 410
        assert await refused(client.rpc("stock.order", {"item": 1})) == 107
        assert await refused(client.rpc("stock.burn", {})) == 104


async def test_backend_publishes_once_per_key_and_in_order(tmp_path: Path) -> None:
    async with howto("backend", tmp_path) as example, connected(example) as client:
        cooked = Filter.eq("status", "cooked")
        _, order = await subscribed(client, "orders:7")
        kitchen, seen = await subscribed(client, "kitchen", tags_filter=cooked)
        url = example.url("/orders/7")
        for status, version, offset in [("new", 1, 1), ("cooked", 2, 2), ("new", 1, 2)]:
            body = {"number": 7, "status": status, "version": version}
            done = httpx.put(url, json=body, headers={"Idempotency-Key": f"{version}"})
            assert done.json() == {"offset": offset}

        assert (await order.data())["status"] == "new"
        assert (await order.data())["status"] == "cooked"
        assert (await seen.data())["status"] == "cooked"
        assert (await kitchen.history()).offset == 2
        httpx.post(example.url("/closing"))
        assert (await order.data())["status"] == "closed"


async def test_prices_come_as_patches_and_filtered(tmp_path: Path) -> None:
    changes = {"sleep(0.5)": "sleep(0.01)"}
    async with howto("prices", tmp_path, **changes) as example, connected(example) as client:
        _, market = await subscribed(client, "market", delta=DeltaType.FOSSIL)
        _, trades = await subscribed(client, "trades", tags_filter=Filter.eq("symbol", "EVE"))
        publications = [(await market.next("publication")).pub for _ in range(3)]

        assert [publication.delta for publication in publications] == [False, True, True]
        assert publications[2].data["ADA"]["name"] == "ADA Incorporated"
        assert {(await trades.data())["symbol"] for _ in range(3)} == {"EVE"}


async def test_limits_are_answered_as_their_table_says(tmp_path: Path) -> None:
    changes = {"commands_per_second=5": "commands_per_second=0.001"}
    async with howto("hub_limits", tmp_path, **changes) as example:
        async with connected(example) as client:
            _, heard = await subscribed(client, "wall")
            await client.publish("wall", "hello")
            assert await heard.data() == "hello"
            # One command of connect, one of subscribe, one of publish: the burst has 17 more.
            codes = [await answer(client.history("wall")) for _ in range(18)]
            assert codes == [0] * 17 + [111]
        watch = Watch(ClientEventHandler())
        async with connected(example, watch=watch) as client:
            await watch.next("connected")
            with pytest.raises(CentrifugeError):
                await client.publish("wall", "x" * 4096)
            assert (await watch.next("connecting")).reason == "message size limit"


async def test_socketio_after_has_rooms_and_acknowledgements(tmp_path: Path) -> None:
    async with howto("socketio_after", tmp_path) as example:
        watch = Watch(ClientEventHandler())
        async with connected(example, "/chat/ada", watch) as ada:
            assert await refused(ada.publish("chat:lobby", "hello")) == 103
            assert (await ada.rpc("enter", "lobby")).data == 1
            assert (await watch.next("publication")).pub.data == "ada came in"
            await ada.publish("chat:lobby", "hello")
            assert (await watch.next("publication")).pub.data == "ada: hello"
        line = await asyncio.to_thread(example.program.read_line)
        assert line == "ada left: 3000 connection closed"


# Clients


@pytest.fixture
def served(tmp_path: Path) -> Generator[Example]:
    with running(EXAMPLES / "clients" / "server.py", tmp_path) as example:
        yield example
        assert interrupt(example) == ""


TRANSCRIPT = [
    "subscribed, recovered: False",
    'received: {"text": "hello"}',
    'history: [{"text": "hello"}]',
    "present: 1",
    "added: 6",
    "refused: 103",
    "disconnected: 0 disconnect called",
]


def transcript(output: str) -> list[str]:
    """Write what a program printed in one way, whatever its language."""
    text = output.replace("{ text: 'hello' }", json.dumps({"text": "hello"}))
    text = text.replace("[ {", "[{").replace("} ]", "}]").replace("'", '"')
    return text.replace(" false", " False").splitlines()


def test_python_client_does_everything(served: Example, tmp_path: Path) -> None:
    client = changed(EXAMPLES / "clients" / "client.py", tmp_path, {"8005": str(served.port)})
    done = subprocess.run(
        [sys.executable, client], capture_output=True, text=True, timeout=CLIENT_TIMEOUT
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert transcript(done.stdout) == TRANSCRIPT


def test_node_client_does_everything(served: Example, tmp_path: Path) -> None:
    node = find_node(INTEROP)
    (tmp_path / "node_modules").symlink_to(INTEROP / "node_modules")
    client = shutil.copy(EXAMPLES / "clients" / "client.mjs", tmp_path)
    url = f"ws://localhost:{served.port}{PATH}"
    done = subprocess.run(
        [node, client, url], capture_output=True, text=True, timeout=CLIENT_TIMEOUT
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert transcript(done.stdout) == TRANSCRIPT
