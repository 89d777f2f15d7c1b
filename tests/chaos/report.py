"""The report of `make chaos`: what was done, and the figures of what came of it."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.about import machine, revision
from benchmarks.tables import lay_out
from hubbub import __version__
from hubbub.cli.verification import Fault
from hubbub.cli.verify_report import serialize
from tests.chaos.scenario import MEMORY_TOLERANCE, SETTLE_BOUND, Outcome, Scale

__all__ = ["Entry", "describe", "write"]

# What is neither a loss nor a repetition nor a matter of order, in one column.
_OTHERS = (
    Fault.VANISHED,
    Fault.DIVERGED,
    Fault.SILENT_EPOCH,
    Fault.FALSE_RECOVERY,
    Fault.STRAY,
    Fault.ABSENT,
    Fault.PRESENCE,
    Fault.ACTION,
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One run of one scenario.

    Attributes:
        outcome: Or why it could not be run.
    """

    title: str
    nodes: int
    outcome: Outcome | Exception


def describe(entries: Sequence[Entry]) -> tuple[str, str]:
    """Return the table of what was lost, and the table of times and memory, as Markdown."""
    header = [
        *("what happens", "nodes", "published", "acknowledged", "delivered"),
        *("lost", "twice", "disorder", "deaf", "other faults", "told so", "verdict"),
    ]
    times = [
        *("what happens", "nodes", "red after", "green after", "live after", "presence after"),
        *("p99 to SDKs", "memory before", "most", "in the end"),
    ]
    rows = [[entry.title, f"{entry.nodes}", *_counts(entry.outcome)] for entry in entries]
    durations = [[entry.title, f"{entry.nodes}", *_times(entry.outcome)] for entry in entries]
    return lay_out(header, rows), lay_out(times, durations)


def write(entries: Sequence[Entry], scale: Scale, arguments: Sequence[str], folder: Path) -> Path:
    """Write chaos.md and chaos.json into a folder, and return the path of the first."""
    counts, times = describe(entries)
    about = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": f"make chaos ARGS={shlex.quote(shlex.join(arguments))}"
        if arguments
        else "make chaos",
        "machine": machine(),
        "source": revision(),
        "versions": f"hubbub {__version__}",
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "chaos.md"
    path.write_text(_page(entries, scale, counts, times, about))
    content = {
        "about": about,
        "scale": asdict(scale),
        "runs": [_serialized(entry) for entry in entries],
    }
    (folder / "chaos.json").write_text(json.dumps(content, indent=1) + "\n")
    return path


def _page(
    entries: Sequence[Entry], scale: Scale, counts: str, times: str, about: Mapping[str, str]
) -> str:
    seconds = scale.calm + scale.trouble + scale.after
    caption = (
        f"{scale.clients} clients of `hubbub verify` in {scale.channels} channels, two each, with"
        f" {scale.rate:g} publications per second for {seconds:g} seconds, of which the trouble"
        f" takes {scale.trouble:g}; and {_sdks(entries)} clients of the SDKs for Python and"
        " JavaScript, JSON and Protobuf."
    )
    problems = [
        f"- {entry.title}, {entry.nodes} nodes: {problem}"
        for entry in entries
        for problem in _problems(entry.outcome)
    ]
    parts = [
        "# Chaos",
        f"<!-- --8<-- [start:table] -->\n{caption}\n\n{counts}\n<!-- --8<-- [end:table] -->",
        "Told so: subscriptions that were told `recovered: false`, of both kinds of clients."
        " Published, acknowledged and delivered count both kinds, too."
        f" {_left_out(entries):.0%} of what was due was left out, since its publisher still waited"
        " for an answer: the less quiet the machine is, and the longer nobody answers, the more.",
        "## How long, and how much",
        times,
        "Red and green: when `/readyz` said so, after the trouble began and after it ended."
        " Live: all clients were back in all of their channels and got something, after it ended;"
        f" at most {SETTLE_BOUND:g} s."
        " Presence: it was right, after the load had ended and everybody was back;"
        f" at most {scale.presence_ttl:g} s more, `presence_ttl`."
        " p99: of all deliveries to SDKs, those that waited for the repair included."
        " Memory: resident, of the largest node, in MiB;"
        f" in the end at most {MEMORY_TOLERANCE >> 20} above what it was before.",
        *(["## What should not be", "\n".join(problems)] if problems else []),
        "## Where and how",
        "\n".join(f"- {name.capitalize()}: {text}" for name, text in about.items()),
        "[Chaos](../topics/chaos.md) says what is done, and what has to come of it.",
    ]
    return "\n\n".join(parts) + "\n"


