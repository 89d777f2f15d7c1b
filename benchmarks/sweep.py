"""The load of a fan-out: a thousand sockets swept now and then, payloads counted, nothing parsed.

The machine is shared with the server, and a load that reads each message as it comes would need
more than its core. Nobody here waits for a message, so the sockets are read fifty times a second,
each with everything that has come since.
"""

import select
import time
from collections.abc import Sequence

from benchmarks.client import Client
from benchmarks.dialects import MARK
from benchmarks.publisher import Publisher

__all__ = ["Marks", "Sweep"]

INTERVAL = 0.02
BUFFER = 1 << 20


class Marks:
    """Counts marks in what is read from many sockets into one buffer, wherever a read ends."""

    def __init__(self, size: int = BUFFER) -> None:
        self.buffer = bytearray(size)
        # The end of what was read, if a mark may go on from there, by socket.
        self._tails: dict[int, bytes] = {}

    def count(self, fd: int, size: int) -> int:
        """Count the marks that end in the first bytes of the buffer, read from a socket."""
        marks = self.buffer.count(MARK, 0, size)
        # Rarely: most reads end with the end of a message, which is no part of a mark.
        if fd in self._tails or self.buffer[size - 1] in MARK:
            marks += self._join(fd, size)
        return marks

    def _join(self, fd: int, size: int) -> int:
        width = len(MARK) - 1
        before = self._tails.pop(fd, b"")
        joined = before + self.buffer[: min(width, size)]
        if self.buffer[size - 1] in MARK:
            end = bytes(self.buffer[max(0, size - width) : size])
            self._tails[fd] = (before + end)[-width:]
        return joined.count(MARK)


class Sweep:
    """Subscribers of a channel, and its publisher."""

    def __init__(self, clients: Sequence[Client], publisher: Publisher) -> None:
        self._publisher = publisher
        self._marks = Marks()
        self._poller = select.epoll()
        self._reads = {client.socket.fileno(): client.socket.recv_into for client in clients}
        for client in clients:
            client.socket.setblocking(False)
            self._poller.register(client.socket, select.EPOLLIN)

    def run(self, seconds: float) -> int:
        """Go on for a time; return how many payloads came."""
        publisher, monotonic, sleep = self._publisher, time.monotonic, time.sleep
        payloads = self._sweep()
        publisher.start()
        sweep_at = monotonic() + INTERVAL
        deadline = monotonic() + seconds
        while (now := monotonic()) < deadline:
            if now >= publisher.due:
                publisher.publish()
            elif now >= sweep_at:
                payloads += self._sweep()
                # If the load cannot keep up, it gets bigger pieces.
                sweep_at = max(sweep_at + INTERVAL, monotonic())
            else:
                sleep(min(publisher.due, sweep_at, deadline) - now)
        return payloads + self._sweep()

    def _sweep(self) -> int:
        """Read each socket that has something once; publish meanwhile what is due."""
        reads, buffer, count = self._reads, self._marks.buffer, self._marks.count
        publisher, monotonic = self._publisher, time.monotonic
        payloads = 0
        for fd, _ in self._poller.poll(0, len(reads)):
            size = reads[fd](buffer)
            if size == 0:
                raise ValueError("the server dropped a connection")
            payloads += count(fd, size)
            if monotonic() >= publisher.due:
                publisher.publish()
        publisher.read_acks()
        return payloads
