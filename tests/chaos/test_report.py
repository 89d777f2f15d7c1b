"""The report of chaos: what was found is in it, and so is what could not be run."""

import json
from pathlib import Path

import pytest

from hubbub.cli.verification import Fault
from hubbub.cli.verify_report import Report
from tests.chaos.report import Entry, write
from tests.chaos.scenario import SHORT, Outcome


@pytest.fixture
def outcome() -> Outcome:
    report = Report(
        strict=False,
        duration=9.0,
        publishing=6.0,
        sent=1000,
        acknowledged=900,
        unanswered=60,
        refusals={"100 internal server error": 40},
        left_out=0,
        deliveries=4000,
        reconnects=0,
        kills=0,
        recoveries=48,
        told_so=3,
        excused=0,
        uncompared=0,
        settling=0.1,
        hearing=0.2,
        presence=0.3,
        unchecked_presence={},
        actions=[],
        load_use=0.1,
        faults={Fault.LOST: 7},
        findings=[],
        seed=1,
    )
    return Outcome(
        name="cut-off",
        title="a node cut off",
        nodes=2,
        problems=["hubbub verify: lost: 7"],
        report=report,
        sdks=4,
        sdk_published=100,
        sdk_acknowledged=90,
        sdk_deliveries=360,
        sdk_recoveries=8,
        sdk_told_so=1,
        delay=0.02,
        live=0.5,
        red=4.2,
        green=0.1,
        sdk_presence=6.5,
        memory=(70 << 20, 75 << 20, 71 << 20),
        facts={},
    )


def test_report_has_what_both_kinds_of_clients_saw(outcome: Outcome, tmp_path: Path) -> None:
    page = write([Entry("a node cut off", 2, outcome)], SHORT, [], tmp_path).read_text()

    assert "| a node cut off |     2 |     1,100 |          990 |     4,360 |    7 |" in page
    assert "|       4 |     bad |" in page
    assert "|     4.2 s |      100 ms |     500 ms |          6.5 s |" in page
    assert "|          70.0 | 75.0 |       71.0 |" in page
    assert "- a node cut off, 2 nodes: hubbub verify: lost: 7" in page


def test_report_names_what_could_not_be_run(tmp_path: Path) -> None:
    entries = [Entry("a node cut off", 2, RuntimeError("namespaces are made by root"))]
    page = write(entries, SHORT, ["--quick"], tmp_path).read_text()

    assert "not run |" in page
    assert "could not be run: namespaces are made by root" in page
    assert "- Command: make chaos ARGS=--quick" in page


def test_report_for_programs_says_the_same(outcome: Outcome, tmp_path: Path) -> None:
    write([Entry("a node cut off", 2, outcome)], SHORT, [], tmp_path)
    (run,) = json.loads((tmp_path / "chaos.json").read_text())["runs"]

    assert run["verdict"] == "bad"
    assert run["verify"]["faults"]["lost"] == 7
    assert run["sdks"]["acknowledged"] == 90
    assert run["memory_bytes"] == {"before": 70 << 20, "most": 75 << 20, "after": 71 << 20}
