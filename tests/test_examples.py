"""Every program in `examples` does what the documentation says, for real clients.

`examples/hello` is tried with more clients in `tests/interop`.
"""

import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from pathlib import Path

import httpx
import pytest
import trustme
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect, unix_connect

from hubbub.testing import BROKER_CHECKS
from tests.examples import CLIENT_TIMEOUT, EXAMPLES, Example, changed, running
from tests.programs import Program
from tests.timing import MS

# Elsewhere: tests/interop.
HELLO = {"hello/server.py", "hello/client.py"}

# Elsewhere: tests/test_hub_examples.py.
HUB = {
    "clients/client.py",
    "clients/page.py",
    "clients/server.py",
    "howto/backend.py",
    "howto/durable.py",
    "howto/hub_cookie.py",
    "howto/hub_limits.py",
    "howto/hub_ticket.py",
    "howto/hub_tokens.py",
    "howto/mounted.py",
    "howto/notifications.py",
    "howto/permissions.py",
    "howto/presence.py",
    "howto/prices.py",
    "howto/resume.py",
    "howto/rpc.py",
    "howto/socketio_after.py",
    "howto/typed_messages.py",
    "tutorial/chat.py",
    "tutorial/chat_client.py",
}

# Elsewhere: tests/cli/test_verify.py.
VERIFIED = {"howto/verified.py"}

# Applications with a page, in a browser: tests/interop.
APPLICATIONS = {"chat/chat.py", "live/live.py"}

RUN_HERE = {
    "callback/server.py",
    "howto/basic_auth.py",
    "howto/behind_proxy.py",
    "howto/cookie.py",
    "howto/first_message.py",
    "howto/logs.py",
    "howto/socket_activation.py",
    "howto/starlette_after.py",
    "howto/starlette_before.py",
    "howto/test_broker.py",
    "howto/test_hub.py",
    "howto/test_shout.py",
    "howto/tls.py",
    "howto/unix_socket.py",
    "topics/idle_memory.py",
    "topics/processes.py",
    "topics/sigterm.py",
    "tutorial/echo.py",
    "tutorial/endings.py",
    "tutorial/one_port.py",
    "tutorial/rooms.py",
}

MAX_LINES = 60
MAX_APPLICATION_LINES = 80

# As docs/howto/testing.md has it: pytest-asyncio warns without.
LOOP_SCOPE = "asyncio_default_fixture_loop_scope = function"


def test_every_example_is_short_and_has_its_test() -> None:
    examples = {path.relative_to(EXAMPLES).as_posix(): path for path in EXAMPLES.rglob("*.py")}

    assert set(examples) == RUN_HERE | HELLO | HUB | VERIFIED | APPLICATIONS
    for name, path in examples.items():
        limit = MAX_APPLICATION_LINES if name in APPLICATIONS else MAX_LINES
        assert len(path.read_text(encoding="utf-8").splitlines()) < limit, name


def recv(websocket: ClientConnection) -> str | bytes:
    return websocket.recv(timeout=CLIENT_TIMEOUT)


def closed(websocket: ClientConnection) -> tuple[int, str]:
    """Wait for the end of a connection, and return code and reason."""
    try:
        while True:
            recv(websocket)
    except ConnectionClosed:
        pass  # expected: the loop ends by nothing else
    assert websocket.close_code is not None
    return websocket.close_code, websocket.close_reason or ""


def interrupt(example: Example) -> str:
    """Press Ctrl+C, and return what the program said about it."""
    example.program.interrupt()
    return example.program.wait().stderr


# Tutorial: echo


@pytest.fixture
def echo(tmp_path: Path) -> Generator[Example]:
    with running(EXAMPLES / "tutorial" / "echo.py", tmp_path) as example:
        yield example


def test_echo_sends_back_text_and_binary_and_closes_on_bye(echo: Example) -> None:
    with echo.connect() as websocket:
        hello = echo.program.read_line().split(" ")
        assert hello[0] == "hello"
        for message in ("hello", "", "ü" * 1000, b"\x00\xff"):
            websocket.send(message)
            assert recv(websocket) == message
        websocket.send("bye")

        assert closed(websocket) == (4000, "you said bye")
    assert echo.program.read_line() == f"closed {hello[1]} 4000 you said bye"
    assert interrupt(echo) == ""


def test_echo_prints_codes_of_clients_that_leave(echo: Example) -> None:
    for leave, code in (("close", 1001), ("vanish", 1006)):
        with echo.connect() as websocket:
            assert echo.program.read_line().startswith("hello ")
            if leave == "close":
                websocket.close(code)
            else:
                websocket.socket.shutdown(socket.SHUT_RDWR)

            assert f" {code} " in echo.program.read_line()
    assert interrupt(echo) == ""


