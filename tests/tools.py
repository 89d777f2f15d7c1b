"""Outside programs that tests need: found, or a reason to skip that CI refuses.

On a user's machine a test whose tool is absent is skipped, and the reason says what to install.
Where `HUBBUB_REQUIRE_ALL=1` is set, as `.ci/run` does, the same absence is a failure.
"""

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

__all__ = ["absent", "find_tool"]


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


def absent(reason: str) -> NoReturn:
    """Skip the test for want of something outside; in CI, fail it."""
    __tracebackhide__ = True
    if os.environ.get("HUBBUB_REQUIRE_ALL", "") not in ("", "0"):
        pytest.fail(f"{reason} (HUBBUB_REQUIRE_ALL is set)", pytrace=False)
    pytest.skip(reason)
