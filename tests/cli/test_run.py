"""`hubbub run` as a process: what is served, where, and how it ends."""

import json
import signal
import socket
import ssl
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect, unix_connect

from tests.cli.commands import TIMEOUT, hubbub
from tests.cli.conftest import Certificate

APP = """
import asyncio, logging, time

async def echo(websocket):
    async for message in websocket:
        await websocket.send(message)

async def shout(websocket):
    async for message in websocket:
        await websocket.send(message.upper())

async def fail(websocket):
    await websocket.recv()
    logging.getLogger("shop").info("two\\nlines \\x1b[2J")
    raise ValueError("forged\\nline")

async def never_end(websocket):
    await websocket.send("ready")
    await asyncio.Event().wait()

async def compute(websocket):
    await websocket.send("ready")
    await asyncio.sleep(0)
    print("computing", flush=True)
    while True:
        pass

async def hello(scope, receive, send):
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello from ASGI"})

paths = {"/": echo, "/shout": shout}
"""


@pytest.fixture
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with an application; its path is short enough for Unix sockets."""
    path = tmp_path_factory.mktemp("run")
    (path / "app.py").write_text(APP)
    return path


def test_run_serves_a_handler_of_the_working_directory(directory: Path) -> None:
    with hubbub("run", "app:echo", "--port", "0", cwd=directory) as command:
        with connect(command.url) as websocket:
            websocket.send("hi")
            assert websocket.recv(TIMEOUT) == "hi"

        assert "serves app:echo" in command.stdout.text


def test_run_serves_a_mapping_of_paths(directory: Path) -> None:
    with (
        hubbub("run", "app:paths", "--port", "0", cwd=directory) as command,
        connect(f"{command.url}/shout") as websocket,
    ):
        websocket.send("hi")
        assert websocket.recv(TIMEOUT) == "HI"


def test_run_serves_an_asgi_app_beside_the_handler(directory: Path) -> None:
    arguments = ["run", "app:echo", "--http", "app:hello", "--port", "0"]
    with hubbub(*arguments, cwd=directory) as command:
        assert httpx.get(f"http://localhost:{command.port}/any").text == "hello from ASGI"
        with connect(command.url) as websocket:
            websocket.send("hi")
            assert websocket.recv(TIMEOUT) == "hi"


@pytest.mark.parametrize(
    ("environment", "answer"), [({}, "hello from ASGI"), ({"HUBBUB_HEALTH": "1"}, "ready\n")]
)
def test_run_answers_for_health_before_the_app_if_told_so(
    directory: Path, environment: dict[str, str], answer: str
) -> None:
    arguments = ["run", "app:echo", "--http", "app:hello", "--port", "0"]
    with hubbub(*arguments, cwd=directory, env=environment) as command:
        assert httpx.get(f"http://localhost:{command.port}/readyz").text == answer


@pytest.mark.parametrize("command", ["run", "dev"])
def test_trusted_proxy_says_who_the_client_is(directory: Path, command: str) -> None:
    (directory / "who.py").write_text(
        "async def tell(websocket): await websocket.send(websocket.client_address)"
    )
    environment = {"HUBBUB_TRUSTED_PROXIES": "127.0.0.1 ::1"} if command == "run" else {}
    arguments = [] if environment else ["--trusted-proxy=127.0.0.1", "--trusted-proxy=::1"]
    said = {"X-Forwarded-For": "192.0.2.1"}
    with (
        hubbub(command, "who:tell", "--port=0", *arguments, cwd=directory, env=environment) as run,
        connect(run.url, additional_headers=said) as websocket,
    ):
        assert websocket.recv(TIMEOUT) == "192.0.2.1"


def test_proxy_that_is_none_is_an_error_of_the_command_line(directory: Path) -> None:
    arguments = ["run", "app:echo", "--trusted-proxy", "nginx"]
    with hubbub(*arguments, cwd=directory) as command:
        assert command.wait() == 2
        assert "'nginx' is not an address, a network" in command.stderr.text


def test_run_takes_options_from_the_environment(directory: Path) -> None:
    env = {"HUBBUB_HOST": "127.0.0.1", "HUBBUB_PORT": "0", "HUBBUB_LOG_FORMAT": "JSON"}
    with hubbub("run", "app:echo", cwd=directory, env=env) as command:
        command.stderr.wait_for('"message": "server listening on 127.0.0.1')
        command.signal(signal.SIGTERM)

        assert command.wait() == 0
        assert command.stdout.text == ""
        for line in command.stderr.text.splitlines():
            assert {"time", "level", "logger", "message"} <= set(json.loads(line))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_closes_clients_with_1001(directory: Path, number: signal.Signals) -> None:
    with hubbub("run", "app:echo", "--port", "0", cwd=directory) as command:
        with connect(command.url) as websocket:
            websocket.send("hi")
            websocket.recv(TIMEOUT)
            command.signal(number)
            with pytest.raises(ConnectionClosed) as closed:
                websocket.recv(TIMEOUT)

        assert command.wait() == 0
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
        assert "Traceback" not in command.stderr.text


def test_second_signal_forces_the_end(directory: Path) -> None:
    uds = directory / "s"
    with hubbub("run", "app:never_end", "--uds", str(uds), cwd=directory) as command:
        command.stdout.wait_for(r"Ctrl\+C stops it")
        with unix_connect(str(uds)) as websocket:
            websocket.recv(TIMEOUT)
            command.signal(signal.SIGINT)
            command.stderr.wait_for("stopping")
            command.signal(signal.SIGINT)

            assert command.wait() == -signal.SIGINT
            assert "Traceback" not in command.stderr.text
            assert not uds.exists()


def test_repeated_signal_ends_a_loop_that_is_held_up(directory: Path) -> None:
    with (
        hubbub("run", "app:compute", "--port", "0", cwd=directory) as command,
        connect(command.url) as websocket,
    ):
        websocket.recv(TIMEOUT)
        command.stdout.wait_for("computing")
        # Two are enough, but of a burst the kernel makes one; and gVisor gives some to a thread
        # that is not Python's main thread, which a main thread that computes never hears of.
        command.signal_until_end(signal.SIGINT)

        assert command.wait() == -signal.SIGINT


def test_text_logs_cannot_be_forged(directory: Path) -> None:
    with hubbub("run", "app:fail", "--port", "0", cwd=directory) as command:
        with connect(command.url) as websocket:
            websocket.send("go")
            with pytest.raises(ConnectionClosed):
                websocket.recv(TIMEOUT)
        command.stderr.wait_for(r"INFO     shop: two\\nlines \\x1b\[2J$")
        command.stderr.wait_for(r"^    \| line$")

    assert "\nline" not in command.stderr.text


def test_json_logs_hold_the_traceback(directory: Path) -> None:
    options = ("--port", "0", "--log-format", "json")
    with hubbub("run", "app:fail", *options, cwd=directory) as command:
        match = command.stderr.wait_for(r"server listening on 127\.0\.0\.1:(\d+)")
        with connect(f"ws://127.0.0.1:{match[1]}") as websocket:
            websocket.send("go")
        failed = command.stderr.wait_for('.*"exception".*')

    record = json.loads(failed[0])
    assert record["level"] == "error"
    assert record["exception"].endswith("ValueError: forged\nline")


def test_run_serves_tls(directory: Path, certificate: Certificate) -> None:
    options = ("--ssl-certfile", str(certificate.chain), "--ssl-keyfile", str(certificate.key))
    with hubbub("run", "app:echo", "--port", "0", *options, cwd=directory) as command:
        context = ssl.create_default_context(cafile=str(certificate.authority))
        with connect(f"wss://localhost:{command.port}", ssl=context) as websocket:
            websocket.send("hi")
            assert websocket.recv(TIMEOUT) == "hi"

        assert f"https://localhost:{command.port}" in command.stdout.text


def test_run_serves_on_a_unix_socket(directory: Path) -> None:
    uds = directory / "s"
    with hubbub("run", "app:echo", "--uds", str(uds), cwd=directory) as command:
        command.stdout.wait_for(r"Ctrl\+C stops it")
        with unix_connect(str(uds)) as websocket:
            websocket.send("hi")
            assert websocket.recv(TIMEOUT) == "hi"
        command.signal(signal.SIGTERM)

        assert command.wait() == 0
        assert str(uds) in command.stdout.text
        assert not uds.exists()


def test_run_serves_on_an_inherited_socket(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        fd = server.fileno()
        port = server.getsockname()[1]
        with hubbub("run", "app:echo", "--fd", str(fd), cwd=directory, fds=[fd]) as command:
            assert command.port == port
            with connect(command.url) as websocket:
                websocket.send("hi")
                assert websocket.recv(TIMEOUT) == "hi"


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("nothing:echo", "error: no module 'nothing' in "),
        ("app:ecko", "error: module 'app' has no attribute 'ecko': did you mean 'echo'?"),
    ],
)
def test_run_without_an_application_is_one_line_and_code_1(
    directory: Path, target: str, problem: str
) -> None:
    with hubbub("run", target, "--port", "0", cwd=directory) as command:
        assert command.wait() == 1

    assert command.stdout.text == ""
    assert command.stderr.text.startswith(problem)
    assert len(command.stderr.text.splitlines()) == 1
