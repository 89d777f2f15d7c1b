"""Pictures: bars for each side, a panel for each case beside the others."""
# matplotlib comes with the dependency group "bench", which `make check` does not need.
# mypy: disable-error-code="import-not-found"

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.about import About
from benchmarks.figures import MemoryFigure, RateFigure
from benchmarks.side import BASELINE, SIDES, TITLES

__all__ = ["Bar", "draw_bars", "draw_echo", "draw_memory", "draw_ratios"]

# White behind the labels: one that stands on the line of the baseline stays legible.
LABEL_BOX = {"facecolor": "white", "edgecolor": "none", "pad": 1}

INK, MUTED, GRID = "#1f2933", "#52606d", "#d9dee4"
# Orange and blue keep apart for every kind of colour vision, and in grey as well.
OURS, BASE, OTHERS = "#d95f02", "#1f2933", "#7fa3c7"

REFERENCES = {side.name for side in SIDES if side.reference}


@dataclass(frozen=True, slots=True)
class Bar:
    value: float
    label: str


def draw_echo(
    about: About,
    cases: Mapping[str, str],
    figures: Mapping[str, Mapping[str, RateFigure]],
    path: Path,
) -> None:
    """Draw the ratios of the cases (name → title) to `websockets`; it has to be among them.

    Raises:
        ImportError: matplotlib is not installed.
    """
    panels = {
        title: {
            name: Bar(figure.ratio or 0, _ratio_label(figure, figure.per_cpu_second / 1000, "k"))
            for name, figure in figures[case].items()
        }
        for case, title in cases.items()
    }
    title = f"Messages echoed per CPU second, as a multiple of {BASELINE}"
    draw_bars(about, title, panels, path, line=1)


def draw_ratios(
    about: About,
    title: str,
    cases: Mapping[str, str],
    figures: Mapping[str, Mapping[str, RateFigure]],
    path: Path,
    *,
    scale: float = 0.001,
    unit: str = "k",
) -> None:
    """Draw ratios to hubbub; the labels have events per CPU second too, scaled, with their unit.

    Raises:
        ImportError: matplotlib is not installed.
    """
    panels = {
        panel: {
            name: Bar(figure.ratio or 0, _ratio_label(figure, figure.per_cpu_second * scale, unit))
            for name, figure in figures[case].items()
        }
        for case, panel in cases.items()
    }
    draw_bars(about, title, panels, path, line=1)


def draw_memory(about: About, title: str, figures: Mapping[str, MemoryFigure], path: Path) -> None:
    """Draw KiB of resident memory.

    Raises:
        ImportError: matplotlib is not installed.
    """
    bars = {
        name: Bar(figure.rss / 1024, f"{figure.rss / 1024:.1f} KiB")
        for name, figure in figures.items()
    }
    draw_bars(about, title, {"": bars}, path)


def draw_bars(
    about: About,
    title: str,
    panels: Mapping[str, Mapping[str, Bar]],
    path: Path,
    line: float | None = None,
) -> None:
    """Draw panels (title → side → bar) of the same sides beside each other as a PNG.

    line: a value to draw a line at.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    first = next(iter(panels.values()))
    shown = {name: TITLES[name] for name in first if name not in REFERENCES}
    names = sorted(shown, key=lambda name: first[name].value)
    height = 1.6 + 0.42 * len(names)
    figure, (row,) = pyplot.subplots(
        1,
        len(panels),
        figsize=(10, height),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axes, (panel, bars) in zip(row, panels.items(), strict=True):
        _draw_panel(axes, names, bars, panel, line)
    highest = max(bars[name].value for bars in panels.values() for name in names)
    row[0].set_xlim(0, highest * (1.14 + 0.12 * len(panels)))  # room for the labels
    row[0].set_yticks(range(len(names)), [shown[name] for name in names])
    figure.suptitle(title, color=INK, fontsize=13, fontweight="bold")
    figure.supxlabel(f"{about.machine}, {about.date[:10]}", color=MUTED, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, facecolor="white")
    pyplot.close(figure)


def _draw_panel(
    axes: Any, names: list[str], bars: Mapping[str, Bar], title: str, line: float | None
) -> None:
    drawn = axes.barh(
        range(len(names)),
        [bars[name].value for name in names],
        height=0.68,
        color=[_colour(name) for name in names],
    )
    labels = [bars[name].label for name in names]
    axes.bar_label(drawn, labels, padding=3, color=INK, fontsize=9, bbox=LABEL_BOX)
    if line is not None:
        axes.axvline(line, color=BASE, linewidth=0.9, linestyle=(0, (4, 3)), zorder=0)
    axes.set_title(title, color=INK, fontsize=11)
    axes.grid(axis="x", color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, length=0, labelcolor=INK)
    axes.spines[:].set_visible(False)


def _ratio_label(figure: RateFigure, rate: float, unit: str) -> str:
    bound = "≥ " if figure.is_lower_bound else ""
    return f"{bound}{figure.ratio or 0:.2f}x  ({rate:,.0f} {unit})"


def _colour(name: str) -> str:
    if name.startswith("hubbub"):
        return OURS
    return BASE if name == BASELINE else OTHERS
