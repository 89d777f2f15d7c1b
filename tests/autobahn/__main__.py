"""All of Autobahn's cases against hubbub and its parent: `make autobahn`."""

import argparse
import time
from collections import Counter
from collections.abc import Iterable, Mapping

from rich.console import Console
from rich.table import Table

from tests.autobahn.run import REPORTS, Subject, Verdict, run_cases

BEHAVIORS = ("OK", "NON-STRICT", "INFORMATIONAL", "UNIMPLEMENTED", "FAILED")

SUBJECTS = (
    Subject("hubbub", "plain"),
    Subject("websockets", "plain"),
    Subject("hubbub", "deflate"),
    Subject("websockets", "deflate"),
)

Verdicts = Mapping[str, Verdict]


def main() -> int:
    """Run the cases, print the verdicts, and return the exit code.

    Returns:
        1 when hubbub fails a case that websockets passes, in the same mode; else 0.
    """
    arguments = parse_arguments()
    console = Console()
    results: dict[Subject, Verdicts] = {}
    for subject in SUBJECTS:
        started = time.monotonic()
        results[subject] = run_cases(
            subject, arguments.cases, arguments.exclude, concurrency=arguments.concurrency
        )
        seconds = time.monotonic() - started
        console.print(f"{subject}: {len(results[subject])} cases in {seconds:.0f} s")

    console.print(table_of_counts(results))
    for subject, verdicts in results.items():
        console.print(
            f"[bold]{subject}[/]: not OK", *lines_of_others(verdicts), sep="\n  ", soft_wrap=True
        )
    console.print(f"The reports are in {REPORTS}.")

    worse = {
        f"{case} ({mode})"
        for mode in ("plain", "deflate")
        for case in failed(results[Subject("hubbub", mode)])
        - failed(results[Subject("websockets", mode)])
    }
    if worse:
        console.print(f"[red]hubbub fails what websockets passes[/]: {', '.join(sorted(worse))}")
    return 1 if worse else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.autobahn", description=__doc__)
    parser.add_argument("--cases", nargs="+", default=[], metavar="CASE", help="ids or globs: 9.*")
    parser.add_argument("--exclude", nargs="+", default=[], metavar="CASE", help="ids or globs")
    parser.add_argument("--concurrency", type=int, default=2, help="cases at a time (default: 2)")
    return parser.parse_args()


def table_of_counts(results: Mapping[Subject, Verdicts]) -> Table:
    table = Table(box=None)
    table.add_column("server", no_wrap=True)
    for behavior in BEHAVIORS:
        table.add_column(behavior, justify="right", no_wrap=True)
    for subject, verdicts in results.items():
        counts = Counter(behavior_of(verdict) for verdict in verdicts.values())
        table.add_row(str(subject), *(str(counts[behavior]) for behavior in BEHAVIORS))
    return table


def lines_of_others(verdicts: Verdicts) -> Iterable[str]:
    """Return what is not OK, one line for each behavior and close code."""
    cases: dict[tuple[str, str, int | None], list[str]] = {}
    for case, verdict in verdicts.items():
        if behavior_of(verdict) != "OK":
            key = (verdict.behavior, verdict.close, verdict.remote_close_code)
            cases.setdefault(key, []).append(case)
    for (behavior, close, code), names in cases.items():
        if len(names) > 30:
            names = [*names[:3], "...", names[-1], f"({len(names)} cases)"]
        yield f"{behavior}, close {close} with {code}: {' '.join(names)}"


def behavior_of(verdict: Verdict) -> str:
    return "FAILED" if verdict.failed else verdict.behavior


def failed(verdicts: Verdicts) -> set[str]:
    return {case for case, verdict in verdicts.items() if verdict.failed}


if __name__ == "__main__":
    raise SystemExit(main())
