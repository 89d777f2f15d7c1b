"""The documentation as data: its pages, their blocks of code, links and tables."""

import re
from dataclasses import dataclass
from pathlib import Path

from tests.programs import ROOT

__all__ = ["PAGES", "Block", "blocks", "links", "name", "rows", "text_of"]

PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
"""Every page that readers see."""

_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>```+)(?P<language>\w*)[^\n]*$")
_FRAGMENT = re.compile(r"^\s*<!-- fragment: (?P<reason>.+?) -->\s*$")
_CODE = re.compile(r"^( *)```.*?^\1```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of code.

    Attributes:
        line: Number of its first line in the page.
        reason: Why it is only a fragment, from a comment right before it:
            `<!-- fragment: REASON -->`.
    """

    page: Path
    line: int
    language: str
    code: str
    reason: str | None

    @property
    def id(self) -> str:
        return f"{name(self.page)}:{self.line}"


def name(page: Path) -> str:
    """Name a page by its path from the root of the repository."""
    return page.relative_to(ROOT).as_posix()


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(*languages: str) -> list[Block]:
    """Return all blocks in some languages, of all pages."""
    return [block for page in PAGES for block in _blocks(page) if block.language in languages]


def links(page: Path) -> list[str]:
    """Return the targets of the links in a page, code left out."""
    return _LINK.findall(_CODE.sub("", text_of(page)))


def rows(page: Path, header: str) -> list[list[str]]:
    """Return the cells of the table whose first column has that header."""
    lines = iter(text_of(page).splitlines())
    found: list[list[str]] = []
    for line in lines:
        if line.startswith(f"| {header} |"):
            next(lines)
            for row in lines:
                if not row.startswith("|"):
                    break
                found.append([cell.strip() for cell in row.strip("|").split(" | ")])
    assert found, f"{name(page)} has no table {header!r}"
    return found


def _blocks(page: Path) -> list[Block]:
    found = []
    lines = enumerate(text_of(page).splitlines(), 1)
    reason = None
    for number, line in lines:
        fence = _FENCE.match(line)
        if fence is None:
            fragment = _FRAGMENT.match(line)
            reason = fragment["reason"] if fragment else (reason if not line.strip() else None)
            continue
        indent = len(fence["indent"])
        code = []
        for _, inner in lines:
            if inner.strip() == fence["fence"]:
                break
            code.append(inner[indent:])
        found.append(Block(page, number, fence["language"], "\n".join(code) + "\n", reason))
        reason = None
    return found
