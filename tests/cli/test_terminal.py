"""`hubbub connect` and the progress bar in a terminal: a pty with a small person in front of it."""

import os
import pty
import queue
import re
import select
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from websockets.sync.server import ServerConnection

from tests.cli.servers import echo, serving
from tests.timing import MS

TIMEOUT = 20_000 * MS

CTRL_C = b"\x03"
CTRL_D = b"\x04"

_CONTROL_SEQUENCE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|[@-Z\\-_]|\][^\x07]*\x07)")


class Terminal:
    """The master side of a pty in which `hubbub` runs."""

    def __init__(self, process: subprocess.Popen[bytes], master: int, slave: int) -> None:
        self.process = process
        self._master = master
        self._slave = slave
        self.raw = ""

    @property
    def text(self) -> str:
        """All that was written, without control sequences."""
        return _CONTROL_SEQUENCE.sub("", self.raw)

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def wait_for(self, pattern: str, *, raw: bool = False) -> None:
        deadline = time.monotonic() + TIMEOUT
        while not re.search(pattern, self.raw if raw else self.text):
            ready, _, _ = select.select([self._master], [], [], deadline - time.monotonic())
            if not ready:
                raise AssertionError(f"no {pattern!r} in {self.raw!r}")
            self.raw += os.read(self._master, 65536).decode()

    def wait(self) -> int:
        return self.process.wait(TIMEOUT)

    def is_cooked(self) -> bool:
        """Whether the terminal is as a shell wants it: lines, echo, signals."""
        flags = termios.tcgetattr(self._slave)[3]
        wanted = termios.ICANON | termios.ECHO | termios.ISIG
        return bool(flags & wanted == wanted)


@contextmanager
def terminal(*arguments: str) -> Iterator[Terminal]:
    """Run `hubbub` in a new terminal; what still runs when the block ends is killed."""
    master, slave = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "hubbub", *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=env,
        start_new_session=True,
    )
    try:
        yield Terminal(process, master, slave)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(master)
        os.close(slave)


@pytest.mark.parametrize("key", [CTRL_C, CTRL_D])
def test_typed_lines_are_sent_and_control_keys_close_with_1000(key: bytes) -> None:
    closed: queue.SimpleQueue[int | None] = queue.SimpleQueue()

    def handler(websocket: ServerConnection) -> None:
        echo(websocket)
        closed.put(websocket.close_code)

    with serving(handler) as port, terminal("connect", f"localhost:{port}") as window:
        window.wait_for(r"connected to ws://localhost:\d+; Ctrl\+D closes")
        window.wait_for("> ")
        window.type(b"one\r")
        window.wait_for("< one")
        window.type(b"two\r")
        window.wait_for("< two")
        window.type(key)
        window.wait_for("closed by us with 1000 normal closure")

        assert window.wait() == 0
        assert "Traceback" not in window.text
        assert window.is_cooked()
    assert closed.get(timeout=TIMEOUT) == 1000


def test_message_arrives_above_what_is_being_typed() -> None:
    typing = threading.Event()

    def interrupt(websocket: ServerConnection) -> None:
        websocket.recv()
        typing.wait(TIMEOUT)
        websocket.send("meanwhile")
        websocket.send(f"you wrote {websocket.recv()!r}")
        websocket.recv()

    with serving(interrupt) as port, terminal("connect", f"localhost:{port}") as window:
        window.wait_for("> ")
        window.type(b"start\r")
        window.type(b"half a li")
        window.wait_for("> half a li")
        typing.set()
        window.wait_for("< meanwhile")
        # Drawn anew below the message.
        window.wait_for("< meanwhile(.|\n)*> half a li")
        window.type(b"ne\r")
        window.wait_for("< you wrote 'half a line'")
        window.type(CTRL_D)

        assert window.wait() == 0


def test_server_that_closes_ends_the_prompt() -> None:
    def greet(websocket: ServerConnection) -> None:
        websocket.send("Hello World!")

    with serving(greet) as port, terminal("connect", f"localhost:{port}") as window:
        window.wait_for("< Hello World!")
        window.wait_for("closed by the server with 1000 normal closure")

        assert window.wait() == 0
        assert window.is_cooked()


def test_messages_cannot_command_the_terminal() -> None:
    def attack(websocket: ServerConnection) -> None:
        websocket.send("\x1b]0;owned\x07[bold red]\u202e")
        websocket.send(b"\x1b[2J")
        websocket.recv()

    with serving(attack) as port, terminal("connect", f"localhost:{port}") as window:
        window.wait_for(r"< \\x1b\]0;owned\\x07\[bold red\]\\u202e")
        window.wait_for(r"< binary, 4 bytes: 1b 5b 32 4a \|\.\[2J\|")
        window.wait_for("> ")
        window.type(CTRL_D)

        assert window.wait() == 0
        assert "\x1b]0;" not in window.raw
        assert "\x1b[2J" not in window.raw


def test_directions_have_their_colours() -> None:
    with serving(echo) as port, terminal("connect", f"localhost:{port}") as window:
        window.wait_for("> ")
        window.type(b"hi\r")
        window.wait_for("\x1b\\[1;36m< ", raw=True)
        window.wait_for("\x1b\\[0;32;1m> ", raw=True)
        window.type(CTRL_D)

        assert window.wait() == 0


def test_sigterm_closes_with_1000() -> None:
    with serving(echo) as port, terminal("connect", f"localhost:{port}") as window:
        window.wait_for("> ")
        window.process.send_signal(signal.SIGTERM)
        window.wait_for("closed by us with 1000")

        assert window.wait() == 0
        assert window.is_cooked()


def test_bench_draws_its_progress_in_a_terminal_only() -> None:
    arguments = ("--connections", "2", "--seconds", "0.5")
    with (
        serving(echo) as port,
        terminal("bench", "echo", f"localhost:{port}", *arguments) as window,
    ):
        window.wait_for(r"[\d,]+ messages \d:\d\d:\d\d")
        window.wait_for("latency max")

        assert window.wait() == 0


def test_ctrl_c_ends_bench_quietly() -> None:
    arguments = ("--connections", "2", "--seconds", "60")
    with (
        serving(echo) as port,
        terminal("bench", "echo", f"localhost:{port}", *arguments) as window,
    ):
        window.wait_for("[1-9][0-9,]* messages")
        window.process.send_signal(signal.SIGINT)

        assert window.wait() == 130
        assert "Traceback" not in window.text
