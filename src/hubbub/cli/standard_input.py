"""Lines from standard input that is a pipe or a file, without holding up the event loop."""

import asyncio
import os
import threading
from collections.abc import AsyncGenerator
from typing import Final

from hubbub.cli.failure import Failure

__all__ = ["MAX_LINE", "lines"]

MAX_LINE: Final = 2**24
"""Longest line in bytes."""

_CHUNK: Final = 2**16

# Chunks that wait for a slow server; the reading thread then waits as well.
_MAX_CHUNKS: Final = 16


async def lines(fd: int = 0) -> AsyncGenerator[str]:
    """Read lines, without their ends, until the end of the file.

    Reading is done in a daemon thread with `os.read`: the loop cannot wait for regular files
    (epoll refuses them), and a thread that still waits at exit must not hold the lock of
    `sys.stdin`, which is fatal for the interpreter.

    Raises:
        Failure: A line is longer than `MAX_LINE` or not UTF-8.
    """
    chunks = _Chunks(fd)
    threading.Thread(target=chunks.read, name="standard-input", daemon=True).start()
    pending = bytearray()
    number = 0
    while chunk := await chunks.get():
        pending += chunk
        if b"\n" in chunk:
            *whole, rest = bytes(pending).split(b"\n")
            pending = bytearray(rest)
            for line in whole:
                number += 1
                yield _decode(line.removesuffix(b"\r"), number)
        if len(pending) > MAX_LINE:
            raise Failure(f"line {number + 1} of the input is longer than {MAX_LINE} bytes")
    if pending:
        yield _decode(bytes(pending), number + 1)


def _decode(line: bytes, number: int) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as exc:
        raise Failure(f"line {number} of the input is not UTF-8: {exc.reason}") from exc


class _Chunks:
    """A bounded queue from the reading thread to the event loop; `b""` is the end."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._room = threading.Semaphore(_MAX_CHUNKS)

    async def get(self) -> bytes:
        chunk = await self._queue.get()
        self._room.release()
        return chunk

    def read(self) -> None:
        """Read until the end; runs in the thread."""
        chunk = b"more"
        while chunk:
            try:
                chunk = os.read(self._fd, _CHUNK)
            except OSError:  # a terminal that went away, or no standard input at all
                chunk = b""
            self._room.acquire()
            try:
                self._loop.call_soon_threadsafe(self._queue.put_nowait, chunk)
            except RuntimeError:  # the loop is closed: nobody wants it any more
                return
