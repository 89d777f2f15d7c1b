"""A node of a hub: `hubbub run` in a process of its own."""

import asyncio
import contextlib
import re
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeVar

import psutil

from tests.chaos.app import PRESENCE_TTL_VARIABLE
from tests.chaos.program import START_TIMEOUT, Program, ended, until
from tests.programs import reserved_port
from tests.timing import MS

__all__ = ["Node", "Workers", "node", "workers"]

N = TypeVar("N", bound="Node")

_HOST = "127.0.0.1"
_ANSWER_TIMEOUT = 2_000 * MS


class Node:
    """One node.

    Attributes:
        program: What runs.
        address: Where it listens.
    """

    def __init__(self, program: Program, address: tuple[str, int]) -> None:
        self.program = program
        self.address = address

    @property
    def url(self) -> str:
        """Where clients connect."""
        host, port = self.address
        return f"ws://{host}:{port}/connection/websocket"

    @property
    def rss(self) -> int:
        """Resident memory in bytes; 0: it does not run."""
        return self.program.rss

    async def start(self) -> None:
        """Start it, and wait until it serves."""
        self.program.spawn()
        await until(self.program, self.address)
        await self.ready(True)

    async def readiness(self) -> tuple[int, str]:
        """Ask `GET /readyz`; return the status and the text. 0: no answer."""
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT):
                reader, writer = await asyncio.open_connection(*self.address)
                with contextlib.closing(writer):
                    writer.write(b"GET /readyz HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n")
                    answer = await reader.read()
                await writer.wait_closed()
        except (OSError, TimeoutError) as exc:
            return 0, str(exc) or type(exc).__name__
        head, _, body = answer.decode(errors="replace").partition("\r\n\r\n")
        status = re.match(r"HTTP/1\.1 (\d+)", head)
        return int(status[1]) if status else 0, body.strip()

    async def ready(self, wanted: bool, timeout: float = START_TIMEOUT) -> str:
        """Wait until `/readyz` is green, or red; return its text.

        Raises:
            AssertionError: It is not, within so many seconds.
        """
        status, text = 0, ""
        try:
            async with asyncio.timeout(timeout):
                while True:
                    status, text = await self.readiness()
                    if (status == 200) if wanted else (status == 503):
                        return text
                    await asyncio.sleep(0.05)
        except TimeoutError:
            colour = "green" if wanted else "red"
            raise AssertionError(
                f"{self.program} is not {colour}: {status} {text}\n{self.program.tail()}"
            ) from None


class Workers(Node):
    """Several workers under a supervisor, which share a port and an embedded broker."""

    @property
    def rss(self) -> int:
        """That of the largest worker."""
        sizes = [0]
        for worker in self.workers():
            with contextlib.suppress(psutil.NoSuchProcess):
                sizes.append(worker.memory_info().rss)
        return max(sizes)

    def workers(self) -> list[psutil.Process]:
        """Return the workers that are alive."""
        return self._children(lambda program: program == sys.executable)

    def broker(self) -> psutil.Process:
        """Return the embedded broker, which is alive."""
        (found,) = self._children(lambda program: program != sys.executable)
        return found

    async def complete(self, count: int) -> None:
        """Wait until there are so many workers again, and the service is ready."""
        try:
            async with asyncio.timeout(START_TIMEOUT):
                while len(self.workers()) < count:
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"a worker is missing:\n{self.program.tail()}") from None
        await self.ready(True)

    def _children(self, is_meant: Callable[[str], bool]) -> list[psutil.Process]:
        found = []
        for child in psutil.Process(self.program.pid).children():
            # It may have ended, or not be what it will be yet.
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess, IndexError):
                if is_meant(child.cmdline()[0]):
                    found.append(child)
        return found


@asynccontextmanager
async def workers(folder: Path, count: int, *, presence_ttl: float) -> AsyncIterator[Workers]:
    """Run so many workers under a supervisor until the block ends."""
    options = [f"--workers={count}", "--drain=0"]
    serving = _serving(Workers, folder, "workers", "", presence_ttl, (), options)
    async with serving as made:
        yield made


@asynccontextmanager
async def node(
    folder: Path, name: str, broker: str, *, presence_ttl: float, entrance: Sequence[str] = ()
) -> AsyncIterator[Node]:
    """Run a node until the block ends.

    Args:
        folder: For its output.
        name: Of it.
        broker: URL.
        presence_ttl: Seconds, see `Hub`.
        entrance: Of a namespace that it is to run in; its clients come from outside all the same.
    """
    async with _serving(Node, folder, name, broker, presence_ttl, entrance, ()) as made:
        yield made


@asynccontextmanager
async def _serving(
    make: type[N],
    folder: Path,
    name: str,
    broker: str,
    presence_ttl: float,
    entrance: Sequence[str],
    options: Sequence[str],
) -> AsyncIterator[N]:
    environment = {"HUBBUB_BROKER": broker, PRESENCE_TTL_VARIABLE: f"{presence_ttl}"}
    run = [*entrance, sys.executable, "-m", "hubbub", "run", "tests.chaos.app:hub", *options]
    log = folder / f"{name}.log"
    with ExitStack() as stack:
        if entrance:
            # It is never restarted: who connects while nobody accepts would wait in the backlog.
            listening = stack.enter_context(socket.create_server((_HOST, 0)))
            address = listening.getsockname()
            command = [*run, f"--fd={listening.fileno()}"]
            program = Program(command, log, environment=environment, fds=[listening.fileno()])
        else:
            port = stack.enter_context(reserved_port())
            address = (_HOST, port)
            command = [*run, f"--host={_HOST}", f"--port={port}"]
            program = Program(command, log, environment=environment)
        stack.enter_context(ended(program))
        made = make(program, address)
        await made.start()
        yield made
        await program.stop()
