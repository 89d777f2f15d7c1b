"""The listening sockets of all workers, which outlive each of them.

They belong to the supervisor, and a worker inherits its own. On Linux each worker has a queue of
connections for itself, by SO_REUSEPORT, and the kernel spreads connections evenly. It resets what
waits in the queue of a socket that is closed. Here a worker that ends closes its copy only: the
queue stays, and its successor takes the connections on.
"""

import contextlib
import socket
import sys
from collections.abc import Callable, Sequence

__all__ = ["ListeningSockets", "bind_shared"]


class ListeningSockets:
    """Sockets by the number of the worker.

    Args:
        workers: How many there are.
        make: Makes the sockets of one worker, in a group with all others on the same address.
            `None`: all workers take connections from the queues of `shared`.
        shared: Those of all.

    Raises:
        OSError: They cannot be made.
    """

    def __init__(
        self,
        workers: int,
        make: Callable[[], list[socket.socket]] | None,
        shared: Sequence[socket.socket] = (),
    ) -> None:
        self._make = make
        self._shared = list(shared)
        self._own: dict[int, list[socket.socket]] = {}
        if make is not None:
            with contextlib.ExitStack() as stack:
                stack.callback(self.close)
                for number in range(1, workers + 1):
                    self._own[number] = make()
                stack.pop_all()

    def of(self, number: int) -> Sequence[socket.socket]:
        """Return the sockets that a worker listens on."""
        return self._shared if self._make is None else self._own[number]

    def renew(self, number: int) -> None:
        """Drop the queue of a worker that has no successor soon.

        Who waits there is reset and may try again; new connections go to the other workers.

        Raises:
            OSError: They cannot be made.
        """
        if self._make is not None:
            old, self._own[number] = self._own[number], self._make()
            for sock in old:
                sock.close()

    def close(self) -> None:
        """Close the supervisor's copies. Idempotent."""
        for socks in (self._shared, *self._own.values()):
            for sock in socks:
                sock.close()


def bind_shared(host: str, port: int, *, group: bool) -> socket.socket:
    """Bind a TCP socket that does not listen yet.

    Args:
        host: An address, as a number.
        port: Not 0.
        group: Whether others may be bound to the same (SO_REUSEPORT).

    Raises:
        OSError: It cannot be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if group:
            assert sys.platform != "win32", "worker processes need POSIX"
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sockaddr = socket.getaddrinfo(
            host, port, family, socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )[0][4]
        sock.bind(sockaddr)  # with the scope of a link-local address
    except BaseException:
        sock.close()
        raise
    return sock
