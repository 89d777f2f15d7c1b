"""Chromium: one for all tests of a process, started by `browser.cjs` when the first asks."""

import json
import select
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import playwright

from tests.timing import MS

__all__ = ["START_TIMEOUT", "chromium_server"]

SCRIPT = Path(__file__).parent / "browser.cjs"

# Playwright's own Node, and the library that the Python package speaks to: always of one version.
DRIVER = Path(playwright.__file__).parent / "driver"

START_TIMEOUT = 30_000 * MS
STOP_TIMEOUT = 15_000 * MS

# No sandbox: containers and CI run as root. The rest keeps Chromium from the network and quick.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def chromium_server(chromium: Path) -> Generator[str]:
    """Run a headless Chromium until the block ends; yield the address to connect to.

    It ends with this process too, in whatever way that ends: its stdin is closed then.
    """
    options = {
        "executablePath": str(chromium),
        "args": ARGUMENTS,
        "host": "127.0.0.1",
        "timeout": START_TIMEOUT * 1000,
    }
    command: list[str | Path] = [DRIVER / "node", SCRIPT, DRIVER / "package", json.dumps(options)]
    with (
        tempfile.TemporaryFile() as stderr,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            # One line that is written at once.
            ready, _, _ = select.select([process.stdout], [], [], START_TIMEOUT)
            address = process.stdout.readline().decode().strip() if ready else ""
            if not address:
                stderr.seek(0)
                said = stderr.read().decode(errors="replace")
                raise AssertionError(f"Chromium does not start; stderr: {said}")
            yield address
        finally:
            process.stdin.close()
            try:
                process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
