"""One WebSocket: the `websockets` connection with a hot path in both directions (ADR 0003).

The parent class does the handshake, fragments, control frames, closing, keepalive, extensions.
This one reads and writes what nearly all traffic consists of, whole unfragmented messages, without
it. The two share one stream: bytes are either parsed here or streamed to the parent, and change
sides at frame boundaries only. A connection's life, each step in one place:

    accepted   connection_made: `Front` waits for the head of the first request
    opening    upgrade: the parent starts with the request; what follows it waits
    open       _opened: the hot path starts, unless an extension was negotiated
    closing    everything is the parent's again, for good
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, cast, overload

from websockets.asyncio import server as parent
from websockets.exceptions import (
    ConcurrencyError,
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    InvalidMessage,
)
from websockets.frames import DATA_OPCODES, OK_CLOSE_CODES, CloseCode, Frame, Opcode
from websockets.http11 import SERVER, Request, Response
from websockets.protocol import CONNECTING, OPEN, Event
from websockets.server import ServerProtocol
from websockets.typing import Data, DataLike

from hubbub.errors import WriteLimitExceeded
from hubbub.server.callback import Callback
from hubbub.server.frames import BINARY, TEXT, extent, serialize
from hubbub.server.http import plain_response
from hubbub.server.inbox import Inbox
from hubbub.server.proxies import Forwarded
from hubbub.server.unsent import unsent
from hubbub.server.watcher import Watcher

try:
    from websockets.speedups import apply_mask
except ImportError:  # no wheel for this platform: several times slower, same result
    from websockets.utils import apply_mask

if TYPE_CHECKING:
    from hubbub.server.server import Server

__all__ = ["ServerConnection"]

MAX_HOT_PAYLOAD = 65535
"""Largest frame in bytes that the hot path reads. A larger one is worth the parent's streaming
parser: here it would wait in a buffer until it is whole and be copied once more."""

MAX_EARLY = 65536
"""Bytes kept of a client that sends before it has seen the 101; then reading pauses."""

# First bytes of frames that are whole messages.
_WHOLE = (TEXT, BINARY)

# Who holds back reading in callback mode; bits, because both may at once.
_HELD_BY_WRITES = 1
_HELD_BY_CALLER = 2


class ServerConnection(parent.ServerConnection):
    """A WebSocket connection, as its handler sees it.

    Names, parameters and meanings are those of `websockets.asyncio.server.ServerConnection`.
    Beyond them there is the callback mode, which spares a task switch per message: `on_message`
    with `send_nowait`, `pause_reading` and `resume_reading`.
    """

    # The parent has a __dict__ of some 45 entries; slots keep ours from doubling its table.
    __slots__ = (
        "_buffer",
        "_callback",
        "_close_timer",
        "_forwarded",
        "_held",
        "_hot",
        "_inbox",
        "_max_payload",
        "_owed",
        "_stall_timer",
        "_wanted",
        "_watcher",
        "plain",
    )

    server: "Server"

    def __init__(self, protocol: ServerProtocol, server: "Server", **options: Any) -> None:
        super().__init__(protocol, server, **options)
        self.plain = False
        """Whether messages leave as they are: open once, no extension. Frames can be shared."""

        # Whether incoming frames take the hot path: plain, and not closing.
        self._hot = False
        # Bytes not parsed yet: a part of a frame, more than the handshake, or held back.
        self._buffer: bytearray | None = None
        # Length at which parsing _buffer makes sense again.
        self._wanted = 0
        # Bytes of the parent's current frame that have not arrived.
        self._owed = 0
        self._max_payload = MAX_HOT_PAYLOAD
        self._callback: Callback | None = None
        self._held = 0
        self._forwarded: Forwarded | None = None
        self._close_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None
        self._watcher: Watcher | None = None

    # Who is at the other end.

    @property
    def client_address(self) -> str | None:
        """IP address of the client: the peer's, or what `trusted_proxies` of `serve` say of it.

        `None`: unknown, on a Unix socket without a proxy that says it. Known from `process_request`
        on.
        """
        return self.forwarded.address

    @property
    def forwarded(self) -> Forwarded:
        """Address, scheme and host that the client uses, by the socket and by trusted proxies."""
        if self._forwarded is None:
            assert self.request is not None, "known when the request has been read"
            peername = self.transport.get_extra_info("peername")
            secure = self.transport.get_extra_info("sslcontext") is not None
            self._forwarded = self.server.proxies.find_client(
                # A string, or nothing, on a Unix socket.
                str(peername[0]) if isinstance(peername, tuple) else None,
                "https" if secure else "http",
                self.request.headers.get_all,
            )
        return self._forwarded

    # From the accepted socket to the open connection.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Leave the new connection to the front until it has read the request's head."""
        self.server.front.admit(self, cast("asyncio.Transport", transport))

    def upgrade(self, transport: asyncio.Transport, head: bytes, early: bytes) -> None:
        """Become a WebSocket: start the parent with the opening handshake's request.

        Args:
            transport: Already set to call this protocol.
            head: The request, up to and including its empty line.
            early: What came behind it. A client must not send before it has seen the 101
                (RFC 6455 §4.1), but one that does loses nothing: it waits until then.
        """
        super().connection_made(transport)
        self._inbox = self.recv_messages = Inbox(
            self.max_queue_high,
            self.max_queue_low,
            pause=transport.pause_reading,
            resume=transport.resume_reading,
        )
        self.protocol.receive_data(head)
        if isinstance(self.protocol.handshake_exc, InvalidMessage):
            # The parent ends a malformed request without a word.
            problem = self.protocol.handshake_exc.__cause__
            transport.write(plain_response(400, f"Malformed request: {problem}.\n"))
        super().data_received(b"")
        if early:
            self.data_received(early)

    async def handshake(
        self,
        process_request: (
            Callable[[Any, Request], Awaitable[Response | None] | Response | None] | None
        ) = None,
        process_response: (
            Callable[[Any, Request, Response], Awaitable[Response | None] | Response | None] | None
        ) = None,
        server_header: str | None = SERVER,
    ) -> None:
        """Perform the opening handshake; if it succeeds, start the hot path."""
        try:
            await super().handshake(process_request, process_response, server_header)
        finally:
            self.server.front.opened(self)
        if self.protocol.state is OPEN:
            self._opened()

    def _opened(self) -> None:
        protocol = self.protocol
        # An extension changes every frame. With debug logging, the parent logs every frame.
        self._hot = self.plain = not protocol.extensions and not self.debug
        for limit in (protocol.max_message_size, protocol.max_fragment_size):
            if limit is not None:
                self._max_payload = min(self._max_payload, limit)
        if self._buffer is not None:
            self._read_on()

    # Incoming.

    def data_received(self, data: bytes) -> None:
        """Take bytes from the peer: parse them here, keep them, or stream them to the parent."""
        if self._hot and self.protocol.state is OPEN:
            if self._buffer is None:
                self._parse(data)
            else:
                self._buffer += data
                if len(self._buffer) >= self._wanted and not self._held:
                    self._parse(self._take_buffer())
        elif self.protocol.state is CONNECTING and self.request is not None:
            self._keep(data, 0)
            if len(self._buffer or b"") > MAX_EARLY:
                self.transport.pause_reading()
        else:
            # An extension, or closing: all bytes are the parent's, those we kept first.
            self._hot = False
            if self._buffer is not None:
                data = self._take_buffer() + data
            self._feed(data)

    def _parse(self, data: bytes) -> None:
        """Deliver the messages in `data`, give the parent its frames, keep what is incomplete.

        `data` begins at a frame boundary, or within a frame of the parent of which `_owed` bytes
        are still to come.
        """
        protocol = self.protocol
        max_payload = self._max_payload
        position, end, wanted = 0, len(data), 2
        if self._owed:
            position = min(self._owed, end)
            self._owed -= position
            self._feed(data[:position])
        while self._hot and not self._held and end - position >= 2:
            first = data[position]
            length = data[position + 1] - 0x80  # below zero: not masked
            start = position + 6
            if length == 126:
                if end - position < 4:
                    wanted = 4
                    break
                length = data[position + 2] << 8 | data[position + 3]
                start = position + 8
            elif length == 127:
                length = -1
            if (
                first in _WHOLE
                and 0 <= length <= max_payload
                # Not within a fragmented message, where only the parent knows what may come.
                and protocol.current_size is None
            ):
                stop = start + length
                if stop > end:
                    wanted = stop - position
                    break
                payload = apply_mask(data[start:stop], data[start - 4 : start])
                position = stop
                self._deliver(first, payload)
            else:
                size = extent(data, position)
                if not size:
                    wanted = end - position + 1
                    break
                stop = position + size
                self._owed = max(0, stop - end)
                self._feed(data[position:stop])
                position = min(stop, end)
        if position < end:
            if self._hot:
                self._keep(data[position:], wanted)
            else:
                self._feed(data[position:])

    def _deliver(self, first: int, payload: bytes) -> None:
        """Hand on a whole message: to the callback or to who waits in `recv`."""
        if self._callback is not None:
            self._callback.message(first, payload)
        elif first == BINARY:
            self._inbox.put_message(payload)
        else:
            try:
                self._inbox.put_message(payload.decode())
            except UnicodeDecodeError:
                # recv(decode=False) may still want it; recv() ends the connection with 1007.
                self._inbox.put(Frame(Opcode.TEXT, payload))

    def _feed(self, data: bytes) -> None:
        """Stream bytes to the parent; its events come back through `process_event`."""
        super().data_received(data)
        if self.protocol.state is not OPEN:
            self._hot = False
            self._end_by(self.close_deadline)
            self._tell_closing()

    def _keep(self, data: bytes, wanted: int) -> None:
        """Keep bytes that cannot be parsed before there are `wanted` of them."""
        if self._buffer is None:
            self._buffer = bytearray(data)
        else:
            self._buffer += data
        self._wanted = wanted

    def _take_buffer(self) -> bytes:
        data = bytes(self._buffer or b"")
        self._buffer = None
        return data

    def _read_on(self) -> None:
        """Deliver and parse what was kept while reading was held back, then read again."""
        while self._callback is not None and self._inbox.items and not self._held:
            self._callback.frame(self._inbox.take_frame())
        if self._held:
            return
        if self._buffer is not None:
            data = self._take_buffer()
            if self._hot and self.protocol.state is OPEN:
                self._parse(data)
            else:
                self._feed(data)
        if not (self._held or self._inbox.paused or self.transport.is_closing()):
            self.transport.resume_reading()

    def eof_received(self) -> None:
        """Take the end of the peer's stream."""
        # Within a frame: its beginning goes to the parent, which says what is missing.
        if self._buffer is not None:
            self._hot = False
            self._feed(self._take_buffer())
        super().eof_received()
        # The parent has ended this side too: a write raises from here on.
        self._hot = False
        self._tell_closing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the end of the connection."""
        super().connection_lost(exc)
        for timer in (self._close_timer, self._stall_timer):
            if timer is not None:
                timer.cancel()
        self._tell_closing()
        # What a callback was not given yet is dropped. A callback that is a method of this
        # connection would keep both alive until the next garbage collection.
        self._buffer = self._callback = None

    async def close(
        self, code: CloseCode | int = CloseCode.NORMAL_CLOSURE, reason: str = ""
    ) -> None:
        """Perform the closing handshake and wait until the connection has ended.

        Takes `close_timeout` at most, then the connection is dropped. Idempotent.

        Args:
            code: Close code (RFC 6455 §7.4).
            reason: At most 123 bytes of UTF-8.
        """
        if self.protocol.state is OPEN:
            # The parent begins to count when the close frame is on its way: behind a peer that
            # does not read, never.
            if self.close_timeout is not None:
                self._end_by(self.loop.time() + self.close_timeout)
            self._inbox.drop_surplus()
        self._tell_closing()
        await super().close(code, reason)

    def _end_by(self, deadline: float | None) -> None:
        """See that a closing connection ends, even if nobody waits for it.

        The parent enforces `close_timeout` in whoever calls `close` or `send`. A peer that sends
        a close frame and never ends the TCP connection meets neither: only a later ping would.
        """
        if deadline is not None and self._close_timer is None:
            self._close_timer = self.loop.call_at(deadline, self._close_timed_out)

    def _close_timed_out(self) -> None:
        self.set_connection_exc(TimeoutError("timed out while closing connection"))
        self.transport.abort()

    # Receiving: the queue.

    @overload
    async def recv(self, decode: Literal[True]) -> str: ...

    @overload
    async def recv(self, decode: Literal[False]) -> bytes: ...

    @overload
    async def recv(self, decode: bool | None = None) -> Data: ...

    async def recv(self, decode: bool | None = None) -> Data:
        """Wait for the next message.

        Concurrent calls are refused: messages are ordered, so is reading.

        Args:
            decode: `True` for `str`, `False` for `bytes`; `None` follows the frame type
                (RFC 6455 §5.6).

        Raises:
            ConnectionClosed: The connection is closed and no message is left.
            ConcurrencyError: Another task is already waiting.

        Cancelled: no message is lost; the next call returns it.
        """
        if decode is None:
            inbox = self._inbox
            if not inbox.items and not inbox.closed and not inbox.get_in_progress:
                await inbox.wait()
            if not inbox.get_in_progress:
                message = inbox.take_message()
                if message is not None:
                    return message
        # A frame of the parent, a conversion, the end of the connection.
        return await super().recv(decode)

    def __aiter__(self) -> AsyncIterator[Data]:
        """Iterate over messages until the connection is closed normally (1000, 1001, 1005).

        Raises:
            ConnectionClosedError: It was closed with another code or lost.
        """
        return self

    async def __anext__(self) -> Data:
        try:
            return await self.recv()
        except ConnectionClosedOK:
            raise StopAsyncIteration from None

    # Receiving: the callback.

    def on_message(self, callback: Callable[[Any], object], *, decode: bool | None = None) -> None:
        """Have each message passed to a function instead of queueing it for `recv`.

        The function is called in the event loop, in order, for each message as it arrives; no task
        wakes for it. Messages that were queued already come first, before this returns. While
        more than `write_limit` waits to be sent to the peer, or between `pause_reading` and
        `resume_reading`, no message is delivered and the socket is not read: a peer that sends
        and never reads fills its own buffers.

        An exception from the function ends the connection with 1011 and is logged;
        `ConnectionClosed` is a normal end. Call it once; afterwards `recv` waits for ever.

        Args:
            callback: Must not block.
            decode: `True` passes every message as `str`, `False` as `bytes`, where the bytes of a
                text message have not been checked to be UTF-8; `None` follows the frame type.

        Raises:
            ConcurrencyError: A task waits in `recv`, or a callback is set.
        """
        if self._callback is not None:
            raise ConcurrencyError("a message callback is already set")
        if self._inbox.get_in_progress:
            raise ConcurrencyError("cannot set a callback while a coroutine is running recv")
        self._callback = Callback(callback, decode, self.fail, self.logger)
        self._inbox.release()
        if self.paused:
            self._hold(_HELD_BY_WRITES)
        self._read_on()

    def pause_reading(self) -> None:
        """Deliver no message to the callback until `resume_reading`; let the peer wait.

        Takes effect at once: of messages that arrived together, the next one waits already.
        Pings are not answered meanwhile; if the connection is lost meanwhile, what waits is
        dropped. Idempotent.
        """
        self._hold(_HELD_BY_CALLER)

    def resume_reading(self) -> None:
        """Deliver messages to the callback again, from the event loop's next iteration on."""
        self._release(_HELD_BY_CALLER)

    def watch(self, watcher: Watcher) -> None:
        """Have an object told of the flow control and of the end of this connection.

        Whoever watches bounds by itself what waits to be sent: it may write to the transport, with
        `hubbub.server.frames.serialize`, where `plain` or an uncompressed frame is legal, until
        `closing`. While messages wait to be sent the callback's are delivered all the same, and no
        stalled peer is dropped. Call it once, on an open connection.
        """
        self._watcher = watcher

    def _tell_closing(self) -> None:
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.closing()

    def process_event(self, event: Event) -> None:
        """Route a frame of the parent's parser to the callback, if there is one."""
        callback = self._callback
        if callback is None or not isinstance(event, Frame) or event.opcode not in DATA_OPCODES:
            super().process_event(event)
        elif self._held or self._inbox.items:
            self._inbox.put(event)
        else:
            callback.frame(event)

    def fail(self, code: CloseCode, reason: str = "") -> None:
        """Fail the connection from a synchronous context (RFC 6455 §7.1.7)."""
        self._hot = False
        self._tell_closing()
        self.protocol.fail(code, reason)
        try:
            self.send_data()
        except Exception as exc:
            # As the parent's data_received: transports raise various errors for a lost peer.
            self.set_connection_exc(exc)
        if self.close_deadline is None and self.close_timeout is not None:
            self.close_deadline = self.loop.time() + self.close_timeout
        self._end_by(self.close_deadline)

    def _hold(self, who: int) -> None:
        if not self._held and not self.transport.is_closing():
            self.transport.pause_reading()
        self._held |= who

    def _release(self, who: int) -> None:
        if self._held & who:
            self._held &= ~who
            if not self._held:
                # Not from here: the caller may be a transport in the middle of its own work.
                self.loop.call_soon(self._read_on)

    # Sending.

    async def send(
        self,
        message: DataLike | Iterable[DataLike] | AsyncIterable[DataLike],
        *,
        text: bool | None = None,
    ) -> None:
        """Send a message; wait while more than `write_limit` bytes wait to be sent.

        Args:
            message: `str` goes as a text frame, bytes-like as a binary frame, an iterable or
                asynchronous iterable of them as fragments (RFC 6455 §5.4).
            text: `True` or `False` forces text or binary frames; text must be valid UTF-8.

        Raises:
            ConnectionClosed: The connection is closed.
            TypeError: The message has another type; a mapping is refused as a likely mistake.

        Cancelled: a whole message may have been sent; within fragments, the connection fails.
        """
        if not self.plain or self.send_in_progress is not None or self.protocol.state is not OPEN:
            await super().send(message, text=text)
        elif isinstance(message, str):
            await self._write(BINARY if text is False else TEXT, message.encode())
        elif isinstance(message, bytes):
            await self._write(TEXT if text else BINARY, message)
        else:
            await super().send(message, text=text)

    async def _write(self, first: int, payload: bytes) -> None:
        try:
            self.transport.write(serialize(first, payload))
            # is_closing: a lost peer, which connection_lost is about to tell.
            if self.paused or self.transport.is_closing():
                await self.drain()
        except Exception as exc:
            # Lost while writing; as the parent's send_context.
            self.set_connection_exc(exc)
            self.transport.abort()
            await asyncio.shield(self.connection_lost_waiter)
            raise self.close_exc from exc

    def send_nowait(self, message: str | bytes, *, text: bool | None = None) -> None:
        """Send a whole message without waiting, for use in an `on_message` callback.

        Args:
            message: `str` goes as a text frame, `bytes` as a binary frame.
            text: `True` or `False` forces a text or binary frame; text must be valid UTF-8.

        Raises:
            ConnectionClosed: The connection is closed or closing.
            WriteLimitExceeded: More than `write_limit` bytes wait to be sent: nothing was sent.
                In a callback for a message of the same connection this cannot happen at the first
                call, since messages are not delivered meanwhile.
            ConcurrencyError: A fragmented message is being sent.
            TypeError: The message is neither `str` nor `bytes`.
        """
        if isinstance(message, str):
            first, payload = BINARY if text is False else TEXT, message.encode()
        elif isinstance(message, bytes):
            first, payload = TEXT if text else BINARY, message
        else:
            raise TypeError(f"message must be str or bytes, not {type(message).__name__}")
        if self.protocol.state is not OPEN:
            raise self._closing_exc()
        if self.paused:
            waiting = self.transport.get_write_buffer_size()
            raise WriteLimitExceeded(waiting, self.write_limit_high)
        if self.send_in_progress is not None:
            raise ConcurrencyError("cannot send while a fragmented message is being sent")
        try:
            if self.plain:
                self.transport.write(serialize(first, payload))
            else:
                write = self.protocol.send_text if first == TEXT else self.protocol.send_binary
                write(payload)
                self.send_data()
        except Exception as exc:
            self.set_connection_exc(exc)
            self.transport.abort()
            raise self._closing_exc() from exc

    def _closing_exc(self) -> ConnectionClosed:
        """Build what `close_exc` gives, before the connection is quite closed."""
        rcvd, sent = self.protocol.close_rcvd, self.protocol.close_sent
        ok = rcvd is not None and sent is not None and {rcvd.code, sent.code} <= OK_CLOSE_CODES
        kind = ConnectionClosedOK if ok else ConnectionClosedError
        return kind(rcvd, sent, self.protocol.close_rcvd_then_sent)

    def send_data(self) -> None:
        """Write what the parent wants to send."""
        super().send_data()
        # This side has ended: what still comes is discarded, but its end must be seen.
        if self.protocol.eof_sent and (self._held or self._inbox.paused):
            self._held = 0
            self._inbox.drop_surplus()
            if not self.transport.is_closing():
                self.transport.resume_reading()

    # Flow control of the transport.

    def pause_writing(self) -> None:
        """Take note that more than `write_limit` bytes wait to be sent."""
        super().pause_writing()
        if self._watcher is not None:
            self._watcher.writing_paused()
            return
        if self._callback is not None:
            self._hold(_HELD_BY_WRITES)
        self._watch_stall()

    def resume_writing(self) -> None:
        """Take note that the peer has read enough for more to be sent."""
        # A response of HTTP before the upgrade may have paused the transport.
        if self.paused:
            super().resume_writing()
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None
        self._release(_HELD_BY_WRITES)
        if self._watcher is not None:
            self._watcher.writing_resumed()

    def _watch_stall(self, waited: int | None = None) -> None:
        """See that a peer which stopped reading is dropped.

        The parent's keepalive cannot: its ping waits behind the same full buffer. Here the peer is
        lost when within `ping_timeout` it took nothing of what waits above `write_limit`.

        Args:
            waited: Bytes that waited one `ping_timeout` ago.
        """
        if self.ping_timeout is None:
            return
        waiting = unsent(self.transport)
        if waited is None or waiting < waited:
            self._stall_timer = self.loop.call_later(self.ping_timeout, self._watch_stall, waiting)
        else:
            self.set_connection_exc(TimeoutError(f"peer took no data for {self.ping_timeout} s"))
            self.transport.abort()
