"""Reports on workers with a broker: what deliveries cost and what is lost, storms of recovery."""

from collections.abc import Iterable, Mapping
from statistics import median

from benchmarks import storm, workers
from benchmarks.about import About
from benchmarks.fanout import SIZE
from benchmarks.figures import LossFigure, RateFigure, StormFigure
from benchmarks.report import Report
from benchmarks.side import TITLES
from benchmarks.tables import (
    absent,
    lay_out,
    noise,
    plural,
    rate_text,
    ratio_text,
    remarks,
    share_text,
)

__all__ = ["LOSSES", "storm_report", "workers_report"]

LOSSES = {
    "burst": f"{workers.BURST} publications at once",
    "killed": "Broker's connections killed",
    "outage": "Broker away",
}
"""Name of a case → title."""

SHORT = {"burst": "burst", "killed": "kill", "outage": "outage"}


def workers_report(
    about: About,
    figures: Mapping[str, Mapping[str, RateFigure]],
    losses: Mapping[str, Mapping[str, LossFigure]],
    *,
    rounds: int,
    subscribers: int,
) -> Report:
    """Report on deliveries of workers (by `workers.case_name`) and on losses."""
    slow = next(iter(workers.RATES))
    cases = [workers.case_name(processes, slow) for processes in workers.PROCESSES]
    header = ["server"]
    for processes in workers.PROCESSES:
        header += [plural(processes, "worker"), "to hubbub"]
    header += [f"lost: {SHORT[case]}" for case in losses]
    rows = []
    for name in _ordered(figures[cases[-1]]):
        row = [TITLES[name]]
        for case in cases:
            figure = figures[case][name]
            row += [rate_text(figure), ratio_text(figure.ratio)]
        rows.append([*row, *(_lost_text(losses[case].get(name)) for case in losses)])
    caption = (
        f"Deliveries per second of CPU of all workers and Valkey: {slow} publications a second of"
        f" {SIZE} bytes to {subscribers:,} subscribers of one channel, median of"
        f" {plural(rounds, 'round')}."
        f" And the share of deliveries of acknowledged publications that never came to"
        f" {workers.WATCHERS} clients at {max(workers.PROCESSES)} workers: of a burst of"
        f" {workers.BURST} publications, while all connections to Valkey are killed once, and while"
        " Valkey is away for two seconds."
    )
    sections = []
    for processes in workers.PROCESSES:
        for rate in workers.RATES:
            table = _rates_table(figures[workers.case_name(processes, rate)])
            title = f"{plural(processes, 'worker')}, {rate} publications/s"
            sections.append(f"## {title}\n\n{table}")
    for case, some in losses.items():
        sections.append(f"## {LOSSES[case]}\n\n{_losses_table(some)}")
    sections.append(
        f"Losses are of {plural(min(rounds, workers.LOSS_ROUNDS), 'round')}.\n"
        "A client that is dropped comes back at once, and those of hubbub recover.\n"
        "Lost is what was acknowledged and never came;"
        " what was not acknowledged the publisher knows it has to repeat.\n"
        "Repeated deliveries came twice, those in disorder after a later one of the same publisher."
    )
    return Report(
        "workers",
        "Several workers",
        "\n\n".join([caption, lay_out(header, [*rows, *absent(about, len(header))])]),
        "\n\n".join([*sections, *remarks(figures)]),
        about,
        {**figures, **losses},
    )


