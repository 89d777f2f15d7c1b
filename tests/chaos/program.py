"""Programs that chaos happens to: started, killed, paused, and looked into."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.programs import ROOT
from tests.timing import MS

__all__ = ["Program", "ended", "until"]

START_TIMEOUT = 30_000 * MS
STOP_TIMEOUT = 20_000 * MS
_LOOK = 0.02


class Program:
    """A command, run as often as it takes; its output goes to a file.

    Args:
        command: What is run.
        log: Where its output goes, of all runs.
        environment: Variables on top of ours.
        fds: File descriptors that it inherits.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        fds: Sequence[int] = (),
    ) -> None:
        self.command = list(map(str, command))
        self.log = log
        self._environment = os.environ | (environment or {})
        self._fds = fds
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process's id; it has been started."""
        assert self._process is not None, f"{self} was not started"
        return self._process.pid

    @property
    def rss(self) -> int:
        """Resident memory in bytes; 0: it does not run."""
        if self.is_running:
            with contextlib.suppress(psutil.NoSuchProcess):
                rss: int = psutil.Process(self.pid).memory_info().rss
                return rss
        return 0

    def spawn(self) -> None:
        """Start it; when it is ready is another question."""
        assert not self.is_running, f"{self} runs"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=self._fds,
            )

    def kill(self) -> None:
        """End it by SIGKILL. Idempotent."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_TIMEOUT)

    def pause(self) -> None:
        """Stop it by SIGSTOP: its connections stay open, and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    async def stop(self) -> None:
        """Ask it to end, by SIGTERM, and wait until it has; it is killed if it does not."""
        if self._process is None:
            return
        self._process.terminate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT):
                while self.is_running:
                    await asyncio.sleep(_LOOK)
        self.kill()

    def __str__(self) -> str:
        return self.log.stem

    def tail(self, lines: int = 20) -> str:
        """Return what it has written last."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


@contextmanager
def ended(program: Program) -> Iterator[Program]:
    """Kill a program when the block ends, whatever became of it."""
    try:
        yield program
    finally:
        program.kill()


async def until(program: Program, address: tuple[str, int] | str) -> None:
    """Wait until a program that was started accepts connections at a TCP or Unix address."""
    try:
        async with asyncio.timeout(START_TIMEOUT):
            while True:
                with contextlib.suppress(OSError):
                    if isinstance(address, str):
                        _, writer = await asyncio.open_unix_connection(address)
                    else:
                        _, writer = await asyncio.open_connection(*address)
                    writer.close()
                    await writer.wait_closed()
                    return
                if not program.is_running:
                    raise AssertionError(f"{program} has ended: {program.tail()}")
                # Between two looks: nothing tells another process that it listens.
                await asyncio.sleep(_LOOK)
    except TimeoutError:
        raise AssertionError(f"{program} does not listen at {address}: {program.tail()}") from None
