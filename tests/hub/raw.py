"""A client of the client protocol for tests: it sends what it is told, and keeps what comes."""

import asyncio
import contextlib
import json as text_json
from collections import deque
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Any, Protocol, Self

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from hubbub.hub.fanout import FLUSH_INTERVAL
from hubbub.protocol import json, protobuf
from hubbub.protocol.base import Codec
from hubbub.protocol.commands import (
    Command,
    ConnectRequest,
    HistoryRequest,
    PingRequest,
    PresenceRequest,
    PresenceStatsRequest,
    PublishRequest,
    RefreshRequest,
    Request,
    RPCRequest,
    SendRequest,
    SubRefreshRequest,
    SubscribeRequest,
    UnsubscribeRequest,
)
from hubbub.protocol.replies import Push, Reply
from hubbub.protocol.results import ConnectResult, SubscribeResult
from hubbub.protocol.values import Publication
from hubbub.server import Server
from tests.timing import MS

__all__ = [
    "CODECS",
    "TIMEOUT",
    "Dialect",
    "RawClient",
    "address",
    "command",
    "connected",
    "raw",
    "value",
]

TIMEOUT = 5000 * MS


class Dialect(Codec, Protocol):
    """Both sides of a wire format."""

    def encode_command(self, command: Command) -> bytes: ...

    def decode_replies(self, frame: bytes | str, *, max_size: int | None = None) -> list[Reply]: ...


CODECS: dict[str, Dialect] = {"json": json, "protobuf": protobuf}

FIELDS: dict[type[Request], str] = {
    ConnectRequest: "connect",
    SubscribeRequest: "subscribe",
    UnsubscribeRequest: "unsubscribe",
    PublishRequest: "publish",
    PresenceRequest: "presence",
    PresenceStatsRequest: "presence_stats",
    HistoryRequest: "history",
    PingRequest: "ping",
    SendRequest: "send",
    RPCRequest: "rpc",
    RefreshRequest: "refresh",
    SubRefreshRequest: "sub_refresh",
}


def command(number: int, request: Request) -> Command:
    """Make the command that carries a request."""
    fields: dict[str, Any] = {FIELDS[type(request)]: request}
    return Command(id=number, **fields)


def raw(data: Any) -> msgspec.Raw:
    """Make a payload."""
    return msgspec.Raw(text_json.dumps(data).encode())


def value(data: msgspec.Raw) -> Any:
    """Read a payload."""
    return text_json.loads(bytes(data))


def address(server: Server) -> tuple[str, int]:
    """Return where a server listens."""
    found: tuple[str, int] = next(iter(server.sockets)).getsockname()[:2]
    return found


