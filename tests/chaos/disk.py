"""A disk that can be full: a small file system in memory, of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.timing import MS

__all__ = ["Disk", "disk", "why_no_disk"]

_TIMEOUT = 10_000 * MS


class Disk:
    """A mounted file system.

    Attributes:
        path: Where it is mounted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    def fill(self) -> None:
        """Leave no byte free."""
        with self._ballast.open("ab", buffering=0) as file:
            for size in (65_536, 1):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    continue  # ENOSPC, which is what was wanted

    def free(self) -> None:
        """Remove what filled it."""
        self._ballast.unlink(missing_ok=True)


@contextmanager
def disk(path: Path, mebibytes: int = 32) -> Iterator[Disk]:
    """Mount a file system on a new folder, and unmount it."""
    path.mkdir()
    _run("mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,mode=0700", "hubbub-chaos", str(path))
    try:
        yield Disk(path)
    finally:
        # Lazily: what a killed program had open may be open for a moment yet.
        _run("umount", "--lazy", str(path))


def why_no_disk(folder: Path) -> str:
    """Say why no file system can be mounted here; empty: it can."""
    if sys.platform != "linux":
        return "a full disk is made with Linux's tmpfs"
    if os.geteuid() != 0:
        return "file systems are mounted by root"
    try:
        with disk(folder / "trial", 1):
            return ""
    except FileNotFoundError:
        return "mount is not installed: apt install mount"
    except subprocess.CalledProcessError as exc:
        return f"no file system: {exc.stderr.decode(errors='replace').strip()}"


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=_TIMEOUT)
