"""How much goes through channels: totals, and what came since one looked last."""

from collections.abc import Mapping
from dataclasses import dataclass

from rich.filesize import decimal

from hubbub.cli.escape import escape

__all__ = ["Traffic", "plural", "table"]


@dataclass(slots=True)
class Traffic:
    """What came through one channel, or through several together.

    Attributes:
        publications: How many came.
        size: Bytes of their payloads.
        rate: Publications per second between the last two looks.
        flow: Bytes per second between them.
    """

    publications: int = 0
    size: int = 0
    rate: float = 0.0
    flow: float = 0.0
    _seen_publications: int = 0
    _seen_size: int = 0

    def count(self, size: int) -> None:
        """Count a publication of so many bytes."""
        self.publications += 1
        self.size += size

    def look(self, elapsed: float) -> None:
        """Work the rates out anew.

        Args:
            elapsed: Seconds since the last look, above 0.
        """
        self.rate = (self.publications - self._seen_publications) / elapsed
        self.flow = (self.size - self._seen_size) / elapsed
        self._seen_publications, self._seen_size = self.publications, self.size


def table(channels: Mapping[str, Traffic], members: Mapping[str, int], max_lines: int) -> list[str]:
    """Write the traffic of channels, one a line; of too many, the last line has the rest together.

    Args:
        members: Of the channels where that is known.
        max_lines: At least 1.
    """
    names = list(channels)
    if len(names) > max_lines:
        names = names[: max_lines - 1]
    rows = [(escape(name), channels[name], members.get(name)) for name in names]
    rest = [traffic for name, traffic in channels.items() if name not in names]
    if rest:
        together = Traffic(
            publications=sum(traffic.publications for traffic in rest),
            rate=sum(traffic.rate for traffic in rest),
            flow=sum(traffic.flow for traffic in rest),
        )
        rows.append(
            (f"{len(rest)} more channels" if names else f"{len(rest)} channels", together, None)
        )
    cells = [
        (
            name,
            f"{traffic.rate:,.0f}/s",
            f"{decimal(round(traffic.flow))}/s",
            plural(traffic.publications, "publication"),
            "" if count is None else plural(count, "member"),
        )
        for name, traffic, count in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            f"{cell:<{width}}" if at == 0 else f"{cell:>{width}}"
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]


def plural(count: int, noun: str, several: str = "") -> str:
    """Write a number with what it counts: `1 member`, `2,000 members`.

    Args:
        several: The plural, where it is not the noun with an s.
    """
    return f"{count:,} {noun if count == 1 else several or f'{noun}s'}"
