"""The load of a storm: all clients come back at once, and each says when it is live again.

`python -m benchmarks.storm_load storm JSON`. It starts the server itself, since it has to start it
anew while its clients wait.
"""

import select
import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import load
from benchmarks.client import Client
from benchmarks.dialects import DIALECTS, Dialect, Stream, serialize_payload
from benchmarks.load import MASK, connect_soon
from benchmarks.process import serving
from benchmarks.window import Meter, Window
from benchmarks.wire import (
    CLOSE,
    HANDSHAKE_END,
    check_upgrade,
    parse_frame,
    serialize_frame,
    serialize_upgrade,
)

__all__ = ["Storm", "measure_storm"]

PATIENCE = 60.0  # for all to be live
RETRY = 0.1  # seconds after which a client that was refused tries again


@dataclass(frozen=True, slots=True)
class Storm:
    """What became of clients that came back at once.

    Attributes:
        window: Its events are the clients that are live, its seconds end with the last of them.
        p50: Seconds until half of them were live.
        p99: Seconds until 99 in 100 were.
        missed: Deliveries that they missed while they were away.
        recovered: Of these, that they got when they came back.
        refused: Connections that were refused or dropped, and tried again.
    """

    window: Window
    p50: float
    p99: float
    missed: int
    recovered: int
    refused: int


class Visitor:
    """A client of the storm. Its channel is subscribed from where its stream ended.

    socket: `None`: it is away.
    """

    __slots__ = ("_dialect", "_messages", "_number", "_pending", "_steps", "_upgraded",
                 "channel", "live_at", "socket", "stream")  # fmt: skip

    def __init__(self, number: int, dialect: Dialect, channel: str) -> None:
        self.channel = channel
        self.stream: Stream = dialect.stream()
        self.socket: socket.socket | None = None
        self.live_at = 0.0
        self._number = number
        self._dialect = dialect

    def start(self, port: int) -> socket.socket:
        """Begin to connect."""
        self.live_at = 0.0
        self._pending = b""
        self._messages: list[bytes] = []
        self._steps = self._dialect.greeting(self.channel, self.stream.since)
        self._upgraded = False
        self.socket = connect_soon(self._number, port)
        return self.socket

    def upgrade(self, request: bytes) -> None:
        """Ask for the upgrade, once connected."""
        assert self.socket is not None
        self.socket.send(request)

    def read(self) -> bool:
        """Take what came, and answer it; return whether the client became live by it.

        Raises:
            ConnectionError: The server does not want this connection.
            ValueError: The server says what it should not.
        """
        assert self.socket is not None
        data = self.socket.recv(1 << 16)
        if not data:
            raise ConnectionResetError
        self._pending += data
        if not self._upgraded:
            head, end, rest = self._pending.partition(HANDSHAKE_END)
            if not end:
                return False
            if b" 503 " in head[:20]:
                raise ConnectionRefusedError
            check_upgrade(head + end)
            self._upgraded, self._pending = True, rest
            if self._answered():
                return True
        while frame := parse_frame(self._pending):
            self._pending = self._pending[frame.size :]
            if frame.opcode == CLOSE:
                raise ConnectionResetError
            if (answer := self._dialect.answer(frame.payload)) is not None:
                self._send(answer)
                continue
            self._messages.append(frame.payload)
            if self._steps and self._steps[0][1] in frame.payload:
                self._steps = self._steps[1:]
                if self._answered():
                    return True
        return False

    def received(self) -> list[bytes]:
        """Return the payloads of what was read since the start; parse it only now."""
        messages, self._messages = self._messages, []
        return [payload for message in messages for payload in self.stream.feed(message)]

    def leave(self) -> None:
        """Reset the connection."""
        if self.socket is not None:
            linger = struct.pack("ii", 1, 0)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.socket.close()
            self.socket = None

    def _answered(self) -> bool:
        """Say what is next; return whether all is said and answered."""
        if not self._steps:
            self.live_at = time.monotonic()
            return True
        if message := self._steps[0][0]:
            self._send(message)
        return False

    def _send(self, message: bytes) -> None:
        assert self.socket is not None
        self.socket.send(serialize_frame(self._dialect.opcode, message, MASK))