# Tutorial: rooms


@pytest.fixture
def rooms(tmp_path: Path) -> Generator[Example]:
    with running(EXAMPLES / "tutorial" / "rooms.py", tmp_path) as example:
        yield example


def test_rooms_show_what_the_tutorial_shows(rooms: Example) -> None:
    with rooms.connect("/rooms/lobby/ada") as ada, rooms.connect("/rooms/attic/bob") as bob:
        with rooms.connect("/rooms/lobby/grace") as grace:
            assert [recv(ada), recv(ada)] == ["ada came in", "grace came in"]
            assert recv(grace) == "grace came in"
            grace.send("hello ada")
            assert recv(ada) == recv(grace) == "grace: hello ada"
            ada.send("hello grace")
            assert recv(ada) == recv(grace) == "ada: hello grace"

        assert recv(ada) == "grace left"
        assert recv(bob) == "bob came in"
        bob.send("alone")
        assert recv(bob) == "bob: alone"
    assert interrupt(rooms) == ""


def test_rooms_refuse_other_paths(rooms: Example) -> None:
    for path in ("/", "/rooms/lobby", "/rooms/lobby/ada/x"):
        with pytest.raises(InvalidStatus) as raised:
            rooms.connect(path)
        assert raised.value.response.status_code == 404


# Tutorial: one port


def test_one_port_announces_over_http_what_websockets_hear(tmp_path: Path) -> None:
    with running(EXAMPLES / "tutorial" / "one_port.py", tmp_path) as example:
        page = httpx.get(example.url("/"))
        assert page.headers["content-type"].startswith("text/html")
        assert "/rooms/lobby" in page.text
        with example.connect("/rooms/lobby") as first, example.connect("/rooms/lobby") as second:
            first.send("one")
            assert recv(first) == "one"
            second.send("two")
            heard = recv(second)  # its own; or the first's before, if it was in the room already
            assert heard == "two" or (heard == "one" and recv(second) == "two")
            assert recv(first) == "two"
            told = httpx.post(example.url("/rooms/lobby?text=Dinner+is+ready"))

            assert told.text == '{"told":2}'
            assert recv(second) == "Dinner is ready"
            assert recv(first) == "Dinner is ready"
        nobody = httpx.post(example.url("/rooms/attic?text=Hello"))
        assert nobody.json() == {"told": 0}
        assert interrupt(example) == ""


# Tutorial: endings


@pytest.fixture
def endings(tmp_path: Path) -> Generator[Example]:
    changes = {"ping_timeout=5": f"ping_timeout={100 * MS}"}
    with running(EXAMPLES / "tutorial" / "endings.py", tmp_path, changes) as example:
        yield example


def test_endings_have_the_codes_of_the_tutorial(endings: Example) -> None:
    with endings.connect("/") as websocket:
        assert recv(websocket) == "that was all"
        assert closed(websocket) == (1000, "")
    with endings.connect("/broken") as websocket:
        assert closed(websocket) == (1011, "")
    with endings.connect("/echo") as websocket:
        websocket.send("x" * 100)
        assert recv(websocket) == "x" * 100
        websocket.send("x" * 101)
        assert closed(websocket)[0] == 1009
    with endings.connect("/stay") as websocket:
        recv(websocket)
        stderr = interrupt(endings)
        assert closed(websocket) == (1001, "")
    assert endings.program.read_line() == "/stay was closed with 1001"
    assert stderr.count("Traceback") == 1  # that of /broken
    assert stderr.endswith("RuntimeError: a bug in the handler\n")


