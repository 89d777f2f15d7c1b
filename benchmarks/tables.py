"""Cells, tables and remarks of reports, in Markdown that is legible as text too."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from benchmarks.about import About
from benchmarks.figures import RateFigure
from benchmarks.side import TITLES
from benchmarks.window import ENOUGH, Window

__all__ = [
    "absent",
    "lay_out",
    "noise",
    "plural",
    "rate_and_ratio",
    "rate_table",
    "rate_text",
    "ratio_text",
    "remarks",
    "share_text",
]

QUIET = 0.1  # of a core, used by others: above that the figures are for orientation


def remarks(figures: Mapping[str, Mapping[str, RateFigure]]) -> Iterable[str]:
    every = [figure for case in figures.values() for figure in case.values()]
    if any(figure.is_lower_bound for figure in every):
        yield (
            "≥: the load used all of its core, so the figure is a lower bound; "
            "a server that waits for its clients works in smaller batches."
        )
    if any(figure.is_overrun for figure in every):
        yield (
            f"†: the server did less than {ENOUGH:.0%} of what was asked of it; the figure is what"
            " it does when it has more to do than it can."
        )
    yield from noise([window for figure in every for window in figure.windows])


def noise(windows: Sequence[Window]) -> Iterable[str]:
    """Say what other processes did during the windows."""
    others = [window.other_use for window in windows]
    if others:
        text = (
            f"Other processes used {median(others):.0%} of a core during the windows (median), "
            f"{max(others):.0%} at most."
        )
        warning = "**The machine was not quiet: run again before you quote a figure.**"
        yield f"{text}\n{warning}" if median(others) > QUIET else text


def absent(about: About, columns: int) -> list[list[str]]:
    """Build rows for the sides without a figure: they are named, not dropped."""
    reasons = [
        *((title, f"skipped: {reason}") for title, reason in about.skipped.items()),
        *((title, f"failed: {reason}") for title, reason in about.failed.items()),
    ]
    return [[title, reason, *[""] * (columns - 2)] for title, reason in reasons]


def rate_and_ratio(figure: RateFigure) -> tuple[str, str]:
    return rate_text(figure), ratio_text(figure.ratio)


def rate_text(figure: RateFigure, scale: float = 1.0, digits: int = 0) -> str:
    """Say a rate per CPU second, with its marks."""
    bound = "≥ " if figure.is_lower_bound else ""
    overrun = " †" if figure.is_overrun else ""
    return f"{bound}{figure.per_cpu_second * scale:,.{digits}f}{overrun}"


def ratio_text(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}x"


def share_text(share: float | None) -> str:
    return "-" if share is None else f"{min(share, 1):.1%}"


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def rate_table(
    figures: Mapping[str, RateFigure], names: Iterable[str], events: str, baseline: str
) -> str:
    """Lay out all there is to say of rates, with a row for each of the names."""
    header = [
        "server",
        f"{events} per CPU s",
        "lowest to highest",
        f"to {baseline}",
        f"{events} per s",
        "server's core",
        "load's core",
    ]
    rows = [
        [
            TITLES[name],
            rate_text(figures[name]),
            f"{figures[name].lowest:,.0f} to {figures[name].highest:,.0f}",
            ratio_text(figures[name].ratio),
            f"{figures[name].per_second:,.0f}",
            f"{figures[name].server_use:.0%}",
            f"{figures[name].load_use:.0%}",
        ]
        for name in names
    ]
    return lay_out(header, rows)


def lay_out(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a Markdown table that is legible as text too: names left, figures right."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (header, *rows)]
    # A reason spans the columns to its right in spirit: it does not widen its own.
    spans = [any(row[2:]) or len(row) == 2 for row in cells]
    widths = [
        max(
            3,
            *(
                len(row[column])
                for row, full in zip(cells, spans, strict=True)
                if full or column == 0
            ),
        )
        for column in range(len(header))
    ]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [cells[0], rule, *cells[1:]]
    return "\n".join(
        "| "
        + " | ".join(
            cell.rjust(width) if column and cell else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        + " |"
        for line in lines
    )
