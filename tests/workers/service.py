"""A service of several worker processes, and clients that follow it through everything."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import centrifuge  # type: ignore[import-untyped]  # it has no py.typed
import psutil
from websockets.asyncio.client import connect

from tests.cli.commands import TIMEOUT, Command, hubbub
from tests.timing import MS

__all__ = [
    "APP",
    "Follower",
    "descendants",
    "greeting_pid",
    "publishing",
    "serving",
    "until",
    "wait_gone",
    "worker_pids",
]

APP = """
import os
from hubbub import Hub

hub = Hub()
hub.channel("chat:{room}", history=10_000, ttl=300, subscribe="anyone", presence=True)

@hub.rpc("pid")
def pid(client) -> int:
    return os.getpid()

@hub.rpc("say")
async def say(client, said: tuple[str, int]) -> int:
    # Said again after an error, it is published once.
    room, number = said
    await hub.publish(f"chat:{room}", number, idempotency_key=str(number))
    return os.getpid()

async def greet(websocket):
    await websocket.send(f"{os.getpid()} {os.environ['HUBBUB_WORKER']}")
    await websocket.wait_closed()

routes = {"/connection/websocket": hub, "/": greet}
"""

CHECK_INTERVAL = 5 * MS


@contextmanager
def serving(
    folder: Path, *arguments: str, env: Mapping[str, str] | None = None, workers: int = 2
) -> Iterator[Command]:
    """Run the application in worker processes on any port; its temporary files are in a folder."""
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    options = ("--port", "0", "--workers", str(workers), "--drain", "0.2")
    with hubbub(
        "run",
        "app:routes",
        *options,
        *arguments,
        cwd=folder,
        env={"TMPDIR": str(temporary)} | (dict(env or {})),
    ) as command:
        yield command


def descendants(command: Command) -> list[psutil.Process]:
    """Return all processes below a command."""
    return psutil.Process(command.process.pid).children(recursive=True)


def worker_pids(command: Command) -> set[int]:
    """Return the ids of the worker processes."""
    found = set[int]()
    for each in descendants(command):
        with suppress(psutil.NoSuchProcess):  # it ended just now
            if "valkey" not in each.name() and _is_alive(each):
                found.add(each.pid)
    return found


def wait_gone(processes: list[psutil.Process]) -> None:
    """Wait for processes to be no more."""
    deadline = time.monotonic() + TIMEOUT
    while alive := [each for each in processes if _is_alive(each)]:
        assert time.monotonic() < deadline, f"still there: {alive}"
        time.sleep(CHECK_INTERVAL)  # between two looks: nothing tells of another one's child


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def until(condition: Any) -> None:
    """Wait until something that another process does has come to be."""
    async with asyncio.timeout(TIMEOUT):
        while not condition():
            await asyncio.sleep(CHECK_INTERVAL)


async def greeting_pid(command: Command) -> int:
    """Open a connection, and return the process that greets."""
    async with connect(command.url, proxy=None, open_timeout=TIMEOUT) as websocket:
        return int(str(await websocket.recv()).split()[0])


class Follower:
    """A client of the SDK for Python, subscribed to a channel for good.

    Attributes:
        seen: What was published, in the order in which it came.
        breaks: How often it was told that its position was lost.
        codes: With which it was disconnected.
    """

    def __init__(self, url: str, room: str) -> None:
        self.room = room
        self.seen: list[int] = []
        self.breaks = 0
        self.codes: list[int] = []
        self._client = centrifuge.Client(
            f"{url}/connection/websocket",
            events=_ClientEvents(self),
            timeout=TIMEOUT,
            min_reconnect_delay=10 * MS,
            max_reconnect_delay=100 * MS,
            proxy=None,
        )
        self._subscription = self._client.new_subscription(
            f"chat:{room}",
            events=_SubscriptionEvents(self),
            recoverable=True,
            min_resubscribe_delay=10 * MS,
            max_resubscribe_delay=100 * MS,
        )

    async def __aenter__(self) -> Self:
        await self._client.connect()
        await self._subscription.subscribe()
        await self._subscription.ready(TIMEOUT)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._client.disconnect()

    async def pid(self) -> int:
        """Ask which process it is connected to."""
        return int(await self._rpc("pid", None))

    async def say(self, number: int) -> int:
        """Have a number published, again and again until it is; return who did it."""
        return int(await self._rpc("say", [self.room, number]))

    async def _rpc(self, method: str, data: Any) -> Any:
        async with asyncio.timeout(TIMEOUT):
            while True:
                with suppress(centrifuge.CentrifugeError):
                    result = await self._client.rpc(method, data)
                    return result.data
                await asyncio.sleep(CHECK_INTERVAL)

    async def has_seen(self, count: int) -> None:
        """Wait for the numbers from 0 on, and check that they came once and in order."""
        await until(lambda: len(self.seen) >= count or self.breaks)
        assert self.seen == list(range(len(self.seen)))
        assert len(self.seen) >= count


class _ClientEvents(centrifuge.ClientEventHandler):  # type: ignore[misc]  # untyped
    def __init__(self, follower: Follower) -> None:
        self.follower = follower

    async def on_connecting(self, context: centrifuge.ConnectingContext) -> None:
        self.follower.codes.append(context.code)


class _SubscriptionEvents(centrifuge.SubscriptionEventHandler):  # type: ignore[misc]  # untyped
    def __init__(self, follower: Follower) -> None:
        self.follower = follower

    async def on_publication(self, context: centrifuge.PublicationContext) -> None:
        self.follower.seen.append(int(context.pub.data))

    async def on_subscribed(self, context: centrifuge.SubscribedContext) -> None:
        if context.was_recovering and not context.recovered:
            self.follower.breaks += 1


@asynccontextmanager
async def publishing(follower: Follower, pause: float = 2 * MS) -> AsyncGenerator[list[int]]:
    """Publish 0, 1, 2, ... in the block; yields what was published so far."""
    published: list[int] = []
    ended = asyncio.Event()

    async def publish() -> None:
        while not ended.is_set():
            await follower.say(len(published))
            published.append(len(published))
            await asyncio.sleep(pause)

    async with asyncio.TaskGroup() as group:
        group.create_task(publish())
        yield published
        ended.set()
