"""`hubbub hello` as a process, with a real client."""

import signal
import socket

import pytest
from websockets.exceptions import ConnectionClosedOK
from websockets.sync.client import connect

from tests.cli.commands import TIMEOUT, hubbub


def test_hello_greets_and_says_where_it_is() -> None:
    with hubbub("hello", "--port", "0") as command:
        with connect(command.url) as websocket:
            greeting = websocket.recv(TIMEOUT)
            with pytest.raises(ConnectionClosedOK):
                websocket.recv(TIMEOUT)
        command.stdout.wait_for(r"Ctrl\+C stops it")

    assert greeting == "Hello World!"
    assert f"http://localhost:{command.port}" in command.stdout.text
    assert f"ws://localhost:{command.port}" in command.stdout.text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_stops_hello_with_code_0(number: signal.Signals) -> None:
    with hubbub("hello", "--port", "0") as command:
        with connect(command.url) as websocket:
            websocket.recv(TIMEOUT)
        command.signal(number)

        assert command.wait() == 0
        assert "Traceback" not in command.stderr.text


def test_taken_port_is_one_line_and_code_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with hubbub("hello", "--host", "127.0.0.1", "--port", str(port)) as command:
            assert command.wait() == 1

    assert command.stdout.text == ""
    assert command.stderr.text == (
        f"error: port {port} is already in use: choose another with --port"
    )
