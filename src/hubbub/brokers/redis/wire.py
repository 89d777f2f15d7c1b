"""One connection to a server: what is called in one tick goes out together, answers come in order.

`redis-py` makes the connection, with TLS, password and database, and reads answers; what is ours is
that any number of commands may be under way on it.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from redis.exceptions import RedisError, ResponseError

from hubbub.errors import BrokerError

__all__ = [
    "NAME",
    "Argument",
    "Connection",
    "LinkLost",
    "Refused",
    "Subscriptions",
    "Wire",
    "first_problem",
]

NAME = "redis"
"""The broker's name in errors."""

Argument = bytes | str | int

NAMES_PER_COMMAND = 1_000


class Connection(Protocol):
    """The part of `redis.asyncio.Connection` that is used here."""

    async def send_packed_command(self, command: list[bytes], check_health: bool = ...) -> None:
        """Write, and wait while the socket takes no more."""

    async def read_response(self, disable_decoding: bool = ..., timeout: float | None = ...) -> Any:  # noqa: ASYNC109
        """Wait for the next answer; raise it if it is an error."""

    def pack_command(self, *args: Any) -> list[bytes]:
        """Encode a command."""

    async def disconnect(self, nowait: bool = ...) -> None:
        """Close."""


class LinkLost(Exception):
    """The connection to the server is gone, or is of no use any more."""


