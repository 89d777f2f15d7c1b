"""`hubbub tap`: what it shows of a hub, how it comes back, and how it ends."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Unpack

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_connection
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection

import hubbub.testing
from hubbub import Client, CommandError, Hub, serve
from hubbub.cli.address import ServerAddress
from hubbub.cli.dialing import dialing
from hubbub.cli.events import Event, Kind, describe, serialize
from hubbub.cli.failure import Failure
from hubbub.cli.following import Follower, Interest
from hubbub.cli.traffic import Traffic, table
from hubbub.model import ChannelKeywords
from hubbub.protocol import json as json_codec
from hubbub.protocol.replies import Push, Reply, UnsubscribePush
from hubbub.protocol.results import ConnectResult, SubscribeResult
from hubbub.protocol.values import EMPTY, ClientInfo, Error, Publication
from tests.cli.commands import TIMEOUT, Command
from tests.cli.commands import hubbub as run_hubbub
from tests.cli.conftest import Outcome
from tests.cli.servers import echo, serving
from tests.cli.test_terminal import terminal
from tests.timing import MS

Invoke = Callable[..., Outcome]

CHANNEL = "chat:lobby"
NOT_AVAILABLE = Error(code=108, message="not available")


class Diary:
    """A watcher that writes everything down, in order."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.delay = 0.0
        self._changed = asyncio.Event()

    def happened(self, events: Sequence[Event]) -> None:
        time.sleep(self.delay)
        for event in events:
            assert event.info is None or event.info.client
            payload = "" if event.publication is None else bytes(event.publication.data).decode()
            self.lines.append(f"{event.channel} {event.kind} {payload}".rstrip())
        self._changed.set()

    def notice(self, text: str) -> None:
        self.lines.append(f"* {text}")
        self._changed.set()

    def subscribed(self, channel: str, result: SubscribeResult) -> None:
        pass

    def refused(self, channel: str, why: str) -> None:
        self.notice(f"{channel}: {why}")

    async def wait_for(self, part: str) -> None:
        async with asyncio.timeout(TIMEOUT):
            while not any(part in line for line in self.lines):
                self._changed.clear()
                await self._changed.wait()

    def notices(self) -> list[str]:
        return [line for line in self.lines if line.startswith("* ")]

    def events(self) -> list[str]:
        return [line for line in self.lines if not line.startswith("* ")]


