"""The JavaScript SDK's codecs, run by Node."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.timing import MS
from tests.tools import absent, find_tool

FOLDER = Path(__file__).parent
INSTALL_TIMEOUT = 120_000 * MS
RUN_TIMEOUT = 30_000 * MS

Javascript = Callable[[list[dict[str, Any]]], list[Any]]


@pytest.fixture(scope="session")
def javascript() -> Javascript:
    """Return a function that has jobs done by the SDK's codecs (`codec.mjs`), in one process."""
    node = find_tool("node", "nodejs", install="apt install nodejs, or https://nodejs.org")
    npm = find_tool("npm", install="apt install npm; it comes with https://nodejs.org")
    lock = FOLDER / "package-lock.json"
    installed = FOLDER / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        done = subprocess.run(
            [npm, "ci", "--no-audit", "--no-fund"],
            cwd=FOLDER,
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT,
        )
        if done.returncode != 0:
            absent(f"npm cannot install centrifuge: run npm ci in {FOLDER} ({done.stderr.strip()})")

    def run(jobs: list[dict[str, Any]]) -> list[Any]:
        done = subprocess.run(
            [node, FOLDER / "codec.mjs"],
            input=json.dumps(jobs),
            capture_output=True,
            text=True,
            timeout=RUN_TIMEOUT,
        )
        assert done.returncode == 0, done.stderr
        answers = json.loads(done.stdout)
        assert isinstance(answers, list)
        return answers

    return run
