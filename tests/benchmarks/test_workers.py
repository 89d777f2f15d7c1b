"""Workers with a broker: the benchmarks of them in short, and what hubbub must not lose."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("benchmarks pin processes to cores", allow_module_level=True)

from benchmarks.dialects import DIALECTS
from benchmarks.losses import Audience
from benchmarks.process import choose_cores
from benchmarks.side import WORKER_SIDES, find_sides
from benchmarks.workers import running_cluster
from tests.benchmarks.test_command import run_benchmarks
from tests.timing import MS
from tests.tools import absent

CLIENTS, ROOM = 20, 5


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run both benchmarks with hubbub alone, as short as can be; return the reports' folder."""
    folder = tmp_path_factory.mktemp("workers")
    short = ["--quick", "--seconds", 0.2, "--room", ROOM, "--crowd", CLIENTS]
    sides = "hubbub-valkey,hubbub-sqlite"
    done: subprocess.CompletedProcess[str] = run_benchmarks(
        *short, "--only", "workers,storm", "--sides", sides, "--output", folder
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_deliveries_take_cpu_of_workers_and_of_the_broker(output: Path) -> None:
    figures = json.loads((output / "workers.json").read_text())["figures"]

    for case in ("1x10", "1x200", "2x10", "2x200"):
        (window,) = figures[case]["hubbub-valkey"]["windows"]
        assert window["events"] > 0
        assert window["offered"] % ROOM == 0
        assert 0 < window["broker_cpu"] < window["server_cpu"]


@pytest.mark.parametrize("case", ["burst", "killed", "outage"])
def test_hubbub_loses_nothing_that_it_acknowledged(output: Path, case: str) -> None:
    figures = json.loads((output / "workers.json").read_text())["figures"]
    figure = figures[case]["hubbub-valkey"]

    assert figure["expected"] > 0
    assert figure["lost"] == figure["repeated"] == figure["disordered"] == 0


@pytest.mark.parametrize(
    ("case", "sides"),
    [
        ("cut", {"hubbub-valkey", "hubbub-sqlite"}),
        ("restart", {"hubbub-valkey", "hubbub-sqlite"}),
    ],
)
def test_every_client_of_a_storm_recovers_all(output: Path, case: str, sides: set[str]) -> None:
    figures = json.loads((output / "storm.json").read_text())["figures"]

    assert sides == set(figures[case])
    for figure in figures[case].values():
        (storm,) = figure["storms"]
        assert storm["recovered"] == storm["missed"] == CLIENTS * 10
        assert 0 < storm["p50"] <= storm["p99"] <= storm["window"]["seconds"]


@pytest.mark.parametrize("name", ["socketio-redis", "channels-redis", "channels-pubsub"])
def test_workers_of_others_deliver_to_each_other(name: str) -> None:
    found, skipped = find_sides([name], WORKER_SIDES)
    if skipped:
        absent(f"{name}: {skipped[name]}")

    with (
        running_cluster(found[0], 2, choose_cores()) as cluster,
        Audience(cluster.port, DIALECTS[cluster.dialect], "bench:x", ROOM, 64) as audience,
    ):
        losses = audience.count_losses(20, 100, silence=2000 * MS)

    assert losses.acknowledged == 20
    assert losses.lost == losses.repeated == 0