class Refused(BrokerError):
    """The server answered a command with an error; nothing was done.

    Attributes:
        code: The first word of the error, such as `OOM` or `READONLY`.
        detail: The rest.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(NAME, f"the server refused: {code} {detail}")
        self.code = code
        self.detail = detail


class _Waiting(NamedTuple):
    answer: asyncio.Future[Any]
    size: int


class _Line:
    """A connection with somebody who writes, once a tick, and somebody who reads."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._unsent: list[bytes] = []
        self._work = asyncio.Event()
        self.lost = False

    def send(self, *args: Argument) -> int:
        """Have a command written in the next tick, behind those before; return its size."""
        packed = self._connection.pack_command(*args)
        self._unsent += packed
        self._work.set()
        return sum(map(len, packed))

    async def run(self) -> None:
        """Write and read, until cancelled.

        Raises:
            LinkLost: The connection has ended.
        """
        problem = ""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._write())
                group.create_task(self._read())
        except* (RedisError, OSError, LinkLost) as exc:
            problem = first_problem(exc)
        finally:
            self.lost = True
            self._fail()
        raise LinkLost(problem)

    async def _write(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            if self.lost:
                return  # `redis-py` would connect again by itself
            unsent, self._unsent = self._unsent, []
            await self._connection.send_packed_command([b"".join(unsent)], check_health=False)

    async def _read(self) -> None:
        read = self._connection.read_response
        try:
            while True:
                try:
                    answer = await read(disable_decoding=True, timeout=math.inf)
                except ResponseError as exc:
                    self._refuse(refusal(exc))
                else:
                    self._take(answer)
        finally:
            self.lost = True

    def _take(self, answer: Any) -> None:
        raise NotImplementedError

    def _refuse(self, error: Refused) -> None:
        raise NotImplementedError

    def _fail(self) -> None:
        raise NotImplementedError


class Wire(_Line):
    """A connection for commands.

    Args:
        limit: Most bytes of commands that wait for their answers.
    """

    def __init__(self, connection: Connection, limit: int) -> None:
        super().__init__(connection)
        self._limit = limit
        self._waiting: deque[_Waiting] = deque()
        self._size = 0

    def call(self, *args: Argument) -> asyncio.Future[Any]:
        """Send a command; what is returned is its answer.

        Raises:
            BrokerError: Nothing was sent: the link is down, or too much waits.
            Refused: On waiting: the server said no.
            BrokerError: On waiting: the link broke before the answer came.
        """
        if self.lost:
            raise BrokerError(NAME, "the link to the server is down")
        if self._size > self._limit:
            raise BrokerError(
                NAME,
                f"{self._size} bytes of commands wait for the server, over pending={self._limit}",
            )
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        size = self.send(*args)
        self._size += size
        self._waiting.append(_Waiting(answer, size))
        return answer

    def _pop(self) -> asyncio.Future[Any]:
        if not self._waiting:
            raise LinkLost("the server sent an answer that nobody waits for")
        answer, size = self._waiting.popleft()
        self._size -= size
        return answer

    def _take(self, answer: Any) -> None:
        waiting = self._pop()
        if not waiting.done():
            waiting.set_result(answer)

    def _refuse(self, error: Refused) -> None:
        waiting = self._pop()
        if not waiting.done():
            waiting.set_exception(error)
            waiting.exception()  # whoever waited may be gone

    def _fail(self) -> None:
        while self._waiting:
            waiting = self._pop()
            if not waiting.done():
                problem = "the link broke before the server's answer: it may have been done, or not"
                waiting.set_exception(BrokerError(NAME, problem))
                waiting.exception()  # as above


class _Change:
    """A command that changes subscriptions, and is answered for each of its names."""

    __slots__ = ("done", "kind", "names")

    def __init__(self, kind: bytes, names: set[bytes]) -> None:
        self.kind = kind
        self.names = names
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Subscriptions(_Line):
    """A connection for pub/sub.

    Args:
        sharded: Use sharded pub/sub.
        take: Called with the name and the message of everything that is published.
        dropped: Called with a name that the server unsubscribed by itself: its slot has moved.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        sharded: bool,
        take: Callable[[bytes, bytes], object],
        dropped: Callable[[bytes], object],
    ) -> None:
        super().__init__(connection)
        letter = b"s" if sharded else b""
        self._message = letter + b"message"
        self._subscribe = letter + b"subscribe"
        self._unsubscribe = letter + b"unsubscribe"
        self._on_message = take
        self._on_dropped = dropped
        self._changes: deque[_Change] = deque()

    def subscribe(self, groups: Sequence[Sequence[bytes]]) -> list[asyncio.Future[None]]:
        """Subscribe; what is returned is done when the server has confirmed it.

        Args:
            groups: Names; those of a group may go in one command.

        Raises:
            BrokerError: The link is down.
        """
        return self._change(self._subscribe, groups)

    def unsubscribe(self, groups: Sequence[Sequence[bytes]]) -> list[asyncio.Future[None]]:
        """Unsubscribe, likewise."""
        return self._change(self._unsubscribe, groups)

    def _change(self, kind: bytes, groups: Sequence[Sequence[bytes]]) -> list[asyncio.Future[None]]:
        if self.lost:
            raise BrokerError(NAME, "the link to the server is down")
        done: list[asyncio.Future[None]] = []
        for group in groups:
            for start in range(0, len(group), NAMES_PER_COMMAND):
                names = group[start : start + NAMES_PER_COMMAND]
                change = _Change(kind, set(names))
                self._changes.append(change)
                self.send(kind, *names)
                done.append(change.done)
        return done

    def _take(self, answer: Any) -> None:
        kind, name, payload = answer
        if kind == self._message:
            self._on_message(name, payload)
            return
        change = self._changes[0] if self._changes else None
        if change is None or change.kind != kind or name not in change.names:
            if kind != self._unsubscribe:
                raise LinkLost("the server sent an answer that nobody waits for")
            self._on_dropped(name)
            return
        change.names.discard(name)
        if not change.names:
            self._changes.popleft()
            if not change.done.done():
                change.done.set_result(None)

    def _refuse(self, error: Refused) -> None:
        if not self._changes:
            raise LinkLost(f"the server sent an error that nobody waits for: {error.code}")
        self._end(self._changes.popleft(), error)

    def _fail(self) -> None:
        while self._changes:
            self._end(self._changes.popleft(), BrokerError(NAME, "the link broke"))

    @staticmethod
    def _end(change: _Change, error: BrokerError) -> None:
        if not change.done.done():
            change.done.set_exception(error)
            change.done.exception()  # whoever waited may be gone


def refusal(exc: ResponseError) -> Refused:
    """Return the server's error as ours, with the code that `redis-py` has cut off."""
    text = str(exc)
    code = exc.status_code
    if code is None:
        code, _, text = text.partition(" ")
    # Without what Redis adds for the author of a script.
    return Refused(code, text.partition(" script: ")[0])


def first_problem(exc: BaseException) -> str:
    """Return what the first exception in a group says."""
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    return str(exc) or type(exc).__name__
