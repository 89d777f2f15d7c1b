"""`hubbub connect` with pipes: what is sent, what comes out, and how it ends."""

import os
import queue
import signal
import socket
import ssl
import subprocess
import sys

import pytest
from websockets.sync.server import ServerConnection

from tests.cli.commands import TIMEOUT, Command, hubbub
from tests.cli.conftest import Certificate
from tests.cli.servers import echo, serving, serving_bytes


def url(port: int) -> str:
    return f"ws://127.0.0.1:{port}"


def test_lines_are_sent_and_messages_come_out_one_per_line() -> None:
    with serving(echo) as port, hubbub("connect", url(port), "--wait", "30") as command:
        command.send("one\r\n\n[bold]two[/bold]\nthree")
        command.end_input()
        command.stdout.wait_for("^three$")
        command.signal(signal.SIGINT)

        assert command.wait() == 0
        assert command.stdout.text == "one\n\n[bold]two[/bold]\nthree"
        assert command.stderr.text.splitlines() == [
            f"connected to {url(port)}",
            "closed by us with 1000 normal closure",
        ]


def test_end_of_input_waits_for_replies_and_closes_with_1000() -> None:
    closed: queue.SimpleQueue[int | None] = queue.SimpleQueue()

    def handler(websocket: ServerConnection) -> None:
        echo(websocket)
        closed.put(websocket.close_code)

    with serving(handler) as port, hubbub("connect", url(port), "--wait", "0.2") as command:
        command.send("hi\n")
        command.end_input()

        assert command.wait() == 0
        assert command.stdout.text == "hi"
    assert closed.get(timeout=TIMEOUT) == 1000


def test_server_that_closes_ends_it_before_the_input_does() -> None:
    def greet(websocket: ServerConnection) -> None:
        websocket.send("Hello World!")
        websocket.close(1001, "see\x1b you")

    with serving(greet) as port, hubbub("connect", f"localhost:{port}") as command:
        assert command.wait() == 0
        assert command.stdout.text == "Hello World!"
        assert r"closed by the server with 1001 going away: see\x1b you" in command.stderr.text


@pytest.mark.parametrize(
    ("code", "shown"), [(1011, "1011 internal error: broken"), (4001, "4001: broken")]
)
def test_other_close_codes_are_shown_and_end_with_code_1(code: int, shown: str) -> None:
    def fail(websocket: ServerConnection) -> None:
        websocket.close(code, "broken")

    with serving(fail) as port, hubbub("connect", url(port)) as command:
        assert command.wait() == 1
        assert f"closed by the server with {shown}" in command.stderr.text


def test_lost_connection_is_told() -> None:
    def cut(websocket: ServerConnection) -> None:
        websocket.socket.shutdown(socket.SHUT_RDWR)

    with serving(cut) as port, hubbub("connect", url(port)) as command:
        assert command.wait() == 1
        assert "connection lost: 1006, no close frame" in command.stderr.text


def test_messages_are_escaped_and_bytes_summed_up() -> None:
    def attack(websocket: ServerConnection) -> None:
        websocket.send("\x1b]0;owned\x07\x9b2J\u202eabc\nnext")
        websocket.send(b"\x00\x1bAB")

    with serving(attack) as port, hubbub("connect", url(port)) as command:
        assert command.wait() == 0
        assert command.stdout.text.splitlines() == [
            r"\x1b]0;owned\x07\x9b2J\u202eabc\nnext",
            "binary, 4 bytes: 00 1b 41 42 |..AB|",
        ]


def test_pings_and_pongs_are_shown() -> None:
    def ping(websocket: ServerConnection) -> None:
        websocket.ping("there?").wait(20)
        websocket.pong(b"")
        websocket.recv()

    with serving(ping) as port, hubbub("connect", url(port)) as command:
        command.stderr.wait_for(r"^ping received with 6 bytes: 74 68 65 72 65 3f \|there\?\|$")
        command.stderr.wait_for("^pong received$")


