"""One connection of `hubbub bench fanout`: a subscriber or a publisher of the client protocol.

The handshake is done by `websockets` (`ClientProtocol`), messages by `hubbub.protocol`. A batch of
publications reaches all subscribers as the same bytes: it is decoded once, for the first of them.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final, Protocol, cast

import msgspec
from websockets.client import ClientProtocol
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI

from hubbub.cli.deliveries import Deliveries
from hubbub.cli.failure import Failure
from hubbub.cli.latencies import Latencies
from hubbub.cli.message_reader import MessageReader
from hubbub.errors import ProtocolViolation
from hubbub.protocol.commands import Command, PublishRequest, Request
from hubbub.protocol.replies import Reply
from hubbub.protocol.values import Publication

__all__ = ["MIN_SIZE", "ClientCodec", "FanoutClient", "FanoutRun"]

MIN_SIZE: Final = 48
"""Smallest payload in bytes: run, publisher, number and time have to go in."""

_END_OF_HEAD: Final = b"\r\n\r\n"
_MAX_HEAD: Final = 2**16
_MAX_MESSAGE: Final = 2**24
_NORMAL_CLOSE: Final = Frame(Opcode.CLOSE, Close(1000, "").serialize())
_PROTOBUF: Final = Subprotocol("centrifuge-protobuf")

# Of the messages decoded last: subscribers that lag behind others are as many batches behind.
_REMEMBERED: Final = 64


class ClientCodec(Protocol):
    """A wire format as a client needs it; `hubbub.protocol.json` and `.protobuf` are the two."""

    BINARY: bool

    def decode_replies(self, frame: bytes | str, *, max_size: int | None = None) -> list[Reply]:
        """Decode what a server sent at once."""

    def encode_command(self, command: Command) -> bytes:
        """Encode a command."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A publication of this run: whose it is, which one, and when it was published."""

    publisher: int
    number: int
    published: float


@dataclass(slots=True)
class FanoutRun:
    """What all connections of one run share.

    Attributes:
        codec: The wire format.
        channel: Where everything is published.
        size: Of a payload in bytes.
        mark: Tells the publications of this run from others in the channel; 8 bytes.
        measuring: Whether latencies count.
        delivered: Publications that came, each once per subscriber.
        delivered_at: When the last one came, by `time.perf_counter`.
        acks: Publish commands that were answered with a result.
        errors: Error replies to publish commands.
        endings: Connections and subscriptions that the server ended, by reason.
    """

    codec: ClientCodec
    channel: str
    size: int
    mark: bytes
    measuring: bool = False
    delivered: int = 0
    delivered_at: float = 0.0
    acks: int = 0
    latencies: Latencies = field(default_factory=Latencies)
    errors: Counter[str] = field(default_factory=Counter)
    endings: Counter[str] = field(default_factory=Counter)
    _decoded: dict[bytes, list[Arrival]] = field(default_factory=dict)

    def payload(self, publisher: int, number: int) -> msgspec.Raw:
        """Build a payload, a JSON string, that says now to be its time."""
        text = b"%b %04d %010d %.9f " % (self.mark, publisher, number, perf_counter())
        return msgspec.Raw(b'"%b"' % text.ljust(self.size - 2, b"."))

    def decode(self, message: bytes) -> tuple[Sequence[Arrival], Sequence[Reply]]:
        """Decode a message: publications of this run alone, or whatever replies are in it.

        Raises:
            ProtocolViolation: It is no message of the client protocol.
        """
        if (arrivals := self._decoded.get(message)) is not None:
            return arrivals, ()
        replies = self.codec.decode_replies(message)
        arrivals = self._arrivals(replies)
        if arrivals is None:
            return (), replies
        while len(self._decoded) >= _REMEMBERED:
            del self._decoded[next(iter(self._decoded))]
        self._decoded[message] = arrivals
        return arrivals, ()

    def arrival(self, publication: Publication) -> Arrival | None:
        """Read a publication; `None` if it is not of this run."""
        mark, _, rest = bytes(publication.data).partition(b" ")
        if mark != b'"%b' % self.mark:
            return None
        publisher, number, published, _ = rest.split(b" ", 3)
        return Arrival(int(publisher), int(number), float(published))

    def _arrivals(self, replies: Sequence[Reply]) -> list[Arrival] | None:
        arrivals = []
        for reply in replies:
            if reply.id or reply.push is None or reply.push.pub is None:
                return None
            arrival = self.arrival(reply.push.pub)
            if arrival is not None and reply.push.channel == self.channel:
                arrivals.append(arrival)
        return arrivals


