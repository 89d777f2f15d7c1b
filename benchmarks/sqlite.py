"""Publishing that is acknowledged when it is on the disk, beside publishing to memory."""

import json
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from statistics import median

from benchmarks.about import About
from benchmarks.figures import LatencyFigure
from benchmarks.process import ChildFailed, Cores, run_child
from benchmarks.report import Report
from benchmarks.rounds import Rounds
from benchmarks.side import MEMORY_BROKER, TITLES, FoundSide
from benchmarks.tables import absent, lay_out, plural, ratio_text, remarks
from benchmarks.window import TimedWindow, Window, warm_up

__all__ = ["CASES", "measure_sqlite", "sqlite_report", "time_sync"]

CASES = {"1": 1, "64": 64}
"""Publishers at a time."""


def measure_sqlite(
    sides: Sequence[FoundSide], cores: Cores, *, rounds: int, seconds: float
) -> Rounds[TimedWindow]:
    """Measure each broker once a round, in a fresh process with a fresh file."""
    played: Rounds[TimedWindow] = Rounds()
    for number in range(rounds):
        start = number % max(1, len(sides))
        for found in [*sides[start:], *sides[:start]]:
            name = found.side.name
            if name in played.failures:
                continue
            try:
                for case, publishers in CASES.items():
                    options = {
                        "publishers": publishers,
                        "warm_up": warm_up(seconds),
                        "seconds": seconds,
                    }
                    command = [*found.command, json.dumps(options)]
                    result = json.loads(run_child(command, cores.server, seconds * 4 + 60))
                    timed = TimedWindow(Window(**result["window"]), result["p50"], result["p99"])
                    played.results.setdefault(name, {}).setdefault(case, []).append(timed)
            except ChildFailed as exc:
                played.results.pop(name, None)
                played.failures[name] = str(exc)
    return played


def time_sync() -> float:
    """Return the seconds that it takes here to have 4 KiB on the disk: a median."""
    times = []
    with tempfile.TemporaryFile() as file:
        for _ in range(20):
            start = time.monotonic()
            os.write(file.fileno(), bytes(4096))
            os.fsync(file.fileno())
            times.append(time.monotonic() - start)
    return median(times)


def sqlite_report(
    about: About,
    figures: Mapping[str, Mapping[str, LatencyFigure]],
    *,
    rounds: int,
    sync: float,
) -> Report:
    """Report on brokers. sync: what `time_sync` says."""
    header = ["broker"]
    for case in CASES:
        header += [f"{plural(int(case), 'publisher')}: publications/s", "to memory", "p50", "p99"]
    rows = []
    for name in next(iter(figures.values())):
        row = [TITLES[name]]
        for case in CASES:
            figure, base = figures[case][name], figures[case].get(MEMORY_BROKER)
            ratio = figure.rates.per_second / base.rates.per_second if base else None
            row += [
                f"{figure.rates.per_second:,.0f}",
                ratio_text(ratio),
                f"{figure.p50 * 1e3:.2f} ms",
                f"{figure.p99 * 1e3:.2f} ms",
            ]
        rows.append(row)
    caption = (
        "Publications of 112 bytes acknowledged per second, in the process of the hub, each"
        f" publisher in a channel of its own with history=100, median of {plural(rounds, 'round')};"
        f" to write 4 KiB and sync them took {sync * 1e3:.1f} ms here."
    )
    summary = "\n\n".join([caption, lay_out(header, [*rows, *absent(about, len(header))])])
    details = "\n\n".join(
        [
            "A publisher waits for the acknowledgement before it publishes again."
            "\nLatency is from the call to its return."
            "\nLoop and writer share one core.",
            *remarks(
                {
                    case: {name: figure.rates for name, figure in some.items()}
                    for case, some in figures.items()
                }
            ),
        ]
    )
    return Report("sqlite", "Publications on the disk", summary, details, about, figures)
