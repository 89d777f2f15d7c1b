"""Live data of this machine in a browser: charts that move, and miss nothing."""

import asyncio
import importlib.util
import json
import math
import re
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from types import ModuleType
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
import psutil
import pytest
import pytest_asyncio
from playwright.async_api import Locator, Page, expect

from hubbub import Hub, Server, serve
from tests.examples import EXAMPLES
from tests.interop.axe import serious_faults
from tests.interop.hubs import Door
from tests.timing import MS

NAMES = ["CPU", "Memory", "Network", "Deliveries"]
POINT = re.compile("[ML]")  # of a path
SCREENSHOTS = Path(__file__).parents[2] / "artefacts" / "screenshots"
TIMEOUT = 10_000_000 * MS  # milliseconds, as Playwright counts

COUNT_CHANGES = """() => {
    globalThis.changes = { d: 0, transform: 0 };
    const count = (records) => records.forEach(({ attributeName }) => changes[attributeName]++);
    const moving = document.querySelector(".chart svg g");
    new MutationObserver(count).observe(moving, { attributeFilter: ["transform"] });
    new MutationObserver(count).observe(moving.querySelector(".line"), { attributeFilter: ["d"] });
}"""

MOUNT_ANOTHER = """async () => {
    const { mount } = await import("/live.js");
    const element = document.body.appendChild(document.createElement("section"));
    globalThis.another = mount(element);
}"""


