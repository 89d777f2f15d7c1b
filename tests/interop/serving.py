"""The servers that clients are tried on: programs for hubbub, and the same for `websockets`."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.interop.raw import RawClient
from tests.programs import ROOT, Program, reserved_port

__all__ = ["LIBRARIES", "PROGRAMS", "WAITING", "Library", "Served", "serving"]

Library = Literal["hubbub", "websockets"]

LIBRARIES: tuple[Library, ...] = ("hubbub", "websockets")

# The line that makes a program one for a library.
IMPORTS: dict[Library, str] = {
    "hubbub": "from hubbub import ServerConnection, serve\n",
    "websockets": "from websockets.asyncio.server import ServerConnection, serve\n",
}
PORT = "8005"

PROGRAMS = {
    "example": ROOT / "examples" / "hello" / "server.py",
    "tutorial": ROOT / "tests" / "interop" / "programs" / "tutorial.py",
}
WAITING = ROOT / "tests" / "interop" / "programs" / "waiting.py"


@dataclass(frozen=True, slots=True)
class Served:
    """A running program and where it listens."""

    program: Program
    port: int

    @property
    def url(self) -> str:
        return f"ws://localhost:{self.port}"

    def connect(self) -> RawClient:
        return RawClient(self.program.connect(self.port), self.port)


@contextmanager
def serving(source: Path, library: Library, directory: Path) -> Generator[Served]:
    """Run a program, another port and perhaps another import in it, until the block ends.

    Args:
        source: It imports from hubbub and listens on port 8005.
        library: What it is to import from.
        directory: For the changed program.
    """
    with reserved_port() as port:
        text = replace(source.read_text(encoding="utf-8"), IMPORTS["hubbub"], IMPORTS[library])
        changed = directory / source.name
        changed.write_text(replace(text, PORT, str(port)), encoding="utf-8")
        with Program(changed) as program:
            served = Served(program, port)
            with served.connect() as client:  # it listens; and it serves
                client.shake_hands()
                client.send_close(1000)
                client.read_to_end()
            yield served


def replace(text: str, old: str, new: str) -> str:
    """Replace what occurs exactly once."""
    assert text.count(old) == 1, f"{old!r} occurs {text.count(old)} times"
    return text.replace(old, new)
