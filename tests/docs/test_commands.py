"""The shell commands of the documentation exist: targets of make, commands and options of ours."""

import os
import re
import shlex
import subprocess
import sys
from functools import cache

import pytest

from tests.docs.markdown import Block, blocks
from tests.programs import ROOT
from tests.timing import MS
from tests.tools import find_tool

TIMEOUT = 20_000 * MS

SHELL = blocks("bash", "sh", "shell", "console", "ini")

# Where one command ends and another begins.
SEPARATORS = re.compile(r"\s*(?:\|\|?|&&|;|&)\s*")


def commands(block: Block) -> list[list[str]]:
    """Split a block into commands, each into words; output and comments are left out."""
    lines = block.code.replace("\\\n", " ").splitlines()
    if block.language == "console":
        lines = [line[2:] for line in lines if line.startswith("$ ")]
    if block.language == "ini":
        lines = [line.removeprefix("ExecStart=") for line in lines if "ExecStart=" in line]
    found = []
    for line in lines:
        words: list[str] = []
        for word in [*shlex.split(line, comments=True), ";"]:
            if SEPARATORS.fullmatch(word):
                found.append(words)
                words = []
            elif word.endswith(";"):
                found.append([*words, word[:-1]])
                words = []
            else:
                words.append(word)
    return [words for words in found if words]


COMMANDS = [(block, words) for block in SHELL for words in commands(block)]

MAKE = {
    word for _, words in COMMANDS if words[0] == "make" for word in words[1:] if "=" not in word
}
HUBBUB = [
    (block.id, words[at + 1 :])
    for block, words in COMMANDS
    for at, word in enumerate(words)
    if word == "hubbub" or word.endswith("/hubbub")
    if at == 0 or words[0] in {"systemd-socket-activate", "timeout", "exec"}
]


def test_commands_are_found() -> None:
    assert {"check", "test", "docs"} <= MAKE
    assert {"run", "connect"} <= {words[0] for _, words in HUBBUB if words}


@pytest.mark.parametrize("target", sorted(MAKE))
def test_target_of_make_exists(target: str) -> None:
    make = find_tool("make", install="apt install make")
    done = subprocess.run(
        [make, "--dry-run", target], cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT
    )

    assert done.returncode == 0, done.stderr


@cache
def help_of(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "hubbub", *command, "--help"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("page", "words"), HUBBUB, ids=lambda value: str(value))
def test_command_of_hubbub_exists(page: str, words: list[str]) -> None:
    command = [] if not words or words[0].startswith("-") else [words[0]]
    if command in (["bench"], ["token"]) and len(words) > 1:
        command.append(words[1])
    shown = help_of(*command)

    for word in words:
        if word.startswith("--") and word != "--help":
            assert re.search(rf"{re.escape(word.split('=')[0])}\b", shown), (page, word)
