"""One connection of `hubbub bench echo`: sends a message, waits for its echo, sends it again.

The handshake is done by `websockets` (`ClientProtocol`). After it, no library stands between the
socket and the clock: the frame to send was built once, and what comes back is compared with the
bytes of the frame that an echo is. RFC 6455 §5.3 asks clients for a fresh masking key per frame,
against scripts that plant bytes in proxies; here the one who chooses the bytes runs the client.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final, cast

from websockets.client import ClientProtocol
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import State
from websockets.uri import WebSocketURI

from hubbub.cli.latencies import Latencies

__all__ = ["EchoClient", "Round"]

_END_OF_HEAD: Final = b"\r\n\r\n"
_CLOSE: Final = Frame(Opcode.CLOSE, Close(1000, "").serialize())
_CONTROLS: Final = {Opcode.CLOSE, Opcode.PING, Opcode.PONG}


@dataclass(slots=True)
class Round:
    """What all connections of one run share.

    Attributes:
        message: What is sent, as the payload of a text frame.
        on_failure: Told what is wrong with the server; a second failure is not told.
        running: Whether echoes count and are answered with the next message.
    """

    message: bytes
    on_failure: Callable[[str], None]
    running: bool = False
    latencies: Latencies = field(default_factory=Latencies)
    frame: bytes = field(init=False)
    echo: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.frame = Frame(Opcode.TEXT, self.message).serialize(mask=True)
        self.echo = Frame(Opcode.TEXT, self.message).serialize(mask=False)


class EchoClient(asyncio.Protocol):
    """A connection that keeps exactly one message under way.

    Attributes:
        opened: Done when the handshake is; carries its error.
        closed: Done when the connection is gone.
        sent_at: When the last message was sent, by `time.perf_counter`.
        echoes: Whether any echo has come back.
    """

    def __init__(self, uri: WebSocketURI, shared: Round) -> None:
        self._shared = shared
        self._echo = shared.echo
        self._protocol = ClientProtocol(uri)
        self._head = b""
        self._rcvd = bytearray()
        self._fragments = bytearray()
        self._at_boundary = False
        self._closing = False
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.closed = asyncio.Event()
        self.sent_at = 0.0
        self.echoes = False

    def start(self) -> None:
        """Send the first message."""
        self.sent_at = perf_counter()
        if not self._closing:  # the server has failed already, and that has been told
            self._transport.write(self._shared.frame)

    def close(self) -> None:
        """Begin the closing handshake; the server then ends the connection."""
        if self._closing:
            return
        self._closing = True
        self._transport.write(_CLOSE.serialize(mask=True))

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
        """Take one echo, the usual case, or whatever else the server sends."""
        if self._at_boundary and data == self._echo:
            self._echoed()
        elif self._protocol.state is State.CONNECTING:
            self._continue_handshake(data)
        elif not self._closing:
            self._rcvd += data
            self._read_frames()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits; before `close` it is the server's failure."""
        self.closed.set()
        if not self.opened.done():
            self._protocol.receive_eof()
            error = self._protocol.handshake_exc or exc or ConnectionResetError()
            self.opened.set_exception(error)
        elif not self._closing:
            self._fail("cut a connection")

    # The hot path.

    def _echoed(self) -> None:
        shared = self._shared
        if shared.running:
            now = perf_counter()
            shared.latencies[Latencies.bucket(now - self.sent_at)] += 1
            self.echoes = True
            self.sent_at = now
            self._transport.write(shared.frame)

    # The rest of the protocol.

    def _continue_handshake(self, data: bytes) -> None:
        self._head += data
        head, end, rest = self._head.partition(_END_OF_HEAD)
        # `websockets` gets the head alone, so that no frame gets stuck in its parser; a refusal
        # has a body, which it gets as well.
        if self._protocol.handshake_exc is None and (end or len(head) > 2**16):
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
            self._at_boundary = True
            if rest:
                self.data_received(rest)

    def _read_frames(self) -> None:
        """Read what is no single whole echo: parts of one, control frames, fragments."""
        rcvd = self._rcvd
        while len(rcvd) >= 2:
            if rcvd[1] & 0x80 or rcvd[0] & 0x70:
                self._fail("broke the protocol: a masked frame, or bits of no known extension")
                break
            size, start = rcvd[1] & 0x7F, 2
            if size > 125:
                start = 4 if size == 126 else 10
                if len(rcvd) < start:
                    break
                size = int.from_bytes(rcvd[2:start], "big")
            if len(self._fragments) + size > max(len(self._shared.message), 125):
                self._fail(f"does not echo: a message of {size} bytes came back")
                break
            if len(rcvd) < start + size:
                break
            first, payload = rcvd[0], bytes(rcvd[start : start + size])
            del rcvd[: start + size]
            self._read_frame(first & 0x0F, bool(first & 0x80), payload)
            if self._closing:
                return
        self._at_boundary = not rcvd and not self._fragments

    def _read_frame(self, opcode: int, fin: bool, payload: bytes) -> None:
        match opcode:
            case Opcode.PING:
                self._transport.write(Frame(Opcode.PONG, payload).serialize(mask=True))
            case Opcode.PONG:
                pass
            case Opcode.CLOSE:
                code = int.from_bytes(payload[:2], "big") if payload else 1005
                self._fail(
                    f"closed a connection with {code} {payload[2:].decode(errors='replace')}"
                )
            case Opcode.TEXT | Opcode.CONT:
                self._fragments += payload
                if fin:
                    message = bytes(self._fragments)
                    self._fragments.clear()
                    self._check(message)
            case _:
                self._fail("does not echo: a text message came back as another kind of frame")

    def _check(self, message: bytes) -> None:
        if not self.sent_at:
            self._fail("does not echo: it spoke first")
        elif message != self._shared.message:
            self._fail("does not echo: another message came back than was sent")
        else:
            self._echoed()

    def _fail(self, problem: str) -> None:
        if not self._closing:
            self.abort()
            self._shared.on_failure(problem)
