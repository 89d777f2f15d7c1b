"""README.md shows what was measured: its tables are those that `make bench` wrote."""

import re

import pytest

from tests.programs import ROOT


@pytest.mark.parametrize("name", ["echo", "fanout"])
def test_table_is_the_benchmarks(name: str) -> None:
    readme = (ROOT / "README.md").read_text()
    report = (ROOT / "docs" / "benchmarks" / f"{name}.md").read_text()
    table = rf"<!-- The table of docs/benchmarks/{name}.*?-->\n(.*?)<!-- End"
    shown = re.search(table, readme, re.DOTALL)
    measured = re.search(r"<!-- --8<-- \[start:table\] -->\n(.*?)<!--", report, re.DOTALL)
    assert shown is not None
    assert measured is not None

    assert shown[1] == measured[1]
