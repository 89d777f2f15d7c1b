"""README.md shows what was measured: its table is the one that `make bench` wrote."""

import re

from tests.programs import ROOT


def test_table_is_the_benchmarks() -> None:
    readme = (ROOT / "README.md").read_text()
    report = (ROOT / "docs" / "benchmarks" / "echo.md").read_text()
    shown = re.search(r"<!-- The table .*?-->\n(.*?)<!-- End", readme, re.DOTALL)
    measured = re.search(r"<!-- --8<-- \[start:table\] -->\n(.*?)<!--", report, re.DOTALL)
    assert shown is not None
    assert measured is not None

    assert shown[1] == measured[1]
