"""Outside programs that tests need: found, or a reason to skip that CI refuses.

On a user's machine a test whose tool is absent is skipped, and the reason says what to install.
Where `HUBBUB_REQUIRE_ALL=1` is set, as `.ci/run` does, the same absence is a failure.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest
from filelock import FileLock

from tests.timing import MS

__all__ = ["absent", "find_node", "find_tool"]

_INSTALL_TIMEOUT = 120_000 * MS


def find_tool(*names: str, install: str) -> Path:
    """Return the path of the first of some programs that is on the `PATH`.

    Args:
        names: What the program is called, the likeliest first.
        install: How a user gets it, such as "apt install chromium".
    """
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        absent(f"{' or '.join(names)} is not installed: {install}")
    return Path(found)


def find_node(folder: Path) -> Path:
    """Return the path of Node, after installing what a folder's package-lock.json says."""
    node = find_tool("node", "nodejs", install="apt install nodejs, or https://nodejs.org")
    npm = find_tool("npm", install="apt install npm; it comes with https://nodejs.org")
    # Tests run in several processes, and all but the first wait for what it installs.
    with FileLock(folder / "node_modules.lock", timeout=2 * _INSTALL_TIMEOUT):
        _install(npm, folder)
    return node


def _install(npm: Path, folder: Path) -> None:
    lock = folder / "package-lock.json"
    installed = folder / "node_modules" / ".package-lock.json"
    if installed.exists() and installed.stat().st_mtime >= lock.stat().st_mtime:
        return
    done = subprocess.run(
        [npm, "ci", "--no-audit", "--no-fund"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=_INSTALL_TIMEOUT,
    )
    if done.returncode != 0:
        absent(f"npm cannot install: run npm ci in {folder} ({done.stderr.strip()})")


def absent(reason: str) -> NoReturn:
    """Skip the test for want of something outside; in CI, fail it."""
    __tracebackhide__ = True
    if os.environ.get("HUBBUB_REQUIRE_ALL", "") not in ("", "0"):
        pytest.fail(f"{reason} (HUBBUB_REQUIRE_ALL is set)", pytrace=False)
    pytest.skip(reason)
