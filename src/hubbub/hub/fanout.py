"""When what happened in a channel is written: at once if it was quiet, else every 2 ms (ADR 0012).

Whatever is published in between becomes one frame and one write per subscriber: above some
hundred publications a second in a channel the cost of a delivery falls with the rate.
"""

import asyncio

from hubbub.hub.group import Group

__all__ = ["FLUSH_INTERVAL", "Fanout"]

FLUSH_INTERVAL = 0.002
"""Seconds between two flushes of a channel in which there is always something to send."""


class Fanout:
    """Flushes groups that have something pending."""

    __slots__ = ("_busy", "_later", "_quiet", "_soon")

    def __init__(self) -> None:
        # Groups to flush in the loop's next turn, and those that were flushed a moment ago.
        self._quiet: list[Group] = []
        self._soon: asyncio.Handle | None = None
        self._busy: list[Group] = []
        self._later: asyncio.TimerHandle | None = None

    def mark(self, group: Group) -> None:
        """Have a group flushed soon."""
        loop = asyncio.get_running_loop()
        if loop.time() - group.flushed_at >= FLUSH_INTERVAL:
            self._quiet.append(group)
            if self._soon is None:
                self._soon = loop.call_soon(self._flush_quiet)
        else:
            self._busy.append(group)
            if self._later is None:
                self._later = loop.call_later(FLUSH_INTERVAL, self._flush_busy)

    def flush(self) -> None:
        """Write everything that is pending, now."""
        if self._soon is not None:
            self._soon.cancel()
            self._flush_quiet()
        if self._later is not None:
            self._later.cancel()
            self._flush_busy()

    def _flush_quiet(self) -> None:
        self._soon = None
        groups, self._quiet = self._quiet, []
        _flush(groups)

    def _flush_busy(self) -> None:
        self._later = None
        groups, self._busy = self._busy, []
        _flush(groups)


def _flush(groups: list[Group]) -> None:
    for group in groups:
        group.flush()
    now = asyncio.get_running_loop().time()
    for group in groups:
        group.flushed_at = now
