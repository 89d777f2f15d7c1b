"""The tie between a parent and the process that serves for it, seen from the child.

It is a pair of sockets. The parent closes its end, or dies in whatever way: the child reads the end
of the stream and stops. No signal to count, and no orphan after `kill -9`. The child says one word
when it serves, and closes its end when it begins to stop.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager

__all__ = ["READY", "SUPERVISOR_FD", "Tie", "watch_supervisor"]

SUPERVISOR_FD = "HUBBUB_SUPERVISOR_FD"
"""Environment variable from parent to child: the descriptor of the child's end."""

READY = b"ready"
"""What the child says."""


class Tie:
    """The child's end; nothing happens if there is no parent."""

    def __init__(self, end: socket.socket | None) -> None:
        self._end = end

    def report_ready(self) -> None:
        """Tell the parent that connections are accepted."""
        if self._end is not None:
            with contextlib.suppress(OSError):  # a parent that has died is noticed elsewhere
                self._end.send(READY)

    def report_stopping(self) -> None:
        """Tell the parent that no more connections are accepted."""
        if self._end is not None:
            with contextlib.suppress(OSError):
                self._end.shutdown(socket.SHUT_WR)


@contextmanager
def watch_supervisor(on_end: Callable[[], None]) -> Generator[Tie]:
    """Call `on_end` when the parent is done with this process; never if there is no parent."""
    # Taken out of the environment: a program that the application starts is not our child.
    fd = int(os.environ.pop(SUPERVISOR_FD, "-1"))
    if fd < 0:
        yield Tie(None)
        return
    loop = asyncio.get_running_loop()

    def end() -> None:
        loop.remove_reader(fd)
        on_end()

    with socket.socket(fileno=fd) as sock:
        sock.set_inheritable(False)
        loop.add_reader(fd, end)
        try:
            yield Tie(sock)
        finally:
            loop.remove_reader(fd)
