"""The benchmarks of hubs, each from its options to its report."""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from benchmarks import ack, channels, chart, fanout, idle, memory, sqlite
from benchmarks.about import About
from benchmarks.figures import latency_figures, memory_figures, rate_figures
from benchmarks.hub_report import (
    MEGABYTES,
    ack_report,
    channels_report,
    fanout_report,
    idle_report,
)
from benchmarks.process import Cores
from benchmarks.report import Report
from benchmarks.rounds import Rounds
from benchmarks.side import BROKER_SIDES, HUB, MEMORY_BROKER, FoundSide

__all__ = ["BENCHMARKS", "HubBenchmark"]

PUBLISHING = ("hubbub-hub", "bun-publish", "nats", "ws-broadcast", "websockets-broadcast")


class Describe(Protocol):
    """Says what was measured where, and notes which sides failed."""

    def __call__(self, played: Rounds[Any]) -> About: ...


class HubBenchmark(Protocol):
    """One benchmark: measures sides, returns the report and how to draw its picture, if any."""

    def __call__(
        self,
        sides: list[FoundSide],
        cores: Cores,
        options: argparse.Namespace,
        describe: Describe,
    ) -> tuple[Report, Callable[[Path], None] | None]: ...


def run_fanout(
    sides: list[FoundSide], cores: Cores, options: argparse.Namespace, describe: Describe
) -> tuple[Report, Callable[[Path], None] | None]:
    rounds, subscribers = options.rounds, options.subscribers
    memory.raise_open_files(subscribers)
    played = fanout.measure_fanout(
        sides, cores, rounds=rounds, seconds=options.seconds, subscribers=subscribers
    )
    figures = {case: rate_figures(played.results, case, HUB) for case in fanout.RATES}
    about = describe(played)
    report = fanout_report(about, fanout.RATES, figures, rounds=rounds, subscribers=subscribers)
    titles = {case: f"{rate:,.0f} publications/s" for case, rate in fanout.RATES.items()}

    def draw(path: Path) -> None:
        chart.draw_ratios(
            about,
            f"MB delivered to {subscribers:,} subscribers per CPU second, as a multiple of hubbub",
            titles,
            figures,
            path,
            scale=MEGABYTES,
            unit="MB",
        )

    return report, draw if _all_have(figures, HUB) else None


def run_channels(
    sides: list[FoundSide], cores: Cores, options: argparse.Namespace, describe: Describe
) -> tuple[Report, Callable[[Path], None] | None]:
    rounds, count = options.rounds, options.channels
    memory.raise_open_files(count)
    played = channels.measure_channels(
        sides, cores, rounds=rounds, seconds=options.seconds, channels=count
    )
    cases = (*channels.RATES, channels.HALF)
    figures = {case: latency_figures(played.results, case, HUB) for case in cases}
    about = describe(played)
    report = channels_report(about, channels.RATES, figures, rounds=rounds, channels=count)
    titles = {case: f"{rate:,.0f} publications/s" for case, rate in channels.RATES.items()}
    rates = {
        case: {name: figure.rates for name, figure in figures[case].items()} for case in titles
    }

    def draw(path: Path) -> None:
        title = f"Delivered in {count:,} channels per CPU second, as a multiple of hubbub"
        chart.draw_ratios(about, title, titles, rates, path)

    return report, draw if _all_have(figures, HUB) else None


def run_idle(
    sides: list[FoundSide], cores: Cores, options: argparse.Namespace, describe: Describe
) -> tuple[Report, Callable[[Path], None] | None]:
    subscribers = memory.raise_open_files(options.idle_subscribers)
    if subscribers < options.idle_subscribers:
        print(f"no more than {subscribers} files may be open here", file=sys.stderr)
    played = idle.measure_idle(
        sides,
        cores,
        rounds=min(options.rounds, memory.ROUNDS),
        subscribers=subscribers,
        settle=min(0.5, options.seconds),
    )
    figures = {idle.CASE: memory_figures(played.results, idle.CASE, HUB)}
    about = describe(played)

    def draw(path: Path) -> None:
        title = f"KiB of memory per idle subscriber, {subscribers:,} subscribers"
        chart.draw_memory(about, title, figures[idle.CASE], path)

    report = idle_report(about, figures, subscribers=subscribers)
    return report, draw if figures[idle.CASE] else None


def run_ack(
    sides: list[FoundSide], cores: Cores, options: argparse.Namespace, describe: Describe
) -> tuple[Report, Callable[[Path], None] | None]:
    rounds, connections = options.rounds, options.connections
    played = ack.measure_ack(
        sides, cores, rounds=rounds, seconds=options.seconds, connections=connections
    )
    figures = {ack.CASE: rate_figures(played.results, ack.CASE, HUB)}
    about = describe(played)

    def draw(path: Path) -> None:
        title = "Published, acknowledged and delivered per CPU second, as a multiple of hubbub"
        chart.draw_ratios(about, title, {ack.CASE: ""}, figures, path)

    report = ack_report(about, figures, rounds=rounds, connections=connections)
    return report, draw if _all_have(figures, HUB) else None


def run_sqlite(
    sides: list[FoundSide], cores: Cores, options: argparse.Namespace, describe: Describe
) -> tuple[Report, Callable[[Path], None] | None]:
    rounds = options.rounds
    sync = sqlite.time_sync()
    played = sqlite.measure_sqlite(sides, cores, rounds=rounds, seconds=options.seconds)
    figures = {case: latency_figures(played.results, case, MEMORY_BROKER) for case in sqlite.CASES}
    return sqlite.sqlite_report(describe(played), figures, rounds=rounds, sync=sync), None


BENCHMARKS: Mapping[str, tuple[HubBenchmark, tuple[str, ...]]] = {
    "fanout": (run_fanout, PUBLISHING),
    "channels": (run_channels, PUBLISHING),
    "idle": (run_idle, ("hubbub-hub", "websockets-broadcast", "bun-publish", "ws-broadcast")),
    "ack": (run_ack, ("hubbub-hub", "socketio")),
    "sqlite": (run_sqlite, tuple(side.name for side in BROKER_SIDES)),
}
"""Name → benchmark, and the names of the sides that take part."""


def _all_have(figures: Mapping[str, Mapping[str, Any]], name: str) -> bool:
    return all(name in case for case in figures.values())
