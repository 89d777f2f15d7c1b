"""hubbub conforms where `websockets` does, and departs from Autobahn's wishes where we say so."""

import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

from tests.autobahn.known import FRAGMENTS, KNOWN, SELECTED_COMPRESSION, UNCOMPRESSED
from tests.autobahn.run import Mode, Subject, Verdict, case_key, run_cases
from tests.programs import ROOT

SELECTED: Mapping[Mode, tuple[str, ...]] = {
    "plain": UNCOMPRESSED,
    "deflate": SELECTED_COMPRESSION,
}

# Kept apart from those of `make autobahn`, which are of all cases.
REPORTS = ROOT / "artefacts" / "autobahn-selected"


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What Autobahn found in the same cases, run at the same time."""

    hubbub: Mapping[str, Verdict]
    parent: Mapping[str, Verdict]


@pytest.fixture(scope="module", params=SELECTED)
def verdicts(request: pytest.FixtureRequest) -> Verdicts:
    mode: Mode = request.param
    # Many cases wait a second to see that nothing happens: the more at a time, the better. Those
    # of compression are all work.
    concurrency = 6 if mode == "plain" else 2
    REPORTS.mkdir(parents=True, exist_ok=True)
    # Where several processes share the tests, more than one may come here.
    with FileLock(REPORTS / f"{mode}.lock"), ThreadPoolExecutor(2) as executor:
        ours, theirs = executor.map(
            lambda subject: run_cases(
                subject, SELECTED[mode], concurrency=concurrency, reports=REPORTS
            ),
            (Subject("hubbub", mode), Subject("websockets", mode)),
        )
    return Verdicts(ours, theirs)


def test_no_case_fails_that_websockets_passes(verdicts: Verdicts) -> None:
    worse = {
        case: (verdict, verdicts.parent[case])
        for case, verdict in verdicts.hubbub.items()
        if verdict.failed and not verdicts.parent[case].failed
    }

    assert worse == {}


def test_each_verdict_is_ok_or_known(verdicts: Verdicts) -> None:
    unknown = {
        case: verdict
        for case, verdict in verdicts.hubbub.items()
        if verdict.behavior not in KNOWN.get(case, {"OK"})
    }

    assert unknown == {}


def test_each_close_is_ok_or_of_a_known_case(verdicts: Verdicts) -> None:
    unknown = {
        case: verdict
        for case, verdict in verdicts.hubbub.items()
        if verdict.close != "OK" and case not in KNOWN
    }

    assert unknown == {}


def test_every_case_selected_ran(verdicts: Verdicts) -> None:
    sections = {case.split(".")[0] for case in verdicts.hubbub}

    assert verdicts.hubbub.keys() == verdicts.parent.keys()
    assert (len(verdicts.hubbub), sections) in (
        (301, {"1", "2", "3", "4", "5", "6", "7", "9", "10"}),
        (46, {"12", "13"}),
    )


def test_more_fragments_pass_when_allowed(tmp_path: Path) -> None:
    verdicts = run_cases(
        Subject("hubbub", "plain"), FRAGMENTS, max_fragments=65536, reports=tmp_path
    )

    assert {case: verdict.behavior for case, verdict in verdicts.items()} == dict.fromkeys(
        FRAGMENTS, "OK"
    )


def test_documentation_explains_each_known_case() -> None:
    text = (ROOT / "docs" / "topics" / "autobahn.md").read_text(encoding="utf-8")
    headings = re.findall(r"^### (.+): (.+)$", text, re.MULTILINE)
    explained = {
        case: frozenset(behaviors.split(" or "))
        for behaviors, cases in headings
        for case in cases.split(", ")
    }

    assert sorted(explained, key=case_key) == sorted(KNOWN, key=case_key)
    assert explained == dict(KNOWN)
