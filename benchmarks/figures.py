"""Figures: the medians over the rounds, and the ratios to a baseline of the same run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.losses import Losses
from benchmarks.memory import Growth
from benchmarks.side import BASELINE
from benchmarks.storm_load import Storm
from benchmarks.window import ENOUGH, TimedWindow, Window

__all__ = [
    "LatencyFigure",
    "LossFigure",
    "MemoryFigure",
    "RateFigure",
    "StormFigure",
    "latency_figures",
    "loss_figures",
    "memory_figures",
    "rate_figures",
    "storm_figures",
]

FULL = 0.95  # of a core: more than that is all of it, for clocks that tick every 10 ms


@dataclass(frozen=True, slots=True)
class RateFigure:
    """Events of one side in one case: medians of the rounds, and the lowest and highest of them.

    ratio: to the baseline; None: it was not measured. share: of what was offered; None: as much
    as could be.
    """

    per_cpu_second: float
    ratio: float | None
    lowest: float
    highest: float
    per_second: float
    server_use: float
    load_use: float
    windows: Sequence[Window]
    share: float | None = None

    @property
    def broker_use(self) -> float:
        """Share of one core that the server's broker used."""
        return median(window.broker_cpu / window.seconds for window in self.windows)

    @property
    def is_lower_bound(self) -> bool:
        """Whether the load was at its limit: a faster one might have got more out of the server."""
        return self.load_use >= FULL

    @property
    def is_overrun(self) -> bool:
        """Whether the server did less than was offered."""
        return self.share is not None and self.share < ENOUGH


@dataclass(frozen=True, slots=True)
class LatencyFigure:
    """Rates, and from publishing to delivery the medians of percentiles, in seconds."""

    rates: RateFigure
    p50: float
    p99: float
    p50s: Sequence[float]
    p99s: Sequence[float]


@dataclass(frozen=True, slots=True)
class MemoryFigure:
    """Bytes per idle connection of one side."""

    rss: float
    ratio: float | None
    pss: float
    uss: float
    growths: Sequence[Growth]


@dataclass(frozen=True, slots=True)
class LossFigure:
    """Losses of one side in one case: sums over the rounds."""

    lost: int
    expected: int
    acknowledged: int
    offered: int
    repeated: int
    disordered: int
    rounds: Sequence[Losses]


@dataclass(frozen=True, slots=True)
class StormFigure:
    """A storm at one side: medians over the rounds, in seconds; ratio: of the last client's."""

    last: float
    ratio: float | None
    p50: float
    p99: float
    cpu: float
    broker_cpu: float
    load_use: float
    missed: int
    recovered: int
    storms: Sequence[Storm]


def rate_figures(
    results: Mapping[str, Mapping[str, list[Window]]], case: str, baseline: str = BASELINE
) -> dict[str, RateFigure]:
    """Figures of one case by name of the side."""
    measured = {name: cases[case] for name, cases in results.items() if case in cases}
    base = _baseline(measured, baseline, lambda window: window.per_cpu_second)
    figures = {}
    for name, windows in measured.items():
        rates = [window.per_cpu_second for window in windows]
        shares = [window.share for window in windows if window.share is not None]
        figures[name] = RateFigure(
            per_cpu_second=median(rates),
            ratio=median(rates) / base if base else None,
            lowest=min(rates),
            highest=max(rates),
            per_second=median(window.per_second for window in windows),
            server_use=median(window.server_use for window in windows),
            load_use=median(window.load_use for window in windows),
            windows=windows,
            share=median(shares) if shares else None,
        )
    return figures


def latency_figures(
    results: Mapping[str, Mapping[str, list[TimedWindow]]], case: str, baseline: str
) -> dict[str, LatencyFigure]:
    """Figures of one case by name of the side."""
    timed = {name: cases[case] for name, cases in results.items() if case in cases}
    windows = {name: {case: [each.window for each in some]} for name, some in timed.items()}
    rates = rate_figures(windows, case, baseline)
    figures = {}
    for name, some in timed.items():
        p50s, p99s = [each.p50 for each in some], [each.p99 for each in some]
        figures[name] = LatencyFigure(rates[name], median(p50s), median(p99s), p50s, p99s)
    return figures


def memory_figures(
    results: Mapping[str, Mapping[str, list[Growth]]], case: str, baseline: str = BASELINE
) -> dict[str, MemoryFigure]:
    """Figures of one case by name of the side."""
    measured = {name: cases[case] for name, cases in results.items() if case in cases}
    base = _baseline(measured, baseline, lambda growth: growth.rss)
    figures = {}
    for name, growths in measured.items():
        rss = median(growth.rss for growth in growths)
        figures[name] = MemoryFigure(
            rss=rss,
            ratio=rss / base if base else None,
            pss=median(growth.pss for growth in growths),
            uss=median(growth.uss for growth in growths),
            growths=growths,
        )
    return figures


def loss_figures(
    results: Mapping[str, Mapping[str, list[Losses]]],
) -> dict[str, dict[str, LossFigure]]:
    """Figures by case, by name of the side."""
    figures: dict[str, dict[str, LossFigure]] = {}
    for name, cases in results.items():
        for case, rounds in cases.items():
            figures.setdefault(case, {})[name] = LossFigure(
                lost=sum(each.lost for each in rounds),
                expected=sum(each.expected for each in rounds),
                acknowledged=sum(each.acknowledged for each in rounds),
                offered=sum(each.offered for each in rounds),
                repeated=sum(each.repeated for each in rounds),
                disordered=sum(each.disordered for each in rounds),
                rounds=rounds,
            )
    return figures


def storm_figures(
    results: Mapping[str, Mapping[str, list[Storm]]], case: str, baseline: str
) -> dict[str, StormFigure]:
    """Figures of one case by name of the side."""
    measured = {name: cases[case] for name, cases in results.items() if case in cases}
    base = _baseline(measured, baseline, lambda storm: storm.window.seconds)
    figures = {}
    for name, storms in measured.items():
        last = median(storm.window.seconds for storm in storms)
        figures[name] = StormFigure(
            last=last,
            ratio=last / base if base else None,
            p50=median(storm.p50 for storm in storms),
            p99=median(storm.p99 for storm in storms),
            cpu=median(storm.window.server_cpu for storm in storms),
            broker_cpu=median(storm.window.broker_cpu for storm in storms),
            load_use=median(storm.window.load_use for storm in storms),
            missed=sum(storm.missed for storm in storms),
            recovered=sum(storm.recovered for storm in storms),
            storms=storms,
        )
    return figures


def _baseline(
    measured: Mapping[str, list[Any]], name: str, value: Callable[[Any], float]
) -> float | None:
    rounds = measured.get(name)
    return median(map(value, rounds)) if rounds else None
