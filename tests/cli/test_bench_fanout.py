"""`hubbub bench fanout` against hubs that deliver, and hubs that lose, repeat, shuffle and end."""

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection

from hubbub import Hub, Server, serve
from hubbub.cli.address import ServerAddress
from hubbub.cli.failure import Failure
from hubbub.cli.fanout_client import ClientCodec
from hubbub.cli.fanout_load import FanoutLoad
from hubbub.cli.loops import run_async
from hubbub.protocol import json as json_codec
from hubbub.protocol import protobuf as protobuf_codec
from hubbub.protocol.commands import Command
from hubbub.protocol.replies import Push, Reply, UnsubscribePush
from hubbub.protocol.results import ConnectResult, PublishResult, SubscribeResult
from hubbub.protocol.values import Error, Publication
from tests.cli.conftest import Outcome
from tests.cli.servers import echo, serving, serving_bytes

Invoke = Callable[..., Outcome]
Delivery = Callable[[int, bytes], Iterable[bytes]]
CHANNEL = "bench:fanout"


def faithfully(number: int, push: bytes) -> Iterable[bytes]:
    return [push]


@dataclass
class FakeHub:
    """A hub of one channel; `deliver` says what becomes of each push, and so can do wrong."""

    deliver: Delivery = faithfully
    connect_error: Error | None = None
    subscribe_error: Error | None = None
    publish_error: Error | None = None
    publish_errors_from: int = 0
    end_after: int | None = None
    unsubscribe_after: int | None = None
    subscribers: list[ServerConnection] = field(default_factory=list)
    pongs: int = 0
    published: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, websocket: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            for message in websocket:
                for command in json_codec.decode_commands(message):
                    self.execute(websocket, command)

    def execute(self, websocket: ServerConnection, command: Command) -> None:
        if command.is_pong:
            self.pongs += 1
        elif command.connect is not None:
            connect = ConnectResult(client="c", version="1", ping=25, pong=True)
            self.answer(websocket, command, self.connect_error, connect=connect)
            websocket.send("{}")
        elif command.subscribe is not None:
            result = SubscribeResult()
            self.answer(websocket, command, self.subscribe_error, subscribe=result)
            self.subscribers.append(websocket)
        elif command.publish is not None:
            with self.lock:
                self.publish(websocket, command)

    def publish(self, websocket: ServerConnection, command: Command) -> None:
        assert command.publish is not None
        number, self.published = self.published, self.published + 1
        error = self.publish_error if number >= self.publish_errors_from else None
        self.answer(websocket, command, error, publish=PublishResult())
        if error is None:
            publication = Publication(data=command.publish.data)
            push = json_codec.encode_push(Push(channel=command.publish.channel, pub=publication))
            self.send_all(b"\n".join(self.deliver(number, push)))
        if number == self.end_after:
            self.subscribers.pop().close(3008, "slow")
        if number == self.unsubscribe_after:
            ending = UnsubscribePush(code=2500, reason="insufficient state")
            self.send_all(json_codec.encode_push(Push(channel=CHANNEL, unsubscribe=ending)))

    def send_all(self, message: bytes) -> None:
        for subscriber in self.subscribers if message else ():
            subscriber.send(message, text=True)

    def answer(
        self,
        websocket: ServerConnection,
        command: Command,
        error: Error | None,
        **result: ConnectResult | SubscribeResult | PublishResult,
    ) -> None:
        if error is not None:
            reply = Reply(id=command.id, error=error)
        else:
            reply = Reply(id=command.id, **result)  # type: ignore[arg-type]  # by name
        websocket.send(json_codec.encode_reply(reply), text=True)


def port_of(server: Server) -> int:
    port: int = next(iter(server.sockets)).getsockname()[1]
    return port


FAST = ("--subscribers", "3", "--rate", "100", "--seconds", "0.3")


def bench(invoke: Invoke, handler: Callable[[ServerConnection], None], *options: str) -> Outcome:
    with serving(handler) as port:
        return invoke("bench", "fanout", f"ws://127.0.0.1:{port}", *FAST, *options)


@pytest.mark.parametrize(
    "options",
    [(), ("--size", "48"), ("--size", "30000"), ("--publishers", "2"), ("--subscribers", "1")],
)
def test_hub_that_delivers_is_faultless(invoke: Invoke, options: tuple[str, ...]) -> None:
    hub = FakeHub()

    outcome = bench(invoke, hub, "--json", *options)

    report = json.loads(outcome.stdout)
    assert (outcome.code, outcome.stderr) == (0, "")
    assert report["published"] >= 20
    assert report["deliveries"] == report["published"] * report["subscribers"]
    faults = [report[name] for name in ("lost", "duplicates", "reordered", "errors", "ended")]
    assert faults == [0, 0, 0, {}, {}]
    latencies = [report[f"latency_{name}_milliseconds"] for name in ("p50", "p99", "max")]
    assert 0 < latencies[0] <= latencies[1] <= latencies[2]
    assert hub.pongs == report["subscribers"] + report["publishers"]


