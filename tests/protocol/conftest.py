"""The JavaScript SDK's codecs, run by Node."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.timing import MS
from tests.tools import find_node

FOLDER = Path(__file__).parent
RUN_TIMEOUT = 30_000 * MS

Javascript = Callable[[list[dict[str, Any]]], list[Any]]


@pytest.fixture(scope="session")
def javascript() -> Javascript:
    """Return a function that has jobs done by the SDK's codecs (`codec.mjs`), in one process."""
    node = find_node(FOLDER)

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
