"""What `hubbub tap` shows of the channels that it follows."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from hubbub.cli.escape import escape
from hubbub.cli.events import Event, Kind, describe, serialize
from hubbub.cli.screen import Screen
from hubbub.cli.traffic import Traffic, plural, table
from hubbub.protocol.results import SubscribeResult

__all__ = ["View"]

_STATUS_INTERVAL: Final = 1.0

# Columns that names of channels are filled up to at most, so that what follows stands in line.
_MAX_ALIGNED: Final = 32


class View:
    """Events as lines, notices, and rates below them (`hubbub.cli.following.Watcher`).

    Args:
        channels: All that there can be events of.
        stop: Set when there is nothing more to show.
        as_json: Lines for programs, not for people.
        count: Publications to show at most. `None`: no limit.

    Attributes:
        can_show_rates: Whether there is a terminal for them.
    """

    def __init__(
        self, channels: Sequence[str], stop: asyncio.Event, *, as_json: bool, count: int | None
    ) -> None:
        self._stop = stop
        self._as_json = as_json
        self._left = count
        self._has_reader = True
        self._screen = Screen(self._lose_reader)
        self._traffic = {name: Traffic() for name in channels}
        self._width = min(_MAX_ALIGNED, max(len(escape(name)) for name in channels))
        self._begin = time.monotonic()
        self.can_show_rates = self._screen.has_status

    @property
    def is_complete(self) -> bool:
        """Whether as many publications have been shown as are wanted."""
        return self._left == 0

    def happened(self, events: Sequence[Event]) -> None:
        """Show events, up to the last publication that is wanted."""
        shown = []
        for event in events:
            if self.is_complete or not self._has_reader:
                break
            shown.append(event)
            if event.kind is Kind.PUBLICATION:
                self._traffic[event.channel].count(event.size)
                if self._left is not None:
                    self._left -= 1
        if self._as_json:
            self._screen.write([serialize(event) for event in shown])
        else:
            self._screen.write_parts([describe(event, self._width) for event in shown])
        if self.is_complete:
            self._stop.set()

    def notice(self, text: str) -> None:
        """Show what became of the connection or of a channel."""
        self._screen.notice(text)

    def subscribed(self, channel: str, result: SubscribeResult) -> None:
        """Say nothing of a single channel: there is a notice when all of them stand."""

    def refused(self, channel: str, why: str) -> None:
        """Show that a channel is followed no longer."""
        self.notice(f"{channel}: {why}")

    async def show_rates(self, members: Callable[[], Mapping[str, int]]) -> None:
        """Show rates until cancelled.

        Args:
            members: Called for how many are in each channel, where that is known.
        """
        looked = time.monotonic()
        try:
            while True:
                lines = table(self._traffic, members(), self._screen.max_status)
                self._screen.show_status(lines)
                await asyncio.sleep(_STATUS_INTERVAL)
                now = time.monotonic()
                for traffic in self._traffic.values():
                    traffic.look(now - looked)
                looked = now
        finally:
            self._screen.show_status([])

    def sum_up(self) -> None:
        """Show how much came in what time, if somebody still reads."""
        if self._has_reader:
            elapsed = time.monotonic() - self._begin
            publications = sum(traffic.publications for traffic in self._traffic.values())
            rate = publications / max(elapsed, 0.001)
            self.notice(f"{plural(publications, 'publication')} in {elapsed:.1f} s, {rate:,.1f}/s")

    def _lose_reader(self) -> None:
        self._has_reader = False
        self._stop.set()
