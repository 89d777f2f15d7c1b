"""Example programs under test: run as a reader runs them, but on a port of their own."""

import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from tests.programs import ROOT, Program, reserved_port
from tests.timing import MS

__all__ = ["EXAMPLES", "Example", "changed", "running"]

EXAMPLES = ROOT / "examples"
PORT = "8005"
CLIENT_TIMEOUT = 20_000 * MS


@dataclass(frozen=True, slots=True)
class Example:
    """A running example, and where it listens."""

    program: Program
    port: int

    def connect(
        self, path: str = "/", *, origin: str | None = None, headers: Mapping[str, str] = {}
    ) -> ClientConnection:
        """Open a WebSocket."""
        return connect(
            f"ws://localhost:{self.port}{path}",
            origin=None if origin is None else Origin(origin),
            additional_headers=headers,
            open_timeout=CLIENT_TIMEOUT,
        )

    def url(self, path: str) -> str:
        return f"http://localhost:{self.port}{path}"


def changed(source: Path, directory: Path, changes: Mapping[str, str]) -> Path:
    """Copy a program, with changes of what occurs in it."""
    text = source.read_text(encoding="utf-8")
    for old, new in changes.items():
        assert old in text, f"{old!r} does not occur in {source}"
        text = text.replace(old, new)
    copy = directory / source.name
    copy.write_text(text, encoding="utf-8")
    return copy


@contextmanager
def running(
    source: Path, directory: Path, changes: Mapping[str, str] | None = None
) -> Generator[Example]:
    """Run a program that listens on port 8005, on another port, until the block ends.

    Args:
        source: In `examples`, or elsewhere.
        directory: For the copy that is run.
        changes: What else is different in the copy, such as a timeout made short.
    """
    with reserved_port() as port:
        copy = changed(source, directory, {**(changes or {}), PORT: str(port)})
        with Program("-u", copy) as program:
            with program.connect(port) as probe:
                # To its end: a connection that is still open at Ctrl+C is a ResourceWarning.
                probe.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                while probe.recv(65536):
                    pass
            yield Example(program, port)
    shutil.rmtree(directory / "__pycache__", ignore_errors=True)