class RawClient:
    """One WebSocket. Nothing is read unless somebody waits for something; all waits are bounded.

    Args:
        path: With a query, if there is one.
        subprotocol: `None`: that of the codec, and none for JSON, as the SDKs do.
        options: For `websockets`' `connect`.

    Attributes:
        answers: Whether pings are answered when they are read.
        pings: How many were read.
        received: Replies and pushes, in order.
        connection_id: Once connected.
    """

    def __init__(
        self,
        server: Server,
        codec: Dialect = json,
        *,
        path: str = "/",
        subprotocol: str | None = None,
        **options: Any,
    ) -> None:
        if subprotocol is None and codec.BINARY:
            subprotocol = "centrifuge-protobuf"
        host, port = address(server)
        options.setdefault("compression", None)
        self.codec = codec
        self.answers = True
        self.pings = 0
        self.received: list[Reply] = []
        self.connection_id = ""
        self._connect = connect(
            f"ws://{host}:{port}{path}",
            subprotocols=[Subprotocol(subprotocol)] if subprotocol else None,
            ping_interval=None,
            proxy=None,
            max_size=None,
            open_timeout=TIMEOUT,
            close_timeout=TIMEOUT,
            **options,
        )
        self.socket: ClientConnection
        self._replies: dict[int, Reply] = {}
        self._pushes: deque[Push] = deque()
        self._last = 0

    async def __aenter__(self) -> Self:
        self.socket = await self._connect
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.socket.close()

    # Sending.

    async def send_frame(self, frame: bytes) -> None:
        """Send bytes, whatever they are."""
        # Who has been closed meanwhile learns it from what it waits for.
        with contextlib.suppress(ConnectionClosed):
            await self.socket.send(frame, text=not self.codec.BINARY)

    async def send(self, *commands: Command) -> None:
        """Send commands in one frame."""
        await self.send_frame(self.codec.join(map(self.codec.encode_command, commands)))

    async def pong(self) -> None:
        """Answer a ping, asked or not."""
        await self.send(Command())

    def number(self) -> int:
        """Return the next id."""
        self._last += 1
        return self._last

    # Commands.

    async def ask(self, *requests: Request) -> list[Reply]:
        """Send requests in one frame, and wait for the reply to each."""
        commands = [command(self.number(), request) for request in requests]
        await self.send(*commands)
        return [await self.reply(each.id) for each in commands]

    async def command(self, request: Request) -> Reply:
        """Send a request and wait for its reply."""
        return (await self.ask(request))[0]

    async def refused(self, request: Request) -> int:
        """Send a request that is answered with an error: its code."""
        error = (await self.command(request)).error
        assert error is not None
        return error.code

    async def connect(self, **fields: Any) -> ConnectResult:
        """Connect; the command must succeed."""
        reply = await self.command(ConnectRequest(**fields))
        assert reply.connect is not None, reply
        self.connection_id = reply.connect.client
        return reply.connect

    async def subscribe(self, channel: str, **fields: Any) -> SubscribeResult:
        """Subscribe; the command must succeed."""
        reply = await self.command(SubscribeRequest(channel=channel, **fields))
        assert reply.subscribe is not None, reply
        return reply.subscribe

    async def unsubscribe(self, channel: str) -> None:
        """Unsubscribe; the command must succeed."""
        reply = await self.command(UnsubscribeRequest(channel=channel))
        assert reply.unsubscribe is not None, reply

    async def publish(self, channel: str, data: Any) -> None:
        """Publish JSON; the command must succeed."""
        reply = await self.command(PublishRequest(channel=channel, data=raw(data)))
        assert reply.publish is not None, reply

    async def sync(self) -> None:
        """Return when everything sent before, by both sides, has been read."""
        reply = await self.command(PingRequest())
        assert reply.ping is not None, reply

    # Receiving.

    async def reply(self, number: int) -> Reply:
        """Wait for the reply to a command."""
        async with asyncio.timeout(TIMEOUT):
            while number not in self._replies:
                await self._read()
        return self._replies.pop(number)

    async def next_push(self) -> Push:
        """Wait for the next push."""
        async with asyncio.timeout(TIMEOUT):
            while not self._pushes:
                await self._read()
        return self._pushes.popleft()

    async def next_publication(self) -> Publication:
        """Wait for the next push, which must be a publication."""
        push = await self.next_push()
        assert push.pub is not None, push
        return push.pub

    async def next_values(self, count: int) -> list[Any]:
        """Wait for publications: their payloads, read as JSON."""
        return [value((await self.next_publication()).data) for _ in range(count)]

    async def pushes(self) -> list[Push]:
        """Return the pushes that came until now, those included that wait for the next flush."""
        await asyncio.sleep(2 * FLUSH_INTERVAL)
        await self.sync()
        pushes, self._pushes = list(self._pushes), deque()
        return pushes

    async def next_ping(self) -> None:
        """Wait for a ping that was not read yet."""
        seen = self.pings
        async with asyncio.timeout(TIMEOUT):
            while self.pings == seen:
                await self._read()

    async def closed(self) -> tuple[int, str]:
        """Read to the end: code and reason of the server's close frame; 1006 without one."""
        async with asyncio.timeout(TIMEOUT):
            while True:
                try:
                    await self._read()
                except ConnectionClosed as exc:
                    return (1006, "") if exc.rcvd is None else (exc.rcvd.code, exc.rcvd.reason)

    async def _read(self) -> None:
        frame = await self.socket.recv()
        assert isinstance(frame, bytes) is self.codec.BINARY, "text for JSON, binary for Protobuf"
        for reply in self.codec.decode_replies(frame):
            if reply.id:
                self._replies[reply.id] = reply
                self.received.append(reply)
            elif reply.push is not None:
                self._pushes.append(reply.push)
                self.received.append(reply)
            else:
                self.pings += 1
                if self.answers:
                    await self.pong()


@contextlib.asynccontextmanager
async def connected(
    server: Server, codec: Dialect = json, *, path: str = "/", **fields: Any
) -> AsyncGenerator[RawClient]:
    """Open a client that is connected.

    Args:
        fields: Of the connect request.
    """
    async with RawClient(server, codec, path=path) as client:
        await client.connect(**fields)
        yield client