class Line:
    """Dials, can cut what it dialled, and can be kept from dialling again."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.address = ServerAddress.parse(url)
        self.allowed = asyncio.Event()
        self.allowed.set()
        self.connection: ClientConnection | None = None
        self.dialled = 0

    async def dial(self) -> ClientConnection:
        await self.allowed.wait()
        self.dialled += 1
        with dialing(self.address):
            self.connection = await open_connection(self._url, proxy=None, ping_interval=None)
        return self.connection

    def cut(self) -> None:
        self.allowed.clear()
        assert self.connection is not None
        self.connection.transport.abort()


class Tap:
    """A follower at work, and what it tells."""

    def __init__(
        self,
        port: int,
        interest: Interest,
        *,
        answer_timeout: float = 10.0,
        ping_grace: float = 10.0,
    ) -> None:
        url = f"ws://127.0.0.1:{port}/connection/websocket"
        self.diary = Diary()
        self.line = Line(url)
        self.follower = Follower(
            self.line,
            interest,
            self.diary,
            answer_timeout=answer_timeout,
            ping_grace=ping_grace,
        )

    async def failure(self) -> str:
        with pytest.raises(Failure) as caught:
            async with asyncio.timeout(TIMEOUT):
                await self.follower.run()
        return str(caught.value).partition(" ")[2]


def interest(*channels: str, **options: object) -> Interest:
    fields = {"data": EMPTY, "token": lambda: "", **options}
    return Interest(channels or (CHANNEL,), **fields)  # type: ignore[arg-type]  # by name


@asynccontextmanager
async def tapping(hub: Hub, wanted: Interest, *, ready: str = "* following") -> AsyncGenerator[Tap]:
    """Serve a hub, and follow it until the block ends."""
    async with serve({"/connection/websocket": hub}, "127.0.0.1", 0) as server:
        tap = Tap(next(iter(server.sockets)).getsockname()[1], wanted)
        task = asyncio.create_task(tap.follower.run())
        try:
            await tap.diary.wait_for(ready)
            yield tap
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def new_hub(**changes: Unpack[ChannelKeywords]) -> Hub:
    options: ChannelKeywords = {"history": 100, "publish": "anyone", **changes}
    hub = Hub()
    hub.channel("chat:{name}", **options)
    return hub


# Following, over a real hub.


async def test_publications_joins_and_leaves_are_told_but_not_our_own() -> None:
    hub = new_hub(presence=True, join_leave="asked")
    async with tapping(hub, interest(members=True)) as tap:
        async with hubbub.testing.connect(hub) as client:
            await client.subscribe(CHANNEL)
            await client.publish(CHANNEL, {"text": "hi"})
            await tap.diary.wait_for("publication")
        await tap.diary.wait_for("leave")
        async with asyncio.timeout(TIMEOUT):
            while tap.follower.members != {CHANNEL: 1}:
                await asyncio.sleep(10 * MS)  # between two looks

        assert tap.diary.events() == [
            f"{CHANNEL} join",
            f'{CHANNEL} publication {{"text":"hi"}}',
            f"{CHANNEL} leave",
        ]


async def test_joins_that_are_not_wanted_are_not_told() -> None:
    hub = new_hub(presence=True, join_leave=True)
    async with tapping(hub, interest(join_leave=False)) as tap:
        async with hubbub.testing.connect(hub) as client:
            await client.subscribe(CHANNEL)
        await hub.publish(CHANNEL, 1)
        await tap.diary.wait_for("publication")

        assert tap.diary.events() == [f"{CHANNEL} publication 1"]


async def test_lost_connection_is_replaced_and_publications_are_caught_up() -> None:
    hub = new_hub()
    async with tapping(hub, interest()) as tap:
        await hub.publish(CHANNEL, 1)
        await tap.diary.wait_for("publication 1")
        tap.line.cut()
        await hub.publish(CHANNEL, 2)
        await hub.publish(CHANNEL, 3)
        tap.line.allowed.set()
        await tap.diary.wait_for("* back")
        await hub.publish(CHANNEL, 4)
        await tap.diary.wait_for("publication 4")

        assert tap.diary.events() == [f"{CHANNEL} publication {n}" for n in (1, 2, 3, 4)]
        assert tap.diary.notices()[1].startswith("* connection lost: no close frame, trying again")
        assert tap.diary.notices()[2:] == ["* back: 2 publications caught up"]


@pytest.mark.parametrize(
    ("history", "why"), [(1, "its history does not reach back so far"), (0, "it has no history")]
)
async def test_what_cannot_be_caught_up_is_told(history: int, why: str) -> None:
    hub = new_hub(history=history)
    async with tapping(hub, interest()) as tap:
        tap.line.cut()
        await hub.publish(CHANNEL, 1)
        await hub.publish(CHANNEL, 2)
        tap.line.allowed.set()
        await tap.diary.wait_for("* back: 0 publications")

        assert f"* {CHANNEL}: something may have been missed, {why}" in tap.diary.notices()


async def test_server_that_says_to_come_back_is_come_back_to() -> None:
    hub = new_hub()
    async with tapping(hub, interest()) as tap:
        await hub.disconnect(user="", code=3011)
        await tap.diary.wait_for("* back")

        assert "* connection lost: 3011 force reconnect, trying" in tap.diary.notices()[1]


async def test_history_comes_first_oldest_first_and_nothing_twice() -> None:
    hub = new_hub()
    async with hub:
        for number in range(5):
            await hub.publish(CHANNEL, number)
        async with tapping(hub, interest(history=3)) as tap:
            await hub.publish(CHANNEL, 5)
            await tap.diary.wait_for("publication 5")

            assert tap.diary.events() == [f"{CHANNEL} publication {n}" for n in (2, 3, 4, 5)]


async def test_channel_without_history_is_followed_all_the_same() -> None:
    hub = new_hub(history=0)
    async with tapping(hub, interest(history=3), ready="no history: 108") as tap:
        await hub.publish(CHANNEL, 1)
        await tap.diary.wait_for("publication 1")


async def test_refused_channels_are_named_and_the_others_go_on() -> None:
    hub = new_hub()
    hub.channel("secret", subscribe="nobody")
    async with tapping(hub, interest("secret", "nope", CHANNEL)) as tap:
        assert tap.diary.notices()[:2] == [
            "* secret: refused: 103 permission denied",
            "* nope: refused: 102 unknown channel",
        ]
        assert f"* following {CHANNEL} at " in tap.diary.notices()[2]


async def test_last_channel_that_is_ended_ends_it() -> None:
    hub = new_hub()
    async with serve({"/connection/websocket": hub}, "127.0.0.1", 0) as server:
        tap = Tap(next(iter(server.sockets)).getsockname()[1], interest())
        async with asyncio.TaskGroup() as group:
            ended = group.create_task(tap.failure())
            await tap.diary.wait_for("* following")
            await hub.unsubscribe(CHANNEL, user="")

        assert ended.result() == "channel is left to follow"
        assert "the server ended the subscription: 2000 server unsubs" in tap.diary.lines[-1]


async def test_subscription_that_lost_its_place_is_taken_up_again() -> None:
    hub = new_hub()
    async with tapping(hub, interest()) as tap:
        await hub.unsubscribe(CHANNEL, user="", code=2500)
        await tap.diary.wait_for("* back: 0 publications caught up")

        assert f"* {CHANNEL}: 2500 insufficient state, subscribing again" in tap.diary.lines
        assert tap.line.dialled == 1


async def test_subscription_of_the_server_is_followed_and_recovered() -> None:
    hub = Hub(personal="chat:{user}")
    hub.channel("chat:{name}", history=100)
    hub.on_connect(lambda client: "ada")
    async with tapping(hub, interest("chat:ada")) as tap:
        tap.line.cut()
        await hub.publish("chat:ada", 1)
        tap.line.allowed.set()
        await tap.diary.wait_for("* back: 1 publication caught up")

        assert tap.diary.events() == ["chat:ada publication 1"]


async def test_token_is_asked_for_at_each_connect() -> None:
    hub = new_hub()
    tokens = iter(["", ""])
    async with tapping(hub, interest(token=lambda: next(tokens))) as tap:
        tap.line.cut()
        tap.line.allowed.set()
        await tap.diary.wait_for("* back")

        assert list(tokens) == []


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (3503, "ended the connection: 3503 force disconnect"),
        (4500, "ended the connection: 4500 go"),
    ],
)
async def test_end_that_is_final_is_a_failure(code: int, problem: str) -> None:
    hub = new_hub()
    async with serve({"/connection/websocket": hub}, "127.0.0.1", 0) as server:
        tap = Tap(next(iter(server.sockets)).getsockname()[1], interest())
        async with asyncio.TaskGroup() as group:
            ended = group.create_task(tap.failure())
            await tap.diary.wait_for("* following")
            reason = "go" if code == 4500 else None
            await hub.disconnect(user="", code=code, reason=reason)

        assert ended.result() == problem


async def test_refused_connect_is_a_failure_unless_it_is_temporary() -> None:
    hub = new_hub()
    errors = [CommandError(111), CommandError(109)]

    @hub.on_connect
    def refuse(client: Client) -> None:
        raise errors.pop(0)

    async with serve({"/connection/websocket": hub}, "127.0.0.1", 0) as server:
        tap = Tap(next(iter(server.sockets)).getsockname()[1], interest())

        assert await tap.failure() == "refuses to connect: 109 token expired"
        assert "refuses to connect: 111 too many requests, trying again" in tap.diary.lines[0]


# Following, over servers that misbehave.


def answering(
    *after: Reply, ping: int = 0, answers: bool = True
) -> Callable[[ServerConnection], None]:
    """Return a hub that grants everything, or answers no subscription; and then says some more."""

    def handler(websocket: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            for message in websocket:
                for command in json_codec.decode_commands(message):
                    if command.connect is not None:
                        connect = ConnectResult(client="c", version="1", ping=ping, pong=True)
                        say(websocket, Reply(id=command.id, connect=connect))
                    elif command.subscribe is not None and answers:
                        say(websocket, Reply(id=command.id, subscribe=SubscribeResult()))
                        for reply in after:
                            say(websocket, reply)
                    elif command.presence_stats is not None:
                        say(websocket, Reply(id=command.id, error=NOT_AVAILABLE))
                    elif command.is_pong:
                        push = Push(channel=CHANNEL, pub=Publication(msgspec.Raw(b'"pong"')))
                        say(websocket, Reply(push=push))

    return handler


def mute(websocket: ServerConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        while True:
            websocket.recv()


def say(websocket: ServerConnection, reply: Reply) -> None:
    websocket.send(json_codec.encode_reply(reply), text=True)


@contextmanager
def tapping_server(handler: Callable[[ServerConnection], None], **options: float) -> Iterator[Tap]:
    with serving(handler) as port:
        yield Tap(port, interest(), **options)


async def follow_until(tap: Tap, part: str) -> None:
    task = asyncio.create_task(tap.follower.run())
    try:
        await tap.diary.wait_for(part)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_pings_are_answered() -> None:
    with tapping_server(answering(Reply())) as tap:
        await follow_until(tap, '"pong"')


async def test_hub_without_a_ping_is_left() -> None:
    with tapping_server(answering(ping=1), ping_grace=-0.9) as tap:
        await follow_until(tap, "* no ping in 0.1 s, trying again in")


async def test_hub_that_does_not_answer_is_left() -> None:
    with tapping_server(answering(answers=False), answer_timeout=0.1) as tap:
        await follow_until(tap, "* no answer to a command in 0.1 s, trying again in")
    with tapping_server(mute, answer_timeout=0.1) as tap:
        await follow_until(tap, "* no answer to the connect command in 0.1 s, trying again in")


async def test_time_that_showing_takes_is_not_counted_against_the_hub() -> None:
    publication = Reply(push=Push(channel=CHANNEL, pub=Publication(msgspec.Raw(b"1"))))
    temporary = UnsubscribePush(code=2500, reason="insufficient state")
    again = Reply(push=Push(channel=CHANNEL, unsubscribe=temporary))
    with tapping_server(answering(publication, again), answer_timeout=0.2) as tap:
        tap.diary.delay = 0.3
        await follow_until(tap, "* back")

        assert tap.line.dialled == 1


@pytest.mark.parametrize("reply", [Reply(id=99, error=Error(code=100, message="x")), Reply(id=3)])
async def test_answers_to_nothing_are_ignored(reply: Reply) -> None:
    publication = Reply(push=Push(channel=CHANNEL, pub=Publication(msgspec.Raw(b"1"))))
    other = Reply(push=Push(channel="other", pub=Publication(msgspec.Raw(b"2"))))
    with tapping_server(answering(reply, other, publication)) as tap:
        await follow_until(tap, "publication 1")

        assert tap.diary.events() == [f"{CHANNEL} publication 1"]


async def test_temporary_refusal_is_tried_again() -> None:
    refusals = [CommandError(111)]
    hub = Hub()

    @hub.channel("chat:{name}").on_subscribe
    def limit(client: Client) -> None:
        if refusals:
            raise refusals.pop()

    async with tapping(hub, interest()) as tap:
        assert f"* {CHANNEL} refused for now: 111 too many requests" in tap.diary.lines


async def test_server_of_another_protocol_is_a_failure() -> None:
    with tapping_server(echo) as tap:
        assert "does not speak the Centrifuge client protocol" in await tap.failure()


# Lines.

ADA = ClientInfo("ada\x1b", "c-1", msgspec.Raw(b'{"name": "Ada"}'))


def published(data: bytes, info: ClientInfo | None = None, offset: int = 0) -> Event:
    publication = Publication(msgspec.Raw(data), info, offset, {"a": "b"} if offset else {})
    return Event(Kind.PUBLICATION, "news", 1.5, info, publication)


def line(event: Event, width: int = 0) -> str:
    return "".join(text for text, _ in describe(event, width)).partition(" ")[2]


def test_lines_for_people_are_compact_and_safe() -> None:
    anonymous = ClientInfo("", "01234567-89ab")

    assert line(published(b'{"a" : [1, 2.50]}', ADA, 7)) == r'news #7 > ada\x1b: {"a":[1,2.50]}'
    assert line(published('"\u202e\u00e9"'.encode(), anonymous)) == 'news > (01234567): "\\u202eé"'
    assert line(published(b"1"), 6) == "news   > 1"
    assert line(Event(Kind.JOIN, "news", None, ADA)) == r"news + ada\x1b"
    assert line(Event(Kind.LEAVE, "news", 1.0, anonymous)) == "news - (01234567)"


def test_lines_for_programs_are_json_with_what_is_known() -> None:
    text = serialize(published('{"a":\t"\u202e", "n": 1.00}'.encode(), ADA, 7))

    assert '"data":{"a":"\\u202e","n":1.00}' in text
    assert json.loads(text) == {
        "channel": "news",
        "kind": "publication",
        "time": "1970-01-01T00:00:01.500Z",
        "offset": 7,
        "data": {"a": "\u202e", "n": 1.0},
        "tags": {"a": "b"},
        "user": "ada\x1b",
        "client": "c-1",
        "conn_info": {"name": "Ada"},
    }
    assert json.loads(serialize(Event(Kind.JOIN, "news", None, None))) == {
        "channel": "news",
        "kind": "join",
    }


def test_payload_too_deep_to_be_made_compact_is_shown_as_it_is() -> None:
    depth = sys.getrecursionlimit() * 2

    assert line(published(b"[\t" * depth + b"]" * depth)).startswith("news > [ [ [")


def test_rates_are_those_between_two_looks_and_too_many_channels_are_summed_up() -> None:
    channels = {f"c{number}": Traffic() for number in range(4)}
    for traffic in channels.values():
        traffic.count(1000)
        traffic.look(0.5)
    channels["c0"].count(1)

    assert table(channels, {"c0": 2, "c1": 1}, 3) == [
        "c0               2/s  2.0 kB/s  2 publications  2 members",
        "c1               2/s  2.0 kB/s   1 publication   1 member",
        "2 more channels  4/s  4.0 kB/s  2 publications",
    ]
    assert table(channels, {}, 1)[0].startswith("4 channels")


# The command.


def publishing(*payloads: bytes) -> Callable[[ServerConnection], None]:
    pushes = [
        Reply(push=Push(channel=CHANNEL, pub=Publication(msgspec.Raw(payload))))
        for payload in payloads
    ]
    return answering(*pushes)


@contextmanager
def tap_command(handler: Callable[[ServerConnection], None], *options: str) -> Iterator[Command]:
    with (
        serving(handler) as port,
        run_hubbub("tap", f"http://127.0.0.1:{port}", CHANNEL, *options) as command,
    ):
        yield command


def test_count_ends_it_after_so_many_lines_of_json() -> None:
    with tap_command(publishing(b"1", b"2", b"3"), "--json", "--count", "2") as command:
        assert command.wait() == 0
        data = [json.loads(text)["data"] for text in command.stdout.text.splitlines()]
        assert data == [1, 2]
        assert "following chat:lobby at ws://127.0.0.1:" in command.stderr.text
        assert "/connection/websocket\n2 publications in " in command.stderr.text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_it_with_code_0_and_a_summary(number: signal.Signals) -> None:
    payload = b'"' + b"x" * 300 + b'"'
    with tap_command(publishing(payload)) as command:
        command.stdout.wait_for(rf"^\S+ chat:lobby > {payload.decode()}$")
        command.signal(number)

        assert command.wait() == 0
        assert command.stderr.text.splitlines()[-1].startswith("1 publication in ")
        assert "Traceback" not in command.stderr.text


@pytest.mark.parametrize(("options", "code"), [((), 0), (("--count", "2"), 1)])
def test_wait_ends_it_with_code_1_if_the_count_is_not_reached(
    options: tuple[str, ...], code: int
) -> None:
    with tap_command(publishing(b"1"), "--wait", "0.5", *options) as command:
        assert command.wait() == code


def test_reader_that_goes_ends_it_quietly() -> None:
    read_fd, write_fd = os.pipe()
    with (
        serving(publishing(b"1", b"2")) as port,
        subprocess.Popen(
            [sys.executable, "-m", "hubbub", "tap", f"127.0.0.1:{port}", CHANNEL],
            stdout=write_fd,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        os.close(write_fd)
        os.close(read_fd)  # as `| head` does when it has had enough
        _, notices = process.communicate(timeout=TIMEOUT)

    assert process.returncode == 0
    assert len(notices.splitlines()) == 1, notices


def test_server_that_is_not_there_is_one_line_and_code_1() -> None:
    with run_hubbub("tap", "127.0.0.1:1", CHANNEL) as command:
        assert command.wait() == 1
        assert command.stderr.text == ("error: nothing listens on 127.0.0.1:1: connection refused")


def test_token_and_data_are_sent(tmp_path: Path) -> None:
    def tell(websocket: ServerConnection) -> None:
        (command,) = json_codec.decode_commands(websocket.recv())
        assert command.connect is not None
        said = f"{command.connect.token} {bytes(command.connect.data).decode()}"
        say(websocket, Reply(id=command.id, error=Error(code=400, message=said)))
        websocket.recv()

    file = tmp_path / "token"
    file.write_text("from-file\n")
    options = ("--token-file", str(file), "--data", '{"a":1}')
    with tap_command(tell, *options) as command:
        assert command.wait() == 1
        assert 'refuses to connect: 400 from-file {"a":1}' in command.stderr.text
    with tap_command(tell, "--token", "given") as command:
        assert command.wait() == 1
        assert "refuses to connect: 400 given" in command.stderr.text


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--data", "{"], "is not JSON"),
        (["--token", "a", "--token-file", "b"], "--token and --token-file contradict each other"),
        (["--count", "0"], "0 is not from 1 to"),
        (["--history", "x"], "'x' is not a whole number"),
        (["--header", "Origin: x"], "--header: 'Origin' cannot be given: the handshake sets it"),
        ([""], "'' is not the name of a channel"),
    ],
)
def test_wrong_command_line_is_one_line_and_code_2(
    invoke: Invoke, options: list[str], problem: str
) -> None:
    outcome = invoke("tap", "localhost:1", CHANNEL, *options)

    assert (outcome.code, outcome.stdout) == (2, "")
    assert problem in outcome.stderr
    assert outcome.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot be read: No such file"),
        (b"\xff", "it is no token"),
        (b"x" * 70_000, "larger"),
    ],
)
def test_token_file_that_cannot_be_used_is_one_line(
    tmp_path: Path, content: bytes | None, problem: str
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with tap_command(publishing(), "--token-file", str(file)) as command:
        assert command.wait() == 1
        assert problem in command.stderr.text
        assert len(command.stderr.text.splitlines()) == 1


def test_terminal_shows_lines_that_fit_above_the_rates() -> None:
    payload = b'"' + b"x" * 3000 + b'"'
    with (
        serving(publishing(payload)) as port,
        terminal("tap", f"127.0.0.1:{port}", CHANNEL) as window,
    ):
        window.wait_for(r"> \"x+…\r\n")
        window.wait_for(r"chat:lobby  1/s  +\d\.\d kB/s  1 publication(?!s)")
        window.process.send_signal(signal.SIGINT)
        window.wait_for("1 publication in ")

        assert window.wait() == 0
        # Erased before the last line.
        assert "\x1b[J" in window.raw.rpartition("1 publication in ")[0][-40:]
