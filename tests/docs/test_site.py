"""The documentation builds without a warning, asks no other host, and has every page."""

import importlib.util
import os
import subprocess
import sys
import urllib.parse
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.docs.markdown import PAGES, links, name
from tests.programs import ROOT
from tests.timing import MS
from tests.tools import absent

TIMEOUT = 60_000 * MS

# Attributes that make a browser fetch something.
FETCHED = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "link": "href",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if any(importlib.util.find_spec(module) is None for module in ("material", "mkdocstrings")):
        absent("mkdocs-material and mkdocstrings are not installed: make docs")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stderr
    return folder


class Fetches(HTMLParser):
    """Collects what a page makes a browser fetch."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.urls: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        if tag == "link" and found.get("rel") in {"canonical", "next", "prev"}:
            return
        url = found.get(FETCHED.get(tag, ""))
        if url:
            self.urls.append(url)


def test_site_has_every_page_in_its_navigation(site: Path) -> None:
    index = (site / "index.html").read_text(encoding="utf-8")
    for page in PAGES:
        if page.is_relative_to(ROOT / "docs"):
            built = page.relative_to(ROOT / "docs").with_suffix(".html").as_posix()
            assert (site / built).is_file()
            assert f'href="{built}"' in index, f"{name(page)} is not in the navigation"


def test_site_asks_no_other_host(site: Path) -> None:
    for page in site.rglob("*.html"):
        for url in Fetches(page.read_text(encoding="utf-8")).urls:
            assert urllib.parse.urlsplit(url).netloc == "", f"{page} fetches {url}"


def test_reference_has_what_users_need(site: Path) -> None:
    server = (site / "reference" / "server.html").read_text(encoding="utf-8")
    connection = (site / "reference" / "connection.html").read_text(encoding="utf-8")
    for anchor in ("hubbub.serve", "hubbub.unix_serve", "hubbub.Server.wait_closed"):
        assert f'id="{anchor}"' in server
    for member in ("recv", "send", "close", "on_message", "send_nowait", "fail"):
        assert f'id="hubbub.ServerConnection.{member}"' in connection
    assert "RFC 6455 §5.6" in connection  # from the docstring


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        url = urllib.parse.urlsplit(link)
        if not url.scheme and url.path:
            assert (page.parent / url.path).exists(), link