@pytest.fixture
def live() -> ModuleType:
    """Load the example, with a hub of its own."""
    spec = importlib.util.spec_from_file_location("live", EXAMPLES / "live" / "live.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest_asyncio.fixture
async def server(live: ModuleType) -> AsyncGenerator[Server]:
    async with serve(live.routes, "localhost", 0, http=live.http) as server:
        yield server


@pytest.fixture
def url(server: Server) -> str:
    return f"http://localhost:{server.sockets[0].getsockname()[1]}/"


@pytest.fixture
def faults(page: Page, url: str) -> list[str]:
    """Collect what the browser complains about, and what it asks of others."""
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    ours = urlsplit(url).netloc
    page.on("request", lambda request: faults.extend({urlsplit(request.url).netloc, ours} - {ours}))
    return faults


@pytest_asyncio.fixture
async def past(live: ModuleType, server: Server) -> list[Any]:
    """Have a history of two minutes with a hole of ten seconds in it, as of a busy machine."""
    now, count = time.time(), psutil.cpu_count() or 1
    snapshots = []
    for age in [age / 2 for age in range(240, 0, -1) if not 60 < age / 2 <= 70]:
        wave = math.sin(age / 9) + math.sin(age / 2.3) / 3 + math.sin(age * 7) / 9
        cores = [round(45 + 30 * wave + 12 * math.sin(age + core), 1) for core in range(count)]
        snapshots.append(
            live.Snapshot(
                machine="Linux 6.12, Python 3.11",
                memory_total=8 << 30,
                time=now - age,
                cores=[min(100, max(0, percent)) for percent in cores],
                cpu=round(45 + 30 * wave, 1),
                memory_used=round((5 + 0.6 * math.sin(age / 30)) * (1 << 30)),
                received=round(800_000 + 500_000 * wave),
                sent=round(600_000 + 300_000 * math.sin(age / 5)),
                deliveries=round(41_000 + 9_000 * wave),
                clients=1,
            )
        )
    for snapshot in snapshots:
        await live.hub.publish("live", snapshot)
    return snapshots


def figure(page: Page, name: str) -> Locator:
    return page.get_by_role("figure", name=name)


async def path(page: Page, name: str, *, but: str = "") -> str:
    """Return the path of a chart's first line, once there is another than one."""
    line = figure(page, name).locator("path.line.first")
    await expect(line).to_have_attribute("d", POINT, timeout=TIMEOUT)
    await expect(line).not_to_have_attribute("d", but, timeout=TIMEOUT)
    return await line.get_attribute("d") or ""


async def read(page: Page, name: str) -> dict[str, str]:
    """Return what a screen reader says of a chart."""
    text = figure(page, name).locator(".read")
    await expect(text).not_to_be_empty(timeout=TIMEOUT)
    return dict(re.findall("([^:,]+): ([^,]+)(?:, )?", await text.inner_text()))


async def until_published(hub: Hub, count: int) -> None:
    """Wait until so many more snapshots were published."""
    async with hub.subscribe("live") as publications, asyncio.timeout(20_000 * MS):
        for _ in range(count):
            await anext(aiter(publications))


async def test_snapshots_are_of_this_machine_and_on_schedule(
    live: ModuleType, server: Server
) -> None:
    await until_published(live.hub, 4)
    history = await live.hub.history("live")
    snapshots = [msgspec.json.decode(one.data, type=live.Snapshot) for one in history.publications]
    elapsed = snapshots[-1].time - snapshots[0].time

    for snapshot in snapshots:
        assert len(snapshot.cores) == psutil.cpu_count()
        assert all(0 <= percent <= 100 for percent in [snapshot.cpu, *snapshot.cores])
        assert 0 < snapshot.memory_used < snapshot.memory_total
        assert min(snapshot.received, snapshot.sent) >= 0
        assert (snapshot.deliveries, snapshot.clients) == (0, 0)
    # However late the first was in its half second, each has one of its own.
    assert elapsed > (len(snapshots) - 2) * live.INTERVAL


async def test_values_are_shown_and_charts_move(page: Page, url: str, faults: list[str]) -> None:
    await page.goto(url)
    before = {name: await path(page, name) for name in NAMES}
    for name in NAMES:
        await path(page, name, but=before[name])
    moving = figure(page, "CPU").locator("svg svg g")
    await expect(moving).not_to_have_attribute(
        "transform", await moving.get_attribute("transform") or "", timeout=TIMEOUT
    )
    cpu = await read(page, "CPU")
    memory = await read(page, "Memory")
    network = await read(page, "Network")
    await expect(figure(page, "Deliveries").locator("b")).to_have_text("2/s", timeout=TIMEOUT)
    await expect(page.get_by_text("Connected")).to_be_visible()

    assert list(cpu) == ["all cores", "busiest core"]
    assert 0 <= float(cpu["all cores"].removesuffix(" %")) <= 100
    assert re.fullmatch(r"\d+(\.\d+)? [MGT]iB", memory["used"])
    assert all(re.fullmatch(r"\d+(\.\d+)? [kMG]?B/s", network[way]) for way in ("in", "out"))
    assert faults == []


async def test_history_is_there_at_once_and_a_gap_is_a_gap(
    page: Page, url: str, past: list[Any], faults: list[str]
) -> None:
    await page.goto(url)
    first = await path(page, "CPU")
    await path(page, "CPU", but=first)
    await page.reload()
    again = await path(page, "CPU")

    width = float(await figure(page, "CPU").locator("svg svg").get_attribute("width") or 0)
    for line in (first, again):
        assert len(POINT.findall(line)) >= len(past)
        before, after, *_ = line.removeprefix("M").split("M")
        hole = float(after.split(" ")[0]) - float(before.split("L")[-1].split(" ")[0])
        assert hole / width * 120 == pytest.approx(10.5, abs=0.1)
    assert faults == []


async def test_two_pages_watch_at_once(page: Page, url: str, faults: list[str]) -> None:
    assert page.context.browser is not None
    other = await page.context.browser.new_page()
    for one in (page, other):
        await one.goto(url)
    for one in (page, other):
        await expect(one.get_by_text("2 pages are watching")).to_be_visible(timeout=TIMEOUT)
        await path(one, "CPU", but=await path(one, "CPU"))
    await other.close()
    await expect(page.get_by_text("1 page is watching")).to_be_visible(timeout=TIMEOUT)

    assert faults == []


async def test_interruption_is_caught_up(
    live: ModuleType, server: Server, page: Page, url: str
) -> None:
    door = Door(live.hub)
    await page.goto(url)
    await path(page, "CPU")
    door.close()
    for connection in server.connections:
        connection.transport.abort()
    await expect(page.get_by_text("Connection lost")).to_be_visible(timeout=TIMEOUT)
    await until_published(live.hub, 3)
    door.open()
    news = page.get_by_text(re.compile("^Back after"))
    await expect(news).to_have_text(
        re.compile(r"after \d+\.\d s: ([3-9]|\d\d) snapshots were caught up, none is missing"),
        timeout=TIMEOUT,
    )
    history = await live.hub.history("live")
    line = await path(page, "CPU", but=await path(page, "CPU"))

    assert len(POINT.findall(line)) >= len(history.publications)


async def test_interruption_that_cannot_be_caught_up_is_told(
    live: ModuleType, server: Server, page: Page, url: str
) -> None:
    door = Door(live.hub)
    await page.goto(url)
    await path(page, "CPU")
    door.close()
    for connection in server.connections:
        connection.transport.abort()
    await until_published(live.hub, 2)
    await live.hub.remove_history("live")
    door.open()

    await expect(page.get_by_text("what was missed is gone")).to_be_visible(timeout=TIMEOUT)
    await path(page, "CPU", but=await path(page, "CPU"))


async def test_button_cuts_the_connection(page: Page, url: str, faults: list[str]) -> None:
    await page.goto(url)
    await path(page, "CPU")
    await page.get_by_role("button", name="Cut").click()
    await expect(page.get_by_text("next attempt in 5.0 s")).to_be_visible(timeout=TIMEOUT)
    await expect(page.get_by_text("none is missing")).to_be_visible(timeout=TIMEOUT)

    assert faults == []


async def test_snapshots_come_as_patches(page: Page, url: str, faults: list[str]) -> None:
    publications: list[dict[str, Any]] = []
    enough = asyncio.Event()

    def collect(frame: str | bytes) -> None:
        replies = [json.loads(line) for line in frame.splitlines()]
        publications.extend(reply["push"]["pub"] for reply in replies if "push" in reply)
        if len(publications) >= 3:
            enough.set()

    page.on("websocket", lambda websocket: websocket.on("framereceived", collect))
    await page.goto(url)
    async with asyncio.timeout(TIMEOUT / 1000):
        await enough.wait()
    await path(page, "CPU", but=await path(page, "CPU"))
    sizes = [len(one["data"]) for one in publications]

    assert [one.get("delta", False) for one in publications] == [False] + [True] * (len(sizes) - 1)
    assert max(sizes[1:]) < 0.7 * sizes[0]
    assert faults == []


async def test_reduced_motion_moves_with_snapshots_alone(
    live: ModuleType, page: Page, url: str, faults: list[str]
) -> None:
    await page.emulate_media(reduced_motion="reduce")
    await page.goto(url)
    await path(page, "CPU")
    await page.evaluate(COUNT_CHANGES)
    await until_published(live.hub, 4)
    changes = await page.evaluate("changes")

    assert changes["d"] >= 3
    assert changes["transform"] <= 2 * changes["d"]
    assert faults == []


async def test_mounted_twice_and_closed_once(
    live: ModuleType, page: Page, url: str, faults: list[str]
) -> None:
    await page.goto(url)
    await page.evaluate(MOUNT_ANOTHER)
    await expect(page.get_by_role("figure")).to_have_count(2 * len(NAMES))
    await expect(page.get_by_text("2 pages are watching")).to_have_count(2, timeout=TIMEOUT)
    await page.evaluate("another.close()")
    await expect(page.get_by_role("figure")).to_have_count(len(NAMES))
    await expect(page.get_by_text("1 page is watching")).to_be_visible(timeout=TIMEOUT)

    assert len(live.hub.clients()) == 1
    assert faults == []


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_page_is_for_everybody(
    page: Page,
    url: str,
    past: list[Any],
    faults: list[str],
    scheme: Literal["light", "dark"],
    width: int,
) -> None:
    await page.set_viewport_size({"width": width, "height": 800})
    await page.emulate_media(color_scheme=scheme)
    await page.goto(url)
    await path(page, "Deliveries")
    await page.screenshot(path=SCREENSHOTS / f"live-{scheme}-{width}.png", full_page=True)

    assert await serious_faults(page) == []
    assert await page.evaluate("document.documentElement.scrollWidth") == width
    assert faults == []