class Crowd:
    """Clients, so many to a channel, and who publishes to them."""

    def __init__(self, dialect: Dialect, clients: int, channels: int, size: int) -> None:
        self._dialect = dialect
        self._channels = [f"bench:{number}" for number in range(channels)]
        self._size = size
        self._published = 0
        self._visitors = [
            Visitor(number, dialect, self._channels[number % channels]) for number in range(clients)
        ]

    def come(self, port: int) -> int:
        """Let all come at once, and wait until all are live; return how many were refused."""
        requests = {
            channel: serialize_upgrade(port, self._dialect.path(channel))
            for channel in self._channels
        }
        poller = select.epoll()
        by_fd: dict[int, Visitor] = {}
        retries: list[tuple[float, Visitor]] = []
        refused = 0

        def start(visitor: Visitor) -> None:
            fd = visitor.start(port).fileno()
            by_fd[fd] = visitor
            poller.register(fd, select.EPOLLOUT)

        for visitor in self._visitors:
            start(visitor)
        waiting = len(self._visitors)
        deadline = time.monotonic() + PATIENCE
        while waiting:
            now = time.monotonic()
            if now > deadline:
                raise ValueError(f"{waiting} clients are not live within {PATIENCE:.0f} s")
            while retries and retries[0][0] <= now:
                start(retries.pop(0)[1])
            for fd, events in poller.poll(RETRY):
                visitor = by_fd[fd]
                try:
                    if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                        waiting -= visitor.read()
                    else:
                        visitor.upgrade(requests[visitor.channel])
                        poller.modify(fd, select.EPOLLIN)
                except ConnectionError:
                    waiting += bool(visitor.live_at)
                    del by_fd[fd]
                    visitor.leave()
                    refused += 1
                    retries.append((time.monotonic() + RETRY, visitor))
        poller.close()
        return refused

    def measured_return(self, pid: int, broker: int, port: int, missed: int) -> Storm:
        """Let all come at once, and see what each of them got of what it missed."""
        expected: dict[str, list[bytes]] = {}
        for number in range(self._published - missed, self._published):
            channel = self._channels[number % len(self._channels)]
            expected.setdefault(channel, []).append(serialize_payload(number, self._size))
        meter = Meter(pid, broker=broker)
        begin = time.monotonic()
        refused = self.come(port)
        window = meter.stop(len(self._visitors))
        times = sorted(visitor.live_at - begin for visitor in self._visitors)
        recovered = 0
        for visitor in self._visitors:
            got, wanted = visitor.received(), expected.get(visitor.channel, [])
            if got not in (wanted, []):
                raise ValueError(f"not what was missed, once and in order: {got[:3]}")
            recovered += len(got)
        return Storm(
            window=window,
            p50=times[len(times) // 2],
            p99=times[len(times) * 99 // 100],
            missed=sum(len(expected.get(each.channel, [])) for each in self._visitors),
            recovered=recovered,
            refused=refused,
        )

    def leave(self) -> None:
        """Cut all connections; what came on them before counts as known."""
        for visitor in self._visitors:
            visitor.received()
            visitor.leave()

    def publish(self, port: int, publications: int) -> None:
        """Publish to the channels in turn, and wait for the acknowledgements."""
        publisher = Client(len(self._visitors), port, self._dialect, "")
        for _ in range(publications):
            number = self._published
            channel = self._channels[number % len(self._channels)]
            payload = serialize_payload(number, self._size)
            publisher.send(self._dialect.publish(channel, number, payload))
            self._published += 1
            raw = b""
            while (ack := self._dialect.ack(number)) not in raw:
                raw = b"".join([raw, *publisher.recv_messages()])
                if b'"error"' in raw:
                    raise ValueError(f"expected {ack!r}, got {raw[:100]!r}")
        publisher.socket.close()


def measure_storm(
    command: Sequence[str],
    core: int,
    broker: int,
    *,
    dialect: str,
    clients: int,
    channels: int,
    missed: int,
    size: int,
    restart: bool,
) -> dict[str, Storm]:
    """Cut all connections, publish, let all come back; and if so told, restart the server too.

    Args:
        missed: Publications while they are away, over all channels.
    """
    crowd = Crowd(DIALECTS[dialect], clients, channels, size)
    with serving(command, core) as (pid, port):
        crowd.come(port)
        crowd.leave()
        crowd.publish(port, missed)
        storms = {"cut": crowd.measured_return(pid, broker, port, missed)}
        if not restart:
            return storms
        crowd.leave()
        crowd.publish(port, missed)
    # It was killed: what it acknowledged is with the broker, or gone.
    with serving(command, core) as (pid, port):
        storms["restart"] = crowd.measured_return(pid, broker, port, missed)
    return storms


MEASUREMENTS: dict[str, Callable[..., Any]] = {"storm": measure_storm}


if __name__ == "__main__":
    load.main(MEASUREMENTS)
