"""All scenarios of chaos in full, on two nodes and on four: `make chaos`."""

import argparse
import asyncio
import dataclasses
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from benchmarks.tables import plural
from tests.chaos.needs import why_not
from tests.chaos.report import Entry, describe, write
from tests.chaos.scenario import FULL, SHORT, Outcome, Scale, Scenario
from tests.chaos.scenarios import SCENARIOS
from tests.chaos.series import run_series
from tests.interop import javascript_sdk
from tests.programs import ROOT
from tests.tools import find_node

DOCS = ROOT / "docs" / "benchmarks"
LOOK = ROOT / "artefacts" / "chaos"


def main() -> int:
    """Run the scenarios, write the report, and return 1 if a promise was broken, else 0."""
    arguments = parse_arguments()
    console = Console(stderr=True)
    scale = SHORT if arguments.quick else FULL
    node = find_node(Path(javascript_sdk.__file__).parent)
    entries: list[Entry] = []
    for count in arguments.nodes:
        chosen = [SCENARIOS[name] for name in arguments.only]
        if entries:
            chosen = [each for each in chosen if not each.alone]
        for scenario in chosen:
            nodes = 1 if scenario.alone else count
            sized = dataclasses.replace(scale, nodes=nodes)
            entry = Entry(scenario.title, nodes, attempt(scenario, sized, node))
            entries.append(entry)
            console.print(line(entry), soft_wrap=True)
    folder = LOOK if arguments.quick or len(arguments.only) < len(SCENARIOS) else DOCS
    path = write(entries, scale, sys.argv[1:], folder)
    console.print("\n\n".join(describe(entries)), soft_wrap=True, markup=False)
    console.print(f"The report is in {path}.")
    good = all(isinstance(each.outcome, Outcome) and not each.outcome.problems for each in entries)
    return 0 if good else 1


def attempt(scenario: Scenario, scale: Scale, node: Path) -> Outcome | Exception:
    """Run one scenario, with nothing else going on."""
    reason = why_not(scenario)
    if reason:
        return RuntimeError(reason)
    with (
        tempfile.TemporaryDirectory(prefix="chaos-") as folder,
        javascript_sdk.node_process(node) as javascript,
    ):
        outcomes = asyncio.run(run_series([scenario], scale, Path(folder), javascript))
        return outcomes[scenario.name]


def line(entry: Entry) -> str:
    """Say in one line what came of a scenario; in more if it is not good."""
    outcome = entry.outcome
    name = f"{entry.title}, {plural(entry.nodes, 'node')}"
    if isinstance(outcome, Exception):
        notes = "\n".join(getattr(outcome, "__notes__", ()))
        return f"{name}: could not be run: {outcome!r}\n{notes}"
    if outcome.problems:
        return "\n  ".join([f"{name}: bad", *outcome.problems])
    return f"{name}: good, live after {outcome.live:.1f} s"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument(
        "--only",
        nargs="+",
        choices=SCENARIOS,
        default=list(SCENARIOS),
        metavar="NAME",
        help=f"some of: {', '.join(SCENARIOS)}",
    )
    parser.add_argument("--nodes", nargs="+", type=int, default=[2, 4], help="default: 2 4")
    parser.add_argument("--quick", action="store_true", help="the short form, as the tests run it")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
