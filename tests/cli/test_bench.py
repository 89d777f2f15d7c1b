"""`hubbub bench echo` against servers that echo, and servers that do not."""

import json
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from websockets.sync.server import ServerConnection

from hubbub.cli.address import ServerAddress
from hubbub.cli.failure import Failure
from hubbub.cli.load import EchoLoad
from hubbub.cli.loops import run_async
from tests.cli.commands import hubbub
from tests.cli.conftest import Certificate, Outcome
from tests.cli.servers import echo, serving, serving_bytes

Invoke = Callable[..., Outcome]


def bench(invoke: Invoke, port: int, *options: str) -> Outcome:
    fast = ("--connections", "3", "--seconds", "0.3", *options)
    return invoke("bench", "echo", f"ws://127.0.0.1:{port}", *fast)


@pytest.mark.parametrize("size", [1, 64, 125, 126, 65535, 65536, 300_000])
def test_bench_measures_every_size_of_frame(invoke: Invoke, size: int) -> None:
    with serving(echo) as port:
        outcome = bench(invoke, port, "--size", str(size), "--json")

    report = json.loads(outcome.stdout)
    assert outcome.code == 0
    assert outcome.stderr == ""
    assert report["size_bytes"] == size
    assert report["connections"] == 3
    assert report["messages"] >= 3
    assert report["duration_seconds"] >= 0.3
    names = ["p50", "p90", "p99", "p99_9", "max"]
    latencies = [report[f"latency_{name}_milliseconds"] for name in names]
    assert latencies == sorted(latencies)
    assert latencies[0] > 0


def test_bench_of_hubbub_prints_a_table(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "async def echo(websocket):\n    async for m in websocket: await websocket.send(m)\n"
    )
    with (
        hubbub("run", "app:echo", "--port", "0", cwd=tmp_path) as server,
        hubbub("bench", "echo", server.url, "--seconds", "0.5") as command,
    ):
        assert command.wait() == 0
        assert command.stderr.text == ""
        for part in ("50 connections, 64 bytes", "messages/s", "latency p99.9", "latency max"):
            assert part in command.stdout.text


def fragmented(websocket: ServerConnection) -> None:
    for message in websocket:
        assert isinstance(message, str)
        websocket.send([message[:10], "", message[10:]])


def pinging(websocket: ServerConnection) -> None:
    for message in websocket:
        websocket.ping("are you there?", ack_on_close=True).wait(10)
        websocket.send(message)


@pytest.mark.parametrize("handler", [fragmented, pinging])
def test_bench_reads_fragments_and_answers_pings(
    invoke: Invoke, handler: Callable[[ServerConnection], None]
) -> None:
    with serving(handler) as port:
        outcome = bench(invoke, port, "--json")

    assert outcome.code == 0
    assert json.loads(outcome.stdout)["messages"] >= 3


def changing(websocket: ServerConnection) -> None:
    for message in websocket:
        assert isinstance(message, str)
        websocket.send(message[:-1] + "!")


def growing(websocket: ServerConnection) -> None:
    for message in websocket:
        assert isinstance(message, str)
        websocket.send(message * 2)


def in_bytes(websocket: ServerConnection) -> None:
    for message in websocket:
        assert isinstance(message, str)
        websocket.send(message.encode())


def greeting(websocket: ServerConnection) -> None:
    websocket.send("Hello World!")
    websocket.recv()


def closing(websocket: ServerConnection) -> None:
    websocket.recv()
    websocket.close(4000, "no echo here")


def cutting(websocket: ServerConnection) -> None:
    websocket.recv()
    websocket.socket.shutdown(2)


@pytest.mark.parametrize(
    ("handler", "problem"),
    [
        (changing, "does not echo: another message came back than was sent"),
        (growing, "does not echo: a message of 128 bytes came back"),
        (in_bytes, "does not echo: a text message came back as another kind of frame"),
        (greeting, "does not echo: "),
        (closing, "closed a connection with 4000 no echo here"),
        (cutting, "cut a connection"),
    ],
)
def test_bench_of_a_server_that_does_not_echo_is_one_line_and_code_1(
    invoke: Invoke, handler: Callable[[ServerConnection], None], problem: str
) -> None:
    with serving(handler) as port:
        outcome = bench(invoke, port, "--seconds", "60")

    assert outcome.code == 1
    assert outcome.stdout == ""
    assert outcome.stderr.startswith(f"error: 127.0.0.1:{port} {problem}")
    assert outcome.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno", "answered 404 Not Found for /"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "does not speak WebSocket"),
        (b"", "does not speak WebSocket"),
    ],
)
def test_bench_without_a_websocket_is_one_line_and_code_1(
    invoke: Invoke, answer: bytes, problem: str
) -> None:
    with serving_bytes(answer) as port:
        outcome = bench(invoke, port)

    assert outcome.code == 1
    assert f"127.0.0.1:{port} {problem}" in outcome.stderr
    assert outcome.stderr.count("\n") == 1


def silent(websocket: ServerConnection) -> None:
    for _ in websocket:
        pass


def falling_silent(websocket: ServerConnection) -> None:
    websocket.send(websocket.recv())
    silent(websocket)


@pytest.mark.parametrize(
    ("handler", "seconds"), [(silent, 0.1), (silent, 60), (falling_silent, 60)]
)
def test_load_on_a_silent_server_ends(
    handler: Callable[[ServerConnection], None], seconds: float
) -> None:
    with serving(handler) as port:
        address = ServerAddress.parse(f"127.0.0.1:{port}")
        load = EchoLoad(address, None, 2, 64, seconds, answer_timeout=0.5)
        with pytest.raises(Failure, match=r"of 2 connections had no answer within 0\.5 s"):
            run_async(load.run(lambda elapsed, messages: None))


def test_bench_of_nobody_is_one_line_and_code_1(invoke: Invoke) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        outcome = bench(invoke, port)

    assert outcome == Outcome(
        1, "", f"error: nothing listens on 127.0.0.1:{port}: connection refused\n"
    )


def test_bench_speaks_tls(invoke: Invoke, certificate: Certificate) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate.chain, certificate.key)
    fast = ("--connections", "2", "--seconds", "0.2")
    with serving(echo, tls) as port:
        trusting = invoke("bench", "echo", f"wss://localhost:{port}", *fast, "--insecure")
        checking = invoke("bench", "echo", f"wss://localhost:{port}", *fast)

    assert trusting.code == 0
    assert checking.code == 1
    assert f"the certificate of localhost:{port} is not trusted" in checking.stderr