@pytest.mark.parametrize("codec", [json_codec, protobuf_codec], ids=["json", "protobuf"])
async def test_hub_delivers_everything_in_both_formats(codec: ClientCodec) -> None:
    hub = Hub()
    hub.channel("bench:{name}", publish="anyone", history=10)
    async with serve({"/connection/websocket": hub}, "127.0.0.1", 0) as server:
        address = ServerAddress.parse(f"127.0.0.1:{port_of(server)}/connection/websocket")
        load = FanoutLoad(address, None, codec, CHANNEL, 5, 2, 500, 128, 0.5)

        result = await load.run(lambda elapsed, deliveries: None)

    assert result.is_faultless
    assert result.published >= 200
    assert result.deliveries == 5 * result.published


async def test_hub_refuses_what_it_does_not_permit() -> None:
    hub = Hub()
    hub.channel("read:{name}")
    async with serve({"/connection/websocket": hub}, "127.0.0.1", 0) as server:
        address = ServerAddress.parse(f"127.0.0.1:{port_of(server)}/connection/websocket")

        def load(channel: str) -> FanoutLoad:
            return FanoutLoad(address, None, json_codec, channel, 2, 1, 100, 128, 0.5)

        with pytest.raises(Failure, match="has no channel 'bench:x': 102"):
            await load("bench:x").run(lambda elapsed, deliveries: None)
        with pytest.raises(Failure, match="does not permit publishing to channel 'read:x': 103"):
            await load("read:x").run(lambda elapsed, deliveries: None)


def losing(number: int, push: bytes) -> Iterable[bytes]:
    return [] if number == 5 else [push]


def losing_the_rest(number: int, push: bytes) -> Iterable[bytes]:
    return [push] if number < 20 else []


def repeating(number: int, push: bytes) -> Iterable[bytes]:
    return [push, push] if number == 5 else [push]


class Shuffling:
    """Delivers number 5 after number 6."""

    def __init__(self) -> None:
        self._late = b""

    def __call__(self, number: int, push: bytes) -> Iterable[bytes]:
        if number == 5:
            self._late = push
            return []
        return [push, self._late] if number == 6 else [push]


@pytest.mark.parametrize(
    ("deliver", "fault"),
    [(losing, "lost"), (repeating, "duplicates"), (Shuffling(), "reordered")],
)
def test_fault_of_delivery_is_counted_for_each_subscriber(
    invoke: Invoke, deliver: Delivery, fault: str
) -> None:
    outcome = bench(invoke, FakeHub(deliver), "--json")

    report = json.loads(outcome.stdout)
    assert outcome.code == 1
    counts = {name: report[name] for name in ("lost", "duplicates", "reordered")}
    assert counts == {"lost": 0, "duplicates": 0, "reordered": 0, fault: 3}


def test_publications_missing_at_the_end_are_lost(invoke: Invoke) -> None:
    outcome = bench(invoke, FakeHub(losing_the_rest), "--json")

    report = json.loads(outcome.stdout)
    assert outcome.code == 1
    assert report["lost"] == 3 * (report["published"] + 1 - 20)  # 1: before the measurement


def test_connection_that_the_server_ends_is_a_fault(invoke: Invoke) -> None:
    outcome = bench(invoke, FakeHub(end_after=5))

    assert outcome.code == 1
    assert "closed a connection with 3008 slow, 1 times" in outcome.stdout
    assert "ended by the server" in outcome.stdout


def test_subscription_that_the_server_ends_is_a_fault(invoke: Invoke) -> None:
    outcome = bench(invoke, FakeHub(unsubscribe_after=5), "--json")

    assert outcome.code == 1
    assert json.loads(outcome.stdout)["ended"] == {
        "ended a subscription with 2500 insufficient state": 3
    }


def test_publications_that_are_refused_later_are_errors(invoke: Invoke) -> None:
    error = Error(code=111, message="too many requests", temporary=True)
    hub = FakeHub(publish_error=error, publish_errors_from=10)

    outcome = bench(invoke, hub)

    assert outcome.code == 1
    assert "times: 111 too many requests" in outcome.stdout


