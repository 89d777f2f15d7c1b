"""The publisher of an open loop: a publication is due every so often, whatever the server does."""

import math
import time
from collections.abc import Sequence
from contextlib import suppress

from benchmarks.client import Client
from benchmarks.dialects import Dialect, serialize_payload

__all__ = ["Publisher"]


class Publisher:
    """A connection that publishes to channels in turn.

    due: when the next publication has to go; whoever runs the loop looks at it. Infinite before
    the start.
    sent_at: of each number, when it went, or began to wait for the server to read.
    """

    def __init__(
        self, client: Client, dialect: Dialect, channels: Sequence[str], size: int, rate: float
    ) -> None:
        self.client = client
        self.due = math.inf
        self.sent_at: list[float] = []
        self._dialect = dialect
        self._channels = channels
        self._size = size
        self._interval = 1 / rate
        self._waiting = b""
        self._first = 0
        client.socket.setblocking(False)

    def start(self) -> None:
        """Let the next publication be due now; what was missed meanwhile is not made up for."""
        self.due = time.monotonic()
        self._first = len(self.sent_at)

    @property
    def published(self) -> int:
        """How many publications went, or wait, since the start."""
        return len(self.sent_at) - self._first

    def publish(self) -> None:
        """Send the publication that is due; what the server does not take waits in order."""
        number = len(self.sent_at)
        channel = self._channels[number % len(self._channels)]
        payload = serialize_payload(number, self._size)
        frame = self.client.frame(self._dialect.publish(channel, number, payload))
        self.due += self._interval
        self.sent_at.append(time.monotonic())
        self._waiting += frame
        with suppress(BlockingIOError):  # then the next publication tries again
            self._waiting = self._waiting[self.client.socket.send(self._waiting) :]

    def close(self) -> None:
        """End the connection; at once, if a frame is half sent that nobody will complete."""
        if self._waiting:
            self.client.socket.close()
        else:
            self.client.close()
            self.client.wait_closed()

    def read_acks(self) -> None:
        """Take what the server says to the publisher, so that nothing piles up there."""
        try:
            while data := self.client.socket.recv(1 << 16):
                if len(data) < 1 << 16:
                    return
        except BlockingIOError:
            return
        raise ValueError("the server dropped the publisher")
