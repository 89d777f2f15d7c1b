"""The picture: bars of the ratio to `websockets`, a panel for each size of message."""
# matplotlib comes with the dependency group "bench", which `make check` does not need.
# mypy: disable-error-code="import-not-found"

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.about import About
from benchmarks.figures import RateFigure
from benchmarks.side import BASELINE, SIDES

__all__ = ["draw_echo"]

# White behind the labels: one that stands on the line of the baseline stays legible.
LABEL_BOX = {"facecolor": "white", "edgecolor": "none", "pad": 1}

INK, MUTED, GRID = "#1f2933", "#52606d", "#d9dee4"
# Orange and blue keep apart for every kind of colour vision, and in grey as well.
OURS, BASE, OTHERS = "#d95f02", "#1f2933", "#7fa3c7"


def draw_echo(
    about: About,
    cases: Mapping[str, str],
    figures: Mapping[str, Mapping[str, RateFigure]],
    path: Path,
) -> None:
    """Draw the ratios of the cases (name → title) as a PNG.

    The baseline has to be among the figures.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    first = figures[next(iter(cases))]
    sides = [side for side in SIDES if side.name in first and not side.reference]
    sides.sort(key=lambda side: first[side.name].ratio or 0)
    names = [side.name for side in sides]
    height = 1.6 + 0.42 * len(names)
    figure, panels = pyplot.subplots(
        1,
        len(cases),
        figsize=(10, height),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axes, (case, title) in zip(panels[0], cases.items(), strict=True):
        _draw_panel(axes, names, figures[case], title)
    highest = max(figures[case][name].ratio or 0 for case in cases for name in names)
    panels[0][0].set_xlim(0, highest * 1.38)  # room for the labels
    panels[0][0].set_yticks(range(len(names)), [side.title for side in sides])
    figure.suptitle(
        f"Messages echoed per CPU second, as a multiple of {BASELINE}",
        color=INK, fontsize=13, fontweight="bold",
    )  # fmt: skip
    figure.supxlabel(f"{about.machine}, {about.date[:10]}", color=MUTED, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, facecolor="white")
    pyplot.close(figure)


def _draw_panel(axes: Any, names: list[str], figures: Mapping[str, RateFigure], title: str) -> None:
    ratios = [figures[name].ratio or 0.0 for name in names]
    bars = axes.barh(
        range(len(names)), ratios, height=0.68, color=[_colour(name) for name in names]
    )
    labels = [_label(figures[name]) for name in names]
    axes.bar_label(bars, labels, padding=3, color=INK, fontsize=9, bbox=LABEL_BOX)
    axes.axvline(1, color=BASE, linewidth=0.9, linestyle=(0, (4, 3)), zorder=0)
    axes.set_title(title, color=INK, fontsize=11)
    axes.grid(axis="x", color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, length=0, labelcolor=INK)
    axes.spines[:].set_visible(False)


def _label(figure: RateFigure) -> str:
    bound = "≥ " if figure.is_lower_bound else ""
    return f"{bound}{figure.ratio or 0:.2f}x  ({figure.per_cpu_second / 1000:,.0f} k)"


def _colour(name: str) -> str:
    if name.startswith("hubbub"):
        return OURS
    return BASE if name == BASELINE else OTHERS