def storm_report(
    about: About,
    figures: Mapping[str, Mapping[str, StormFigure]],
    *,
    rounds: int,
    clients: int,
) -> Report:
    """Report on clients that come back at once."""
    header = ["server", "last s", "to hubbub", "p50 s", "p99 s", "CPU s", "recovered"]
    tables = []
    for case, some in figures.items():
        rows = [
            [
                TITLES[name],
                f"{figure.last:.2f}",
                ratio_text(figure.ratio),
                f"{figure.p50:.2f}",
                f"{figure.p99:.2f}",
                f"{figure.cpu:.2f}",
                share_text(figure.recovered / figure.missed if figure.missed else None),
            ]
            for name, figure in sorted(some.items(), key=lambda item: item[1].last)
        ]
        if case == next(iter(figures)):
            rows += absent(about, len(header))
        tables.append(f"{storm.CASES[case]}:\n\n{lay_out(header, rows)}")
    caption = (
        f"Seconds until {clients:,} clients that come back at once are live again, the last, half"
        f" of them, and 99 in 100; CPU time of the server until then; and the share of what they"
        f" missed that they got: {storm.MISSED} publications of {SIZE} bytes in {storm.CHANNELS}"
        f" channels. Median of {plural(min(rounds, storm.ROUNDS), 'round')}."
    )
    sections = [f"## {storm.CASES[case]}\n\n{_storm_table(some)}" for case, some in figures.items()]
    windows = [
        each.window
        for some in figures.values()
        for figure in some.values()
        for each in figure.storms
    ]
    return Report(
        "storm",
        "Recovery storm",
        "\n\n".join([caption, *tables]),
        "\n\n".join([*sections, *noise(windows)]),
        about,
        figures,
    )


def _rates_table(figures: Mapping[str, RateFigure]) -> str:
    header = [
        "server",
        "deliveries per CPU s",
        "lowest to highest",
        "to hubbub",
        "deliveries per s",
        "delivered",
        "workers' CPU",
        "Valkey's CPU",
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
            f"{figure.server_use - figure.broker_use:.1%}",
            f"{figure.broker_use:.1%}",
            f"{figure.load_use:.0%}",
        ]
        for name in _ordered(figures)
        for figure in [figures[name]]
    ]
    return lay_out(header, rows)


def _losses_table(figures: Mapping[str, LossFigure]) -> str:
    header = [
        "server",
        "published",
        "acknowledged",
        "deliveries due",
        "lost",
        "repeated",
        "in disorder",
        "dropped clients",
        "seconds",
    ]
    rows = [
        [
            TITLES[name],
            f"{figure.offered:,}",
            f"{figure.acknowledged:,}",
            f"{figure.expected:,}",
            f"{figure.lost:,}",
            f"{figure.repeated:,}",
            f"{figure.disordered:,}",
            f"{sum(each.dropped for each in figure.rounds):,}",
            f"{median(each.seconds for each in figure.rounds):.1f}",
        ]
        for name, figure in sorted(figures.items(), key=lambda item: item[1].lost)
    ]
    return lay_out(header, rows)


def _storm_table(figures: Mapping[str, StormFigure]) -> str:
    header = [
        "server",
        "last s",
        "lowest to highest",
        "server's CPU s",
        "Valkey's CPU s",
        "load's core",
        "missed",
        "recovered",
        "refused",
    ]
    rows = []
    for name, figure in sorted(figures.items(), key=lambda item: item[1].last):
        seconds = [each.window.seconds for each in figure.storms]
        rows.append(
            [
                TITLES[name],
                f"{figure.last:.2f}",
                f"{min(seconds):.2f} to {max(seconds):.2f}",
                f"{figure.cpu - figure.broker_cpu:.2f}",
                f"{figure.broker_cpu:.2f}",
                f"{figure.load_use:.0%}",
                f"{figure.missed:,}",
                f"{figure.recovered:,}",
                f"{sum(each.refused for each in figure.storms):,}",
            ]
        )
    return lay_out(header, rows)


def _lost_text(figure: LossFigure | None) -> str:
    if figure is None:
        return "-"
    if figure.lost == 0:
        return "0"
    return f"{figure.lost / max(1, figure.expected):.1%}"


def _ordered(figures: Mapping[str, RateFigure]) -> Iterable[str]:
    """Sort by rate, the fastest first; hubbub as any other."""
    return sorted(figures, key=lambda name: -figures[name].per_cpu_second)
