"""Servers for clients to meet, in a thread: they say, do and refuse what a test needs."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as serve_sync

from tests.cli.commands import TIMEOUT

__all__ = ["echo", "serving", "serving_bytes"]


@contextmanager
def serving(
    handler: Callable[[ServerConnection], None],
    tls: ssl.SSLContext | None = None,
    **options: object,
) -> Iterator[int]:
    """Run a WebSocket server on a port of 127.0.0.1, and yield the port."""
    before = set(threading.enumerate())
    with serve_sync(handler, "127.0.0.1", 0, ssl=tls, **options) as server:  # type: ignore[arg-type]  # keywords
        threading.Thread(target=server.serve_forever).start()
        try:
            yield server.socket.getsockname()[1]
        finally:
            server.shutdown()
            # Those of connections as well, which `websockets` leaves to themselves.
            for thread in set(threading.enumerate()) - before:
                thread.join(TIMEOUT)


@contextmanager
def serving_bytes(answer: bytes) -> Iterator[int]:
    """Run a server that reads one request, answers with bytes, and ends the connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def run() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):  # the client may go first
                    connection.recv(4096)
                    connection.sendall(answer)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def echo(websocket: ServerConnection) -> None:
    for message in websocket:
        websocket.send(message)
