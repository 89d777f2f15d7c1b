"""The command: `python -m benchmarks`."""

import argparse
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from benchmarks import chart, connects, echo, hub_run, memory, worker_run
from benchmarks.about import About, describe
from benchmarks.figures import RateFigure, memory_figures, rate_figures
from benchmarks.process import ROOT, choose_cores
from benchmarks.report import (
    Report,
    connects_report,
    echo_report,
    memory_report,
    sources,
    write_report,
)
from benchmarks.rounds import Rounds
from benchmarks.side import (
    BASELINE,
    BROKER_SIDES,
    HUB_SIDES,
    TITLES,
    WORKER_SIDES,
    FoundSide,
    find_sides,
)

__all__ = ["main"]

N = TypeVar("N", int, float)

FULL = {
    "rounds": 5,
    "seconds": 1.5,
    "idle": 5000,
    "subscribers": 1000,
    "channels": 1000,
    "idle_subscribers": 20_000,
    "room": 500,
    "crowd": 5000,
    "output": ROOT / "docs/benchmarks",
}
QUICK = {
    "rounds": 1,
    "seconds": 0.3,
    "idle": 500,
    "subscribers": 50,
    "channels": 50,
    "idle_subscribers": 500,
    "room": 50,
    "crowd": 500,
    "output": ROOT / "artefacts/benchmarks",
}
HUBS = {**hub_run.BENCHMARKS, **worker_run.BENCHMARKS}
BENCHMARKS = ("echo", "memory", "connects", *HUBS)


def main() -> None:
    # Ctrl+C and SIGTERM unwind the stack, so that every child is reaped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        sys.exit(Run(sys.argv[1:]).play())
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


