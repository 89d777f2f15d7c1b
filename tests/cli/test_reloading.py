"""`hubbub dev`: a child that is replaced, and never outlives its parent."""

import os
import signal
import time
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.cli.commands import TIMEOUT, Command, hubbub
from tests.timing import MS

APP = """
import os
async def greet(websocket):
    await websocket.send(f"{os.getpid()} GREETING")
    async for message in websocket:
        pass
"""

SLOW_TO_END = APP.replace(
    "        pass",
    """        pass
    import asyncio
    await asyncio.sleep(0.5)
    print("ended in order", flush=True)""",
)


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """The file of an application that tells its process id and a greeting."""
    path = tmp_path / "app.py"
    path.write_text(APP)
    return path


def greeting(command: Command) -> list[str]:
    with connect(command.url) as websocket:
        return str(websocket.recv(TIMEOUT)).split()


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(10 * MS)  # between two looks: nothing tells of another one's child
    os.kill(pid, signal.SIGKILL)
    raise AssertionError(f"process {pid} was still there")


def test_change_replaces_the_child_on_the_same_port(app: Path) -> None:
    with hubbub("dev", "app:greet", "--port", "0", cwd=app.parent) as command:
        before = greeting(command)
        with connect(command.url) as websocket:
            websocket.recv(TIMEOUT)
            app.write_text(APP.replace("GREETING", "CHANGED"))
            with pytest.raises(ConnectionClosed) as closed:
                websocket.recv(TIMEOUT)
        command.stdout.wait_for("Ctrl.C stops it", times=2)
        after = greeting(command)

        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
        assert before[1] == "GREETING"
        assert after[1] == "CHANGED"
        assert before[0] != after[0]
        assert "app.py changed: restarting" in command.stderr.text


def test_syntax_error_waits_for_the_next_change(app: Path) -> None:
    with hubbub("run", "app:greet", "--reload", "--port", "0", cwd=app.parent) as command:
        greeting(command)
        app.write_text("def (:\n")
        command.stderr.wait_for(r"error: cannot import 'app': SyntaxError: .* \(app.py, line 1\)")
        command.stderr.wait_for("the server ended: waiting for a change")
        app.write_text(APP)
        command.stdout.wait_for("Ctrl.C stops it", times=2)

        assert greeting(command)[1] == "GREETING"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_stops_parent_and_child(app: Path, number: signal.Signals) -> None:
    with hubbub("dev", "app:greet", "--port", "0", cwd=app.parent) as command:
        with connect(command.url) as websocket:
            pid = int(str(websocket.recv(TIMEOUT)).split()[0])
            command.signal(number)
            with pytest.raises(ConnectionClosed) as closed:
                websocket.recv(TIMEOUT)

        assert command.wait() == 0
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
        assert "Traceback" not in command.stderr.text
        wait_until_gone(pid)


def test_ctrl_c_of_a_terminal_is_one_request_for_both(app: Path) -> None:
    # A terminal sends SIGINT to both; that the parent also asks the child must not force it. The
    # child is still busy with the first request then.
    app.write_text(SLOW_TO_END)
    with hubbub("dev", "app:greet", "--port", "0", cwd=app.parent) as command:
        with connect(command.url) as websocket:
            pid = int(str(websocket.recv(TIMEOUT)).split()[0])
            os.kill(pid, signal.SIGINT)
            command.signal(signal.SIGINT)
            with pytest.raises(ConnectionClosed) as closed:
                websocket.recv(TIMEOUT)

        assert command.wait() == 0
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
        assert "ended in order" in command.stdout.text


def test_child_ends_when_its_parent_is_killed(app: Path) -> None:
    with hubbub("dev", "app:greet", "--port", "0", cwd=app.parent) as command:
        pid = int(greeting(command)[0])
        command.signal(signal.SIGKILL)
        command.process.wait(TIMEOUT)

        wait_until_gone(pid)


def test_taken_port_ends_dev_with_code_1(app: Path) -> None:
    with hubbub("hello", "--port", "0") as other:
        arguments = ("dev", "app:greet", "--port", str(other.port))
        with hubbub(*arguments, cwd=app.parent) as command:
            assert command.wait() == 1
            assert f"port {other.port} is already in use" in command.stderr.text
