"""What a run of `hubbub verify` found: for programs as values and JSON, for people as text."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from hubbub.cli.escape import escape
from hubbub.cli.traffic import plural
from hubbub.cli.verification import Fault, Finding

__all__ = ["ActionTaken", "Report", "counts", "remarks", "serialize"]

# Findings that people are shown; JSON has all that are described.
_SHOWN = 20

# Of a core: from there on the load is slower than what it verifies.
_SATURATED = 0.95


@dataclass(frozen=True, slots=True)
class ActionTaken:
    """An action of a run.

    Attributes:
        began: Seconds after the first publication.
        duration: In seconds.
        problem: Why it failed; empty: it did not.
    """

    name: str
    began: float
    duration: float
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A run, and its verdict.

    Attributes:
        strict: Whether subscriptions that were told they missed something are faults.
        duration: From the first publication to the verdict, in seconds.
        publishing: From the first to the last publication, in seconds.
        sent: Publications that were sent, each once.
        acknowledged: Of these, acknowledged.
        unanswered: Of these, without a reply: they may have been published.
        refusals: Of these, refused, by code and message.
        left_out: Publications that were due while their publisher could not publish.
        deliveries: Publications that subscribers got.
        reconnects: Connections that were replaced.
        kills: Connections that the run itself cut.
        recoveries: Subscriptions that were told `recovered: true`.
        told_so: Subscriptions that were told they missed something.
        excused: Acknowledged publications that nobody got, and everybody was told so.
        uncompared: Deliveries of which it was forgotten what others got.
        settling: Seconds until all clients were back, after the last publication.
        hearing: Seconds until all heard the canaries, after that.
        presence: Seconds until presence was right, after that. `None`: it was not checked, or
            never right.
        unchecked_presence: Why the presence of channels was not checked, by the reason.
        actions: What was done to the hub, in order.
        load_use: Share of one core that this process used while it published.
        faults: How many, by kind; none is 0.
        findings: The first of them, described.
        seed: Makes the choices of another run the same.
    """

    strict: bool
    duration: float
    publishing: float
    sent: int
    acknowledged: int
    unanswered: int
    refusals: Mapping[str, int]
    left_out: int
    deliveries: int
    reconnects: int
    kills: int
    recoveries: int
    told_so: int
    excused: int
    uncompared: int
    settling: float
    hearing: float
    presence: float | None
    unchecked_presence: Mapping[str, int]
    actions: Sequence[ActionTaken]
    load_use: float
    faults: Mapping[Fault, int]
    findings: Sequence[Finding]
    seed: int

    @property
    def is_good(self) -> bool:
        """The verdict: the hub kept all of its promises."""
        return not self.faults and not (self.strict and self.told_so)


def serialize(report: Report) -> dict[str, Any]:
    """Return a report for JSON."""
    return {
        "verdict": "good" if report.is_good else "bad",
        "strict": report.strict,
        "seed": report.seed,
        "duration_seconds": round(report.duration, 3),
        "publishing_seconds": round(report.publishing, 3),
        "sent": report.sent,
        "acknowledged": report.acknowledged,
        "unanswered": report.unanswered,
        "refused": dict(report.refusals),
        "left_out": report.left_out,
        "deliveries": report.deliveries,
        "reconnects": report.reconnects,
        "kills": report.kills,
        "recovered": report.recoveries,
        "told_so": report.told_so,
        "excused": report.excused,
        "uncompared": report.uncompared,
        "settling_seconds": round(report.settling, 3),
        "hearing_seconds": round(report.hearing, 3),
        "presence_seconds": None if report.presence is None else round(report.presence, 3),
        "presence_not_checked": dict(report.unchecked_presence),
        "actions": [
            {
                "name": action.name,
                "began_seconds": round(action.began, 3),
                "duration_seconds": round(action.duration, 3),
                "problem": action.problem or None,
            }
            for action in report.actions
        ],
        "load_use": round(report.load_use, 3),
        "faults": {fault.name.lower(): report.faults.get(fault, 0) for fault in Fault},
        "findings": [
            {
                "fault": finding.fault.name.lower(),
                "channel": finding.channel or None,
                "client": finding.client,
                "text": finding.text,
            }
            for finding in report.findings
        ],
    }


def counts(report: Report) -> Table:
    """Return the figures of a report as a table."""
    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("published", f"{report.sent:,}")
    table.add_row("acknowledged", f"{report.acknowledged:,}")
    table.add_row("no answer", f"{report.unanswered:,}")
    table.add_row("refused", f"{sum(report.refusals.values()):,}")
    table.add_row("deliveries", f"{report.deliveries:,}", style="bold")
    table.add_section()
    table.add_row("connections cut", f"{report.kills:,}")
    table.add_row("reconnects", f"{report.reconnects:,}")
    table.add_row("told recovered: true", f"{report.recoveries:,}")
    told = "bold red" if report.strict and report.told_so else ""
    table.add_row("told recovered: false", f"{report.told_so:,}", style=told)
    table.add_row("excused publications", f"{report.excused:,}")
    table.add_section()
    table.add_row("all back after", f"{report.settling:.1f} s")
    table.add_row("all heard after", f"{report.hearing:.1f} s")
    presence = "not checked" if report.unchecked_presence else "never"
    right = presence if report.presence is None else f"{report.presence:.1f} s"
    table.add_row("presence right after", right)
    table.add_section()
    for fault in Fault:
        count = report.faults.get(fault, 0)
        table.add_row(fault.value, f"{count:,}", style="bold red" if count else "")
    return table


def remarks(report: Report) -> list[str]:
    """Say what the figures do not, one a line; safe for a terminal."""
    lines = []
    for finding in report.findings[:_SHOWN]:
        where = f"{escape(finding.channel)}: " if finding.channel else ""
        whose = "" if finding.client is None else f"client {finding.client}: "
        lines.append(f"{finding.fault.value}: {where}{whose}{escape(finding.text)}")
    total = sum(report.faults.values())
    if total > _SHOWN:
        lines.append(f"... {plural(total, 'fault')} in all")
    for refusal, count in Counter(report.refusals).most_common(5):
        lines.append(f"publish refused {count:,} times: {escape(refusal)}")
    for reason, count in report.unchecked_presence.items():
        lines.append(f"presence not checked in {plural(count, 'channel')}: {escape(reason)}")
    if report.uncompared:
        lines.append(f"{report.uncompared:,} deliveries not compared: they came too late for that")
    if report.left_out > 0.01 * report.sent:
        lines.append(
            f"{report.left_out:,} publications left out: their publishers had no connection,"
            " or the server was slow to answer"
        )
    if report.load_use >= _SATURATED:
        lines.append("this command used a whole core: ask for less, or its clients are slow ones")
    return lines
