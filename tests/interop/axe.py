"""Whether people can use a page who cannot see it, or not well, as far as axe-core can tell."""

import asyncio
import functools
from pathlib import Path

from playwright.async_api import Page

from tests.timing import MS
from tests.tools import find_node

__all__ = ["serious_faults"]

FOLDER = Path(__file__).parent
TIMEOUT = 30_000 * MS

RUN = """async () => {
    const { violations } = await axe.run(document, { resultTypes: ["violations"] });
    return violations
        .filter(({ impact }) => impact === "serious" || impact === "critical")
        .flatMap(({ id, help, nodes }) => nodes.map(({ target }) => `${id}: ${help}: ${target}`));
}"""


async def serious_faults(page: Page) -> list[str]:
    """Return what keeps people from using a page as it is shown now, one line for each element.

    Violations of impact serious or critical, of all rules of axe-core. Its script gets past the
    page's Content-Security-Policy. It has timers: the page's clock must run.

    Raises:
        TimeoutError: It has not come to an end.
    """
    async with asyncio.timeout(TIMEOUT):
        await page.evaluate(axe_source())
        faults: list[str] = await page.evaluate(RUN)
    return faults


@functools.cache
def axe_source() -> str:
    """Return axe-core as one expression, after installing it."""
    find_node(FOLDER)
    return (FOLDER / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
