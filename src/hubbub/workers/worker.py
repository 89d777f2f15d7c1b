"""A worker process, seen from its supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import cast

from hubbub.workers.assignment import Assignment
from hubbub.workers.supervision import SUPERVISOR_FD

__all__ = ["Worker", "describe_exit", "start_worker"]

# How long a process that has closed its end of the tie may take to end, in seconds, to be called
# dead and not stopping.
DEATH_TIME = 0.2


class Worker(asyncio.SubprocessProtocol):
    """One process; `start_worker` makes it.

    Attributes:
        number: Of its assignment.
        started: When, on the monotonic clock.
        ready: Whether it has said that it accepts connections.
        going: Set when it accepts no more connections: it stops, or has ended.
        ended: Set when the process is no more.
    """

    def __init__(self, number: int, tie: socket.socket) -> None:
        self.number = number
        self.started = monotonic()
        self.going = asyncio.Event()
        self.ended = asyncio.Event()
        self.ready = False
        self._changed = asyncio.Event()
        self._tie = tie
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.SubprocessTransport | None = None
        self._code: int | None = None

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._transport is not None, "it was started"
        return self._transport.get_pid()

    @property
    def code(self) -> int:
        """The exit code, negative for a signal, of a process that has ended."""
        assert self._code is not None, "it has ended"
        return self._code

    async def wait_ready(self) -> bool:
        """Wait until it accepts connections; false: it never will."""
        await self._changed.wait()
        return self.ready

    async def wait_going(self) -> int | None:
        """Wait until it accepts no more connections.

        Returns:
            Its exit code if it has ended; `None` if it is stopping.
        """
        await self.going.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DEATH_TIME):
                await self.ended.wait()
        return self.code if self.ended.is_set() else None

    async def stop(self, patience: float) -> bool:
        """Ask it to stop, wait for the end, and kill it after `patience` seconds.

        Returns:
            Whether it ended by itself. Cancelled: it was asked, and nothing more.
        """
        with contextlib.suppress(OSError):  # it has died
            self._tie.shutdown(socket.SHUT_WR)
        try:
            async with asyncio.timeout(patience):
                await self.ended.wait()
        except TimeoutError:
            self.kill()
            await self.ended.wait()
            return False
        return True

    def terminate(self) -> None:
        """Send SIGTERM, as an operator would."""
        if self._transport is not None and self._code is None:
            with contextlib.suppress(ProcessLookupError):
                self._transport.terminate()

    def kill(self) -> None:
        """End it now."""
        if self._transport is not None and self._code is None:
            with contextlib.suppress(ProcessLookupError):
                self._transport.kill()

    def untie(self) -> None:
        """Close our end of the tie. Idempotent."""
        if self._tie.fileno() >= 0:
            self._loop.remove_reader(self._tie)
            self._tie.close()

    # From the loop (`asyncio.SubprocessProtocol`).

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Listen to what the process says."""
        self._transport = cast("asyncio.SubprocessTransport", transport)
        if self._tie.fileno() >= 0:  # else its start was cancelled: the loop ends it
            self._loop.add_reader(self._tie, self._read)

    def process_exited(self) -> None:
        """Take note of the end; what the application forked may hold the tie open beyond it."""
        assert self._transport is not None
        self._code = self._transport.get_returncode()
        self._transport.close()
        self.untie()
        self._go()
        self.ended.set()

    def _read(self) -> None:
        try:
            said = self._tie.recv(64)
        except BlockingIOError:
            return
        except OSError:
            said = b""  # reset: it died with something unread
        if said:
            self.ready = True
            self._changed.set()
        else:
            self._loop.remove_reader(self._tie)
            self._go()

    def _go(self) -> None:
        self.going.set()
        self._changed.set()


async def start_worker(
    command: Sequence[str], assignment: Assignment, environment: Mapping[str, str]
) -> Worker:
    """Start a process that inherits its listening sockets.

    Args:
        command: With all its arguments.
        assignment: What it is told; its descriptors are open in this process.
        environment: All other variables.

    Raises:
        OSError: The system has no process or descriptor to spare.
    """
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    worker = Worker(assignment.number, ours)
    variables = {**assignment.environment(), SUPERVISOR_FD: str(theirs.fileno())}
    try:
        with theirs:
            await asyncio.get_running_loop().subprocess_exec(
                lambda: worker,
                *command,
                stdin=None,
                stdout=None,
                stderr=None,
                env={**environment, **variables},
                pass_fds=(theirs.fileno(), *assignment.fds),
            )
    except BaseException:
        worker.untie()
        raise
    return worker


def describe_exit(code: int) -> str:
    """Say how a process ended, for people."""
    if code >= 0:
        return f"ended with code {code}"
    with contextlib.suppress(ValueError):
        return f"was killed by {signal.Signals(-code).name}"
    return f"was killed by signal {-code}"
