"""The load on a hub: one process of raw sockets, `python -m benchmarks.hub_load NAME JSON`.

It is pinned to the core that the server has not got, reads the server's clocks inside its loops,
and prints its result as JSON, as `benchmarks.load` does for echo.
"""

import select
import socket
import struct
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from benchmarks import load
from benchmarks.client import Client, open_subscribers
from benchmarks.dialects import DIALECTS, MARK, Dialect, number_in, serialize_payload
from benchmarks.load import measure_window
from benchmarks.process import Memory, memory
from benchmarks.publisher import Publisher
from benchmarks.sweep import Sweep
from benchmarks.window import Window

__all__ = ["measure_ack", "measure_channels", "measure_fanout", "measure_idle", "verify"]

SETTLE = 0.1  # a subscription may take effect a moment after the upgrade is answered
WARM_UP = 100  # connections that come and go before memory is read


def verify(
    pid: int,
    port: int,
    *,
    dialect: str,
    subscribers: int,
    publications: int,
    size: int,
    rate: float,
) -> dict[str, int]:
    """Check that each subscriber gets every publication once, unchanged and in order.

    Raises:
        ValueError: One did not.
    """
    speech = DIALECTS[dialect]
    clients = open_subscribers(port, speech, ["bench:verify"] * subscribers)
    publisher = Client(subscribers, port, speech, "")
    with _closing([*clients, publisher]):
        time.sleep(SETTLE)
        expected = [serialize_payload(number, size) for number in range(publications)]
        begin = time.monotonic()
        for number, payload in enumerate(expected):
            time.sleep(max(0.0, begin + number / rate - time.monotonic()))
            publisher.send(speech.publish("bench:verify", number, payload))
        for client in clients:
            got: list[bytes] = []
            with suppress(TimeoutError):  # told below
                while len(got) < publications:
                    got += client.recv()
            if got != expected:
                raise ValueError(f"not every publication once and in order: {_difference(got)}")
        _check_acks(speech, publisher, publications)
    return {"publications": publications, "subscribers": subscribers}


def measure_fanout(
    pid: int,
    port: int,
    *,
    dialect: str,
    subscribers: int,
    rate: float,
    size: int,
    warm_up: float,
    seconds: float,
) -> Window:
    """Publish at a rate to one channel; count what all subscribers receive."""
    speech = DIALECTS[dialect]
    channel = "bench:fanout"
    clients = open_subscribers(port, speech, [channel] * subscribers)
    publisher = Publisher(Client(subscribers, port, speech, ""), speech, [channel], size, rate)
    time.sleep(SETTLE)
    window = measure_window(pid, Sweep(clients, publisher).run, warm_up, seconds)
    window = replace(window, offered=publisher.published * subscribers)
    if window.is_overrun:
        # What the server has not come to yet could take it many times the window.
        _abort([publisher.client, *clients])
    else:
        publisher.close()
        _close(clients)
    return window