class FanoutClient(asyncio.Protocol):
    """A connection that sends commands and counts publications.

    Attributes:
        opened: Done when the handshake is; carries its error.
        closed: Done when the connection is gone.
        ended: Why the server ended the connection or the subscription; empty: it did not.
        deliveries: What came, by publisher.
        published: How many this connection published.
    """

    def __init__(self, uri: WebSocketURI, run: FanoutRun, location: str) -> None:
        subprotocols = [_PROTOBUF] if run.codec.BINARY else None
        self._protocol = ClientProtocol(uri, subprotocols=subprotocols)
        self._run = run
        self._location = location
        self._head = b""
        self._reader = MessageReader(_MAX_MESSAGE)
        self._opcode = Opcode.BINARY if run.codec.BINARY else Opcode.TEXT
        self._last_id = 0
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._answers_pings = False
        self._paused = False
        self._closing = False
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.closed = asyncio.Event()
        self.ended = ""
        self.deliveries: defaultdict[int, Deliveries] = defaultdict(Deliveries)
        self.published = 0

    async def request(self, name: str, request: Request) -> Reply:
        """Send a command and wait for its reply, an error perhaps.

        Raises:
            Failure: The connection ended, or what came was no reply of the client protocol.
        """
        if self.ended:
            raise Failure(f"{self._location} {self.ended}")
        self._last_id += 1
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[self._last_id] = reply
        self._send(Command(id=self._last_id, **{name: request}))  # type: ignore[arg-type]  # by name
        return await reply

    def publish(self, publisher: int) -> bool:
        """Publish the next number; the reply is counted when it comes.

        Returns:
            Whether it was sent: not while the server does not read, or has ended the connection.
        """
        if self._paused or self._closing or self.ended:
            return False
        self._last_id += 1
        self._send(Command(id=self._last_id, publish=self.next_publication(publisher)))
        return True

    def next_publication(self, publisher: int) -> PublishRequest:
        """Build the request that publishes the next number, and count it as published."""
        payload = self._run.payload(publisher, self.published)
        self.published += 1
        return PublishRequest(channel=self._run.channel, data=payload)

    def close(self) -> None:
        """Begin the closing handshake; the server then ends the connection."""
        if not self._closing:
            self._closing = True
            self._transport.write(_NORMAL_CLOSE.serialize(mask=True))

    def abort(self) -> None:
        """End the connection now."""
        self._closing = True
        self._transport.abort()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request of the opening handshake."""
        self._transport = cast(asyncio.Transport, transport)
        self._protocol.send_request(self._protocol.connect())
        self._transport.writelines(self._protocol.data_to_send())

    def data_received(self, data: bytes) -> None:
        """Take what the server sends."""
        if self._protocol.state is State.CONNECTING:
            self._continue_handshake(data)
            return
        try:
            for opcode, payload in self._reader.feed(data):
                self._take(opcode, payload)
        except ProtocolViolation as exc:
            self._end(f"does not speak the Centrifuge client protocol: {exc.problem}")
            self.abort()

    def pause_writing(self) -> None:
        """Publish no more for now: the server does not read."""
        self._paused = True

    def resume_writing(self) -> None:
        """Publish again."""
        self._paused = False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell those who wait."""
        if not self.opened.done():
            self._protocol.receive_eof()
            error = self._protocol.handshake_exc or exc or ConnectionResetError()
            self.opened.set_exception(error)
        else:
            self._end("cut a connection")
        self.closed.set()

    # The hot path.

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode not in (Opcode.TEXT, Opcode.BINARY):
            self._take_control(opcode, payload)
            return
        arrivals, replies = self._run.decode(payload)
        if arrivals:
            self._count(arrivals)
        for reply in replies:
            self._take_reply(reply)

    def _count(self, arrivals: Sequence[Arrival]) -> None:
        run, deliveries, now = self._run, self.deliveries, perf_counter()
        for arrival in arrivals:
            if deliveries[arrival.publisher].count(arrival.number):
                run.delivered += 1
                if run.measuring:
                    run.latencies[Latencies.bucket(now - arrival.published)] += 1
        run.delivered_at = now

    # The rest of the protocol.

    def _take_reply(self, reply: Reply) -> None:
        if reply.id:
            self._take_answer(reply)
        elif reply.push is None:
            if self._answers_pings:
                self._send(Command())
        elif reply.push.channel in ("", self._run.channel):
            push = reply.push
            if push.pub is not None and (arrival := self._run.arrival(push.pub)) is not None:
                self._count([arrival])
            ending = push.unsubscribe or push.disconnect
            if ending is not None:
                kind = "a subscription" if push.unsubscribe else "a connection"
                self._end(f"ended {kind} with {ending.code} {ending.reason}")

    def _take_answer(self, reply: Reply) -> None:
        waiting = self._waiting.pop(reply.id, None)
        if waiting is None:
            if reply.error is not None:
                self._run.errors[f"{reply.error.code} {reply.error.message}"] += 1
            elif reply.publish is not None:
                self._run.acks += 1
            return
        if reply.connect is not None:
            self._answers_pings = reply.connect.pong
        if not waiting.done():
            waiting.set_result(reply)

    def _take_control(self, opcode: int, payload: bytes) -> None:
        if opcode == Opcode.PING:
            self._transport.write(Frame(Opcode.PONG, payload).serialize(mask=True))
        elif opcode == Opcode.CLOSE:
            code = int.from_bytes(payload[:2], "big") if payload else 1005
            reason = payload[2:].decode(errors="replace")
            self._end(f"closed a connection with {code} {reason}".rstrip())
            self.close()

    def _continue_handshake(self, data: bytes) -> None:
        self._head += data
        head, end, rest = self._head.partition(_END_OF_HEAD)
        # `websockets` gets the head alone, so that no frame gets stuck in its parser; a refusal
        # has a body, which it gets as well.
        if self._protocol.handshake_exc is None and (end or len(head) > _MAX_HEAD):
            self._head = b""
            self._protocol.receive_data(head + end)
            if self._protocol.state is not State.OPEN and rest:
                self._protocol.receive_data(rest)
        if self.opened.done():  # whoever waited has given up
            self.abort()
        elif self._protocol.handshake_exc is not None:
            self.opened.set_exception(self._protocol.handshake_exc)
            self.abort()
        elif self._protocol.state is State.OPEN:
            self.opened.set_result(None)
            if rest:
                self.data_received(rest)

    def _send(self, command: Command) -> None:
        encoded = self._run.codec.encode_command(command)
        self._transport.write(Frame(self._opcode, encoded).serialize(mask=True))

    def _end(self, problem: str) -> None:
        if self._closing or self.ended:
            return
        self.ended = problem
        self._run.endings[problem] += 1
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(Failure(f"{self._location} {problem}"))
        self._waiting.clear()
