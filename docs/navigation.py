"""A hook of MkDocs: pages that nobody listed find their place in the navigation.

An entry `folder/*` in `nav` of `mkdocs.yml` stands for the pages of that folder which no other
entry names, sorted by file name. A page that is named but not there yet is left out.
"""

from pathlib import Path
from typing import Any

__all__ = ["on_config"]


def on_config(config: Any) -> Any:
    """Expand the navigation; called by MkDocs once it has read its configuration."""
    docs = Path(config["docs_dir"])
    named = set(_pages(config["nav"]))
    config["nav"] = _expand(config["nav"], docs, named)
    return config


def _pages(entries: list[Any]) -> list[str]:
    pages: list[str] = []
    for entry in entries:
        if isinstance(entry, dict):
            for value in entry.values():
                pages += _pages(value) if isinstance(value, list) else [value]
        else:
            pages.append(entry)
    return pages


def _expand(entries: list[Any], docs: Path, named: set[str]) -> list[Any]:
    expanded: list[Any] = []
    for entry in entries:
        if isinstance(entry, dict):
            ((title, section),) = entry.items()
            if isinstance(section, list):
                section = _expand(section, docs, named)
            if section:
                expanded.append({title: section})
        elif entry.endswith("/*"):
            paths = sorted((docs / entry.removesuffix("/*")).glob("*.md"))
            pages = [path.relative_to(docs).as_posix() for path in paths]
            expanded += [page for page in pages if page not in named]
        elif (docs / entry).exists():
            expanded.append(entry)
    return expanded
