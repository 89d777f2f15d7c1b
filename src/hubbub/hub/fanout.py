"""When what happened in channels is written: at once if it was quiet, else every 2 ms (ADR 0012).

Whatever is published in between becomes one frame and one write per subscriber: above some
hundred publications a second the cost of a delivery falls with the rate.
"""

import asyncio

from hubbub.hub.group import Group

__all__ = ["FLUSH_INTERVAL", "Fanout"]

FLUSH_INTERVAL = 0.002
"""Seconds between two flushes while there is always something to send."""


class Fanout:
    """Flushes groups that have something pending."""

    __slots__ = ("_flushed_at", "_marked", "_scheduled")

    def __init__(self) -> None:
        self._marked: list[Group] = []
        self._scheduled: asyncio.Handle | None = None
        self._flushed_at = 0.0

    def mark(self, group: Group) -> None:
        """Have a group flushed soon."""
        self._marked.append(group)
        if self._scheduled is None:
            loop = asyncio.get_running_loop()
            wait = self._flushed_at + FLUSH_INTERVAL - loop.time()
            if wait <= 0:
                self._scheduled = loop.call_soon(self.flush)
            else:
                self._scheduled = loop.call_later(wait, self.flush)

    def flush(self) -> None:
        """Write everything that is pending, now."""
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None
        if self._marked:
            marked, self._marked = self._marked, []
            for group in marked:
                group.flush()
            self._flushed_at = asyncio.get_running_loop().time()
