"""Reports: what was measured as Markdown, for docs, README and terminal, and as JSON."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.about import About
from benchmarks.connects import SLOTS
from benchmarks.figures import LatencyFigure, LossFigure, MemoryFigure, RateFigure, StormFigure
from benchmarks.side import BASELINE, SIDES, TITLES
from benchmarks.tables import (
    absent,
    lay_out,
    plural,
    rate_and_ratio,
    rate_table,
    ratio_text,
    remarks,
)

__all__ = ["Report", "connects_report", "echo_report", "memory_report", "sources", "write_report"]

Figure = RateFigure | MemoryFigure | LatencyFigure | LossFigure | StormFigure

REFERENCES = {side.name for side in SIDES if side.reference}


@dataclass(frozen=True, slots=True)
class Report:
    """summary: the table for README and docs, with its caption. details: sections below it."""

    name: str
    title: str
    summary: str
    details: str
    about: About
    figures: Mapping[str, Mapping[str, Figure]]

    def for_terminal(self) -> str:
        return f"# {self.title}\n\n{self.summary}\n\n{self.details}\n"

    def as_markdown(self, picture: str | None) -> str:
        parts = [
            f"# {self.title}",
            f"<!-- --8<-- [start:table] -->\n{self.summary}\n<!-- --8<-- [end:table] -->",
            *([picture] if picture else []),
            self.details,
            "## Where and how",
            sources(self.about),
            "[Benchmarks](../topics/benchmarks.md) says how this is measured and how to read it.",
        ]
        return "\n\n".join(parts) + "\n"

    def as_json(self) -> str:
        content = {
            "about": asdict(self.about),
            "figures": {
                case: {name: asdict(figure) for name, figure in figures.items()}
                for case, figures in self.figures.items()
            },
        }
        return json.dumps(_rounded(content), indent=1) + "\n"


def echo_report(
    about: About,
    cases: Mapping[str, str],
    figures: Mapping[str, Mapping[str, RateFigure]],
    *,
    rounds: int,
    connections: int,
) -> Report:
    """Report on closed-loop echo. cases: name → title, the most telling first."""
    first, second = list(cases)[:2]
    rows = [
        [
            TITLES[name],
            *rate_and_ratio(figures[first][name]),
            *rate_and_ratio(figures[second][name]),
        ]
        for name in _ordered(figures[first], figures[first])
    ]
    header = ["server", cases[first], f"to {BASELINE}", cases[second], f"to {BASELINE}"]
    caption = (
        f"Messages echoed per second of the server's CPU, {connections} connections, "
        f"median of {plural(rounds, 'round')}."
    )
    sections = [
        f"## {title}\n\n{_rate_table(figures[case], 'messages')}" for case, title in cases.items()
    ]
    summary = "\n\n".join([caption, lay_out(header, [*rows, *absent(about, len(header))])])
    details = "\n\n".join([*sections, *remarks(figures)])
    return Report("echo", "Closed-loop echo", summary, details, about, figures)


def connects_report(
    about: About, figures: Mapping[str, Mapping[str, RateFigure]], *, rounds: int
) -> Report:
    (case,) = figures
    caption = (
        f"Connections opened, upgraded and closed per second of the server's CPU, "
        f"{SLOTS} at a time, median of {plural(rounds, 'round')}."
    )
    rows = [
        [TITLES[name], *rate_and_ratio(figures[case][name])]
        for name in _ordered(figures[case], figures[case])
    ]
    header = ["server", "connections", f"to {BASELINE}"]
    summary = "\n\n".join([caption, lay_out(header, [*rows, *absent(about, len(header))])])
    table = _rate_table(figures[case], "connections")
    details = "\n\n".join(["## In full", table, *remarks(figures)])
    return Report("connects", "Connections accepted", summary, details, about, figures)


def memory_report(
    about: About, figures: Mapping[str, Mapping[str, MemoryFigure]], *, connections: int
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
    header = ["server", "RSS", "PSS", "USS", f"RSS to {BASELINE}"]
    caption = f"KiB of the server's memory per idle connection, {connections:,} connections."
    summary = "\n\n".join([caption, lay_out(header, [*rows, *absent(about, len(header))])])
    details = (
        "RSS is what is resident, PSS shares out what several processes use, "
        "USS is what would be free without the process.\n"
        "Buffers of the kernel for the sockets come on top, alike for all."
    )
    return Report("memory", "Memory of an idle connection", summary, details, about, figures)


def write_report(report: Report, folder: Path, picture: str | None = None) -> list[Path]:
    """Write NAME.md and NAME.json into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{report.name}.md", folder / f"{report.name}.json"]
    paths[0].write_text(report.as_markdown(picture))
    paths[1].write_text(report.as_json())
    return paths


def sources(about: About) -> str:
    """List where a report comes from, as Markdown."""
    lines = [
        f"Date: {about.date}",
        f"Command: `{about.command}`",
        f"Machine: {about.machine}; {about.pinning}",
        f"Source: {about.hubbub}",
        *(f"{title}: {version}" for title, version in about.versions.items()),
    ]
    return "\n".join(f"- {line}" for line in lines)


def _rate_table(figures: Mapping[str, RateFigure], events: str) -> str:
    names = [*_ordered(figures, figures), *(REFERENCES & set(figures))]
    return rate_table(figures, names, events, BASELINE)


def _ordered(names: Iterable[str], figures: Mapping[str, RateFigure]) -> list[str]:
    """Sort the servers by rate, the fastest first; without the references."""
    servers = [name for name in names if name not in REFERENCES]
    return sorted(servers, key=lambda name: -figures[name].per_cpu_second)


def _rounded(value: Any) -> Any:
    """Cut floats to six digits: more is noise."""
    match value:
        case float():
            return float(f"{value:.6g}")
        case dict():
            return {key: _rounded(item) for key, item in value.items()}
        case list() | tuple():
            return [_rounded(item) for item in value]
        case _:
            return value