class Run:
    """One run of the command: its options, and what it finds on this machine."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = arguments
        self._options = parse_options(arguments)
        self._cores = choose_cores()
        self._sides, self._skipped = find_sides(self._options.sides)
        self._hubs, self._skipped_hubs = find_sides(
            self._options.sides, (*HUB_SIDES, *BROKER_SIDES, *WORKER_SIDES)
        )
        self._failed = False

    def play(self) -> int:
        """Measure, print and write; return the exit status: 1 if a server failed."""
        benchmarks = {"echo": self._echo, "memory": self._memory, "connects": self._connects}
        about = None
        for name in self._options.only:
            if name in HUBS:
                about = self._hub(name) or about
            elif self._sides or self._skipped:
                about = benchmarks[name]()
        if about is None:
            print("none of --sides takes part in any of --only", file=sys.stderr)
            return 2
        print(sources(about))
        return int(self._failed)

    def _hub(self, name: str) -> About | None:
        """Run a benchmark of hubs; `None`: no side that was asked for takes part in it."""
        run, names = HUBS[name]
        sides = [found for found in self._hubs if found.side.name in names]
        skipped = {side: why for side, why in self._skipped_hubs.items() if side in names}
        if not sides and not skipped:
            return None
        report, draw = run(
            sides,
            self._cores,
            self._options,
            lambda played: self._describe(played, sides, skipped),
        )
        picture = None
        if draw is not None:
            picture = self._picture(name, draw, "Bars: the figures of the table above")
        self._publish(report, picture)
        return report.about

    def _echo(self) -> About:
        options = self._options
        played = echo.measure_echo(
            self._sides,
            self._cores,
            rounds=options.rounds,
            seconds=options.seconds,
            connections=options.connections,
            drag=options.drag / 1e6,
        )
        about = self._describe(played, self._sides, self._skipped)
        cases = {case.name: case.title for case in echo.CASES}
        figures = {case: rate_figures(played.results, case) for case in cases}
        report = echo_report(
            about, cases, figures, rounds=options.rounds, connections=options.connections
        )
        self._publish(report, self._draw(about, cases, figures))
        return about

    def _draw(
        self, about: About, cases: dict[str, str], figures: dict[str, dict[str, RateFigure]]
    ) -> str | None:
        """Draw echo.png of the text cases, if that can be; return the Markdown that shows it."""
        drawn = {case: title for case, title in cases.items() if case.startswith("text")}
        if not all(BASELINE in figures[case] for case in drawn):
            return None

        def draw(path: Path) -> None:
            chart.draw_echo(about, drawn, figures, path)

        return self._picture("echo", draw, "Bars: the ratios of the table above")

    def _picture(self, name: str, draw: Callable[[Path], None], description: str) -> str | None:
        """Draw NAME.png, if that can be; return the Markdown that shows it."""
        path = self._options.output / f"{name}.png"
        try:
            draw(path)
        except ImportError as exc:
            print(f"no picture: {exc}", file=sys.stderr)
            return None
        return f"![{description}]({path.name})"

    def _memory(self) -> About:
        connections = memory.raise_open_files(self._options.idle)
        if connections < self._options.idle:
            print(f"no more than {connections} files may be open here", file=sys.stderr)
        played = memory.measure_memory(
            [found for found in self._sides if not found.side.reference],
            self._cores,
            rounds=min(self._options.rounds, memory.ROUNDS),
            connections=connections,
            settle=min(0.5, self._options.seconds),
        )
        figures = {memory.CASE: memory_figures(played.results, memory.CASE)}
        about = self._describe(played, self._sides, self._skipped)
        self._publish(memory_report(about, figures, connections=connections))
        return about

    def _connects(self) -> About:
        rounds = self._options.rounds
        played = connects.measure_connects(
            self._sides, self._cores, rounds=rounds, seconds=self._options.seconds
        )
        figures = {connects.CASE: rate_figures(played.results, connects.CASE)}
        about = self._describe(played, self._sides, self._skipped)
        self._publish(connects_report(about, figures, rounds=rounds))
        return about

    def _describe(
        self, played: Rounds[Any], sides: Sequence[FoundSide], skipped: Mapping[str, str]
    ) -> About:
        failed = {TITLES[name]: reason for name, reason in played.failures.items()}
        self._failed = self._failed or bool(failed)
        missing = {TITLES[name]: reason for name, reason in skipped.items()}
        return describe(sides, self._cores, self._arguments, missing, failed)

    def _publish(self, report: Report, picture: str | None = None) -> None:
        paths = write_report(report, self._options.output, picture)
        print(report.for_terminal())
        print("wrote", *paths, file=sys.stderr)


def parse_options(arguments: Sequence[str]) -> argparse.Namespace:
    names = list(TITLES)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure hubbub and other WebSocket servers in one run, on loopback.",
    )
    parser.add_argument(
        "--only",
        type=_names(BENCHMARKS),
        default=BENCHMARKS,
        metavar="NAMES",
        help=f"which benchmarks, of {','.join(BENCHMARKS)}",
    )
    parser.add_argument(
        "--sides",
        type=_names(names),
        default=names,
        metavar="NAMES",
        help=f"which servers, of {','.join(names)}",
    )
    parser.add_argument("--rounds", type=_positive(int), help="rounds (5; quick: 1)")
    parser.add_argument("--seconds", type=_positive(float), help="per window (1.5; quick: 0.3)")
    parser.add_argument("--idle", type=_positive(int), help="of memory (5000; quick: 500)")
    parser.add_argument(
        "--connections", type=_positive(int), default=50, help="of echo and ack (%(default)s)"
    )
    parser.add_argument(
        "--subscribers", type=_positive(int), help="of the channel of fanout (1000; quick: 50)"
    )
    parser.add_argument("--channels", type=_positive(int), help="of channels (1000; quick: 50)")
    parser.add_argument(
        "--idle-subscribers", type=_positive(int), help="of idle (20000; quick: 500)"
    )
    parser.add_argument(
        "--room", type=_positive(int), help="subscribers of workers (500; quick: 50)"
    )
    parser.add_argument("--crowd", type=_positive(int), help="of storm (5000; quick: 500)")
    parser.add_argument(
        "--drag",
        type=float,
        default=0.0,
        metavar="MICROSECONDS",
        help="waste time in the load for each echo, to see what a slower load changes",
    )
    parser.add_argument("--quick", action="store_true", help="a look, not a measurement")
    parser.add_argument(
        "--output",
        type=Path,
        help="folder of the reports (docs/benchmarks; quick: artefacts/benchmarks)",
    )
    options = parser.parse_args(arguments)
    defaults = QUICK if options.quick else FULL
    for name, value in defaults.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


def _names(known: Sequence[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = text.split(",")
        if unknown := sorted(set(names) - set(known)):
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(known)}")
        return names

    return parse


def _positive(kind: type[N]) -> Callable[[str], N]:
    def parse(text: str) -> N:
        value = kind(text)
        if value <= 0:
            raise argparse.ArgumentTypeError(f"{text} is not positive")
        return value

    return parse


if __name__ == "__main__":
    main()
