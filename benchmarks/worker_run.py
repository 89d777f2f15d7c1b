"""The benchmarks with brokers, each from the options to the report: workers, storm."""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks import chart, memory, storm, workers
from benchmarks.chart import Bar
from benchmarks.figures import loss_figures, rate_figures, storm_figures
from benchmarks.hub_run import Describe, HubBenchmark
from benchmarks.process import Cores
from benchmarks.report import Report
from benchmarks.rounds import Rounds
from benchmarks.side import WORKERS, FoundSide
from benchmarks.worker_report import storm_report, workers_report

__all__ = ["BENCHMARKS"]


def run_workers(
    sides: list[FoundSide], cores: Cores, options: argparse.Namespace, describe: Describe
) -> tuple[Report, Callable[[Path], None] | None]:
    rounds, subscribers = options.rounds, options.room
    memory.raise_open_files(subscribers)
    played = workers.measure_workers(
        sides, cores, rounds=rounds, seconds=options.seconds, subscribers=subscribers
    )
    lost = workers.measure_losses(sides, cores, rounds=rounds, seconds=options.seconds)
    cases = [
        workers.case_name(processes, rate)
        for processes in workers.PROCESSES
        for rate in workers.RATES
    ]
    figures = {case: rate_figures(played.results, case, WORKERS) for case in cases}
    about = describe(Rounds({}, {**lost.failures, **played.failures}))
    report = workers_report(
        about, figures, loss_figures(lost.results), rounds=rounds, subscribers=subscribers
    )
    slow = next(iter(workers.RATES))
    titles = {
        workers.case_name(processes, slow): f"{processes} worker{'s' * (processes > 1)}"
        for processes in workers.PROCESSES
    }

    def draw(path: Path) -> None:
        title = "Deliveries per CPU second of workers and Valkey, as a multiple of hubbub"
        chart.draw_ratios(about, title, titles, {case: figures[case] for case in titles}, path)

    return report, draw if all(WORKERS in figures[case] for case in titles) else None


def run_storm(
    sides: list[FoundSide], cores: Cores, options: argparse.Namespace, describe: Describe
) -> tuple[Report, Callable[[Path], None] | None]:
    clients = memory.raise_open_files(options.crowd)
    if clients < options.crowd:
        print(f"no more than {clients} files may be open here", file=sys.stderr)
    played = storm.measure_storm(sides, cores, rounds=options.rounds, clients=clients)
    figures = {case: storm_figures(played.results, case, WORKERS) for case in storm.CASES}
    figures = {case: some for case, some in figures.items() if some}
    about = describe(played)
    report = storm_report(about, figures, rounds=options.rounds, clients=clients)

    def draw(path: Path) -> None:
        panels = {
            storm.CASES[case]: {
                name: Bar(figure.last, f"{figure.last:.1f} s") for name, figure in some.items()
            }
            for case, some in figures.items()
            if case == "cut"
        }
        title = f"Seconds until the last of {clients:,} clients is live again"
        chart.draw_bars(about, title, panels, path)

    return report, draw if "cut" in figures else None


BENCHMARKS: Mapping[str, tuple[HubBenchmark, tuple[str, ...]]] = {
    "workers": (run_workers, (WORKERS, "socketio-redis", "channels-redis", "channels-pubsub")),
    "storm": (run_storm, ("hubbub-memory", WORKERS, "hubbub-sqlite", "socketio-alone")),
}
"""Name → benchmark, and the names of the sides that take part."""
