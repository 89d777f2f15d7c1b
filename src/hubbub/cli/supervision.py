"""The tie between a reloading parent and the serving child: a pipe that breaks.

The parent holds the writing end and never writes. When it closes it, or dies in whatever way, the
child reads the end of the pipe and stops: no signal to count, and no orphan after `kill -9`.
"""

import asyncio
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager

__all__ = ["SUPERVISOR_FD", "watch_supervisor"]

SUPERVISOR_FD = "HUBBUB_SUPERVISOR_FD"
"""Environment variable from parent to child: the descriptor of the pipe's reading end."""


@contextmanager
def watch_supervisor(on_end: Callable[[], None]) -> Generator[None]:
    """Call `on_end` when the parent is done with this process; never if there is no parent."""
    # Taken out of the environment: a program that the application starts is not our child.
    fd = int(os.environ.pop(SUPERVISOR_FD, "-1"))
    if fd < 0:
        yield
        return
    os.set_inheritable(fd, False)
    loop = asyncio.get_running_loop()

    def end() -> None:
        loop.remove_reader(fd)
        on_end()

    loop.add_reader(fd, end)
    try:
        yield
    finally:
        loop.remove_reader(fd)
        os.close(fd)