def test_endings_drop_a_client_that_stops_reading(endings: Example) -> None:
    with socket.create_connection(("localhost", endings.port)) as frozen:
        frozen.sendall(
            b"GET /flood HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        line = endings.program.read_line()

    assert line.startswith("/flood ended after ")
    assert interrupt(endings) == ""


# How-to: TLS and other sockets


def test_tls_serves_wss_and_https(tmp_path: Path) -> None:
    ca = trustme.CA()
    certificate = ca.issue_cert("localhost")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(chain, append=True)
    certificate.private_key_pem.write_to_path(key)
    trusting = ssl.create_default_context()
    ca.configure_trust(trusting)
    changes = {'"chain.pem"': repr(str(chain)), '"key.pem"': repr(str(key))}
    with running(EXAMPLES / "howto" / "tls.py", tmp_path, changes) as example:
        with connect(f"wss://localhost:{example.port}", ssl=trusting) as websocket:
            assert recv(websocket) == "Hello World!"
            assert closed(websocket) == (1000, "")
        health = httpx.get(f"https://localhost:{example.port}/healthz", verify=trusting)
        assert health.text == "ok\n"
        assert interrupt(example) == ""


@pytest.fixture
def short_path() -> Generator[Path]:
    """Make a folder whose path is short enough for a Unix socket in it."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


def until_there(path: Path, program: Program) -> None:
    """Wait until a Unix socket accepts connections."""
    deadline = time.monotonic() + CLIENT_TIMEOUT
    while True:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
            except (FileNotFoundError, ConnectionRefusedError):
                assert time.monotonic() < deadline, program.read_stderr()
            else:
                return
        time.sleep(5 * MS)  # between two looks: nothing tells another process that it listens


def test_unix_socket_serves_websocket_and_http(short_path: Path) -> None:
    path = short_path / "hubbub.sock"
    source = EXAMPLES / "howto" / "unix_socket.py"
    copy = changed(source, short_path, {'"hubbub.sock"': repr(str(path))})
    with Program(copy) as program:
        until_there(path, program)
        with unix_connect(str(path)) as websocket:
            assert recv(websocket) == "Hello World!"
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
            assert client.get("http://localhost/healthz").text == "ok\n"
        program.interrupt()
        assert program.wait().stderr == ""


# What systemd does: the socket is descriptor 3, and the environment says whose it is.
ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


def test_socket_activation_serves_the_inherited_socket_until_sigterm() -> None:
    source = EXAMPLES / "howto" / "socket_activation.py"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, "-c", ACTIVATE, str(listener.fileno()), "-W", "always", source],
            pass_fds=[listener.fileno()],
            stderr=subprocess.PIPE,
            text=True,
        )
    with process:
        try:
            # The connection waits in the socket until the program accepts it.
            url = f"ws://127.0.0.1:{port}"
            with connect(url, open_timeout=CLIENT_TIMEOUT) as websocket:
                assert recv(websocket) == "Hello World!"
            process.terminate()
            _, stderr = process.communicate(timeout=CLIENT_TIMEOUT)
        finally:
            process.kill()
    assert (process.returncode, stderr) == (0, "")


def test_socket_activation_without_a_socket_says_so() -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "howto" / "socket_activation.py"],
        capture_output=True,
        text=True,
        timeout=CLIENT_TIMEOUT,
    )

    assert (done.returncode, done.stderr) == (1, "start me by socket activation, with one socket\n")


# How-to: authentication


def test_basic_auth_greets_by_name_and_refuses_others(tmp_path: Path) -> None:
    with running(EXAMPLES / "howto" / "basic_auth.py", tmp_path) as example:
        for userinfo in ("", "ada:wrong@", "bob:engine@"):
            with pytest.raises(InvalidStatus) as raised:
                connect(f"ws://{userinfo}localhost:{example.port}")
            assert raised.value.response.status_code == 401
        with connect(f"ws://ada:engine@localhost:{example.port}") as websocket:
            assert recv(websocket) == "Hello ada!"
        assert interrupt(example) == ""


def test_cookie_and_origin_are_both_needed(tmp_path: Path) -> None:
    with running(EXAMPLES / "howto" / "cookie.py", tmp_path) as example:
        ours = f"http://localhost:{example.port}"
        cookie = {"Cookie": "theme=dark; session=q7Kx0"}
        with example.connect(origin=ours, headers=cookie) as websocket:
            assert recv(websocket) == "Hello ada!"
        for origin, headers, status in [
            (ours, {}, 401),
            (ours, {"Cookie": "session=guess"}, 401),
            ("http://elsewhere.example", cookie, 403),
            (None, cookie, 403),
        ]:
            with pytest.raises(InvalidStatus) as raised:
                example.connect(origin=origin, headers=headers)
            assert raised.value.response.status_code == status
        assert interrupt(example) == ""


def test_first_message_is_the_token_or_the_end(tmp_path: Path) -> None:
    changes = {"timeout(5)": f"timeout({300 * MS})"}
    with running(EXAMPLES / "howto" / "first_message.py", tmp_path, changes) as example:
        with example.connect() as websocket:
            websocket.send("q7Kx0")
            assert recv(websocket) == "Hello ada!"
        with example.connect() as websocket:
            websocket.send("guess")
            assert closed(websocket) == (4003, "unknown token")
        with example.connect() as websocket:
            assert closed(websocket) == (4001, "no token")
        assert interrupt(example) == ""


def test_behind_proxy_says_the_address_that_the_proxy_says(tmp_path: Path) -> None:
    with running(EXAMPLES / "howto" / "behind_proxy.py", tmp_path) as example:
        header = {"X-Forwarded-For": "192.0.2.7"}
        with example.connect(headers=header) as websocket:
            assert recv(websocket) == "192.0.2.7"
        assert interrupt(example) == ""


# How-to: moving, logging, testing


@pytest.mark.parametrize("name", ["starlette_before", "starlette_after"])
def test_starlette_before_and_after_do_the_same(name: str, tmp_path: Path) -> None:
    with running(EXAMPLES / "howto" / f"{name}.py", tmp_path) as example:
        assert httpx.get(example.url("/about")).json() == {"name": "echo"}
        language = {"Accept-Language": "de"}
        with example.connect("/echo/so:", headers=language) as websocket:
            assert recv(websocket) == "language: de"
            websocket.send("hello")
            assert recv(websocket) == "so: hello"
        assert example.program.read_line() == "gone"
        interrupt(example)


def test_callback_echoes(tmp_path: Path) -> None:
    with running(EXAMPLES / "callback" / "server.py", tmp_path) as example:
        with example.connect() as websocket:
            for message in ("hello", b"\x00\xff"):
                websocket.send(message)
                assert recv(websocket) == message
        assert interrupt(example) == ""


def test_logs_have_the_handlers_lines_and_no_others(tmp_path: Path) -> None:
    with running(EXAMPLES / "howto" / "logs.py", tmp_path) as example:
        with example.connect() as websocket:
            websocket.send("hello")
            recv(websocket)
            address = websocket.local_address[0]
        lines = interrupt(example).splitlines()

    assert len(lines) == 2
    assert lines[0].startswith("INFO chat: ")
    assert lines[0].endswith(f" came from {address}")
    assert lines[1].endswith(" left with 1000")


@pytest.mark.parametrize(
    ("name", "passed"), [("shout", 2), ("hub", 2), ("broker", len(BROKER_CHECKS))]
)
def test_tests_of_examples_pass_under_pytest(name: str, passed: int, tmp_path: Path) -> None:
    # Away from our own configuration.
    options = ["-q", "-p", "no:cacheprovider", "-W", "error", f"--rootdir={tmp_path}"]
    options += [f"--config-file={tmp_path / 'pytest.ini'}"]
    (tmp_path / "pytest.ini").write_text(f"[pytest]\n{LOOP_SCOPE}\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, EXAMPLES / "howto" / f"test_{name}.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=CLIENT_TIMEOUT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )

    assert done.returncode == 0, done.stdout
    assert f"{passed} passed" in done.stdout


# Topics


def test_sigterm_closes_clients_with_1001(tmp_path: Path) -> None:
    with running(EXAMPLES / "topics" / "sigterm.py", tmp_path) as example:
        with example.connect() as websocket:
            websocket.send("hello")
            assert recv(websocket) == "hello"
            example.program.process.send_signal(signal.SIGTERM)
            assert closed(websocket) == (1001, "")
        assert example.program.read_line() == "stopped"
        end = example.program.wait()

    assert (end.code, end.stderr) == (0, "")


@pytest.mark.skipif(sys.platform != "linux", reason="Linux balances SO_REUSEPORT")
def test_processes_share_the_port(tmp_path: Path) -> None:
    source = EXAMPLES / "topics" / "processes.py"
    # Not reserved_port: with SO_REUSEPORT a port is shared with those only who set it too.
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        copy = changed(source, tmp_path, {"8005": str(port)})
        with Program(copy) as first, Program(copy) as second:
            pids = {first.process.pid, second.process.pid}
            deadline = time.monotonic() + CLIENT_TIMEOUT
            seen: set[int] = set()
            first.connect(port).close()
            while seen != pids:  # until the second listens, and has had its turn
                assert time.monotonic() < deadline, (
                    seen,
                    first.read_stderr(),
                    second.read_stderr(),
                )
                with connect(f"ws://127.0.0.1:{port}") as websocket:
                    seen.add(int(str(recv(websocket)).removeprefix("process ")))
            for program in (first, second):
                program.interrupt()
                assert program.wait().stderr == ""


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_idle_memory_prints_a_line_for_each_side() -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "topics" / "idle_memory.py", "20"],
        capture_output=True,
        text=True,
        timeout=3 * CLIENT_TIMEOUT,
    )

    assert done.stderr == ""
    assert [line.split("  ")[0] for line in done.stdout.splitlines()] == [
        "hubbub",
        "hubbub, deflate",
        "websockets",
        "websockets, deflate",
    ]
    assert all(line.endswith(" KiB per connection") for line in done.stdout.splitlines())
