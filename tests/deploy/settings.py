"""What files for deployment say of `hubbub run`, held against what it has."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from hubbub.cli.serving import SHUTDOWN_TIMEOUT
from tests.docs.test_commands import help_of

__all__ = ["assert_command_exists", "assert_variables_exist", "seconds", "time_to_stop"]


def assert_command_exists(words: Sequence[str], folder: Path | None = None) -> None:
    """Check a command line of `hubbub run`: its options, and its targets if we have the folder.

    Args:
        words: From `hubbub` on.
        folder: Where its modules are.
    """
    assert Path(words[0]).name == "hubbub"
    assert words[1] == "run"
    shown = help_of("run")
    targets = [word for word in words[2:] if re.fullmatch(r"[\w.]+:\w+", word)]
    assert targets
    for word in words:
        if word.startswith("--"):
            assert re.search(rf"{re.escape(word.split('=')[0])}\b", shown), word
    for target in targets if folder is not None else ():
        module, _, attribute = target.partition(":")
        assert folder is not None
        text = (folder / f"{module}.py").read_text(encoding="utf-8")
        assert re.search(rf"^{attribute} = ", text, re.MULTILINE), target


def assert_variables_exist(names: Mapping[str, object]) -> None:
    """Check that `hubbub run` takes environment variables, those of ours among some."""
    ours = {name for name in names if name.startswith("HUBBUB_")}
    known = set(re.findall(r"\bHUBBUB_\w+", help_of("run")))

    assert ours
    assert ours <= known, ours - known


def time_to_stop(drain: float) -> float:
    """Return the seconds that a process needs at most between SIGTERM and its end."""
    return drain + SHUTDOWN_TIMEOUT


def seconds(text: str) -> float:
    """Read a duration such as `45s` or `45`."""
    return float(text.removesuffix("s"))