def test_headers_origin_and_subprotocol_are_sent() -> None:
    def tell(websocket: ServerConnection) -> None:
        assert websocket.request is not None
        headers = websocket.request.headers
        websocket.send(f"{headers['X-One']} {headers['X-Two']} {headers['Origin']}")

    options = ("--header", "X-One: 1", "--header", "X-Two:two words", "--origin", "https://me")
    protocols = ("--subprotocol", "chat.v2", "--subprotocol", "chat.v1")
    with (
        serving(tell, subprotocols=["chat.v1"]) as port,
        hubbub("connect", url(port), *options, *protocols) as command,
    ):
        assert command.wait() == 0
        assert command.stdout.text == "1 two words https://me"
        assert "subprotocol chat.v1" in command.stderr.text


def test_tls_is_verified_unless_insecure(certificate: Certificate) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate.chain, certificate.key)
    with serving(echo, tls) as port:
        address = f"https://localhost:{port}"
        with hubbub("connect", address) as command:
            assert command.wait() == 1
            assert_one_line(command, f"the certificate of localhost:{port} is not trusted: ")
        with hubbub("connect", address, "--insecure", "--wait", "0.2") as command:
            command.send("hi\n")
            command.end_input()
            assert command.wait() == 0
            assert command.stdout.text == "hi"
        env = {"SSL_CERT_FILE": str(certificate.authority)}
        with hubbub("connect", address, "--wait", "0", env=env) as command:
            command.end_input()
            assert command.wait() == 0


def test_server_without_tls_is_told() -> None:
    with (
        serving_bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port,
        hubbub("connect", f"wss://127.0.0.1:{port}") as command,
    ):
        assert command.wait() == 1
        assert_one_line(command, f"127.0.0.1:{port} does not speak TLS: use ws://")


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "answered 403 Forbidden for /x"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "answered 404 Not Found for /x"),
        (b"HTTP/1.1 499 What\r\nContent-Length: 0\r\n\r\n", "answered 499 for /x"),
        (b"220 mail.example.com ESMTP\r\n", "does not speak WebSocket"),
        (b"", "does not speak WebSocket"),
    ],
)
def test_refused_handshake_is_one_line_and_code_1(answer: bytes, problem: str) -> None:
    with serving_bytes(answer) as port, hubbub("connect", f"{url(port)}/x") as command:
        assert command.wait() == 1
        assert_one_line(command, f"127.0.0.1:{port} {problem}")


def test_refused_connection_is_one_line_and_code_1() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with hubbub("connect", f"localhost:{port}") as command:
            assert command.wait() == 1
            assert_one_line(command, f"nothing listens on localhost:{port}: connection refused")


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("ws://nosuch.invalid", "host 'nosuch.invalid' cannot be resolved"),
        ("ftp://localhost", "'ftp://' is not a scheme of WebSocket"),
    ],
)
def test_wrong_address_is_one_line_and_code_1(address: str, problem: str) -> None:
    with hubbub("connect", address) as command:
        assert command.wait() == 1
        assert_one_line(command, problem)


def test_input_that_is_not_utf8_is_one_line_and_code_1() -> None:
    with serving(echo) as port, hubbub("connect", url(port)) as command:
        assert command.process.stdin is not None
        os.write(command.process.stdin.fileno(), b"good\nb\xff\n")
        command.end_input()

        assert command.wait() == 1
        assert "error: line 2 of the input is not UTF-8: invalid start byte" in command.stderr.text


def test_reader_that_goes_ends_it_quietly() -> None:
    read_fd, write_fd = os.pipe()
    with (
        serving(echo) as port,
        subprocess.Popen(
            [sys.executable, "-m", "hubbub", "connect", url(port), "--wait", "30"],
            stdin=subprocess.PIPE,
            stdout=write_fd,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        os.close(write_fd)
        os.close(read_fd)  # as `| head` does when it has had enough
        _, notices = process.communicate("one\ntwo\n", TIMEOUT)

    assert process.returncode == 0
    assert notices.splitlines() == [
        f"connected to {url(port)}",
        "closed by us with 1000 normal closure",
    ]


def assert_one_line(command: Command, problem: str) -> None:
    assert command.stdout.text == ""
    assert command.stderr.text.startswith(f"error: {problem}")
    assert len(command.stderr.text.splitlines()) == 1
