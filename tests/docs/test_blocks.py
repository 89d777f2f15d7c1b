"""Every Python block of the documentation is a program that runs."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.markdown import PAGES, Block, blocks, name, text_of
from tests.examples import running
from tests.programs import ROOT
from tests.timing import MS

INCLUDE = re.compile(r'^--8<-- "(?P<path>[^":]+)(?P<part>:[^"]*)?"$', re.MULTILINE)

# Fragments that are no program, each with its reason in the page. Better not to need more.
MAX_FRAGMENTS = 4

TIMEOUT = 20_000 * MS

PYTHON = blocks("python", "py", "pycon")
INCLUDED = [block for block in PYTHON if INCLUDE.fullmatch(block.code.strip())]
FRAGMENTS = [block for block in PYTHON if block.reason is not None]
WRITTEN = [block for block in PYTHON if block not in INCLUDED and block not in FRAGMENTS]


def test_pages_have_python_blocks() -> None:
    assert len(INCLUDED) >= 20


def test_fragments_are_few() -> None:
    assert len(FRAGMENTS) <= MAX_FRAGMENTS, [block.id for block in FRAGMENTS]


@pytest.mark.parametrize("block", INCLUDED, ids=lambda block: block.id)
def test_included_programs_are_examples(block: Block) -> None:
    include = INCLUDE.fullmatch(block.code.strip())
    assert include is not None
    path = ROOT / include["path"]

    assert path.is_relative_to(ROOT / "examples")
    ast.parse(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_what_is_included_exists(page: Path) -> None:
    for include in INCLUDE.finditer(text_of(page)):
        assert (ROOT / include["path"]).is_file(), include[0]


@pytest.mark.parametrize("block", WRITTEN, ids=lambda block: block.id)
def test_written_programs_run(block: Block, tmp_path: Path) -> None:
    source = tmp_path / "block.py"
    source.write_text(block.code, encoding="utf-8")
    if "serve(" in block.code:
        directory = tmp_path / "changed"
        directory.mkdir()
        with running(source, directory) as example:
            example.program.interrupt()
            assert example.program.wait().stderr == ""
    else:
        done = subprocess.run(
            [sys.executable, "-W", "error", source],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        assert (done.returncode, done.stderr) == (0, "")
