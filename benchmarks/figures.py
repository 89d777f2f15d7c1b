"""Figures: the medians over the rounds, and the ratios to `websockets` of the same run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.memory import Growth
from benchmarks.side import BASELINE
from benchmarks.window import Window

__all__ = ["MemoryFigure", "RateFigure", "memory_figures", "rate_figures"]

FULL = 0.95  # of a core: more than that is all of it, for clocks that tick every 10 ms


@dataclass(frozen=True, slots=True)
class RateFigure:
    """Events of one side in one case: medians of the rounds, and the lowest and highest of them.

    ratio: to the baseline; None: it was not measured.
    """

    per_cpu_second: float
    ratio: float | None
    lowest: float
    highest: float
    per_second: float
    server_use: float
    load_use: float
    windows: Sequence[Window]

    @property
    def is_lower_bound(self) -> bool:
        """Whether the load was at its limit: a faster one might have got more out of the server."""
        return self.load_use >= FULL


@dataclass(frozen=True, slots=True)
class MemoryFigure:
    """Bytes per idle connection of one side."""

    rss: float
    ratio: float | None
    pss: float
    uss: float
    growths: Sequence[Growth]


def rate_figures(
    results: Mapping[str, Mapping[str, list[Window]]], case: str
) -> dict[str, RateFigure]:
    """Figures of one case by name of the side."""
    measured = {name: cases[case] for name, cases in results.items() if case in cases}
    baseline = _baseline(measured, lambda window: window.per_cpu_second)
    figures = {}
    for name, windows in measured.items():
        rates = [window.per_cpu_second for window in windows]
        figures[name] = RateFigure(
            per_cpu_second=median(rates),
            ratio=median(rates) / baseline if baseline else None,
            lowest=min(rates),
            highest=max(rates),
            per_second=median(window.per_second for window in windows),
            server_use=median(window.server_use for window in windows),
            load_use=median(window.load_use for window in windows),
            windows=windows,
        )
    return figures


def memory_figures(
    results: Mapping[str, Mapping[str, list[Growth]]], case: str
) -> dict[str, MemoryFigure]:
    """Figures of one case by name of the side."""
    measured = {name: cases[case] for name, cases in results.items() if case in cases}
    baseline = _baseline(measured, lambda growth: growth.rss)
    figures = {}
    for name, growths in measured.items():
        rss = median(growth.rss for growth in growths)
        figures[name] = MemoryFigure(
            rss=rss,
            ratio=rss / baseline if baseline else None,
            pss=median(growth.pss for growth in growths),
            uss=median(growth.uss for growth in growths),
            growths=growths,
        )
    return figures


def _baseline(measured: Mapping[str, list[Any]], value: Callable[[Any], float]) -> float | None:
    rounds = measured.get(BASELINE)
    return median(map(value, rounds)) if rounds else None