def _left_out(entries: Sequence[Entry]) -> float:
    """Return the share of publications that were never sent."""
    reports = [each.outcome.report for each in entries if isinstance(each.outcome, Outcome)]
    left_out = sum(report.left_out for report in reports)
    return left_out / max(1, left_out + sum(report.sent for report in reports))


def _sdks(entries: Sequence[Entry]) -> int:
    return max(
        (each.outcome.sdks for each in entries if isinstance(each.outcome, Outcome)), default=0
    )


def _problems(outcome: Outcome | Exception) -> Sequence[str]:
    if isinstance(outcome, Exception):
        return [f"could not be run: {outcome}"]
    return outcome.problems


def _counts(outcome: Outcome | Exception) -> list[str]:
    if isinstance(outcome, Exception):
        return [*["-"] * 9, "not run"]
    report, faults = outcome.report, outcome.report.faults
    return [
        f"{report.sent + outcome.sdk_published:,}",
        f"{report.acknowledged + outcome.sdk_acknowledged:,}",
        f"{report.deliveries + outcome.sdk_deliveries:,}",
        *(
            f"{faults.get(fault, 0):,}"
            for fault in (Fault.LOST, Fault.DUPLICATED, Fault.REORDERED, Fault.DEAF)
        ),
        f"{sum(faults.get(fault, 0) for fault in _OTHERS):,}",
        f"{report.told_so + outcome.sdk_told_so:,}",
        "bad" if outcome.problems else "good",
    ]


def _times(outcome: Outcome | Exception) -> list[str]:
    if isinstance(outcome, Exception):
        return ["-"] * 8
    presence = outcome.report.presence
    return [
        _seconds(outcome.red),
        _seconds(outcome.green),
        _seconds(outcome.live),
        _seconds(None if presence is None else max(presence, outcome.sdk_presence)),
        _seconds(outcome.delay),
        *(f"{size / (1 << 20):.1f}" for size in outcome.memory),
    ]


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _serialized(entry: Entry) -> dict[str, Any]:
    outcome = entry.outcome
    about: dict[str, Any] = {"title": entry.title, "nodes": entry.nodes}
    if isinstance(outcome, Exception):
        return {**about, "verdict": "not run", "problems": _problems(outcome)}
    return {
        **about,
        "name": outcome.name,
        "verdict": "bad" if outcome.problems else "good",
        "problems": list(outcome.problems),
        "verify": serialize(outcome.report),
        "sdks": {
            "clients": outcome.sdks,
            "published": outcome.sdk_published,
            "acknowledged": outcome.sdk_acknowledged,
            "deliveries": outcome.sdk_deliveries,
            "recovered": outcome.sdk_recoveries,
            "told_so": outcome.sdk_told_so,
            "presence_seconds": round(outcome.sdk_presence, 3),
            "p99_seconds": round(outcome.delay, 3),
        },
        "live_seconds": round(outcome.live, 3),
        "red_seconds": outcome.red and round(outcome.red, 3),
        "green_seconds": outcome.green and round(outcome.green, 3),
        "memory_bytes": dict(zip(("before", "most", "after"), outcome.memory, strict=True)),
        "facts": outcome.facts,
    }
