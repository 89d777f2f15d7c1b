"""A client of a hub in the same process: no socket, no SDK, the same protocol."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

import msgspec
from websockets.datastructures import Headers
from websockets.http11 import Request

from hubbub.errors import CommandError, Disconnect, DisconnectCode
from hubbub.hub import Hub
from hubbub.hub.outbox import Changes
from hubbub.hub.session import Session
from hubbub.hub.wires import message_wire
from hubbub.protocol import commands, json
from hubbub.protocol.replies import Push, Reply
from hubbub.protocol.results import (
    ConnectResult,
    HistoryResult,
    PresenceStatsResult,
    SubscribeResult,
)
from hubbub.protocol.values import StreamPosition

__all__ = ["HubClient", "connect"]

TIMEOUT = 5.0
"""Seconds that a test waits at most for what should have come."""


@contextlib.asynccontextmanager
async def connect(
    hub: Hub,
    *,
    token: str = "",
    data: Any = None,
    path: str = "/",
    headers: Mapping[str, str] | None = None,
    timeout: float = TIMEOUT,  # noqa: ASYNC109 - of each wait of the client, not of this call
) -> AsyncGenerator["HubClient"]:
    """Connect to a hub without a socket; disconnect at the end of the block.

        async with hub, connect(hub, token=token) as client:
            await client.subscribe("chat:lobby")
            await client.publish("chat:lobby", {"text": "hi"})
            assert (await client.next()).data == {"text": "hi"}

    Args:
        hub: Must be running.
        token: Of the connect command.
        data: Of the connect command: anything that is JSON.
        path: What hooks see as the path of the request, with its query.
        headers: What hooks see as its headers, cookies for example.
        timeout: Seconds that each call waits at most.

    Raises:
        CommandError: The hub answered with an error.
        Disconnect: The hub ended the session.
        TimeoutError: It did neither in time.
        RuntimeError: The hub is not running.
    """
    client = HubClient(hub, Request(path, Headers(headers or {})), timeout)
    try:
        await client._connect(token, data)
        yield client
    finally:
        client.close()


class HubClient:
    """One connection to a hub, as `connect` yields it.

    Replies that are errors are raised as `CommandError`, the end of the session as `Disconnect`.
    Payloads are decoded from JSON.

    Attributes:
        id: Of the connection.
        result: What the connect command was answered with.
    """

    def __init__(self, hub: Hub, request: Request, timeout: float) -> None:
        self.id = ""
        self.result: ConnectResult
        self._timeout = timeout
        self._replies: dict[int, Reply] = {}
        self._pushes: deque[Push] = deque()
        self._arrived = asyncio.Event()
        self._ended: Disconnect | None = None
        self._last = 0
        self._outbox = _Outbox(request, self._take, self._end)
        self._session: Session = hub.open_session(self._outbox)

    async def subscribe(
        self, channel: str, *, since: StreamPosition | None = None, token: str = "", **fields: Any
    ) -> SubscribeResult:
        """Subscribe to a channel.

        Args:
            since: Recover what came after it.
            token: A subscription token.
            fields: Others of `SubscribeRequest`: `delta`, `tf`, `join_leave`, ...
        """
        if since is not None:
            fields |= {"recover": True, "offset": since.offset, "epoch": since.epoch}
        reply = await self._ask(
            subscribe=commands.SubscribeRequest(channel=channel, token=token, **fields)
        )
        assert reply.subscribe is not None, "a reply has the result of its command"
        return reply.subscribe

    async def unsubscribe(self, channel: str) -> None:
        """Unsubscribe from a channel."""
        await self._ask(unsubscribe=commands.UnsubscribeRequest(channel))

    async def publish(self, channel: str, message: Any) -> None:
        """Publish to a channel: anything that is JSON."""
        await self._ask(publish=commands.PublishRequest(channel=channel, data=_raw(message)))

    async def history(
        self,
        channel: str,
        *,
        limit: int = -1,
        since: StreamPosition | None = None,
        reverse: bool = False,
    ) -> HistoryResult:
        """Read a channel's history, all that the hub allows unless there is a limit."""
        reply = await self._ask(
            history=commands.HistoryRequest(
                channel=channel, limit=limit, since=since, reverse=reverse
            )
        )
        assert reply.history is not None, "a reply has the result of its command"
        return reply.history

    async def presence(self, channel: str) -> dict[str, str]:
        """Return who is in a channel: connection ids, and the users they belong to."""
        reply = await self._ask(presence=commands.PresenceRequest(channel))
        assert reply.presence is not None, "a reply has the result of its command"
        return {client: info.user for client, info in reply.presence.presence.items()}

    async def presence_stats(self, channel: str) -> PresenceStatsResult:
        """Count who is in a channel."""
        reply = await self._ask(presence_stats=commands.PresenceStatsRequest(channel))
        assert reply.presence_stats is not None, "a reply has the result of its command"
        return reply.presence_stats

    async def rpc(self, method: str, parameters: Any = None) -> Any:
        """Call a method; what it returned."""
        reply = await self._ask(rpc=commands.RPCRequest(data=_raw(parameters), method=method))
        assert reply.rpc is not None, "a reply has the result of its command"
        return _value(reply.rpc.data)

    def send(self, message: Any) -> None:
        """Send a message that has no reply."""
        self._send(commands.Command(send=commands.SendRequest(_raw(message))))

    async def refresh(self, token: str) -> None:
        """Prolong the connection with a new token."""
        await self._ask(refresh=commands.RefreshRequest(token))

    async def next(self) -> Any:
        """Wait for the next publication or message, and return its payload.

        Joins, leaves and the other pushes before it are dropped; see `next_push`.
        """
        while True:
            push = await self.next_push()
            if push.pub is not None:
                return _value(push.pub.data)
            if push.message is not None:
                return _value(push.message.data)

    async def next_push(self) -> Push:
        """Wait for the next push of any kind."""
        await self._wait(lambda: bool(self._pushes))
        return self._pushes.popleft()

    async def ended(self) -> Disconnect:
        """Wait for the hub to end the session: code and reason."""
        async with asyncio.timeout(self._timeout):
            while self._ended is None:
                self._arrived.clear()
                await self._arrived.wait()
        return self._ended

    def close(self) -> None:
        """Disconnect, as if the network were gone. Idempotent."""
        self._outbox.end()

    async def _connect(self, token: str, data: Any) -> None:
        request = commands.ConnectRequest(
            token=token, data=json.embed(b"") if data is None else _raw(data), name="hubbub.testing"
        )
        reply = await self._ask(connect=request)
        assert reply.connect is not None, "a reply has the result of its command"
        self.result = reply.connect
        self.id = reply.connect.client

    async def _ask(self, **request: Any) -> Reply:
        self._last += 1
        number = self._last
        self._send(commands.Command(id=number, **request))
        await self._wait(lambda: number in self._replies)
        reply = self._replies.pop(number)
        if reply.error is not None:
            error = reply.error
            raise CommandError(error.code, error.message, temporary=error.temporary)
        return reply

    def _send(self, command: commands.Command) -> None:
        if self._ended is None:
            self._session.receive(json.encode_command(command))

    async def _wait(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(self._timeout):
            while not condition():
                if self._ended is not None:
                    raise self._ended
                self._arrived.clear()
                await self._arrived.wait()

    def _take(self, frame: bytes) -> None:
        for reply in json.decode_replies(frame):
            if reply.id:
                self._replies[reply.id] = reply
            elif reply.push is not None:
                self._pushes.append(reply.push)
            else:
                # Not from here: the hub is in the middle of its own work.
                asyncio.get_running_loop().call_soon(self._send, commands.Command())
        self._arrived.set()

    def _end(self, ended: Disconnect) -> None:
        self._ended = ended
        self._arrived.set()


class _Outbox:
    """Hands frames to the client at once: it is never slow (`hubbub.hub.outbox.Outbox`)."""

    def __init__(
        self,
        request: Request,
        take: Callable[[bytes], object],
        end: Callable[[Disconnect], object],
    ) -> None:
        self.wire = message_wire(binary=False)
        self.write: Callable[[bytes], object] = take
        self.descriptor = -1
        self.request = request
        self.remote_address = ("127.0.0.1", 0)
        self.client_address = "127.0.0.1"
        self.waiting = 0
        self._tell = end
        self._on_end: Callable[[], object] | None = None
        self._changes = Changes()

    def begin(
        self,
        *,
        changes: Changes,
        on_fail: Callable[[DisconnectCode], object],
        on_end: Callable[[], object],
    ) -> None:
        self._changes = changes
        self._on_end = on_end

    def close(self, code: int, reason: str, *, flush: bool) -> None:
        self.write = _discard
        self._changes.count += 1
        self._tell(Disconnect(code, reason))

    def drop(self) -> None:
        self.close(DisconnectCode.CONNECTION_CLOSED, "connection closed", flush=False)

    def end(self) -> None:
        self.write = _discard
        self._changes.count += 1
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end()

    def pause_reading(self) -> None:
        """Nothing to do: a test that sends too much waits for its replies."""

    def resume_reading(self) -> None:
        """Nothing to do."""


def _raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def _value(data: msgspec.Raw) -> Any:
    return msgspec.json.decode(data) if bytes(data) else None


def _discard(frame: bytes) -> None:
    """Take nothing any more."""
