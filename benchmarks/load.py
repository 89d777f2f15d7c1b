"""The load side: one process, raw sockets and epoll, frames built beforehand.

It runs as `python -m benchmarks.load NAME JSON`, pinned to the core that the server has not got,
and prints its result as JSON. It reads the clocks of the server itself, inside its loop.
"""

import gc
import json
import select
import socket
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from benchmarks.process import Memory, memory
from benchmarks.window import Meter, Window
from benchmarks.wire import (
    CLOSE,
    HANDSHAKE_END,
    PING,
    PONG,
    TEXT,
    check_upgrade,
    parse_frame,
    serialize_frame,
    serialize_upgrade,
)

__all__ = [
    "MASK",
    "TIMEOUT",
    "connect",
    "connect_soon",
    "main",
    "measure_connects",
    "measure_echo",
    "measure_idle",
    "measure_window",
    "run_to_an_event",
]

TIMEOUT = 20.0  # for whatever a healthy server does at once
MASK = b"\x37\xfa\x21\x3d"
GOODBYE = serialize_frame(CLOSE, b"\x03\xe8", MASK)  # 1000, normal closure


class Connection:
    """One client: at any time, one message of it is on its way there or back."""

    def __init__(self, number: int, port: int, path: str, opcode: int, size: int) -> None:
        # Each connection has its own payload, so that an echo to the wrong one is found out.
        payload = f"{number:08d} {'the quick brown fox ' * (size // 20 + 1)}"[:size].encode()
        mask = (0x9E3779B9 * (number + 1) & 0xFFFFFFFF).to_bytes(4, "big")
        self.frame = serialize_frame(opcode, payload, mask)
        self.echo = serialize_frame(opcode, payload)
        self.socket = open_connection(number, port, path)
        self._pending = b""

    def feed(self, data: bytes) -> int:
        """Take what is not exactly one echo: a part of one, or a ping. Return the echoes in it."""
        if not data:
            raise ValueError("the server dropped a connection")
        self._pending += data
        echoes = 0
        while frame := parse_frame(self._pending):
            raw, self._pending = self._pending[: frame.size], self._pending[frame.size :]
            if raw == self.echo:
                echoes += 1
            elif frame.opcode == PING:
                self.socket.sendall(serialize_frame(PONG, frame.payload, MASK))
            else:
                raise ValueError(f"no echo, but opcode {frame.opcode}: {frame.payload[:60]!r}")
        return echoes

    def close(self) -> None:
        """Take the last echo, then close as RFC 6455 §7 wants it, so that no server complains."""
        self.socket.settimeout(TIMEOUT)
        while self.feed(self.socket.recv(65536)) == 0:
            pass
        self.socket.sendall(GOODBYE)
        while self.socket.recv(65536):
            pass
        self.socket.close()


class Echo:
    """Closed loop: a connection sends its next message when the echo of the last one is here."""

    def __init__(self, connections: list[Connection], drag: float = 0.0) -> None:
        self._drag = drag
        self._connections = {each.socket.fileno(): each for each in connections}
        # Bound methods, looked up once: this loop is what the load can do.
        self._calls = {
            fd: (each.socket.recv, each.socket.send, each.frame, each.echo)
            for fd, each in self._connections.items()
        }
        self._limit = max(len(each.echo) for each in connections) + 64
        self._poller = select.epoll()
        for each in connections:
            self._poller.register(each.socket, select.EPOLLIN)
            each.socket.sendall(each.frame)

    def run(self, seconds: float) -> int:
        """Go on for a time; return how many right echoes came."""
        poll, calls, limit, monotonic = self._poller.poll, self._calls, self._limit, time.monotonic
        deadline = monotonic() + seconds
        echoes = 0
        while monotonic() < deadline:
            ready = poll(0.1)
            if self._drag:
                spin(self._drag * len(ready))
            for fd, _ in ready:
                recv, send, frame, echo = calls[fd]
                data = recv(limit)
                # The comparison checks header, length and content of each echo.
                if data == echo or self._connections[fd].feed(data):
                    echoes += 1
                    send(frame)
        return echoes