def measure_channels(
    pid: int,
    port: int,
    *,
    dialect: str,
    channels: int,
    rate: float,
    size: int,
    warm_up: float,
    seconds: float,
) -> dict[str, Any]:
    """Publish to channels of one subscriber each in turn; time each publication."""
    speech = DIALECTS[dialect]
    names = [f"bench:{number}" for number in range(channels)]
    clients = open_subscribers(port, speech, names)
    publisher = Publisher(Client(channels, port, speech, ""), speech, names, size, rate)
    time.sleep(SETTLE)
    round_trip = RoundTrip(clients, publisher)
    window = measure_window(pid, round_trip.run, warm_up, seconds)
    publisher.close()
    _close(clients)
    latencies = sorted(round_trip.latencies)
    return {
        "window": replace(window, offered=publisher.published),
        "p50": latencies[len(latencies) // 2],
        "p99": latencies[len(latencies) * 99 // 100],
    }


def measure_idle(
    pid: int, port: int, *, dialect: str, subscribers: int, settle: float
) -> dict[str, Memory]:
    """Open subscribers of one channel, then idle; say the server's memory before and after."""
    speech = DIALECTS[dialect]
    # The first connections pay for what is loaded and allocated once.
    _close(open_subscribers(port, speech, ["bench:idle"] * WARM_UP))
    time.sleep(settle)
    before = memory(pid)
    clients = open_subscribers(port, speech, ["bench:idle"] * subscribers)
    time.sleep(settle)
    after = memory(pid)
    _check_open(clients)
    for client in clients:
        client.socket.close()
    return {"before": before, "after": after}


def measure_ack(
    pid: int,
    port: int,
    *,
    dialect: str,
    connections: int,
    size: int,
    warm_up: float,
    seconds: float,
) -> Window:
    """Closed loop: a connection publishes again when the ack and its own publication are here."""
    speech = DIALECTS[dialect]
    names = [f"bench:{number}" for number in range(connections)]
    clients = open_subscribers(port, speech, names)
    window = measure_window(pid, Acks(clients, speech, names, size).run, warm_up, seconds)
    _close(clients)
    return window


class RoundTrip:
    """Open loop: publishes when it is time, and reads what comes as soon as it comes.

    latencies: of the last run, in seconds.
    """

    def __init__(self, clients: Sequence[Client], publisher: Publisher) -> None:
        self.latencies: list[float] = []
        self._publisher = publisher
        self._sockets = {
            client.socket.fileno(): (number, client.socket) for number, client in enumerate(clients)
        }
        self._rest: dict[int, bytes] = {}
        self._poller = select.epoll()
        for client in clients:
            client.socket.setblocking(False)
            self._poller.register(client.socket, select.EPOLLIN)
        self._poller.register(publisher.client.socket, select.EPOLLIN)

    def run(self, seconds: float) -> int:
        """Go on for a time; return how many publications came."""
        self.latencies = []
        publisher, poller, monotonic = self._publisher, self._poller, time.monotonic
        deadline = monotonic() + seconds
        publisher.start()
        while (now := monotonic()) < deadline:
            if now >= publisher.due:
                publisher.publish()
                continue
            # An epoll object is ready when one of its sockets is; select waits for microseconds
            # where epoll itself knows milliseconds.
            select.select([poller], (), (), min(publisher.due, deadline) - now)
            for fd, _ in poller.poll(0):
                self._read(fd)
                if monotonic() >= publisher.due:
                    publisher.publish()
        return len(self.latencies)

    def _read(self, fd: int) -> None:
        if fd not in self._sockets:
            self._publisher.read_acks()
            return
        channel, connection = self._sockets[fd]
        data = connection.recv(1 << 16)
        now = time.monotonic()
        if not data:
            raise ValueError("the server dropped a connection")
        data = self._rest.pop(fd, b"") + data
        sent_at = self._publisher.sent_at
        mark = data.find(MARK)
        while mark >= 0:
            try:
                number = number_in(data, mark)
            except ValueError:
                break
            if number % len(self._sockets) != channel:
                raise ValueError(f"publication {number} came to channel {channel}")
            self.latencies.append(now - sent_at[number])
            end = mark + len(MARK)
            mark = data.find(MARK, end)
        if mark >= 0 or data[-2:].endswith((MARK[:1], MARK[:2])):
            self._rest[fd] = data[mark if mark >= 0 else -2 :]


class Acks:
    """Connections that each have one publication of their own under way."""

    def __init__(
        self, clients: Sequence[Client], dialect: Dialect, channels: Sequence[str], size: int
    ) -> None:
        self._dialect = dialect
        self._size = size
        self._poller = select.epoll()
        self._connections = {
            client.socket.fileno(): (client, channel)
            for client, channel in zip(clients, channels, strict=True)
        }
        self._numbers = dict.fromkeys(self._connections, 0)
        self._rest = dict.fromkeys(self._connections, b"")
        for fd, (client, _) in self._connections.items():
            self._poller.register(client.socket, select.EPOLLIN)
            self._publish(fd)

    def run(self, seconds: float) -> int:
        """Go on for a time; return how many publications were acknowledged and delivered."""
        deadline = time.monotonic() + seconds
        rounds = 0
        while time.monotonic() < deadline:
            for fd, _ in self._poller.poll(0.1):
                rounds += self._read(fd)
        return rounds

    def _read(self, fd: int) -> bool:
        client, _ = self._connections[fd]
        data = client.socket.recv(1 << 16)
        if not data:
            raise ValueError("the server dropped a connection")
        data = self._rest[fd] + data
        number = self._numbers[fd]
        # Both name the number: neither can be of another round.
        if self._dialect.ack(number) in data and b"%b%09d" % (MARK, number) in data:
            self._numbers[fd] = number + 1
            self._publish(fd)
            return True
        self._rest[fd] = data
        return False

    def _publish(self, fd: int) -> None:
        client, channel = self._connections[fd]
        number = self._numbers[fd]
        self._rest[fd] = b""
        payload = serialize_payload(number, self._size)
        client.send(self._dialect.publish(channel, number, payload))


def _check_acks(dialect: Dialect, publisher: Client, publications: int) -> None:
    """Read the acknowledgements of a publisher: each once, in order."""
    expected = [dialect.ack(number) for number in range(publications) if dialect.ack(number)]
    raw = b""
    while expected and expected[-1] not in raw:
        raw += b"".join(publisher.recv_messages())
    places = [raw.find(ack) for ack in expected]
    if -1 in places or places != sorted(places):
        raise ValueError("not every publication was acknowledged, in order")


def _check_open(clients: Sequence[Client]) -> None:
    """Raise ValueError if a server has closed a connection."""
    poller = select.epoll()
    by_fd = {client.socket.fileno(): client for client in clients}
    for client in clients:
        poller.register(client.socket, select.EPOLLIN)
    for fd, _ in poller.poll(0, maxevents=max(1, len(clients))):
        by_fd[fd].recv()
    poller.close()


def _close(clients: Sequence[Client]) -> None:
    for client in clients:
        client.close()
    for client in clients:
        client.wait_closed()


@contextmanager
def _closing(clients: Sequence[Client]) -> Generator[None, None, None]:
    """Close clients after a block, with a handshake unless it failed."""
    try:
        yield
        _close(clients)
    except BaseException:
        _abort(clients)
        raise


def _abort(clients: Sequence[Client]) -> None:
    """Reset connections, so that the server forgets what it has for them and from them."""
    for client in clients:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.socket.close()


def _difference(got: Sequence[bytes]) -> str:
    numbers = [payload[4:13].decode(errors="replace").lstrip("0") or "0" for payload in got[:50]]
    return f"got {len(got)}, beginning with {' '.join(numbers)}"


MEASUREMENTS: dict[str, Callable[..., Any]] = {
    "ack": measure_ack,
    "channels": measure_channels,
    "fanout": measure_fanout,
    "idle": measure_idle,
    "verify": verify,
}


if __name__ == "__main__":
    load.main(MEASUREMENTS)
