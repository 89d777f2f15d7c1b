"""Servers under test that are programs: Python files run as child processes."""

import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.timing import MS

__all__ = ["Exit", "Program", "reserved_port"]

ROOT = Path(__file__).parents[1]

# A fresh interpreter on a busy machine: imports alone take a second there.
START_TIMEOUT = 20_000 * MS
STOP_TIMEOUT = 15_000 * MS


@dataclass(frozen=True, slots=True)
class Exit:
    """How a program ended.

    Attributes:
        code: Its exit code; negative: the signal that ended it.
        stderr: All that it wrote there.
    """

    code: int
    stderr: str


class Program:
    """A Python program in a child process, killed at the latest when its block ends.

    ResourceWarnings are on: a program that leaves a socket open says so on stderr.
    """

    def __init__(self, *args: str | Path, environment: Mapping[str, str] | None = None) -> None:
        """Set the arguments of the interpreter, and variables on top of the test's own."""
        self.environment = os.environ | (environment or {})
        self.unread = b""
        self.command = [sys.executable, "-W", "always::ResourceWarning", *map(str, args)]

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.stderr = stack.enter_context(tempfile.TemporaryFile())
            self.process = stack.enter_context(
                subprocess.Popen(
                    self.command,
                    cwd=ROOT,
                    env=self.environment,
                    stdout=subprocess.PIPE,
                    stderr=self.stderr,
                    text=True,
                )
            )
            stack.callback(self.process.kill)
            self.stack = stack.pop_all()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stack.close()

    def read_line(self) -> str:
        """Wait for the next line on stdout, flushed as a whole by the program."""
        assert self.process.stdout is not None
        # Not by the stream: a line that waits in its buffer is none that `select` knows of.
        while b"\n" not in self.unread:
            ready, _, _ = select.select([self.process.stdout], [], [], START_TIMEOUT)
            data = os.read(self.process.stdout.fileno(), 65_536) if ready else b""
            if not data:
                raise AssertionError(f"{self.command} wrote no line; stderr: {self.read_stderr()}")
            self.unread += data
        line, _, self.unread = self.unread.partition(b"\n")
        return line.decode()

    def connect(self, port: int) -> socket.socket:
        """Wait until the program listens on a port of localhost, and return a connection to it."""
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                return socket.create_connection(("localhost", port), timeout=START_TIMEOUT)
            except ConnectionRefusedError:
                ended = self.process.poll() is not None
                if ended or time.monotonic() > deadline:
                    raise AssertionError(
                        f"{self.command} does not listen on {port}; stderr: {self.read_stderr()}"
                    ) from None
            time.sleep(5 * MS)  # between two looks: nothing tells another process that it listens

    def interrupt(self) -> None:
        """Send SIGINT, as Ctrl+C does."""
        self.process.send_signal(signal.SIGINT)

    def wait(self) -> Exit:
        """Wait for the end."""
        code = self.process.wait(STOP_TIMEOUT)
        return Exit(code, self.read_stderr())

    def read_stderr(self) -> str:
        """Return what the program has written on stderr up to now."""
        # At an offset of our own: the child shares that of the file object.
        size = os.fstat(self.stderr.fileno()).st_size
        return os.pread(self.stderr.fileno(), size, 0).decode(errors="replace")


@contextmanager
def reserved_port() -> Iterator[int]:
    """Hold a port of localhost, IPv4 and IPv6, for a program that cannot be given port 0.

    The sockets are bound and do not listen: a server that sets SO_REUSEADDR, as asyncio's do, may
    bind the port too, and the kernel gives it to nobody who asks for any port.
    """
    for _ in range(100):
        with ExitStack() as stack:
            held = stack.enter_context(_bound(socket.AF_INET, "127.0.0.1", 0))
            port: int = held.getsockname()[1]
            if _has_ipv6():
                try:
                    stack.enter_context(_bound(socket.AF_INET6, "::1", port))
                except OSError:
                    continue  # somebody's, on IPv6 only
            yield port
            return
    raise AssertionError("no port is free on both 127.0.0.1 and ::1")


def _bound(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    held = socket.socket(family, socket.SOCK_STREAM)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((host, port))
    except OSError:
        held.close()
        raise
    return held


def _has_ipv6() -> bool:
    try:
        _bound(socket.AF_INET6, "::1", 0).close()
    except OSError:
        return False
    return True
