"""One client of the load on a hub: opened with care, its socket then left to a bare loop."""

import select
import time
from collections.abc import Sequence

from benchmarks.dialects import Dialect, Stream
from benchmarks.load import MASK, TIMEOUT, connect
from benchmarks.wire import (
    CLOSE,
    HANDSHAKE_END,
    PING,
    PONG,
    check_upgrade,
    parse_frame,
    serialize_frame,
    serialize_upgrade,
)

__all__ = ["Client", "open_subscribers"]


class Client:
    """A connection at which a dialect's greeting is done.

    Args:
        number: Chooses the address to connect from.
        channel: What to subscribe to; empty: nothing, for a publisher.
        stream: What an earlier connection read, to go on with it.
    """

    def __init__(
        self,
        number: int,
        port: int,
        dialect: Dialect,
        channel: str,
        stream: Stream | None = None,
    ) -> None:
        self._dialect = dialect
        self._pending = b""
        self._early: list[bytes] = []
        self._stream = stream or dialect.stream()
        greeting = dialect.greeting(channel, self._stream.since)
        self.socket = connect(number, port)
        self.socket.settimeout(TIMEOUT)
        try:
            self._greet(port, dialect.path(channel), greeting)
        except BaseException:
            self.socket.close()
            raise

    def frame(self, message: bytes) -> bytes:
        """Build the frame that sends a message."""
        return serialize_frame(self._dialect.opcode, message, MASK)

    def send(self, message: bytes) -> None:
        self.socket.sendall(self.frame(message))

    def early(self) -> list[bytes]:
        """Take the payloads that came with the last answer to the greeting."""
        early, self._early = self._early, []
        return early

    def recv(self) -> list[bytes]:
        """Wait for at least a byte; return the payloads delivered by what is whole then."""
        return [payload for each in self.recv_messages() for payload in self._stream.feed(each)]

    def recv_messages(self) -> list[bytes]:
        """Wait for at least a byte; return the messages that are whole then."""
        self._read()
        return self.messages()

    def messages(self) -> list[bytes]:
        """Take the whole messages out of what was read, and answer pings.

        Raises:
            ValueError: The server closes.
        """
        messages = []
        while frame := parse_frame(self._pending):
            self._pending = self._pending[frame.size :]
            if frame.opcode == PING:
                self.socket.sendall(serialize_frame(PONG, frame.payload, MASK))
            elif frame.opcode == CLOSE:
                raise ValueError(f"the server closed a connection: {frame.payload!r}")
            elif (answer := self._dialect.answer(frame.payload)) is not None:
                self.send(answer)
            else:
                messages.append(frame.payload)
        return messages

    def close(self) -> None:
        """Close as RFC 6455 §7 wants it, so that no server complains; take what still comes."""
        self.socket.settimeout(TIMEOUT)
        self.socket.sendall(serialize_frame(CLOSE, b"\x03\xe8", MASK))

    def wait_closed(self) -> None:
        try:
            while self.socket.recv(1 << 18):
                pass
        except ConnectionResetError:
            pass  # it was closed with bytes of ours unread: the server is rid of it as well
        self.socket.close()

    def _greet(self, port: int, path: str, greeting: Sequence[tuple[bytes, bytes]]) -> None:
        self.socket.sendall(serialize_upgrade(port, path))
        while HANDSHAKE_END not in self._pending:
            self._read()
        head, end, self._pending = self._pending.partition(HANDSHAKE_END)
        check_upgrade(head + end)
        for message, answer in greeting:
            if message:
                self.send(message)
            self._expect(answer)

    def _read(self) -> None:
        data = self.socket.recv(1 << 18)
        if not data:
            raise ValueError(f"the server dropped a connection: {self._pending[-100:]!r}")
        self._pending += data

    def _expect(self, answer: bytes) -> None:
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            messages = self.messages()
            for place, message in enumerate(messages):
                if answer in message:
                    for each in messages[place:]:
                        self._early += self._stream.feed(each)
                    return
                if b"error" in message:
                    raise ValueError(f"expected {answer!r}, got {message[:100]!r}")
            self._read()
        raise ValueError(f"no {answer!r} in time")


def open_subscribers(
    port: int, dialect: Dialect, channels: Sequence[str], breath: int = 1000
) -> list[Client]:
    """Open a subscriber for each channel in the list; after so many, answer pings."""
    clients: list[Client] = []
    poller = select.epoll()
    by_fd: dict[int, Client] = {}
    for number, channel in enumerate(channels):
        client = Client(number, port, dialect, channel)
        clients.append(client)
        by_fd[client.socket.fileno()] = client
        poller.register(client.socket, select.EPOLLIN)
        if number % breath == breath - 1:
            for fd, _ in poller.poll(0):
                by_fd[fd].recv()
    poller.close()
    return clients
