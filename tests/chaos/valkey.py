"""Valkey as the broker that chaos happens to: on any disk, in any namespace, awaited."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Literal

from tests.chaos.namespaces import Namespace
from tests.chaos.program import START_TIMEOUT, Program, ended
from tests.programs import reserved_port
from tests.servers.valkey import find_valkey

__all__ = ["Fsync", "Valkey", "valkey"]

Fsync = Literal["always", "everysec"]

_PORT_INSIDE = 6379
_LOOK = 0.02


class Valkey:
    """A server with an append-only file.

    Attributes:
        program: What runs.
        url: For hubs that are where it is, or at the far end of its cable.
        data: Folder of its file.
    """

    def __init__(self, program: Program, url: str, data: Path, door: Path) -> None:
        self.program = program
        self.url = url
        self.data = data
        self._door = door

    async def start(self) -> None:
        """Start it, and wait until it has read its file and answers."""
        self.data.mkdir(exist_ok=True)
        self._door.unlink(missing_ok=True)
        self.program.spawn()
        answer = b""
        try:
            async with asyncio.timeout(START_TIMEOUT):
                while answer != b"+PONG\r\n":
                    if not self.program.is_running:
                        raise AssertionError(f"it has ended: {self.program.tail()}")
                    await asyncio.sleep(_LOOK)
                    with contextlib.suppress(OSError):
                        answer = await self._ask("PING")
        except TimeoutError:
            raise AssertionError(f"no answer but {answer!r}: {self.program.tail()}") from None

    def forget(self) -> None:
        """Remove its data; it does not run."""
        shutil.rmtree(self.data)

    async def _ask(self, command: str) -> bytes:
        """Send an inline command over the Unix socket, which every namespace reaches."""
        reader, writer = await asyncio.open_unix_connection(self._door)
        try:
            writer.write(f"{command}\r\n".encode())
            return await reader.readline()
        finally:
            writer.close()
            await writer.wait_closed()


@asynccontextmanager
async def valkey(
    folder: Path,
    *,
    data: Path | None = None,
    fsync: Fsync = "always",
    inside: Namespace | None = None,
) -> AsyncIterator[Valkey]:
    """Run a server until the block ends.

    Args:
        folder: For its output and its Unix socket.
        data: Where its file is kept; `None`: in `folder`.
        fsync: When the file is on the disk: before each answer, or within a second.
        inside: Where it runs.
    """
    data = data or folder / "data"
    with ExitStack() as stack:
        if inside is None:
            address, port = "127.0.0.1", stack.enter_context(reserved_port())
        else:
            address, port = inside.address, _PORT_INSIDE
        door = folder / "valkey.sock"
        options = {
            "bind": address,
            "port": port,
            "protected-mode": "no",
            "unixsocket": door,
            "dir": data,
            "appendonly": "yes",
            "appendfsync": fsync,
            "save": "",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", f"{value}")]
        entrance = [] if inside is None else inside.entrance
        program = Program([*entrance, find_valkey(), *words], folder / "valkey.log")
        stack.enter_context(ended(program))
        made = Valkey(program, f"redis://{address}:{port}", data, door)
        await made.start()
        yield made
