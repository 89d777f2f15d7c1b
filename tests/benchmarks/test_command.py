"""`python -m benchmarks` for a fraction of a second, so that it cannot rot."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.timing import MS

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="benchmarks read /proc and pin processes to cores"
)

ROOT = Path(__file__).parents[2]
SIDES = ["hubbub", "hubbub-callback", "websockets"]


def run_benchmarks(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300_000 * MS,
    )


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run everything once, as short as can be; return the folder with the reports."""
    folder = tmp_path_factory.mktemp("benchmarks")
    short = ["--quick", "--seconds", 0.1, "--idle", 50]
    done = run_benchmarks(*short, "--output", folder, "--sides", ",".join(SIDES))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.parametrize(
    ("report", "cases"),
    [
        ("echo", ["text-64", "text-1024", "binary-64"]),
        ("connects", ["connects"]),
        ("memory", ["memory"]),
    ],
)
def test_every_side_has_figures_in_every_case(output: Path, report: str, cases: list[str]) -> None:
    content = json.loads((output / f"{report}.json").read_text())

    assert cases == list(content["figures"])
    for figures in content["figures"].values():
        assert set(SIDES) == set(figures)
        assert figures["websockets"]["ratio"] == 1


def test_every_echo_counted_took_cpu_of_both_sides(output: Path) -> None:
    content = json.loads((output / "echo.json").read_text())

    for figure in content["figures"]["text-64"].values():
        (window,) = figure["windows"]
        assert window["events"] > 0
        assert window["seconds"] >= 0.1
        assert window["load_cpu"] > 0


@pytest.mark.parametrize("report", ["echo", "connects", "memory"])
def test_markdown_names_machine_versions_command_and_date(output: Path, report: str) -> None:
    text = (output / f"{report}.md").read_text()

    for word in ("Machine: ", "websockets: websockets ", "Command: `make bench", "Date: "):
        assert word in text


HUBS = ["hubbub-hub", "websockets-broadcast", "socketio"]


@pytest.fixture(scope="module")
def hub_output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the benchmarks of hubs once, as short as can be; return the folder with the reports."""
    folder = tmp_path_factory.mktemp("hubs")
    counts = ["--subscribers", 5, "--channels", 5, "--idle-subscribers", 50, "--connections", 5]
    short = ["--quick", "--seconds", 0.1, *counts]
    done = run_benchmarks(*short, "--output", folder, "--sides", ",".join(HUBS))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.parametrize(
    ("report", "cases", "sides"),
    [
        ("fanout", ["60", "1000", "3000"], HUBS[:2]),
        ("channels", ["1000", "3000", "half"], HUBS[:2]),
        ("idle", ["idle"], HUBS[:2]),
        ("ack", ["ack"], [HUBS[0], HUBS[2]]),
    ],
)
def test_every_hub_has_figures_in_every_case(
    hub_output: Path, report: str, cases: list[str], sides: list[str]
) -> None:
    content = json.loads((hub_output / f"{report}.json").read_text())

    assert cases == list(content["figures"])
    for figures in content["figures"].values():
        assert set(sides) == set(figures)
        hub = figures["hubbub-hub"]
        assert hub.get("rates", hub)["ratio"] == 1


def test_benchmarks_of_other_sides_are_left_out(hub_output: Path) -> None:
    names = {path.stem for path in hub_output.iterdir()}

    assert names == {"fanout", "channels", "idle", "ack"}


def test_every_delivery_counted_was_offered(hub_output: Path) -> None:
    content = json.loads((hub_output / "fanout.json").read_text())

    for figure in content["figures"]["1000"].values():
        (window,) = figure["windows"]
        assert window["events"] > 0
        assert window["offered"] >= 5 * 90
        assert window["server_cpu"] > 0


def test_latency_is_reported_at_half_load(hub_output: Path) -> None:
    content = json.loads((hub_output / "channels.json").read_text())

    for figure in content["figures"]["half"].values():
        assert 0 < figure["p50"] <= figure["p99"]
    assert "half load" in (hub_output / "channels.md").read_text()


def test_no_side_for_a_benchmark_is_refused(tmp_path: Path) -> None:
    done = run_benchmarks("--quick", "--only", "ack", "--sides", "ws", "--output", tmp_path)

    assert done.returncode == 2
    assert "none of --sides takes part" in done.stderr


def test_side_that_is_not_installed_is_named_as_skipped(tmp_path: Path) -> None:
    short = ["--quick", "--seconds", 0.1, "--only", "connects", "--output", tmp_path]

    done = run_benchmarks(*short, "--sides", "websockets,ws", PATH=str(tmp_path))

    assert done.returncode == 0, done.stderr
    assert "skipped: node is not installed" in (tmp_path / "connects.md").read_text()


def test_unknown_side_is_refused() -> None:
    done = run_benchmarks("--sides", "hubbub,nobody")

    assert done.returncode == 2
    assert "'nobody' is none of hubbub-callback, hubbub, websockets" in done.stderr


def test_brokers_are_measured_in_one_run(tmp_path: Path) -> None:
    sides = "broker-memory,broker-sqlite-full"
    done = run_benchmarks(
        "--quick", "--only", "sqlite", "--seconds", 0.1, "--sides", sides, "--output", tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads((tmp_path / "sqlite.json").read_text())

    assert list(content["figures"]) == ["1", "64"]
    for figures in content["figures"].values():
        assert set(figures) == set(sides.split(","))
        for figure in figures.values():
            assert figure["rates"]["per_second"] > 0
            assert 0 < figure["p50"] <= figure["p99"]
    assert "sync them took" in (tmp_path / "sqlite.md").read_text()