@pytest.mark.parametrize(
    ("hub", "problem"),
    [
        (
            FakeHub(subscribe_error=Error(code=102, message="unknown channel")),
            "has no channel 'bench:fanout': 102 unknown channel",
        ),
        (
            FakeHub(subscribe_error=Error(code=103, message="permission denied")),
            "does not permit subscribing to channel 'bench:fanout': 103 permission denied",
        ),
        (
            FakeHub(publish_error=Error(code=103, message="permission denied")),
            "does not permit publishing to channel 'bench:fanout': 103 permission denied",
        ),
        (
            FakeHub(publish_error=Error(code=107, message="bad request")),
            "refuses publishing to channel 'bench:fanout': 107 bad request",
        ),
        (
            FakeHub(connect_error=Error(code=109, message="token expired")),
            "refuses to connect: 109 token expired",
        ),
    ],
)
def test_refusal_is_one_line_and_code_1(invoke: Invoke, hub: FakeHub, problem: str) -> None:
    outcome = bench(invoke, hub)

    assert (outcome.code, outcome.stdout) == (1, "")
    assert f" {problem}\n" in outcome.stderr
    assert outcome.stderr.startswith("error: 127.0.0.1:")
    assert outcome.stderr.count("\n") == 1


def test_refusal_of_many_is_one_line_as_well(invoke: Invoke) -> None:
    hub = FakeHub(subscribe_error=Error(code=102, message="unknown channel"))

    outcome = bench(invoke, hub, "--subscribers", "200")

    assert outcome.code == 1
    assert outcome.stderr.count("\n") == 1


def greeting(websocket: ServerConnection) -> None:
    websocket.send("Hello World!")
    websocket.recv()
    websocket.recv()


def closing(websocket: ServerConnection) -> None:
    websocket.recv()
    websocket.close(3501, "bad request")


def cutting(websocket: ServerConnection) -> None:
    websocket.recv()
    websocket.socket.shutdown(2)


def masking(websocket: ServerConnection) -> None:
    websocket.recv()
    websocket.socket.sendall(b"\x81\x81\0\0\0\0a")
    websocket.recv()


@pytest.mark.parametrize(
    ("handler", "problem"),
    [
        (echo, "does not speak the Centrifuge client protocol"),
        (greeting, "does not speak the Centrifuge client protocol"),
        (masking, "does not speak the Centrifuge client protocol: a masked frame"),
        (closing, "closed a connection with 3501 bad request"),
        (cutting, "cut a connection"),
    ],
)
def test_server_of_another_protocol_is_one_line_and_code_1(
    invoke: Invoke, handler: Callable[[ServerConnection], None], problem: str
) -> None:
    outcome = bench(invoke, handler)

    assert (outcome.code, outcome.stdout) == (1, "")
    assert problem in outcome.stderr
    assert outcome.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno", "answered 404 Not Found for /"),
        (b"", "does not speak WebSocket"),
    ],
)
def test_no_websocket_is_one_line_and_code_1(invoke: Invoke, answer: bytes, problem: str) -> None:
    with serving_bytes(answer) as port:
        outcome = invoke("bench", "fanout", f"ws://127.0.0.1:{port}", *FAST)

    assert outcome.code == 1
    assert f"127.0.0.1:{port} {problem}" in outcome.stderr


def test_nobody_there_is_one_line_and_code_1(invoke: Invoke) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        outcome = invoke("bench", "fanout", f"ws://127.0.0.1:{port}", *FAST)

    expected = f"error: nothing listens on 127.0.0.1:{port}: connection refused\n"
    assert outcome == Outcome(1, "", expected)


def silent(websocket: ServerConnection) -> None:
    for _ in websocket:
        pass


def test_silent_server_is_found_out() -> None:
    with serving(silent) as port:
        address = ServerAddress.parse(f"127.0.0.1:{port}")
        load = FanoutLoad(
            address, None, json_codec, CHANNEL, 2, 1, 100, 128, 60, answer_timeout=0.3
        )
        with pytest.raises(Failure, match=r"did not answer a connect command within 0\.3 s"):
            run_async(load.run(lambda elapsed, deliveries: None))


@pytest.mark.parametrize(
    ("option", "value", "problem"),
    [
        ("--subscribers", "10001", "10001 is not from 1 to 10000"),
        ("--publishers", "0", "0 is not from 1 to 1000"),
        ("--rate", "0", "0 is not from 0.1 to 100000"),
        ("--size", "47", "47 is not from 48 to 1048576"),
        ("--format", "xml", "'xml' is not one of"),
    ],
)
def test_option_out_of_bounds_is_refused(
    invoke: Invoke, option: str, value: str, problem: str
) -> None:
    outcome = invoke("bench", "fanout", "localhost:1", option, value)

    assert outcome.code == 2
    assert problem in outcome.stderr