class Connects:
    """Closed loop: a slot opens its next connection when the last one is closed."""

    def __init__(self, port: int, path: str, slots: int) -> None:
        self._port = port
        self._request = serialize_upgrade(port, path)
        self._opened = 0
        self._upgrading: dict[int, bytearray] = {}
        self._sockets: dict[int, socket.socket] = {}
        self._poller = select.epoll()
        for _ in range(slots):
            self._open()

    def run(self, seconds: float) -> int:
        """Go on for a time; return how many upgrades were answered."""
        deadline = time.monotonic() + seconds
        upgrades = 0
        while time.monotonic() < deadline:
            for fd, _ in self._poller.poll(0.1):
                data = self._sockets[fd].recv(4096)
                if fd in self._upgrading:
                    upgrades += self._upgrade(fd, data)
                elif not data or data[0] == 0x80 | CLOSE:
                    self._sockets.pop(fd).close()
                    self._open()
        return upgrades

    def _open(self) -> None:
        # Connecting to a listening socket of this machine does not wait.
        connection = connect(self._opened, self._port)
        connection.send(self._request)
        self._opened += 1
        self._sockets[connection.fileno()] = connection
        self._upgrading[connection.fileno()] = bytearray()
        self._poller.register(connection, select.EPOLLIN)

    def _upgrade(self, fd: int, data: bytes) -> bool:
        head = self._upgrading[fd]
        head += data
        if not data or head.endswith(HANDSHAKE_END):
            check_upgrade(bytes(head))
            del self._upgrading[fd]
            self._sockets[fd].send(GOODBYE)
            return True
        return False


def measure_echo(
    pid: int,
    port: int,
    *,
    path: str,
    opcode: int,
    size: int,
    connections: int,
    warm_up: float,
    seconds: float,
    drag: float = 0.0,
) -> Window:
    """Echo messages of one size over some connections; drag: seconds to waste for each."""
    clients = [Connection(number, port, path, opcode, size) for number in range(connections)]
    echo = Echo(clients, drag)
    window = measure_window(pid, echo.run, warm_up, seconds)
    for each in clients:
        each.close()
    return window


def measure_connects(
    pid: int, port: int, *, path: str, slots: int, warm_up: float, seconds: float
) -> Window:
    """Open connections, upgrade and close them, some at a time."""
    return measure_window(pid, Connects(port, path, slots).run, warm_up, seconds)


def measure_idle(
    pid: int, port: int, *, path: str, connections: int, settle: float
) -> dict[str, Memory]:
    """Open connections, upgraded and then idle; say the server's memory before and after."""
    # The first connections pay for what is loaded and allocated once.
    warm_up = [Connection(number, port, path, TEXT, 64) for number in range(100)]
    Echo(warm_up).run(settle / 2)
    for each in warm_up:
        each.close()
    time.sleep(settle)
    before = memory(pid)
    clients = [open_connection(number, port, path) for number in range(connections)]
    time.sleep(settle)
    after = memory(pid)
    for client in clients:
        client.close()
    return {"before": before, "after": after}


def measure_window(pid: int, run: Callable[[float], int], warm_up: float, seconds: float) -> Window:
    """Run for the warm-up, then for the window."""
    run_to_an_event(run, warm_up)
    meter = Meter(pid)
    return meter.stop(run_to_an_event(run, seconds))


def spin(seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        pass


def connect(number: int, port: int) -> socket.socket:
    """Connect from one of 16 addresses of the loopback net: each has its own range of ports."""
    connection = _bound(number)
    connection.connect(("127.0.0.1", port))
    return connection


def connect_soon(number: int, port: int) -> socket.socket:
    """Begin to connect, without blocking: the socket is writable when that is done."""
    connection = _bound(number)
    connection.setblocking(False)
    with suppress(BlockingIOError):
        connection.connect(("127.0.0.1", port))
    return connection


def _bound(number: int) -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # Choose the port at connect, when the pair is known; Python 3.11 has no name for it.
    ip_bind_address_no_port = 24
    connection.setsockopt(socket.IPPROTO_IP, ip_bind_address_no_port, 1)
    connection.bind((f"127.0.0.{1 + number % 16}", 0))
    return connection


def open_connection(number: int, port: int, path: str) -> socket.socket:
    """Connect and upgrade."""
    connection = connect(number, port)
    connection.settimeout(TIMEOUT)
    connection.sendall(serialize_upgrade(port, path))
    head = b""
    while not head.endswith(HANDSHAKE_END):
        data = connection.recv(4096)
        if not data:
            break
        head += data
    check_upgrade(head)
    connection.settimeout(None)
    return connection


def run_to_an_event(run: Callable[[float], int], seconds: float) -> int:
    """Run for a time; longer, if nothing came of it: the machine may have been busy elsewhere."""
    deadline = time.monotonic() + seconds + TIMEOUT
    events = 0
    while not events:
        if time.monotonic() > deadline:
            raise ValueError("the server answers nothing")
        events = run(seconds)
    return events


MEASUREMENTS: dict[str, Callable[..., Any]] = {
    "connects": measure_connects,
    "echo": measure_echo,
    "idle": measure_idle,
}


def main(measurements: Mapping[str, Callable[..., Any]] = MEASUREMENTS) -> None:
    name, arguments = sys.argv[1:]
    gc.disable()  # bounded time, and no cycles
    result = measurements[name](**json.loads(arguments))
    print(json.dumps(result, default=asdict))


if __name__ == "__main__":
    main()
