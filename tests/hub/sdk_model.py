"""What an SDK does, as a small state machine, and a connection in memory for it.

The machine keeps what its application got in each channel, and complains about everything that a
server must not do.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from websockets.frames import Close, Opcode
from websockets.server import ServerProtocol

from hubbub import Hub, ServerConnection
from hubbub.protocol import fossil
from hubbub.server.proxies import TrustedProxies
from tests.server.wire import HEAD, MemoryTransport, frame

__all__ = ["MemoryClient", "Port", "Result", "SDKModel", "Segment", "Track"]


@dataclass
class Segment:
    """What came in a channel without a break that the server told of.

    Attributes:
        start: Offset that the first publication comes after.
        taken: Offset and payload of each.
    """

    epoch: str
    start: int
    taken: list[tuple[int, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Result:
    """A successful subscribe command.

    Attributes:
        since: Where the client said that it stood; `None`: it did not want to recover.
        before: Of its segments, how many there were.
    """

    channel: str
    since: tuple[str, int] | None
    epoch: str
    offset: int
    recovered: bool
    publications: int
    before: int


@dataclass
class Track:
    """A channel that the application is interested in.

    Attributes:
        request: Further fields of the subscribe command.
        cache: It recovers the newest publication only.
        state: `unsubscribed`, `subscribing` or `subscribed`.
        attempt: Number of the subscribe command that counts; those before it were given up.
        unsubscribing: Unsubscribe commands that have not been answered.
        loose: Payloads of publications without an offset.
        roster: Per client, whether it joined or left last.
        joined: Own joins since the subscribe reply.
        code: Of the push or error that ended it.
    """

    channel: str
    request: dict[str, Any] = field(default_factory=dict)
    cache: bool = False
    state: str = "unsubscribed"
    attempt: int = 0
    unsubscribing: int = 0
    recover: bool = False
    positioned: bool = False
    delta: bool = False
    base: bytes = b""
    epoch: str = ""
    offset: int = 0
    segments: list[Segment] = field(default_factory=list)
    loose: list[Any] = field(default_factory=list)
    roster: dict[str, str] = field(default_factory=dict)
    joined: int = 0
    code: int = 0


class SDKModel:
    """A client object of an SDK, without I/O.

    Attributes:
        state: `disconnected`, `connecting` or `connected`.
        send: Takes commands for the server; set by whoever opens a connection.
        failures: What the server must not have done.
        results: Of subscribe commands.
        replies: By command id, those that nothing here understands.
        close_code: Of the last connection.
        strict_roster: Whether a client cannot join twice without leaving.
    """

    def __init__(self, name: str, *, strict_roster: bool = True) -> None:
        self.name = name
        self.state = "disconnected"
        self.client = ""
        self.send: Callable[[bytes], object] = lambda data: None
        self.tracks: dict[str, Track] = {}
        self.server_side: dict[str, dict[str, Any]] = {}
        self.failures: list[str] = []
        self.results: list[Result] = []
        self.replies: dict[int, dict[str, Any]] = {}
        self.close_code = 0
        self.unsubscribed: list[tuple[str, int]] = []
        self.strict_roster = strict_roster
        self._last_id = 0
        self._waiting: dict[int, tuple[str, Any]] = {}

    # What the application does.

    def open(self) -> None:
        """Connect, and subscribe in the same frame as the JavaScript SDK does."""
        assert self.state == "disconnected"
        self.state = "connecting"
        self.close_code = 0
        self._waiting.clear()
        commands = [self._command("connect", {"name": "model"}, None)]
        for track in self.tracks.values():
            track.unsubscribing = 0
            if track.state == "subscribing":
                commands.append(self._subscribe(track))
        self.send(b"\n".join(commands))

    def subscribe(self, channel: str, *, cache: bool = False, **request: Any) -> None:
        """Become interested in a channel; nothing if it is so already."""
        track = self.tracks.get(channel)
        if track is None:
            track = self.tracks[channel] = Track(channel, request, cache)
        if track.state == "unsubscribed":
            track.state = "subscribing"
            if self.state != "disconnected":
                self.send(self._subscribe(track))

    def unsubscribe(self, channel: str) -> None:
        """Lose interest; the position is kept, as SDKs do."""
        track = self.tracks.get(channel)
        if track is None or track.state == "unsubscribed":
            return
        track.state = "unsubscribed"
        if self.state != "disconnected":
            track.unsubscribing += 1
            self.send(self._command("unsubscribe", {"channel": channel}, track))

    def command(self, kind: str, **fields: Any) -> int:
        """Send another command; return its id."""
        self.send(self._command(kind, fields, None))
        return self._last_id

    def closed(self, code: int) -> None:
        """Take note that the connection has ended."""
        if self.state == "disconnected":
            return
        self.state = "disconnected"
        self.close_code = code
        for track in self.tracks.values():
            if track.state == "subscribed":
                track.state = "subscribing"
            track.roster.clear()

    # What the server says.

    def take(self, text: bytes) -> None:
        """Take a frame."""
        for line in text.split(b"\n"):
            reply = json.loads(line)
            if reply.get("id"):
                self._take_reply(reply)
            elif "push" in reply:
                self._take_push(reply["push"])
            else:
                self.send(b"{}")

    def _take_reply(self, reply: dict[str, Any]) -> None:
        waiting = self._waiting.pop(reply["id"], None)
        if waiting is None:
            self._complain(f"answered twice, or never asked: {reply}")
            return
        kind, about = waiting
        error = reply.get("error")
        if self.state != "connected" and kind != "connect":
            self._complain(f"reply before the connect reply: {reply}")
        if kind == "connect":
            self._connected(reply)
        elif kind == "subscribe":
            track, since, attempt = about
            if attempt != track.attempt or track.state != "subscribing":
                return  # given up meanwhile: the server is about to learn, or has
            if error is not None:
                self._refused(track, error)
            else:
                self._subscribed(track, since, reply["subscribe"])
        elif kind == "unsubscribe" and isinstance(about, Track):
            about.unsubscribing -= 1
            if error is not None:
                self._complain(f"unsubscribe failed: {error}")
        else:
            self.replies[reply["id"]] = reply

    def _connected(self, reply: dict[str, Any]) -> None:
        if "error" in reply:
            self.replies[reply["id"]] = reply
            return
        self.state = "connected"
        self.client = reply["connect"]["client"]
        self.server_side = reply["connect"].get("subs", {})

    def _refused(self, track: Track, error: dict[str, Any]) -> None:
        track.code = error["code"]
        if error.get("temporary"):
            self.send(self._subscribe(track))
        elif error["code"] == 112:
            track.epoch, track.offset, track.recover = "", 0, False
            self.send(self._subscribe(track))
        else:
            if error["code"] == 105:
                self._complain(f"105 in {track.channel}")
            track.state = "unsubscribed"

    def _subscribed(
        self, track: Track, since: tuple[str, int] | None, result: dict[str, Any]
    ) -> None:
        epoch, offset = result.get("epoch", ""), result.get("offset", 0)
        publications = result.get("publications", [])
        recovered = result.get("recovered", False)
        self.results.append(
            Result(
                track.channel,
                since,
                epoch,
                offset,
                recovered,
                len(publications),
                len(track.segments),
            )
        )
        if result.get("was_recovering", False) != (since is not None):
            self._complain(f"was_recovering, but asked since {since}: {result}")
        track.state = "subscribed"
        track.recover = result.get("recoverable", False)
        track.positioned = result.get("positioned", False)
        track.delta = result.get("delta", False)
        track.roster.clear()
        track.joined = 0
        if recovered and not track.cache:
            if since is None or epoch != (since[0] or epoch) or offset != since[1]:
                self._complain(f"recovered since {since}: {result}")
            if not track.segments or track.segments[-1].epoch != epoch:
                track.segments.append(Segment(epoch, offset))
        else:
            if publications and not (track.cache and recovered):
                self._complain(f"publications, but not recovered: {result}")
            if track.positioned:
                start = offset - len(publications)
                track.segments.append(Segment(epoch, start))
                offset = start
        track.epoch, track.offset = epoch, offset
        for publication in publications:
            self._publication(track, publication)

    def _take_push(self, push: dict[str, Any]) -> None:
        channel = push.get("channel", "")
        if "message" in push or "refresh" in push:
            return
        if "subscribe" in push:
            self.server_side[channel] = push["subscribe"]
            return
        track = self.tracks.get(channel)
        if channel in self.server_side:
            if "unsubscribe" in push:
                del self.server_side[channel]
            return
        if self.state != "connected" or track is None:
            self._complain(f"push for no channel of ours: {push}")
        elif track.unsubscribing:
            pass  # on its way when the command was sent
        elif track.state != "subscribed":
            self._complain(f"push while {track.state}: {push}")
        elif "pub" in push:
            self._publication(track, push["pub"])
        elif "unsubscribe" in push:
            self._ended(track, push["unsubscribe"]["code"])
        elif "join" in push:
            self._roster(track, push["join"]["info"]["client"], "join")
        elif "leave" in push:
            self._roster(track, push["leave"]["info"]["client"], "leave")
        else:
            self._complain(f"unknown push: {push}")

    def _ended(self, track: Track, code: int) -> None:
        track.code = code
        self.unsubscribed.append((track.channel, code))
        if code < 2500:
            track.state = "unsubscribed"
        else:
            track.state = "subscribing"
            self.send(self._subscribe(track))

    def _roster(self, track: Track, client: str, event: str) -> None:
        if self.strict_roster and track.roster.get(client) == event:
            self._complain(f"{event} of {client} twice in {track.channel}")
        track.roster[client] = event
        if client == self.client and event == "join":
            track.joined += 1

    def _publication(self, track: Track, publication: dict[str, Any]) -> None:
        data = publication["data"]
        if track.delta:
            raw: bytes = data.encode()
            if publication.get("delta"):
                raw = fossil.apply(track.base, raw)
            track.base = raw
            data = json.loads(raw)
        offset = publication.get("offset", 0)
        if not offset or not track.positioned:
            track.loose.append(data)
            return
        if offset <= track.offset:
            self._complain(f"offset {offset} after {track.offset} in {track.channel}")
        if offset != track.offset + 1 and "tf" not in track.request:
            self._complain(f"gap: offset {offset} after {track.offset} in {track.channel}")
        track.offset = offset
        track.segments[-1].taken.append((offset, data))

    def _subscribe(self, track: Track) -> bytes:
        track.attempt += 1
        request = {"channel": track.channel, "flag": 1, **track.request}
        since = None
        if track.recover:
            since = (track.epoch, track.offset)
            request |= {"recover": True, "epoch": track.epoch, "offset": track.offset}
        return self._command("subscribe", request, (track, since, track.attempt))

    def _command(self, kind: str, request: dict[str, Any], about: Any) -> bytes:
        self._last_id += 1
        self._waiting[self._last_id] = (kind, about)
        return json.dumps({"id": self._last_id, kind: request}).encode()

    @property
    def waits(self) -> bool:
        """Whether a command has not been answered."""
        return self.state != "disconnected" and bool(self._waiting)

    def _complain(self, failure: str) -> None:
        self.failures.append(f"{self.name}: {failure}")


class Port:
    """What a connection needs of a server, without one that listens.

    Attributes:
        tasks: Of connections that have not ended.
    """

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.proxies = TrustedProxies()
        self.front = self
        self.handler_tasks: set[asyncio.Task[None]] = set()

    def is_serving(self) -> bool:
        return True

    def opened(self, websocket: ServerConnection) -> None:
        """Nothing to do: nobody waits for it."""

    async def handler(self, connection: ServerConnection) -> None:
        try:
            await connection.handshake(self.hub.process_request)
            if connection.request is not None and connection.protocol.handshake_exc is None:
                await self.hub(connection)
            await connection.wait_closed()
        finally:
            task = asyncio.current_task()
            assert task is not None
            self.handler_tasks.discard(task)


class _Wire(MemoryTransport):
    """A transport that says when something was written."""

    def __init__(self, on_write: Callable[[], object]) -> None:
        super().__init__()
        self._on_write = on_write

    def write(self, data: bytes | bytearray | memoryview) -> None:
        super().write(data)
        self.loop.call_soon(self._on_write)


class MemoryClient:
    """An SDK on a connection to a hub that has no socket.

    Attributes:
        texts: All frames from the server.
    """

    def __init__(self, sdk: SDKModel | None = None) -> None:
        self.sdk = sdk or SDKModel("client")
        self.texts: list[bytes] = []
        self._transport: _Wire | None = None
        self._upgraded = False

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._transport is not None

    def open(self, port: Port) -> None:
        """Open a connection; the SDK connects at once."""
        assert self._transport is None
        connection = ServerConnection(ServerProtocol(), port)  # type: ignore[arg-type]  # what it needs of one
        transport = self._transport = _Wire(lambda: self._read(transport))
        transport.set_protocol(connection)
        self._upgraded = False
        connection.upgrade(transport, HEAD, b"")

    def drop(self) -> None:
        """Lose the connection, as by a reset."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
        self.sdk.closed(0)

    def end(self) -> None:
        """End the stream, and leave it to the server to close the connection."""
        assert self._transport is not None
        self._transport.protocol.eof_received()
        self.sdk.closed(0)

    def send(self, *payloads: bytes) -> None:
        """Send text frames."""
        for payload in payloads:
            if self._transport is not None:
                self._transport.protocol.data_received(frame(Opcode.TEXT, payload))

    def _read(self, transport: _Wire) -> None:
        written = transport.written
        if transport is not self._transport:
            return
        if not self._upgraded:
            end = written.find(b"\r\n\r\n")
            if end < 0:
                return
            assert written.startswith(b"HTTP/1.1 101 "), bytes(written)
            del written[: end + 4]
            self._upgraded = True
            # Not at once: the handler has yet to begin.
            transport.loop.call_soon(transport.loop.call_soon, self._begin, transport)
        while transport is self._transport and len(written) >= 2:
            length, start = written[1], 2
            if length == 126:
                length, start = int.from_bytes(written[2:4], "big"), 4
            elif length == 127:
                length, start = int.from_bytes(written[2:10], "big"), 10
            if len(written) < start + length:
                return
            opcode, payload = written[0] & 0x0F, bytes(written[start : start + length])
            del written[: start + length]
            if opcode == Opcode.CLOSE:
                self._transport = None
                self.sdk.closed(Close.parse(payload).code)
                transport.close()
            elif opcode == Opcode.TEXT:
                self.texts.append(payload)
                self.sdk.take(payload)

    def _begin(self, transport: _Wire) -> None:
        if transport is self._transport:
            self.sdk.send = self._send_soon
            self.sdk.open()

    def _send_soon(self, payload: bytes) -> None:
        # Not from within what the server writes: nobody answers that fast.
        transport = self._transport

        def send() -> None:
            if transport is self._transport:
                self.send(payload)

        asyncio.get_running_loop().call_soon(send)
