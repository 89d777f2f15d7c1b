"""Reports on hubs: fan-out, many channels, idle subscribers, publishing with acknowledgement."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from benchmarks.about import About
from benchmarks.channels import HALF, MAX_RATE
from benchmarks.fanout import SIZE
from benchmarks.figures import LatencyFigure, MemoryFigure, RateFigure
from benchmarks.report import Report
from benchmarks.side import TITLES
from benchmarks.tables import (
    absent,
    lay_out,
    plural,
    rate_and_ratio,
    rate_table,
    rate_text,
    ratio_text,
    remarks,
    share_text,
)
from benchmarks.window import ENOUGH

__all__ = ["MEGABYTES", "ack_report", "channels_report", "fanout_report", "idle_report"]

MEGABYTES = SIZE / 1e6
"""Of payload in a delivery."""

RATIO = "to hubbub"

# Half load is between these shares of a core, or it was not found.
HALF_USE = (0.4, 0.6)


def fanout_report(
    about: About,
    cases: Mapping[str, float],
    figures: Mapping[str, Mapping[str, RateFigure]],
    *,
    rounds: int,
    subscribers: int,
) -> Report:
    """Report on one channel of many subscribers. cases: name → publications per second."""
    titles = [f"{rate:,.0f}/s" for rate in cases.values()]
    header = ["server", *(cell for title in titles for cell in (title, RATIO))]
    middle = list(cases)[len(cases) // 2]
    rows = []
    for name in _ordered(figures[middle]):
        row = [TITLES[name]]
        for case, rate in cases.items():
            figure = figures[case][name]
            late = _late_mark(figure, rate * subscribers)
            row += [rate_text(figure, MEGABYTES, 1) + late, ratio_text(figure.ratio)]
        rows.append(row)
    caption = (
        f"MB of payload delivered per second of the server's CPU: publications of {SIZE} bytes to"
        f" {subscribers:,} subscribers of one channel, at three rates, median of"
        f" {plural(rounds, 'round')}."
    )
    sections = [
        f"## {title} publications\n\n{_deliveries_table(figures[case])}"
        for case, title in zip(cases, titles, strict=True)
    ]
    return Report(
        "fanout",
        "Fan-out",
        _summary(about, caption, header, rows),
        "\n\n".join([*sections, *_late_remark(rows), *remarks(figures)]),
        about,
        figures,
    )


def channels_report(
    about: About,
    cases: Mapping[str, float],
    figures: Mapping[str, Mapping[str, LatencyFigure]],
    *,
    rounds: int,
    channels: int,
) -> Report:
    """Report on many channels of one subscriber. cases: name → publications per second."""
    rates = {
        case: {name: figure.rates for name, figure in some.items()}
        for case, some in figures.items()
    }
    titles = [f"{rate:,.0f}/s" for rate in cases.values()]
    header = [
        "server",
        *(cell for title in titles for cell in (title, RATIO)),
        "half load",
        "p50 ms",
        "p99 ms",
    ]
    rows = []
    for name in _ordered(rates[HALF]):
        row = [TITLES[name]]
        for case, rate in cases.items():
            figure = rates[case][name]
            row += [rate_text(figure) + _late_mark(figure, rate), ratio_text(figure.ratio)]
        half = figures[HALF][name]
        row += [f"{half.rates.per_second:,.0f}/s{_half_mark(half.rates)}", *_latency_cells(half)]
        rows.append(row)
    caption = (
        f"Deliveries per second of the server's CPU: publications of {SIZE} bytes to"
        f" {channels:,} channels of one subscriber each, in turn; and from publishing to delivery"
        f" at half load, which is the rate at which the server uses half of its core."
        f" Median of {plural(rounds, 'round')}."
    )
    sections = [
        f"## {title} publications\n\n{_latencies_table(figures[case])}"
        for case, title in zip([*cases, HALF], [*titles, "Half load:"], strict=True)
    ]
    notes = [*_late_remark(rows), *remarks(rates)]
    if any(_half_mark(figure) for figure in rates[HALF].values()):
        notes.insert(
            0,
            f"‡: not half a core: the load goes up to {MAX_RATE:,.0f} publications per second, and"
            " the search for the rate ends after a few steps.",
        )
    return Report(
        "channels",
        "Many channels",
        _summary(about, caption, header, rows),
        "\n\n".join([*sections, *notes]),
        about,
        figures,
    )


def idle_report(
    about: About, figures: Mapping[str, Mapping[str, MemoryFigure]], *, subscribers: int
) -> Report:
    (case,) = figures
    rows = [
        [
            TITLES[name],
            *(f"{size / 1024:.1f}" for size in (figure.rss, figure.pss, figure.uss)),
            ratio_text(figure.ratio),
        ]
        for name, figure in sorted(figures[case].items(), key=lambda item: item[1].rss)
    ]
    caption = f"KiB of the server's memory per idle subscriber, {subscribers:,} of one channel."
    header = ["server", "RSS", "PSS", "USS", f"RSS {RATIO}"]
    details = (
        "RSS is what is resident, PSS shares out what several processes use, "
        "USS is what would be free without the process.\n"
        "hubbub holds a session with identity and subscription for each; the others a socket in"
        " a set."
    )
    return Report(
        "idle",
        "Memory of an idle subscriber",
        _summary(about, caption, header, rows),
        details,
        about,
        figures,
    )


def ack_report(
    about: About,
    figures: Mapping[str, Mapping[str, RateFigure]],
    *,
    rounds: int,
    connections: int,
) -> Report:
    (case,) = figures
    rows = [
        [TITLES[name], *rate_and_ratio(figures[case][name])] for name in _ordered(figures[case])
    ]
    caption = (
        f"Publications acknowledged and delivered to their publisher per second of the server's"
        f" CPU: {connections} connections, each on a channel of its own, publish {SIZE} bytes again"
        f" when both are there; median of {plural(rounds, 'round')}."
    )
    table = rate_table(figures[case], _ordered(figures[case]), "publications", "hubbub")
    details = "\n\n".join(["## In full", table, *remarks(figures)])
    header = ["server", "publications", RATIO]
    return Report(
        "ack",
        "Publish, acknowledge, deliver",
        _summary(about, caption, header, rows),
        details,
        about,
        figures,
    )


def _summary(
    about: About, caption: str, header: Sequence[str], rows: Sequence[Sequence[str]]
) -> str:
    return "\n\n".join([caption, lay_out(header, [*rows, *absent(about, len(header))])])


def _deliveries_table(figures: Mapping[str, RateFigure]) -> str:
    header = [
        "server",
        "deliveries per CPU s",
        "lowest to highest",
        RATIO,
        "deliveries per s",
        "delivered",
        "server's core",
        "load's core",
    ]
    rows = [
        [
            TITLES[name],
            rate_text(figure),
            f"{figure.lowest:,.0f} to {figure.highest:,.0f}",
            ratio_text(figure.ratio),
            f"{figure.per_second:,.0f}",
            share_text(figure.share),
            f"{figure.server_use:.0%}",
            f"{figure.load_use:.0%}",
        ]
        for name in _ordered(figures)
        for figure in [figures[name]]
    ]
    return lay_out(header, rows)


def _latencies_table(figures: Mapping[str, LatencyFigure]) -> str:
    rates = {name: figure.rates for name, figure in figures.items()}
    header = [
        "server",
        "deliveries per CPU s",
        "lowest to highest",
        "publications per s",
        "delivered",
        "p50 ms",
        "p99 ms",
        "server's core",
        "load's core",
    ]
    rows = [
        [
            TITLES[name],
            rate_text(figure),
            f"{figure.lowest:,.0f} to {figure.highest:,.0f}",
            f"{figure.per_second:,.0f}",
            share_text(figure.share),
            *_latency_cells(figures[name]),
            f"{figure.server_use:.0%}",
            f"{figure.load_use:.0%}",
        ]
        for name in _ordered(rates)
        for figure in [rates[name]]
    ]
    return lay_out(header, rows)


def _latency_cells(figure: LatencyFigure) -> tuple[str, str]:
    return f"{figure.p50 * 1000:.2f}", f"{figure.p99 * 1000:.2f}"


def _half_mark(figure: RateFigure) -> str:
    least, most = HALF_USE
    return "" if least <= figure.server_use <= most else " ‡"


def _late_mark(figure: RateFigure, offered: float) -> str:
    """Mark a figure if less was offered per second than should have been."""
    rates = [window.offered / window.seconds for window in figure.windows]
    return " §" if median(rates) < ENOUGH * offered else ""


def _late_remark(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    if any("§" in cell for row in rows for cell in row):
        yield (
            "§: the load published less often than it should have: it got too little of its core."
        )


def _ordered(figures: Mapping[str, RateFigure]) -> list[str]:
    """Sort by rate, the fastest first; hubbub as any other."""
    return sorted(figures, key=lambda name: -figures[name].per_cpu_second)
